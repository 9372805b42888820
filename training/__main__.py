"""The training job: flags → data → fit → evaluate the exported model → save."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from service.classifier import Classifier, InvalidWeights, load
from service.features import FEATURES
from training.calibration import temperature
from training.data import DataSet, Digits, InvalidData
from training.descent import fit, xavier
from training.design_matrix import design_matrix
from training.export import export, to_classifier
from training.files import replacing
from training.flags import METRICS, Recipe, parser, recipe_of, report_parser
from training.gradients import GRADIENTS
from training.mnist import cache_folder, load_mnist
from training.pickled import load_pickle
from training.progress import Diverged, Progress
from training.run import KEPT, begin
from training.synthetic import draw_digits

VALIDATION_SHARE = 6  # the last 1/6 of the rows: of MNIST's 60,000 the last 10,000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job, or its report on what it made; give the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    is_report = given[:1] == ["report"]
    named = os.environ.get("DIGITS_MNIST", "")
    flags = (
        report_parser(named).parse_args(given[1:])
        if is_report
        else parser(named).parse_args(given)
    )
    # the bits depend on the number of threads, and at these sizes one is the fastest
    torch.set_num_threads(1)
    threadpool_limits(1)
    # what stops a container stops the job as Ctrl-C does: nothing is left half done
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if is_report:
            _report(flags)
        else:
            _print_evaluation(_train(flags, load_data(flags.data)), flags.output)
    except (InvalidData, InvalidWeights, Diverged, OSError) as error:
        print(f"digits-train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndigits-train: stopped; nothing was saved", file=sys.stderr)
        return 130
    return 0


def load_data(source: str) -> DataSet:
    """Load the data set that --data names, or MNIST from wherever it is."""
    if source == "synthetic":
        return draw_digits()
    path = Path(source) if source else None
    if path and path.is_file():
        return load_pickle(path)
    if path and not path.is_dir():
        raise InvalidData(f"--data: {source} is no folder, no file, nor 'synthetic'")
    return load_mnist(path, cache_folder(os.environ) / "mnist")


def _train(flags: argparse.Namespace, data: DataSet) -> Classifier:
    """Fit the training rows by the recipe; save what was learned, and give it."""
    recipe = recipe_of(flags)
    rows, validation, test = _parts(flags, data)
    print(f"{data.name}: {len(rows):,} rows to train, {len(validation):,} to validate")
    if recipe.drawn:
        rows += draw_digits(recipe.drawn, 0).train.of_classes(flags.classes)
        print(f"and {recipe.drawn:,} digits drawn on the spot to train")
    facts = {
        "recipe": flags.recipe,
        **recipe.told(),
        "seed": flags.seed,
        "data": data.name,
        "sha256": data.sha256(),
        "rows": len(rows),  # those that were drawn among them
        "versions": {"numpy": np.__version__, "torch": torch.__version__},
    }
    learned, curve = _learn(flags, recipe, rows, validation, facts)
    with replacing(flags.output.with_name(METRICS)) as path:
        path.write_text("".join(f"{json.dumps(point)}\n" for point in curve))
        # the curve appears last, when the weights it belongs to are there
        return export(learned, test, f"{data.name} test", flags.output)


def _parts(flags: argparse.Namespace, data: DataSet) -> tuple[Digits, Digits, Digits]:
    """Take the rows to train on, to validate and to test, of the classes asked for."""
    last = len(data.train) - len(data.train) // VALIDATION_SHARE
    rows = data.train.rows(0, last).of_classes(flags.classes)
    parts = {
        "train on": rows.rows(0, flags.rows or len(rows)),
        "validate": data.train.rows(last, len(data.train)).of_classes(flags.classes),
        "test": data.test.of_classes(flags.classes),
    }
    for purpose, digits in parts.items():
        if len(np.unique(digits.labels)) < len(flags.classes):
            raise InvalidData(
                f"the {len(digits)} rows to {purpose} lack some of the classes "
                f"{', '.join(map(str, flags.classes))}"
            )
    return parts["train on"], parts["validate"], parts["test"]


def _learn(
    flags: argparse.Namespace,
    recipe: Recipe,
    rows: Digits,
    validation: Digits,
    facts: dict[str, Any],
) -> tuple[Classifier, list[dict[str, Any]]]:
    """Descend; give what was learned, and the curve of the run."""
    matrix = design_matrix(
        rows, recipe.features, recipe.augment, cache_folder(os.environ) / "phi"
    )
    if recipe.centre:
        matrix = matrix.centred()
    is_binary = len(flags.classes) == 2
    n_outputs = 1 if is_binary else len(flags.classes)
    n_features = matrix.values.shape[1] - 1
    run = begin(xavier(n_features, n_outputs, flags.seed), recipe.rule)

    def learned(theta: Tensor, degrees: float = 1.0) -> Classifier:
        told = facts | {"temperature": degrees}
        return to_classifier(
            theta, flags.classes, recipe.features, told, matrix.centre, degrees
        )

    phi = FEATURES[recipe.features](validation.images)
    with tqdm(unit="step", disable=None, leave=False) as bar:
        progress = Progress(bar, run, learned, phi, validation.labels)
        fit(
            run,
            GRADIENTS[recipe.gradient][is_binary],
            matrix,
            learning_rate=recipe.learning_rate,
            batch_size=recipe.batch_size,
            epochs=recipe.epochs,
            schedule=recipe.schedule,
            warm_up=recipe.warm_up,
            rule=recipe.rule,
            weight_decay=recipe.weight_decay,
            average=recipe.keep == "average",
            seed=flags.seed if recipe.shuffle else None,
            watch=progress.watch,
        )
    theta, degrees = KEPT[recipe.keep](run), 1.0
    if recipe.calibrate:
        logits = torch.from_numpy(learned(theta).logits(phi)).double()
        truth = torch.from_numpy(validation.labels.astype(np.int64))
        degrees = round(temperature(logits, truth), 4)
        print(f"temperature {degrees}")
    return learned(theta, degrees), run.curve


def _report(flags: argparse.Namespace) -> None:
    """Write a page on a weights file and on the curve beside it."""
    # matplotlib is for this alone, and takes as long to load as all else together
    from training.report import write_report

    classifier = load(flags.weights)
    metrics = flags.weights.with_name(METRICS)
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    try:
        curve = [json.loads(line) for line in lines]
    except ValueError as error:
        raise InvalidData(f"{metrics}: not the curve of a run ({error})") from error
    if flags.output == flags.weights.resolve():
        raise InvalidData(f"--output: {flags.output} is what the report is on")
    with replacing(flags.output) as path:
        write_report(classifier, load_data(flags.data), curve, path)
    print(f"{flags.output}: the report on {flags.weights} ({classifier.version})")


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
