"""The training commands: train, check, sweep, report."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from service.classifier import Classifier, InvalidWeights
from service.settings import InvalidSetting, refuse_unknown
from training.__main__ import INTERRUPTED
from training.cli import RATES, job_flags, parser
from training.data.atomic import replace_all
from training.data.dataset import DataSet, InvalidData
from training.data.mnist import MNIST, PICKLED, cache_folder
from training.data.sources import InvalidOutput, load_data, protect_data
from training.descent import xavier
from training.design.design_matrix import design_matrix
from training.gradient_check import TOLERANCE, WrongGradient, worst
from training.gradients import gradients_of, n_outputs
from training.job import classes_of, plan, train
from training.recipes import METRICS
from training.results.gate import WorseWeights
from training.results.run_files import Trained, read_curve, read_trained
from training.runs.checkpoints import InvalidCheckpoint, Stopped, checkpoint_path
from training.runs.distributed import InvalidShards, Shards, join, world_size
from training.runs.progress import Diverged

REPORT, COMPARISON, CARD = "report.html", "comparison.html", "model-card.md"
INVALID = (
    *(InvalidCheckpoint, InvalidData, InvalidOutput, InvalidSetting, InvalidShards),
    InvalidWeights,
)
FAILED = (Diverged, OSError, WorseWeights, WrongGradient)  # LostRank is an OSError


def run(given: list[str]) -> int:
    """Run a command, by default the training, with its arguments; return the exit status."""
    command = given.pop(0) if given and given[0] in COMMANDS else "train"
    _prepare_process()
    try:
        refuse_unknown(os.environ)
        if command != "train" and (world_size(os.environ) or 1) > 1:
            raise InvalidShards(f"{command} runs in one process, not under torchrun")
        COMMANDS[command](given, os.environ.get("DIGITS_MNIST", ""))
    except (*INVALID, *FAILED) as error:
        print(f"digits-train: {error}", file=sys.stderr)
        return 1
    except Stopped as stop:
        print(f"\ndigits-train: {stop}", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print("\ndigits-train: stopped; nothing was saved", file=sys.stderr)
        return INTERRUPTED
    return 0


def _prepare_process() -> None:
    """Use one thread, print any letter, and treat SIGTERM and SIGHUP as Ctrl-C."""
    # the bits depend on the number of threads, and at these sizes one is fastest
    torch.set_num_threads(1)
    threadpool_limits(1)
    for stream in (sys.stdout, sys.stderr):  # not every encoding has θ
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # TextIOWrapper's
    sys.stderr = sys.stderr or sys.stdout  # closed in some daemons; tqdm writes to it
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _train(given: list[str], default_data: str) -> None:
    """Run the job, alone or as one rank of torchrun."""
    flags, cache = job_flags(given, default_data), cache_folder(os.environ)
    protect_data(flags.output, flags.data)
    with join(os.environ, flags.shards, flags.device) as shards:
        with shards.rank_0_first():
            data = load_data(flags.data, cache, flags.seed)
        classifier = _resumable(flags, data, cache, shards)
    if classifier:
        _print_evaluation(classifier, flags.output)


def _resumable(
    flags: argparse.Namespace, data: DataSet, cache: Path, shards: Shards
) -> Classifier | None:
    """Train; raise Stopped if that is interrupted and there is a checkpoint."""
    try:
        return train(flags, data, cache, shards)
    except KeyboardInterrupt:
        path = checkpoint_path(flags.output)
        if path.exists():
            raise Stopped(f"stopped; resume from {path} with --resume") from None
        raise


def _print_evaluation(classifier: Classifier, path: Path) -> None:
    figures = classifier.evaluation
    tested_on = f"{figures['n']:,} rows of {figures['data']}"
    print(f"\n{path} ({classifier.version}), {tested_on}:")
    for name in ("accuracy", "nll", "brier", "ece"):
        print(f"  {name:<10}{figures[name]:.4f}")
    print("\ntrue \\ read" + "".join(f"{digit:>6}" for digit in classifier.classes))
    for digit, counts in zip(classifier.classes, figures["confusion"], strict=True):
        print(f"{digit:>11}" + "".join(f"{count:>6}" for count in counts))


def _sweep(given: list[str], default_data: str) -> None:
    """Run the job for every combination of values; tabulate and plot the results."""
    # matplotlib takes as long to import as everything else together
    from training.results.sweep import PLOT, Outcome, combinations, plot, table

    sweeper = parser("sweep")
    sweep, rest = sweeper.parse_known_args(given)
    over = dict(sweep.over or [("learning-rate", RATES)])
    if len(over) < len(sweep.over or over):
        sweeper.error("--over: a flag is repeated; list all its values in one --over")
    runs = []
    for values in combinations(over):
        output = sweep.output / Outcome(values, []).name / "digits.safetensors"
        swept = [f"--{flag}={value}" for flag, value in values.items()]
        flags = job_flags([*rest, *swept, f"--output={output}"], default_data)
        runs.append((values, flags))
    cache, outcomes = cache_folder(os.environ), []
    data = _data_by_seed([flags for _, flags in runs], cache)
    for _, flags in runs:
        plan(flags, data[flags.seed])  # raises its error before the first run
    try:
        for i, (values, flags) in enumerate(runs, 1):
            print(f"\n{i} of {len(runs)}: {flags.output.parent.name}")
            try:
                _resumable(flags, data[flags.seed], cache, Shards(flags.shards or 1))
                curve = read_curve(flags.output.with_name(METRICS))
            except Diverged as error:
                print(error)
                curve = []
            outcomes.append(Outcome(values, curve))
    finally:  # an interrupted sweep reports the runs that are finished
        if outcomes:
            path = sweep.output / PLOT
            print(f"\n{table(outcomes)}")
            plot(outcomes, path)
            print(f"\nwrote {path}; the files of each run are in a folder beside it")


def _data_by_seed(runs: Sequence[argparse.Namespace], cache: Path) -> dict[int, DataSet]:
    """Load the data of each seed, which chooses the test rows of your own data."""
    first = load_data(runs[0].data, cache, runs[0].seed)
    others = {run.seed for run in runs} - {runs[0].seed}
    data = {
        seed: load_data(runs[0].data, cache, seed) if first.is_own else first for seed in others
    }
    return data | {runs[0].seed: first}


def _check(given: list[str], default_data: str) -> None:
    """Compare the gradients with finite differences on rows of the data."""
    defaults = {"features": "pixels", "batch_size": 64, "derivatives": 1000}
    flags = parser("check", data=default_data, **defaults).parse_args(given)
    cache = cache_folder(os.environ)
    data = load_data(flags.data, cache, flags.seed)
    classes = classes_of(flags, data)
    n_classes = len(classes)
    digits = data.train.of_classes(classes).rows(0, flags.batch_size)
    if len(digits) == 0:
        raise InvalidData(f"{data.name}: no training rows of these classes")
    rows = design_matrix([digits], flags.features, 0, cache / "phi")
    phi, labels = rows.batch(slice(0, len(digits)))
    theta = xavier(phi.shape[1] - 1, n_outputs(n_classes), flags.seed)
    print(f"{len(digits)} rows of {data.name}, {flags.features}, θ {tuple(theta.shape)}")
    line = "{:<12}{:>12}  {:<20}{:>16}{:>16}".format
    print(line("gradient", "worst error", "derivative", "computed", "by differences"))
    wrong = []
    for name, gradient in gradients_of(n_classes).items():
        generator = torch.Generator().manual_seed(flags.seed)
        problem = theta.double(), phi.double(), labels
        check = worst(gradient, *problem, flags.derivatives, generator)
        where = f"∂J/∂θ[{check.row}, {check.column}]"
        derivatives = f"{check.derivative:.9f}", f"{check.quotient:.9f}"
        print(line(name, f"{check.error:.1e}", where, *derivatives))
        if not check.error <= TOLERANCE:
            wrong.append(name)
    if wrong:
        raise WrongGradient(f"{' and '.join(wrong)}: off by more than {TOLERANCE:g}")


def _report(given: list[str], default_data: str) -> None:
    """Write a report and a model card on a weights file, or a comparison of several."""
    # matplotlib takes as long to import as everything else together
    from training.results.report import compare, report

    flags = parser("report", weights=[Path("digits.safetensors")]).parse_args(given)
    runs = read_trained(flags.weights)
    if len(runs) > 1:
        paths = [flags.output or Path(COMPARISON).resolve()]
        _protect_inputs(paths, runs)
        texts = [compare(runs)]
    else:
        output = flags.output or runs[0].path.resolve().with_name(REPORT)
        paths = [output, output.with_name(CARD)]
        _protect_inputs(paths, runs)
        texts = list(report(runs[0], _test_data(runs[0], flags, default_data, paths)))
    replace_all(dict(zip(paths, texts, strict=True)))
    models = ", ".join(f"{run.path} ({run.classifier.version})" for run in runs)
    print(f"{paths[0]}: report on {models}", *paths[1:], sep="\n")


def _protect_inputs(paths: Sequence[Path], runs: Sequence[Trained]) -> None:
    """Raise InvalidOutput if a path is taken by an input, a folder or the card."""
    if len(set(paths)) < len(paths):
        raise InvalidOutput(f"--output: {paths[0]} is the path of the model card")
    for path in paths:
        if path in [run.path.resolve() for run in runs]:
            raise InvalidOutput(f"--output: {path} is one of the weights files")
        if path.is_dir():
            raise InvalidOutput(f"--output: {path} is a folder")


def _test_data(
    run: Trained, flags: argparse.Namespace, default_data: str, paths: Sequence[Path]
) -> DataSet:
    """Load the data to test a model on; print a note if it was trained on other data."""
    trained = run.classifier.training
    source = _trained_on(run, default_data) if flags.data is None else flags.data
    for path in paths:
        protect_data(path, source)
    seed = trained.get("seed")  # of the test rows
    data = load_data(source, cache_folder(os.environ), seed if isinstance(seed, int) else 0)
    if len(data.test.of_classes(run.classifier.classes)) == 0:
        raise InvalidData(f"{data.name}: no test rows of these classes")
    if data.sha256() != trained.get("sha256"):
        made = trained.get("data", "other data")
        print(f"{run.path} was trained on {made} and is tested on {data.name} (--data)")
    return data


def _trained_on(run: Trained, default_data: str) -> str:
    """Return the --data of a training; raise InvalidData for own data that is not here."""
    name = str(run.classifier.training.get("data", MNIST))
    if name in (MNIST, PICKLED):
        return default_data
    if name != "synthetic" and (name != Path(name).name or not Path(name).exists()):
        raise InvalidData(
            f"{run.path} was trained on {name}, which is not in this folder; name it with --data"
        )
    return name


COMMANDS: dict[str, Callable[[list[str], str], None]] = {
    "train": _train,
    "check": _check,
    "report": _report,
    "sweep": _sweep,
}
