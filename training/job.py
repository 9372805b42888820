"""The training job: load, design matrix, fit, calibrate, evaluate, export."""

import argparse
import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from service.classifier import Classifier, InvalidWeights, load, softmax
from service.features import MAX_GREY
from training.data.atomic import replacing
from training.data.dataset import DataSet, Digits, InvalidData
from training.data.non_digits import draw_non_digits
from training.data.synthetic import TILED, draw_rare_digits
from training.descent import Step, fit, start, xavier
from training.design.design_matrix import design_matrix
from training.design.rows import Rows
from training.design.uploads import as_uploads
from training.gradients import gradients_of, n_outputs
from training.recipes import METRICS, Recipe, recipe_of
from training.results.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, temperature
from training.results.evaluation import digit_probabilities, evaluate, logits, probabilities
from training.results.export import export, to_classifier
from training.runs.checkpoints import Checkpointer, checkpoint_path, differences, read_checkpoint
from training.runs.detection import Mixture, fit_detector, mixed, with_threshold
from training.runs.distributed import InvalidShards, Shards
from training.runs.progress import Progress
from training.runs.state import KEPT, Run

SAMPLE = 1000  # rows whose mean brightness is checked
RARE_COPIES = 1  # augmented copies of each digit in a rare shape
COPIED_SHARE = 3  # 1/3 of the non-digits get augmented copies
VALIDATION_SHARE = 6  # the last 1/6 of the rows: of MNIST's 60,000 the last 10,000


@dataclass(frozen=True, eq=False)
class Job:
    """One run: its flags and recipe, its rows, and the facts that identify it."""

    flags: argparse.Namespace
    recipe: Recipe
    facts: dict[str, Any]
    shards: Shards
    rows: Rows
    validation: Rows

    def identity(self) -> dict[str, Any]:
        """Return the facts that a checkpoint must match."""
        return self.facts | {"classes": self.flags.classes}

    def classifier(self, theta: Tensor, degrees: float = 1.0) -> Classifier:
        """Fold the centre of the rows and a temperature into θ."""
        flags, centre = self.flags, self.rows.centre
        facts = self.facts | {"temperature": degrees}
        features = self.recipe.features
        return to_classifier(theta, flags.classes, features, facts, centre, degrees)


def train(
    flags: argparse.Namespace, data: DataSet, cache: Path, shards: Shards
) -> Classifier | None:
    """Train by the flags and save the result; return what was saved on rank 0."""
    recipe = recipe_of(flags.recipe, vars(flags))
    rows, validation, test = split(data, flags.classes, flags.rows)
    parts = [rows]
    if recipe.drawn:
        parts += [each.of_classes(flags.classes) for each in draw_rare_digits(recipe.drawn)]
    if shards.is_rank_0:
        _announce(data.name, parts, validation)
    facts: dict[str, Any] = {"recipe": flags.recipe, **recipe.recorded()}
    facts |= {"seed": flags.seed, "data": data.name, "sha256": data.sha256()}
    facts["rows"] = sum(map(len, parts))
    facts["versions"] = {"numpy": np.__version__, "torch": torch.__version__}
    if shards.n > 1:
        facts["shards"] = shards.n
    if flags.device.type != "cpu":
        facts["device"] = flags.device.type
    if flags.resume and shards.from_rank_0(lambda: _is_finished(flags, facts)):
        if shards.is_rank_0:
            print(f"{flags.output} exists: this run is already finished")
        return load(flags.output) if shards.is_rank_0 else None
    with shards.rank_0_first():
        phi = cache / "phi"
        n_copies, n_rare = recipe.augment, min(recipe.augment, RARE_COPIES)
        matrix = design_matrix(parts, recipe.features, n_copies, phi, n_rare_copies=n_rare)
        held_out = design_matrix([validation], recipe.features, 0, phi, "check")
    matrix = replace(matrix, device=flags.device)
    matrix = matrix.centred() if recipe.centre else matrix
    job = Job(flags, recipe, facts, shards, matrix, held_out)
    run = _fitted(job)
    if not shards.is_rank_0:
        return None
    uploads = as_uploads(validation) if recipe.calibrate or recipe.non_digits else validation
    classifier = _calibrated(job, run, uploads)
    if recipe.non_digits:
        known = Digits(rows.images, np.array(flags.classes, np.uint8)[rows.labels])
        others = _non_digits(recipe, known, phi)
        drawn = range(len(rows), facts["rows"])
        mixture = mixed(matrix, others, drawn, round((1 - TILED) * len(drawn)), flags.seed)
        classifier = _detecting(job, classifier, mixture, uploads)
    return _saved(classifier, job, run, data.name, test)


def split(
    data: DataSet, classes: tuple[int, ...], n_rows: int | None
) -> tuple[Digits, Digits, Digits]:
    """Return the training, validation and test rows of some classes.

    n_rows: how many training rows to take, None for all. Raises InvalidData if one of
    the three parts lacks a class.
    """
    last = len(data.train) - len(data.train) // VALIDATION_SHARE
    rows = data.train.rows(0, last).of_classes(classes)
    parts = {
        "training": rows.rows(0, n_rows or len(rows)),
        "validation": data.train.rows(last, len(data.train)).of_classes(classes),
        "test": data.test.of_classes(classes),
    }
    for purpose, digits in parts.items():
        counts = np.bincount(digits.labels, minlength=len(classes))
        lacking = ", ".join(str(classes[i]) for i in np.flatnonzero(counts == 0))
        if lacking:
            remedy = "; the last sixth of the rows is the validation set: shuffle sorted rows"
            raise InvalidData(
                f"the {len(digits)} {purpose} rows lack the digits {lacking}"
                f"{remedy if purpose != 'test' else ''}"
            )
    return parts["training"], parts["validation"], parts["test"]


def _announce(name: str, parts: Sequence[Digits], validation: Digits) -> None:
    rows, *added = parts
    print(f"{name}: {len(rows):,} training rows, {len(validation):,} validation rows")
    if added:
        print(f"added {sum(map(len, added)):,} synthetic digits to the training rows")
    if rows.images[:SAMPLE].mean() > MAX_GREY / 2:
        print("warning: the images are mostly light; digits must be light on dark")


def _is_finished(flags: argparse.Namespace, facts: dict[str, Any]) -> bool:
    """Return whether the output is already the result of this run."""
    if checkpoint_path(flags.output).exists():
        return False
    try:
        saved = load(flags.output)
    except InvalidWeights:
        return False
    recorded = {name: saved.training.get(name) for name in facts}
    return recorded == facts and saved.classes == flags.classes


def _fitted(job: Job) -> Run:
    """Descend from the start or the checkpoint of a run to its end."""
    flags, recipe, path = job.flags, job.recipe, checkpoint_path(job.flags.output)
    is_rank_0, seconds = job.shards.is_rank_0, flags.checkpoint_every
    run = _begun(job, path)
    checkpointer = Checkpointer(run, job.identity(), path, seconds, is_rank_0)
    shards = replace(job.shards, gives_up=checkpointer.is_overdue)
    gradient = gradients_of(len(flags.classes))[recipe.gradient]
    of_batch = partial(shards.mean_gradient, gradient, job.rows)
    hidden = None if is_rank_0 else True  # None: hidden unless stderr is a terminal
    with (
        tqdm(unit="step", initial=run.state.step, disable=hidden, leave=False) as bar,
        checkpointer.guarding(),
    ):
        progress = Progress(bar, run, job.classifier, job.validation, is_rank_0)

        def watch(step: Step) -> None:
            progress.watch(step)
            checkpointer.watch()

        n, block = len(job.rows), job.rows.block
        fit(run.state, of_batch, n, recipe, flags.seed, block, watch)
    if is_rank_0:
        with contextlib.suppress(OSError):
            checkpointer.write()  # calibration, evaluation or export may fail
    return run


def _begun(job: Job, path: Path) -> Run:
    """Return the same run on every rank: its start or, to resume it, its checkpoint."""
    flags, known = job.flags, job.identity()

    def begun() -> Run:
        if flags.resume and os.path.lexists(path):
            run = read_checkpoint(path, known)
            print(f"resuming from step {run.state.step} of {path}")
            return run
        if flags.resume:
            print(f"no checkpoint {path}: starting a new run")
        elif path.exists():
            print(f"starting a new run; --resume would have continued from {path}")
        n_features, k = job.rows.values.shape[1] - 1, n_outputs(len(flags.classes))
        theta = xavier(n_features, k, flags.seed)
        return Run(start(theta, job.recipe.rule), best=theta.clone())

    for name, theirs, ours in differences(job.shards.from_rank_0(lambda: known), known):
        raise InvalidShards(f"{name} is {theirs!r} on rank 0 and {ours!r} on another")
    return job.shards.from_rank_0(begun).to(flags.device)


def _calibrated(job: Job, run: Run, uploads: Digits) -> Classifier:
    """Return the classifier of a finished run, at its temperature if it has one."""
    theta, degrees = KEPT[job.recipe.keep](run), 1.0
    if job.recipe.calibrate:
        p = probabilities(job.classifier(theta), uploads.images)
        z = torch.from_numpy(np.log(np.maximum(p, np.finfo(p.dtype).tiny)))
        degrees = round(temperature(z, torch.from_numpy(uploads.labels.astype(np.int64))), 4)
        is_limit = degrees in (MIN_TEMPERATURE, MAX_TEMPERATURE)
        reason = " (a limit: too few uploads are misread to estimate it)"
        print(f"temperature {degrees}{reason if is_limit else ''}")
    return job.classifier(theta, degrees)


def _non_digits(recipe: Recipe, digits: Digits, cache: Path) -> Rows:
    """Return rows of drawn non-digits, and of the augmented copies of some."""
    drawn = draw_non_digits(recipe.non_digits, digits)
    n = len(drawn) // COPIED_SHARE
    parts = [drawn.rows(0, n), drawn.rows(n, len(drawn))]
    return design_matrix(parts, recipe.features, recipe.augment, cache, "others")


def _detecting(job: Job, classifier: Classifier, mixture: Mixture, uploads: Digits) -> Classifier:
    """Return the classifier with a detector, whose threshold suits the uploads."""
    detector = fit_detector(classifier, mixture, job.recipe, job.flags.seed)
    is_digit = digit_probabilities(replace(classifier, detector=detector), uploads.images)
    detector = with_threshold(detector, is_digit)
    print(f"P(digit) from {len(mixture):,} rows; refused below {detector.threshold}")
    return replace(classifier, detector=detector)


def _saved(classifier: Classifier, job: Job, run: Run, data: str, test: Digits) -> Classifier:
    """Evaluate a classifier, and write its weights file and then its curve."""
    labels = job.validation.labels.numpy()
    figures = evaluate(softmax(logits(classifier, job.validation)), labels)
    output = job.flags.output
    with replacing(output.with_name(METRICS)) as path:
        saved = export(classifier, test, f"{data} test", output)
        kept = {name: figures[name] for name in ("accuracy", "nll")}
        run.curve[-1] |= {"kept": kept, "model": saved.version}
        path.write_text("".join(f"{json.dumps(point)}\n" for point in run.curve))
    checkpoint_path(output).unlink(missing_ok=True)
    return saved
