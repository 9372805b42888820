"""The model card: intended use, training, evaluation and limitations of a model.

Mitchell et al., "Model cards for model reporting", 2019
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.results.evaluation import by_digit, named_metrics
from training.results.run_files import Trained

TEMPLATE = Path(__file__).with_suffix(".md")
DATA_FACTS = ("data", "rows", "sha256")
# data sets that allow the licence of this project, by their names on model hubs
PUBLIC_DATA = {"MNIST": "ylecun/mnist", "synthetic": "synthetic"}


def model_card(run: Trained, figures: Mapping[str, Any]) -> str:
    """Return the card of a run and of `figures`, its evaluation, in Markdown.

    The YAML head is that of model hubs: https://huggingface.co/docs/hub/model-cards
    """
    classifier, training = run.classifier, run.training()
    data = {name: training.pop(name) for name in DATA_FACTS if name in training}
    name = str(data.get("data", "unknown"))
    versions = training.pop("versions", {})
    # the first of the two columns of a binary model is zero
    n_columns = len(classifier.classes) if len(classifier.classes) > 2 else 1
    return TEMPLATE.read_text(encoding="utf-8").format(
        license="mit" if name in PUBLIC_DATA else "other",
        dataset=json.dumps(PUBLIC_DATA.get(name, name)),
        test_data=json.dumps(figures["data"]),
        accuracy=figures["accuracy"],
        classifier=classifier,
        path=run.path.name,
        file=json.dumps(run.path.name),
        n_features=len(classifier.weight),
        threshold=classifier.detector.threshold if classifier.detector else "(none)",
        n_parameters=n_columns * (len(classifier.weight) + 1),
        data=_table(("training data", ""), data.items()),
        hyperparameters=_table(("hyperparameter", ""), training.items()),
        versions=_table(("version of", ""), versions.items()),
        metrics=_table(*named_metrics(figures)),
        digits=_table(*by_digit(classifier.classes, figures["confusion"])),
    )


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
