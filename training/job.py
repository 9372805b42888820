"""The job: data → fit → evaluate the exported model → save."""

import argparse
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from service.classifier import Classifier, InvalidWeights, load, softmax
from service.features import MAX_GREY
from training.cli import recipe_of
from training.data.arrays import has_arrays, load_arrays
from training.data.atomic import replacing
from training.data.dataset import DataSet, Digits, InvalidData
from training.data.mnist import SHA256, load_mnist
from training.data.pickled import load_pickle
from training.data.synthetic import ADDED_SEED, draw_digits
from training.descent import Step, fit, xavier
from training.design.design_matrix import design_matrix
from training.design.rows import Rows
from training.gradients import GRADIENTS
from training.recipes import METRICS, Recipe
from training.results.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, temperature
from training.results.evaluation import evaluate, logits
from training.results.export import export, to_classifier
from training.runs.checkpoints import Keeper, checkpoint_path, read_checkpoint
from training.runs.distributed import InvalidShards, LostRank, Shards
from training.runs.progress import Progress
from training.runs.state import KEPT, Run, begin

BLOCK = 1000  # rows that are looked at for light and dark
VALIDATION_SHARE = 6  # the last 1/6 of the rows: of MNIST's 60,000 the last 10,000


def is_of_data(path: Path, source: str) -> bool:
    """Tell whether a path is a file that --data names, or of the folder it names."""
    data = Path(source).resolve()
    names = {*SHA256, *(f"{name}.gz" for name in SHA256)}
    is_named = path.suffix == ".npy" or path.name in names
    return path == data or (path.parent == data and is_named)


def load_data(source: str, cache: Path) -> DataSet:
    """Load the data set that --data names, or MNIST from wherever it is."""
    if source == "synthetic":
        return draw_digits()
    path = Path(source) if source else None
    if path and path.is_file():
        return load_pickle(path)
    if path and not path.is_dir():
        raise InvalidData(f"--data: {source} is no folder, no file, nor 'synthetic'")
    if path and has_arrays(path):
        return load_arrays(path)
    return load_mnist(path, cache / "mnist")


def train(
    flags: argparse.Namespace, data: DataSet, cache: Path, shards: Shards
) -> Classifier | None:
    """Fit the training rows by the recipe; save what was learned, and give it.

    Of several ranks, the first does that, and the others give None.
    """
    recipe = recipe_of(flags)
    rows, validation, test = parts_of(flags, data)
    parts = [rows]
    if recipe.drawn:
        added = draw_digits(recipe.drawn, 0, ADDED_SEED).train
        parts.append(added.of_classes(flags.classes))
    if shards.is_first:
        _tell(data, parts, validation)
    facts = {
        "recipe": flags.recipe,
        **recipe.told(),
        "seed": flags.seed,
        "data": data.name,
        "sha256": data.sha256(),
        "rows": sum(map(len, parts)),
        "versions": {"numpy": np.__version__, "torch": torch.__version__},
    }
    if shards.n > 1:
        facts["shards"] = shards.n
    if flags.device.type != "cpu":
        facts["device"] = flags.device.type
    if flags.resume and shards.of_first(lambda: _is_finished(flags, facts)):
        if shards.is_first:
            print(f"{flags.output} is there: this run was finished")
        return load(flags.output) if shards.is_first else None
    with shards.first_before_others():
        matrix = design_matrix(parts, recipe.features, recipe.augment, cache / "phi")
        checked = design_matrix(
            [validation], recipe.features, 0, cache / "phi", "check"
        )
    run, learned = _fitted(flags, recipe, matrix, checked, facts, shards)
    if not shards.is_first:
        return None
    figures = evaluate(softmax(logits(learned, checked)), checked.labels.numpy())
    # the curve appears last, when the weights it belongs to are there
    with replacing(flags.output.with_name(METRICS)) as path:
        saved = export(learned, test, f"{data.name} test", flags.output)
        kept = {name: figures[name] for name in ("accuracy", "nll")}
        points = [
            *run.curve[:-1],
            run.curve[-1] | {"kept": kept, "model": saved.version},
        ]
        path.write_text("".join(f"{json.dumps(point)}\n" for point in points))
    checkpoint_path(flags.output).unlink(missing_ok=True)
    return saved


def parts_of(flags: argparse.Namespace, data: DataSet) -> tuple[Digits, Digits, Digits]:
    """Take the rows to train on, to validate and to test, of the classes asked for."""
    last = len(data.train) - len(data.train) // VALIDATION_SHARE
    rows = data.train.rows(0, last).of_classes(flags.classes)
    parts = {
        "train on": rows.rows(0, flags.rows or len(rows)),
        "validate": data.train.rows(last, len(data.train)).of_classes(flags.classes),
        "test": data.test.of_classes(flags.classes),
    }
    for purpose, digits in parts.items():
        counts = np.bincount(digits.labels, minlength=len(flags.classes))
        lacking = [flags.classes[i] for i in np.flatnonzero(counts == 0)]
        if lacking:
            text = f"the {len(digits)} rows to {purpose} lack "
            text += ", ".join(map(str, lacking))
            if purpose != "test":
                text += "; the last sixth of the rows validates: shuffle sorted ones"
            raise InvalidData(text)
    return parts["train on"], parts["validate"], parts["test"]


def _fitted(
    flags: argparse.Namespace,
    recipe: Recipe,
    rows: Rows,
    validation: Rows,
    facts: Mapping[str, Any],
    shards: Shards,
) -> tuple[Run, Classifier]:
    """Descend to the end of the run, from its start or its checkpoint; calibrate."""
    rows = replace(rows, device=flags.device)
    if recipe.centre:
        rows = rows.centred()

    def learned(theta: Tensor, degrees: float = 1.0) -> Classifier:
        told = facts | {"temperature": degrees}
        return to_classifier(
            theta, flags.classes, recipe.features, told, rows.centre, degrees
        )

    known = {**facts, "classes": flags.classes}
    _hold_to(shards.of_first(lambda: known), known)
    path = checkpoint_path(flags.output)
    n_outputs = 1 if len(flags.classes) == 2 else len(flags.classes)
    start = xavier(rows.values.shape[1] - 1, n_outputs, flags.seed)
    run = shards.of_first(lambda: _begun(flags, begin(start, recipe.rule), known, path))
    run = run.to(flags.device)
    keeper = Keeper(run, known, path, flags.checkpoint_every, shards.is_first)
    shards = replace(shards, gives_up=keeper.has_waited)
    quiet = None if shards.is_first else True  # None: where there is a terminal
    with (
        tqdm(unit="step", initial=run.step, disable=quiet, leave=False) as bar,
        keeper.deferring_signals(),
    ):
        progress = Progress(bar, run, learned, validation, tells=shards.is_first)
        try:
            _descend(flags, recipe, run, rows, shards, progress, keeper)
        except LostRank as error:
            keeper.write()  # on every rank, because the first may be the one
            raise LostRank(
                f"another rank was lost after step {run.step} ({error}); to go on from "
                f"{path}, start all of them again with --resume"
            ) from error
        except OSError:  # who read what is printed has gone
            keeper.write()
            raise
        if shards.is_first:
            with contextlib.suppress(OSError):
                keeper.write()  # there is more to do, which may fail
    theta, degrees = KEPT[recipe.keep](run), 1.0
    if recipe.calibrate:
        z = torch.from_numpy(logits(learned(theta), validation)).double()
        degrees = round(temperature(z, validation.labels), 4)
        if shards.is_first:
            limit = " (the limit: too few are misread to tell)"
            is_limit = degrees in (MIN_TEMPERATURE, MAX_TEMPERATURE)
            print(f"temperature {degrees}{limit if is_limit else ''}")
    return run, learned(theta, degrees)


def _descend(
    flags: argparse.Namespace,
    recipe: Recipe,
    run: Run,
    rows: Rows,
    shards: Shards,
    progress: Progress,
    keeper: Keeper,
) -> None:
    """Take the steps of the recipe that the run has not taken yet."""

    def watch(step: Step) -> None:
        progress.watch(step)
        keeper.watch()

    fit(
        run,
        GRADIENTS[recipe.gradient][len(flags.classes) == 2],
        rows,
        learning_rate=recipe.learning_rate,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        schedule=recipe.schedule,
        warm_up=recipe.warm_up,
        rule=recipe.rule,
        weight_decay=recipe.weight_decay,
        average=recipe.keep == "average",
        seed=flags.seed if recipe.shuffle else None,
        shards=shards,
        watch=watch,
    )


def _hold_to(first: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise InvalidShards if this rank is on another run than the first."""
    for name in sorted(first | own):
        if first.get(name) != own.get(name):
            raise InvalidShards(
                f"the ranks differ in {name}: {first.get(name)!r} of the first, "
                f"{own.get(name)!r} of another"
            )


def _begun(
    flags: argparse.Namespace, run: Run, known: Mapping[str, Any], path: Path
) -> Run:
    """Give the run as it begins or, to resume it, as its checkpoint has it."""
    if flags.resume and os.path.lexists(path):
        resumed = read_checkpoint(path, known)
        print(f"goes on from step {resumed.step} of {path}")
        return resumed
    if flags.resume:
        print(f"there is no {path}: the run begins")
    elif path.exists():
        print(
            f"{path} is of a run that was stopped (--resume goes on); this one begins"
        )
    return run


def _is_finished(flags: argparse.Namespace, facts: Mapping[str, Any]) -> bool:
    """Tell whether the output is that of the run these facts are of."""
    if checkpoint_path(flags.output).exists():
        return False
    try:
        there = load(flags.output)
    except InvalidWeights:
        return False
    told = {name: fact for name, fact in there.training.items() if name in facts}
    return told == json.loads(json.dumps(facts)) and there.classes == flags.classes


def _tell(data: DataSet, parts: Sequence[Digits], validation: Digits) -> None:
    """Say what is trained on."""
    print(
        f"{data.name}: {len(parts[0]):,} rows to train, {len(validation):,} to validate"
    )
    for drawn in parts[1:]:
        print(f"and {len(drawn):,} digits drawn on the spot to train")
    if parts[0].images[:BLOCK].mean() > MAX_GREY / 2:
        print("their images are more light than dark: digits are to be light on dark")
