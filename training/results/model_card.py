"""The model card: what a model is, what it is for, how it was made, how good it is.

Mitchell et al., "Model cards for model reporting", 2019
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from service.classifier import Classifier
from training.recipes import DEFAULTS
from training.results.evaluation import MEASURES, precision_and_recall

CARDS = ("model-card.md", "model-card.json")
USES = [
    "Reading one handwritten digit whose whole shape is in the picture, with a "
    "probability by which the unsure ones can be left to a person.",
]
NO_USES = [
    "Numbers of several digits, letters and other signs: each is read as the digit "
    "that it looks like most, and sometimes surely.",
    "Amounts, doses, account numbers and whatever else a wrong digit harms, unless a "
    "person compares what was read.",
    "Telling who wrote a digit.",
]
TRAINED = (
    "Digits that were drawn for it are among the rows. The last sixth of the data "
    "set's training rows is not: it validates, and the temperature is fitted on it."
)
EVALUATED = (
    "On rows that it was not trained on, by the probabilities that the service gives "
    "for these images as they are."
)
LIMITS = [
    "Of pictures as people post them, and of other hands than the data's, more are "
    "misread than the figures say; the report beside this card measures the former.",
    "Its probabilities are those of digits like the data's: a high one for a picture "
    "of anything else means nothing.",
    "It is linear in its features: what they do not tell apart, it cannot.",
]
LOADING = """from pathlib import Path

from service.classifier import load

classifier = load(Path({file}))
# images (n, 28, 28) uint8, light on dark -> (n, {n_classes}), in the classes' order
probabilities = classifier.predict_proba(images)
"""
OF_DATA = ("data", "rows", "sha256")


def card(
    file: str, classifier: Classifier, figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Gather the facts on a weights file and its evaluation, `figures`."""
    n_classes = len(classifier.classes)
    n_parameters = classifier.weight.size + classifier.bias.size
    precision, recall = precision_and_recall(figures["confusion"])
    digits = zip(
        classifier.classes, figures["confusion"], precision, recall, strict=True
    )
    return {
        "model": {
            "file": file,
            "version": classifier.version,
            "kind": "logistic regression",
            "features": classifier.features,
            "n_features": len(classifier.weight),
            "classes": list(classifier.classes),
            # the first of a binary model's two columns is zero
            "parameters": n_parameters // 2 if n_classes == 2 else n_parameters,
        },
        "uses": USES,
        "no_uses": NO_USES,
        "training": dict(classifier.training),
        "evaluated": EVALUATED,
        "evaluation": dict(figures),
        "digits": [
            {"digit": k, "rows": sum(row), "precision": float(p), "recall": float(r)}
            for k, row, p, r in digits
        ],
        "limits": LIMITS,
        "loading": LOADING.format(file=json.dumps(file), n_classes=n_classes),
    }


def as_json(facts: Mapping[str, Any]) -> str:
    """Write a card for machines."""
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def as_markdown(facts: Mapping[str, Any]) -> str:
    """Write a card for people."""
    model, training, figures = facts["model"], facts["training"], facts["evaluation"]
    versions = training.get("versions", {})
    told = {**DEFAULTS, **training}
    chosen = {k: v for k, v in told.items() if k not in {*OF_DATA, "versions"}}
    of_data = {name: training[name] for name in OF_DATA if name in training}
    measured = [(text, f"{figures[name]:.4f}") for name, text in MEASURES.items()]
    digits = [
        (d["digit"], d["rows"], f"{d['precision']:.4f}", f"{d['recall']:.4f}")
        for d in facts["digits"]
    ]
    return "\n".join(
        [
            f"# Model {model['version']}\n",
            _table(("model", ""), model.items()),
            "## What it is for\n",
            _list(facts["uses"]),
            "## What it is not for\n",
            _list(facts["no_uses"]),
            "## What it was trained on\n",
            _table(("training data", ""), of_data.items()),
            f"{TRAINED}\n",
            "## How it was trained\n",
            "By gradient descent on the mean negative log-likelihood.\n",
            _table(("hyperparameter", ""), chosen.items()),
            _table(("version of", ""), versions.items()),
            "## How good it is\n",
            f"{facts['evaluated']}\n",
            _table((f"{figures['n']:,} rows of {figures['data']}", ""), measured),
            _table(("digit", "rows", "precision", "recall"), digits),
            "## Limits\n",
            _list(facts["limits"]),
            "## How to load it\n",
            f"```python\n{facts['loading']}```\n",
            f"To serve it: `DIGITS_WEIGHTS={model['file']} make serve`.\n",
        ]
    )


def _list(lines: Sequence[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
