"""The training job: load, design matrix, fit, calibrate, evaluate, export."""

import argparse
import contextlib
import json
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from service.classifier import ALL_CLASSES, Classifier, Detector, InvalidWeights, load, softmax
from service.features import MAX_GREY
from training.data.atomic import replacing
from training.data.dataset import DataSet, Digits, InvalidData
from training.data.feedback import Feedback, load_feedback
from training.data.non_digits import draw_non_digits
from training.data.synthetic import TILED, draw_rare_digits
from training.descent import Step, fit, start, xavier
from training.design.corrections import weighted
from training.design.design_matrix import design_matrix
from training.design.rows import Rows
from training.design.uploads import N_DIGITS, as_uploads
from training.gradients import gradients_of, n_outputs
from training.recipes import FEEDBACK, FINE_TUNING, METRICS, OWN, Recipe, recipe_of
from training.results.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, temperature
from training.results.evaluation import digit_probabilities, evaluate, logits, probabilities
from training.results.export import export, of_classes, to_classifier, to_theta
from training.results.gate import WorseWeights, n_right, refuse_worse
from training.runs.acceptance import accepting
from training.runs.checkpoints import Checkpointer, checkpoint_path, differences, read_checkpoint
from training.runs.detection import REFUSED, Mixture, fit_detector, mixed, with_threshold
from training.runs.distributed import InvalidShards, Shards, refuse_shards
from training.runs.progress import Progress
from training.runs.state import KEPT, Run

SAMPLE = 1000  # rows whose mean brightness is checked
TINY = np.finfo(np.float64).eps
RARE_COPIES = 1  # augmented copies of each digit in a rare shape
COPIED_SHARE = 3  # 1/3 of the non-digits get augmented copies
VALIDATION_SHARE = 6  # 1/6 of the training rows: of MNIST's 60,000 the last 10,000
MAX_SHUFFLED = 2**30  # bytes of images: of more, the last rows are the validation set


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run does: its flags with classes and recipe filled in, its start, its digits."""

    flags: argparse.Namespace
    recipe: Recipe
    initial: Classifier | None  # the weights that --init names
    rows: Digits
    validation: Digits
    test: Digits
    feedback: Feedback | None = None


@dataclass(frozen=True, eq=False)
class Job:
    """One run: its flags and recipe, its rows, and the facts that identify it."""

    flags: argparse.Namespace
    recipe: Recipe
    facts: dict[str, Any]
    shards: Shards
    rows: Rows
    validation: Rows
    initial: Classifier | None = None

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
    planned = plan(flags, data)
    flags, recipe, rows = planned.flags, planned.recipe, planned.rows
    parts = [rows]
    if recipe.drawn:
        parts += [each.of_classes(flags.classes) for each in draw_rare_digits(recipe.drawn)]
    copies = recipe.augment, min(recipe.augment, RARE_COPIES)
    n_copied = sum(len(part) * n for part, n in zip(parts, copies, strict=False))
    refuse_shards(shards, min(recipe.batch_size, sum(map(len, parts)) + n_copied))
    if shards.is_rank_0:
        _announce(data.name, planned, sum(map(len, parts[1:])), n_copied)
    facts = _facts(planned, data, sum(map(len, parts)), shards)
    if planned.feedback:
        parts.append(weighted(planned.feedback.digits, len(rows), flags.seed))
    if flags.resume and shards.from_rank_0(lambda: _is_finished(flags, facts)):
        if shards.is_rank_0:
            print(f"{flags.output} exists: this run is already finished")
        return load(flags.output) if shards.is_rank_0 else None
    with shards.rank_0_first():
        phi = cache / "phi"
        matrix = design_matrix(parts, recipe.features, copies[0], phi, n_rare_copies=copies[1])
        held_out = design_matrix([planned.validation], recipe.features, 0, phi, "check")
    matrix = replace(matrix, device=flags.device)
    matrix = matrix.centred() if recipe.centre else matrix
    job = Job(flags, recipe, facts, shards, matrix, held_out, planned.initial)
    run = _fitted(job)
    if not shards.is_rank_0:
        return None
    classifier = _completed(job, run, planned, phi)
    if planned.feedback and planned.initial:
        _refuse_worse(classifier, planned.initial, planned, planned.feedback)
    return _saved(classifier, job, run, data.name, planned.test)


def plan(flags: argparse.Namespace, data: DataSet) -> Plan:
    """Choose the recipe, the classes and the rows of a run.

    Raises InvalidData if one of the three sets of rows lacks a class, and InvalidWeights
    if the initial weights do not fit the flags.
    """
    initial = load(flags.init) if flags.init else None
    classes = classes_of(flags, data, initial)
    feedback = load_feedback(flags.feedback).of_classes(classes) if flags.feedback else None
    tuning = FEEDBACK if feedback else FINE_TUNING
    name = flags.recipe or (tuning if initial else OWN if data.is_own else "default")
    rows, validation, test = split(data, classes, flags.rows, flags.seed, initial is not None)
    changes = vars(flags) | {"features": flags.features or (initial.features if initial else None)}
    recipe = recipe_of(name, changes, len(rows))
    if initial:
        initial = of_classes(initial, classes)
        if recipe.features != initial.features:
            raise InvalidWeights(
                f"--features {recipe.features}: the initial weights have {initial.features}"
            )
    flags = argparse.Namespace(**vars(flags) | {"classes": classes, "recipe": name})
    return Plan(flags, recipe, initial, rows, validation, test, feedback)


def classes_of(
    flags: argparse.Namespace, data: DataSet, initial: Classifier | None = None
) -> tuple[int, ...]:
    """Return the classes of the flags, else of the initial weights, else of the data."""
    if flags.classes or initial:
        return flags.classes or initial.classes  # type: ignore[union-attr] # one of them
    if len(data.classes) < 2:
        found = f"only the digit {data.classes[0]}" if data.classes else "no digits"
        raise InvalidData(f"{data.name} has {found}; two or more are needed, or --init")
    return data.classes


def split(
    data: DataSet, classes: tuple[int, ...], n_rows: int | None, seed: int, is_partial: bool = False
) -> tuple[Digits, Digits, Digits]:
    """Return the training, validation and test rows of some classes.

    Of your own data a sixth of each class, chosen by the seed, is the validation set, and
    of MNIST the last sixth of the rows. n_rows: how many training rows to take, None for
    all. Raises InvalidData if one of the three parts lacks a class; with is_partial, only
    if it has no row.
    """
    if data.is_own and data.train.images.nbytes <= MAX_SHUFFLED:
        rows, validation = data.train.of_classes(classes).parted(VALIDATION_SHARE, seed)
    else:
        last = len(data.train) - len(data.train) // VALIDATION_SHARE
        rows = data.train.rows(0, last).of_classes(classes)
        validation = data.train.rows(last, len(data.train)).of_classes(classes)
    rows = rows.rows(0, n_rows or len(rows))
    parts = {"training": rows, "validation": validation, "test": data.test.of_classes(classes)}
    for purpose, digits in parts.items():
        counts = np.bincount(digits.labels, minlength=len(classes))
        lacking = ", ".join(str(classes[i]) for i in np.flatnonzero(counts == 0))
        if lacking and not (is_partial and len(digits)):
            raise InvalidData(
                f"the {len(digits)} {purpose} rows lack the digits {lacking}; add rows of "
                "these digits, or choose others with --classes"
            )
    return parts["training"], parts["validation"], parts["test"]


def _announce(name: str, planned: Plan, n_drawn: int, n_copied: int) -> None:
    rows, initial = planned.rows, planned.initial
    print(
        f"{name}: {len(rows):,} training rows, {len(planned.validation):,} validation rows, "
        f"{len(planned.test):,} test rows"
    )
    if len(planned.flags.classes) < len(ALL_CLASSES):
        print(f"classes {', '.join(map(str, planned.flags.classes))}")
    added = [(n_drawn, "synthetic digits"), (n_copied, "augmented copies")]
    parts = [f"{n:,} {what}" for n, what in added if n]
    if parts:
        total = len(rows) + n_drawn + n_copied
        print(f"training on {total:,} rows, with {' and '.join(parts)}")
    if initial:
        print(f"starting from {planned.flags.init} ({initial.version})")
    if rows.images[:SAMPLE].mean() > MAX_GREY / 2:
        print("warning: the images are mostly light; digits must be light on dark")


def _facts(planned: Plan, data: DataSet, n_rows: int, shards: Shards) -> dict[str, Any]:
    """Return the facts that identify a run and that its weights file records."""
    flags = planned.flags
    facts: dict[str, Any] = {"recipe": flags.recipe, **planned.recipe.recorded()}
    facts |= {"seed": flags.seed, "data": data.name, "sha256": data.sha256(), "rows": n_rows}
    facts["versions"] = {"numpy": np.__version__, "torch": torch.__version__}
    if planned.initial:
        facts["init"] = planned.initial.version
    if planned.feedback:
        given = planned.feedback.digits
        facts["feedback"] = {"n": len(given), "sha256": DataSet("", given, given).sha256()}
    if shards.n > 1:
        facts["shards"] = shards.n
    if flags.device.type != "cpu":
        facts["device"] = flags.device.type
    return facts


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
        if job.initial:
            theta = to_theta(job.initial, job.rows.centre)
        else:
            n_features, k = job.rows.values.shape[1] - 1, n_outputs(len(flags.classes))
            theta = xavier(n_features, k, flags.seed)
        return Run(start(theta, job.recipe.rule), best=theta.clone())

    for name, theirs, ours in differences(job.shards.from_rank_0(lambda: known), known):
        raise InvalidShards(f"{name} is {theirs!r} on rank 0 and {ours!r} on another")
    return job.shards.from_rank_0(begun).to(flags.device)


def _completed(job: Job, run: Run, planned: Plan, cache: Path) -> Classifier:
    """Return the classifier of a finished run: calibrated, and with a detector if it has one."""
    recipe, rows, initial = job.recipe, planned.rows, job.initial
    is_read = recipe.calibrate or recipe.non_digits
    uploads = as_uploads(planned.validation) if is_read else planned.validation
    classifier = _calibrated(job, run, uploads)
    if recipe.non_digits:
        known = Digits(rows.images, np.array(job.flags.classes, np.uint8)[rows.labels])
        others = _non_digits(recipe, known, cache)
        drawn = range(len(rows), job.facts["rows"])
        n_drawn = round((1 - TILED) * len(drawn))
        mixture = mixed(job.rows, others, drawn, n_drawn, job.flags.seed)
        return _detecting(job, classifier, mixture, uploads)
    if initial and initial.detector:
        known = planned.validation.rows(0, N_DIGITS) + rows.rows(0, N_DIGITS)
        detector, given = initial.detector, planned.feedback
        if given:
            detector = accepting(detector, classifier, given.digits, known)
        return _keeping(detector, classifier, known)
    return classifier


def _refuse_worse(new: Classifier, initial: Classifier, planned: Plan, given: Feedback) -> None:
    """Print how many corrections are read right; raise WorseWeights for weights that are worse."""
    before, after = n_right(initial, given.digits), n_right(new, given.digits)
    print(f"{after} of {len(given.digits)} corrections are read right, {before} before")
    try:
        refuse_worse(new, initial, planned.test, given.before(initial.version))
    except WorseWeights:
        checkpoint_path(planned.flags.output).unlink(missing_ok=True)
        raise


def _keeping(detector: Detector, classifier: Classifier, known: Digits) -> Classifier:
    """Return the classifier with a detector that accepts digits like some known ones.

    Its weights stay. Its threshold is lowered, if necessary, to the P(digit) below which a
    share REFUSED of such digits falls. The known ones are too few to count so rare a case:
    their log odds are taken for normally distributed.
    """
    is_digit = digit_probabilities(replace(classifier, detector=detector), known.images)
    log_odds = np.log(np.maximum(is_digit, TINY) / np.maximum(1 - is_digit, TINY))
    lowest = log_odds.mean() + NormalDist().inv_cdf(REFUSED) * log_odds.std()
    threshold = min(detector.threshold, float(f"{1 / (1 + np.exp(-lowest)):.3g}"))
    is_lower = threshold < detector.threshold
    change = f", lowered from {detector.threshold}" if is_lower else ", as before"
    print(f"pictures with P(digit) below {threshold} are refused{change}")
    return replace(classifier, detector=replace(detector, threshold=threshold))


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
