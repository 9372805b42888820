"""The command line of training: the job itself, and the report on what it made."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from service.classifier import Classifier, InvalidWeights
from training.cli import RATES, check_parser, flags_of, report_parser, sweep_parser
from training.data.atomic import replace_all
from training.data.dataset import DataSet, InvalidData
from training.data.mnist import cache_folder
from training.descent import xavier
from training.design.design_matrix import design_matrix
from training.gradient_check import TOLERANCE, WrongGradient, worst
from training.gradients import GRADIENTS
from training.job import is_of_data, load_data, parts_of, train
from training.recipes import METRICS
from training.results.corruptions import CORRUPTIONS
from training.results.run_files import Trained, read_curve, read_trained
from training.runs.checkpoints import InvalidCheckpoint, Stopped, checkpoint_path
from training.runs.distributed import (
    InvalidShards,
    LostRank,
    Shards,
    joined,
    n_ranks_of,
)
from training.runs.progress import Diverged

REPORT, COMPARISON, CARD = "report.html", "comparison.html", "model-card.md"
ERRORS = (
    InvalidCheckpoint,
    InvalidData,
    InvalidShards,
    InvalidWeights,
    Diverged,
    LostRank,
    OSError,
    WrongGradient,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, which is the job if none is named; give the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given.pop(0) if given and given[0] in COMMANDS else ""
    work = COMMANDS.get(command, _train)
    # the bits depend on the number of threads, and at these sizes one is the fastest
    torch.set_num_threads(1)
    threadpool_limits(1)
    for stream in (sys.stdout, sys.stderr):  # θ is not in every encoding
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = sys.stderr or sys.stdout  # it may be closed, and tqdm writes to it
    # what stops a container stops the job as Ctrl-C does: nothing is left half done
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        if command and (n_ranks_of(os.environ) or 1) > 1:
            raise InvalidShards(f"{command} is for one process, not for torchrun")
        work(given, os.environ.get("DIGITS_MNIST", ""))
    except ERRORS as error:
        print(f"digits-train: {error}", file=sys.stderr)
        return 1
    except Stopped as stop:
        print(f"\ndigits-train: {stop}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\ndigits-train: stopped; nothing was saved", file=sys.stderr)
        return 130
    return 0


def _train(given: list[str], named: str) -> None:
    """Run the job, alone or as one of torchrun's ranks."""
    flags, cache = flags_of(given, named), cache_folder(os.environ)
    _spare_data(flags.output, flags.data)
    with joined(os.environ, flags.shards, flags.device) as shards:
        with shards.first_before_others():
            data = load_data(flags.data, cache)
        classifier = _resumable(flags, data, cache, shards)
    if classifier:
        _print_evaluation(classifier, flags.output)


def _resumable(
    flags: argparse.Namespace, data: DataSet, cache: Path, shards: Shards
) -> Classifier | None:
    """Train; if that is interrupted, say where there is a checkpoint."""
    try:
        return train(flags, data, cache, shards)
    except KeyboardInterrupt:
        path = checkpoint_path(flags.output)
        if path.exists():
            raise Stopped(f"stopped; --resume goes on from {path}") from None
        raise


def _spare_data(output: Path, data: str) -> None:
    """Refuse to write over what is trained on or tested with."""
    if data and is_of_data(output, data):
        raise InvalidData(f"--output: {output} is a file of --data")


def _sweep(given: list[str], named: str) -> None:
    """Run the job for every combination of values; tell and plot what came of it."""
    # matplotlib is for plots alone, and takes as long to load as all else together
    from training.results.sweep import PLOT, Outcome, combinations, plot, table

    sweep, rest = sweep_parser().parse_known_args(given)
    over = dict(sweep.over or [("learning-rate", RATES)])
    if len(over) < len(sweep.over or over):
        sweep_parser().error("--over: the same flag twice; give it all its values once")
    runs = []
    for values in combinations(over):
        name = ",".join(f"{flag}={value}" for flag, value in values.items())
        swept = [f"--{flag}={value}" for flag, value in values.items()]
        output = f"--output={sweep.output / name / 'digits.safetensors'}"
        runs.append((values, flags_of([*rest, *swept, output], named)))
    cache, outcomes = cache_folder(os.environ), []
    data = load_data(runs[0][1].data, cache)
    for _, flags in runs:
        parts_of(flags, data)  # and its error before the first run
    try:
        for i, (values, flags) in enumerate(runs, 1):
            print(f"\n{i} of {len(runs)}: {flags.output.parent.name}")
            try:
                _resumable(flags, data, cache, Shards(flags.shards or 1))
                curve = read_curve(flags.output.with_name(METRICS))
            except Diverged as error:
                print(error)
                curve = []
            outcomes.append(Outcome(values, curve))
    finally:  # what is done is told, though the rest be stopped
        if outcomes:
            print(f"\n{table(outcomes)}")
            plot(outcomes, sweep.output / PLOT)
            print(
                f"\n{sweep.output / PLOT}: the curves; each run has a folder beside it"
            )


def _check(given: list[str], named: str) -> None:
    """Compare the gradients with finite differences, on the user's own digits."""
    flags, cache = check_parser(named).parse_args(given), cache_folder(os.environ)
    data = load_data(flags.data, cache)
    few = data.train.of_classes(flags.classes).rows(0, flags.batch_size)
    if len(few) == 0:
        raise InvalidData(f"{data.name}: no rows of these classes to train on")
    rows = design_matrix([few], flags.features, 0, cache / "phi")
    phi, labels = rows.batch(slice(0, len(few)))
    n_outputs = 1 if len(flags.classes) == 2 else len(flags.classes)
    theta = xavier(phi.shape[1] - 1, n_outputs, flags.seed)
    print(
        f"{len(few)} rows of {data.name}, {flags.features}, θ {tuple(theta.shape)}\n"
        f"{'gradient':<12}{'worst error':>12}  {'derivative':<20}{'found':>16}"
        f"{'by differences':>16}"
    )
    wrong = []
    for name, gradients in GRADIENTS.items():
        generator = torch.Generator().manual_seed(flags.seed)
        check = worst(
            gradients[n_outputs == 1],
            theta.double(),
            phi.double(),
            labels,
            flags.derivatives,
            generator,
        )
        where = f"∂J/∂θ[{check.row}, {check.column}]"
        print(
            f"{name:<12}{check.error:>12.1e}  {where:<20}{check.derivative:>16.9f}"
            f"{check.quotient:>16.9f}"
        )
        if not check.error <= TOLERANCE:
            wrong.append(name)
    if wrong:
        raise WrongGradient(f"{' and '.join(wrong)}: off by more than {TOLERANCE:g}")


def _report(given: list[str], named: str) -> None:
    """Write a page on a weights file and its model card, or one on several."""
    # matplotlib is for this alone, and takes as long to load as all else together
    from training.results.report import compare, report

    flags = report_parser(named).parse_args(given)
    runs = read_trained(flags.weights)
    beside = runs[0].path.resolve().with_name(REPORT)
    output = flags.output or (beside if len(runs) == 1 else Path(COMPARISON).resolve())
    paths = _report_paths(output, runs)
    if len(runs) > 1:
        replace_all({output: compare(runs)})
    else:
        data = _data_of(runs[0], flags.data, named, paths)
        replace_all(dict(zip(paths, report(runs[0], data), strict=True)))
    told = ", ".join(f"{run.path} ({run.classifier.version})" for run in runs)
    print(f"{output}: the report on {told}")
    for path in paths[1:]:
        print(f"{path}: its model card")


def _data_of(
    run: Trained, given: str | None, named: str, paths: Sequence[Path]
) -> DataSet:
    """Load what a run is tested on, and say if it is not what it was trained on."""
    trained = run.classifier.training
    source = "synthetic" if trained.get("data") == "synthetic" else named
    source = source if given is None else given
    for path in paths:
        _spare_data(path, source)
    data = load_data(source, cache_folder(os.environ))
    if len(data.test.of_classes(run.classifier.classes)) == 0:
        raise InvalidData(f"{data.name}: no rows of these classes to test on")
    if data.sha256() != trained.get("sha256"):
        print(
            f"{run.path} was trained on {trained.get('data', 'other data')}, and is "
            f"tested here on {data.name}: --data names another"
        )
    print(f"reading {len(data.test):,} digits, some in {len(CORRUPTIONS)} corruptions")
    return data


def _report_paths(output: Path, runs: Sequence[Trained]) -> list[Path]:
    """Place the page, and of one run the model card beside it; overwrite no weights."""
    cards = [output.with_name(CARD)] if len(runs) == 1 else []
    if output in cards:
        raise InvalidData(f"--output: {output} is the place of the model card")
    for path in (output, *cards):
        if path in [run.path.resolve() for run in runs]:
            raise InvalidData(f"--output: {path} is what the report is on")
        if path.is_dir():
            raise InvalidData(f"--output: the folder {path} is in the way")
    return [output, *cards]


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


COMMANDS = {"check": _check, "report": _report, "sweep": _sweep}


if __name__ == "__main__":
    sys.exit(main())
