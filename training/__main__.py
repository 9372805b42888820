"""The training job: flags → data → fit → evaluate the exported model → save."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from service.classifier import Classifier, InvalidWeights
from service.features import FEATURES
from training.data import DataSet, InvalidData
from training.descent import fit, xavier
from training.export import export, to_classifier
from training.files import replacing
from training.flags import parser, recipe_of
from training.losses import binary_cross_entropy, cross_entropy
from training.mnist import load_mnist
from training.pickled import load_pickle
from training.progress import Diverged, Progress
from training.synthetic import draw_digits

VALIDATION_SHARE = 6  # the last 1/6 of the rows: of MNIST's 60,000 the last 10,000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; give the exit status."""
    flags = parser(data=os.environ.get("DIGITS_MNIST", "")).parse_args(arguments)
    # the bits depend on the number of threads, and at these sizes one is the fastest
    torch.set_num_threads(1)
    try:
        if not os.access(flags.output.parent, os.W_OK):
            raise InvalidData(f"--output: cannot write into {flags.output.parent}")
        _print_evaluation(_train(flags, _load(flags.data)), flags.output)
    except (InvalidData, InvalidWeights, Diverged, OSError) as error:
        print(f"digits-train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ndigits-train: stopped; {flags.output} is as it was", file=sys.stderr)
        return 130
    return 0


def _load(source: str) -> DataSet:
    """Load the data set that --data names, or MNIST from wherever it is."""
    if source == "synthetic":
        return draw_digits()
    path = Path(source).expanduser() if source else None
    if path and path.is_file():
        return load_pickle(path)
    if path and not path.is_dir():
        raise InvalidData(f"--data: {source} is no folder, no file, nor 'synthetic'")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return load_mnist(path, Path(cache) / "digits" / "mnist")


def _train(flags: argparse.Namespace, data: DataSet) -> Classifier:
    """Fit the training rows by the recipe; save what was learned, and give it."""
    recipe = recipe_of(flags)
    last = len(data.train) - len(data.train) // VALIDATION_SHARE
    rows = data.train.rows(0, min(flags.rows or last, last)).of_classes(flags.classes)
    validation = data.train.rows(last, len(data.train)).of_classes(flags.classes)
    if len(np.unique(rows.labels)) < len(flags.classes):
        raise InvalidData(f"--rows {flags.rows}: these rows lack some of the classes")
    print(f"{data.name}: {len(rows):,} rows to train, {len(validation):,} to validate")
    facts = {
        "recipe": flags.recipe,
        **dataclasses.asdict(recipe),
        "seed": flags.seed,
        "data": data.name,
        "sha256": data.sha256(),
        "rows": len(rows),
        "versions": {"numpy": np.__version__, "torch": torch.__version__},
    }

    features = torch.from_numpy(FEATURES[recipe.features](rows.images))
    binary = len(flags.classes) == 2
    shape = () if binary else (len(flags.classes),)
    parameters = xavier(features.shape[1], shape, flags.seed)

    def classifier() -> Classifier:
        return to_classifier(parameters, flags.classes, recipe.features, facts)

    with tqdm(unit="step", disable=None, leave=False) as bar:
        progress = Progress(bar, classifier, validation)
        fit(
            parameters,
            binary_cross_entropy if binary else cross_entropy,
            features,
            torch.from_numpy(rows.labels.astype(np.int64)),
            learning_rate=recipe.learning_rate,
            batch_size=recipe.batch_size,
            epochs=recipe.epochs,
            schedule=recipe.schedule,
            seed=flags.seed if recipe.shuffle else None,
            watch=progress.watch,
        )
    test = data.test.of_classes(flags.classes)
    saved = export(classifier(), test, f"{data.name} test", flags.output)
    with replacing(flags.output.with_name("metrics.jsonl")) as path:
        path.write_text("".join(f"{json.dumps(point)}\n" for point in progress.curve))
    return saved


def _print_evaluation(classifier: Classifier, path: Path) -> None:
    figures = classifier.evaluation
    print(
        f"\n{path} ({classifier.version}), {figures['n']:,} rows of {figures['data']}:"
    )
    for name in ("accuracy", "nll", "brier", "ece"):
        print(f"  {name:<10}{figures[name]:.4f}")
    print("\ntrue \\ read" + "".join(f"{digit:>6}" for digit in classifier.classes))
    for digit, counts in zip(classifier.classes, figures["confusion"], strict=True):
        print(f"{digit:>11}" + "".join(f"{count:>6}" for count in counts))


if __name__ == "__main__":
    sys.exit(main())
