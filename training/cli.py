"""The command-line flags of training."""

import argparse
import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from service.classifier import ALL_CLASSES
from service.features import FEATURES
from service.settings import EMBEDDED_WEIGHTS
from training.descent import MAX_SEED
from training.design.augment import AUGMENTATIONS
from training.design.rows import CPU
from training.gradients import gradients_of
from training.recipes import METRICS, RECIPES, Recipe, recipe_of
from training.rules import RULES
from training.runs.state import KEPT
from training.schedules import SCHEDULES

RATES = ("0.001", "0.01", "0.1", "0.5", "2", "10")  # of a sweep without --over
MAX_PART_BYTES = 255  # of one part of a path, in common file systems
MAX_NAME_BYTES = 200  # leaves room for the suffixes of temporary files


Options = dict[str, Any]  # of add_argument
Flags = Sequence[tuple[str, Options, str]]  # name, options, help


def _value(
    metavar: str,
    convert: Callable[[str], Any],
    accepts: Callable[[Any], bool],
    what: str,
    default: object = None,
) -> Options:
    """Return the options of a flag whose value is converted and checked."""

    def parse(text: str) -> Any:
        with contextlib.suppress(ValueError):
            value = convert(text)
            if value is not None and accepts(value):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")

    return {"metavar": metavar, "type": parse, "default": default}


def _whole(low: int, high: int, default: int | None = None) -> Options:
    what = f"a whole number from {low} to {high}"
    return _value("N", int, lambda n: low <= n <= high, what, default)


def _output(text: str) -> Path:
    """Resolve an output path; refuse one that could not be written after the run."""
    path = Path(text).resolve()
    folder = next((p for p in path.parents if p.exists()), path)
    if path.name == METRICS or (path.exists() and not path.is_file()):
        problem = "not a path for this file"
    elif not folder.is_dir() or not os.access(folder, os.W_OK):
        problem = f"{folder} is not a writable folder"
    elif len(path.name.encode()) > MAX_NAME_BYTES:
        problem = "the file name is too long"
    elif any(len(part.encode()) > MAX_PART_BYTES for part in path.parts):
        problem = "the name of a folder is too long"
    else:
        return path
    raise argparse.ArgumentTypeError(f"{text!r}: {problem}")


def _over(text: str) -> tuple[str, list[str]]:
    """Split FLAG=V,V; the job's parser validates the values."""
    flag, _, values = text.partition("=")
    fields = [f.name for f in dataclasses.fields(Recipe) if f.type is not bool]
    names = {"rows", "seed", *(name.replace("_", "-") for name in fields)}
    if flag not in names or not all(values.split(",")):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not FLAG=V,V,... with FLAG one of {', '.join(sorted(names))}"
        )
    return flag, list(dict.fromkeys(values.split(",")))


YES_NO: Options = {"action": argparse.BooleanOptionalAction}
SOURCE: Options = {"metavar": "SOURCE"}
OUTPUT: Options = {"metavar": "FILE", "type": _output}
WEIGHTS = OUTPUT | {"default": "digits.safetensors"}
FEEDBACK: Options = {"metavar": "FOLDER", "type": Path}
FOLDER: Options = {"metavar": "FOLDER", "type": Path, "default": "sweep"}
RECIPE: Options = {"choices": RECIPES}
INIT: Options = {"metavar": "FILE", "type": Path, "nargs": "?", "const": EMBEDDED_WEIGHTS}
OVER: Options = {"metavar": "FLAG=V,V,...", "type": _over, "action": "append"}
COUNT = _whole(1, 2**31 - 1)
SEED = _whole(0, MAX_SEED - 1, default=0)
SECONDS = _value("S", float, lambda x: 0 <= x < math.inf, "a number of seconds from 0", 30.0)
RATE = _value("α", float, lambda x: 0 < x < 1e38, "a number above 0, below 1e38")
DECAY = _value("λ", float, lambda x: 0 <= x <= 1, "a number from 0 to 1")
CLASSES = _value(
    "LIST",
    lambda text: tuple(int(digit) for digit in text.split(",")),
    lambda ds: len(set(ds)) == len(ds) > 1 and set(ds) <= set(ALL_CLASSES),
    "two or more different digits, such as 3,8",
)
DEVICE = _value(
    "NAME",
    {"cpu": CPU, "cuda": torch.device("cuda")}.get,
    lambda device: device is CPU or torch.cuda.is_available(),
    "cpu, or cuda where torch finds a CUDA device",
    "cpu",
)

DATA: Flags = (
    (
        "--data",
        SOURCE,
        "pictures in folders 0 to 9, a folder with MNIST's four files or with .npy arrays, "
        "mnist.npz, train.csv, mnist.pkl.gz, or 'synthetic' (default: DIGITS_MNIST, the "
        "cache, a download)",
    ),
    ("--classes", CLASSES, "the digits to classify, such as 3,8 (default: those of the data)"),
    (
        "--seed",
        SEED,
        "seed of the initial θ, of the order of rows and of the split (default: %(default)s)",
    ),
)
RUN: Flags = (
    ("--output", WEIGHTS, "the weights file; metrics.jsonl is written beside it"),
    ("--rows", COUNT, "train on the first N training rows (default: all)"),
    ("--resume", {"action": "store_true"}, "continue from the output's checkpoint"),
    ("--checkpoint-every", SECONDS, "seconds between checkpoints (default: %(default)g)"),
    ("--shards", COUNT, "shards of each batch (default: 1, or one for each rank)"),
    ("--device", DEVICE, "where gradients are computed (default: %(default)s)"),
    ("--init", INIT, "start from a weights file (default: the one that ships), keep its P(digit)"),
    (
        "--feedback",
        FEEDBACK,
        "add the corrections that a service has kept; with --init, weights that are worse are "
        "not saved",
    ),
    (
        "--recipe",
        RECIPE,
        "a set of hyperparameters (default: fine-tuning with --init, feedback with --feedback "
        "too, own for your own data, else default)",
    ),
)
FEATURE_MAP = ("--features", {"choices": FEATURES}, "the feature map φ")
BATCH_SIZE = ("--batch-size", COUNT, "rows per step")
HYPERPARAMETERS: Flags = (
    FEATURE_MAP,
    ("--drawn", _whole(0, 2**20 - 1), "synthetic digits to add to the training rows"),
    ("--non-digits", _whole(0, 2**20 - 1), "drawn non-digits to estimate P(digit) with"),
    ("--augment", _whole(0, len(AUGMENTATIONS)), "augmented copies of each training row"),
    ("--centre", YES_NO, "subtract the features' mean; it is folded into the bias"),
    ("--calibrate", YES_NO, "fit a temperature on validation digits read as uploads"),
    ("--epochs", COUNT, "passes over the rows"),
    BATCH_SIZE,
    ("--learning-rate", RATE, "α in θ ← θ - α ∂J/∂θ"),
    ("--schedule", {"choices": SCHEDULES}, "how α changes over the steps"),
    ("--warm-up", _whole(0, 2**31 - 1), "steps over which α first rises"),
    ("--rule", {"choices": RULES}, "the update rule; adam needs α below 0.01"),
    ("--weight-decay", DECAY, "shrink the weights by α λ at each step"),
    ("--gradient", {"choices": gradients_of(10)}, "by autograd or, faster, by hand"),
    ("--keep", {"choices": KEPT}, "which θ to keep; best: by validation NLL"),
    ("--shuffle", YES_NO, "use a random order in each epoch, not that of the file"),
)
DERIVATIVES = ("--derivatives", COUNT, "random derivatives to compare (default: 1000)")
SWEEP: Flags = (
    ("--over", OVER, "values to try, such as batch-size=16,64 (default: six learning rates)"),
    ("--output", FOLDER, "folder of the plot and of the runs (default: sweep)"),
)
REPORT: Flags = (
    ("weights", {"type": Path, "nargs": "*"}, "weights files (default: digits.safetensors)"),
    ("--data", SOURCE, "the data to test on (default: that of the training)"),
    ("--output", OUTPUT, "the report (default: report.html beside the weights)"),
)
COMMANDS: dict[str, tuple[str, dict[str, Flags]]] = {
    "train": (
        "Train logistic regression on handwritten digits by gradient descent, and "
        "save it for the service. Other commands: report, sweep, check.",
        {"data": DATA, "run": RUN, "hyperparameters (default: of the recipe)": HYPERPARAMETERS},
    ),
    "check": (
        "Compare the gradients with finite differences of the loss, in float64 on the "
        "first rows of the data (64, as pixels), and print where each differs most.",
        {"data": DATA, "check": (FEATURE_MAP, BATCH_SIZE, DERIVATIVES)},
    ),
    "sweep": (
        "Train with several values of a flag, print a table of the results, and plot "
        "the curves. All other flags are those of the training.",
        {"sweep": SWEEP},
    ),
    "report": (
        "Write an HTML report on a weights file (accuracy, calibration, mistakes, "
        "robustness) and a model card, or a comparison of several weights files.",
        {"report": REPORT},
    ),
}


def parser(command: str, **defaults: object) -> argparse.ArgumentParser:
    """Build the parser of a command, with defaults for its flags."""
    description, groups = COMMANDS[command]
    result = argparse.ArgumentParser(
        f"digits-train {command}".removesuffix(" train"),
        description=description,
        allow_abbrev=False,  # else a sweep would take --out for its own --output
    )
    for title, flags in groups.items():
        group = result.add_argument_group(title)
        for name, options, text in flags:
            group.add_argument(name, **options, help=text)
    result.set_defaults(**defaults)
    return result


def job_flags(given: Sequence[str], data: str) -> argparse.Namespace:
    """Parse the flags of the job; `data` is the default of --data."""
    job = parser("train", data=data)
    flags = job.parse_args(given)
    recipe = recipe_of(flags.recipe or "default", vars(flags))
    if flags.device.type != "cpu" and recipe.gradient == "closed-form":
        job.error("--gradient closed-form runs on the CPU only: omit --device")
    return flags
