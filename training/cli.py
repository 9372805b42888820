"""The job's command line: recipes, and the flags that change them."""

import argparse
import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from service.classifier import ALL_CLASSES
from service.features import FEATURES
from training.descent import MAX_SEED
from training.design.augment import AUGMENTATIONS
from training.design.rows import CPU
from training.gradients import GRADIENTS
from training.recipes import METRICS, RECIPES, Recipe
from training.rules import RULES
from training.runs.state import KEPT
from training.schedules import SCHEDULES

RATES = (
    "0.001",
    "0.01",
    "0.1",
    "0.5",
    "2",
    "10",
)  # that are swept where none are named
MAX_PART_BYTES = 255  # of a path, as file systems have it
MAX_NAME_BYTES = 200  # leaves room for what the name has while it is being written


def recipe_of(flags: argparse.Namespace) -> Recipe:
    """Take the recipe that was named, changed by the flags that were given."""
    names = [field.name for field in dataclasses.fields(Recipe)]
    given = {name: getattr(flags, name) for name in names}
    changes = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(RECIPES[flags.recipe], **changes)


def _value(
    convert: Callable[[str], Any], accepts: Callable[[Any], bool], what: str
) -> Callable[[str], Any]:
    """Make an argument's type from what reads it and what accepts it."""

    def parse(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return parse


_count = _value(int, lambda n: 0 < n < 2**31, "a whole number above 0, below 2^31")
_copies = _value(
    int,
    lambda n: 0 <= n <= len(AUGMENTATIONS),
    f"a whole number from 0 to {len(AUGMENTATIONS)}",
)
_drawn = _value(int, lambda n: 0 <= n < 2**20, "a whole number from 0, below 2^20")
_rate = _value(float, lambda x: 0 < x < 1e38, "a number above 0, below 1e38")
_steps = _value(int, lambda n: 0 <= n < 2**31, "a whole number from 0, below 2^31")
_decay = _value(float, lambda x: 0 <= x <= 1, "a number from 0 to 1")
_seconds = _value(float, lambda x: 0 <= x < math.inf, "a number of seconds from 0")
_seed = _value(int, lambda n: 0 <= n < MAX_SEED, "a whole number from 0, below 2^63")
_classes = _value(
    lambda text: tuple(int(digit) for digit in text.split(",")),
    lambda ds: len(set(ds)) == len(ds) > 1 and set(ds) <= set(ALL_CLASSES),
    "two or more different digits, such as 3,8",
)


def _over(text: str) -> tuple[str, list[str]]:
    """Part a flag from its values; whether it takes them, the job's parser says."""
    flag, _, values = text.partition("=")
    fields = {field.name: field.type for field in dataclasses.fields(Recipe)}
    takes = {
        name.replace("_", "-") for name, kind in fields.items() if kind is not bool
    }
    if flag not in takes | {"seed", "rows"} or not all(values.split(",")):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not FLAG=V,V,... of {', '.join(sorted(takes))}, rows or seed"
        )
    return flag, list(dict.fromkeys(values.split(",")))


def _folder(text: str) -> Path:
    path = Path(text).resolve()
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return path


def _device(text: str) -> torch.device:
    """Refuse a device that is not there."""
    if text not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither cpu nor cuda")
    if text == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(
            f"torch {torch.__version__} finds no CUDA device here"
        )
    return CPU if text == "cpu" else torch.device(text)


def _output(text: str) -> Path:
    """Refuse before the training what could not be written after it."""
    path = Path(text).resolve()
    if path.name == METRICS or (path.exists() and not path.is_file()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the place for a weights file"
        )
    folder = next(folder for folder in path.parents if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise argparse.ArgumentTypeError(
            f"{text!r}: nothing can be written to {folder}"
        )
    if len(path.name.encode()) > MAX_NAME_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r}: the name is too long")
    return path


def parser(data: str) -> argparse.ArgumentParser:
    """Build the parser; `data` is the source of data where --data names none."""
    result = argparse.ArgumentParser(
        prog="digits-train",
        description="Train logistic regression on handwritten digits by gradient "
        "descent, evaluate it on the test set, and save it for the service.",
        epilog="Without --data, MNIST is looked for in the folder DIGITS_MNIST and in "
        "the cache, and then downloaded. Flags without a default take the recipe's. "
        "'digits-train report' writes a page on what was trained, 'digits-train sweep' "
        "trains at several rates, 'digits-train check' checks the gradients.",
        allow_abbrev=False,  # a sweep's own flags and the job's are told apart by name
    )
    flag = result.add_argument
    flag(
        "--data",
        metavar="SOURCE",
        default=data,
        help="a folder with MNIST's four files or with your own digits as .npy, the "
        "article's mnist.pkl.gz, or 'synthetic' for digits drawn on the spot",
    )
    flag(
        "--output",
        metavar="FILE",
        type=_output,
        default="digits.safetensors",
        help="the weights file; metrics.jsonl, the curve of the run, goes beside it "
        "(default: %(default)s)",
    )
    flag(
        "--recipe",
        choices=RECIPES,
        default="default",
        help="'pixels' is as good as a linear model of grey levels gets, 'article' "
        "the tutorial to the letter (default: %(default)s)",
    )
    flag(
        "--seed",
        metavar="N",
        type=_seed,
        default=0,
        help="of first weights and orders (the copies are always the same); the same "
        "seed, data and versions give the same file (default: %(default)s)",
    )
    flag(
        "--classes",
        metavar="LIST",
        type=_classes,
        default=ALL_CLASSES,
        help="the digits to tell apart, such as 3,8: two make the binary model "
        "(default: all ten)",
    )
    flag(
        "--rows",
        metavar="N",
        type=_count,
        help="train on the first N rows of these digits (default: on all but those to "
        "validate)",
    )
    flag(
        "--resume",
        action="store_true",
        help="go on from the checkpoint beside the output, if there is one: the run "
        "ends in the same bytes as if it had not been stopped",
    )
    flag(
        "--checkpoint-every",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="and at SIGTERM and Ctrl-C (default: %(default)g)",
    )
    flag(
        "--shards",
        metavar="N",
        type=_count,
        help="sum the gradient over N shards of each batch, as N ranks do that "
        "torchrun starts (default: 1, or their number)",
    )
    flag(
        "--device",
        type=_device,
        default="cpu",
        help="cpu or cuda, where the gradient is computed (default: %(default)s)",
    )
    flag("--features", choices=FEATURES, help="the feature map φ")
    flag(
        "--drawn",
        metavar="N",
        type=_drawn,
        help="drawn digits to add: flagged ones, crossed sevens, open fours",
    )
    flag("--augment", metavar="N", type=_copies, help="jittered copies to add")
    flag(
        "--centre",
        action=argparse.BooleanOptionalAction,
        help="subtract the features' mean, and fold it into the bias",
    )
    flag(
        "--calibrate",
        action=argparse.BooleanOptionalAction,
        help="fit a temperature on the rows to validate, and fold it into the weights",
    )
    flag("--epochs", metavar="N", type=_count, help="passes over the rows")
    flag("--batch-size", metavar="N", type=_count, help="rows to a step")
    flag("--learning-rate", metavar="α", type=_rate, help="in θ ← θ - α ∂J/∂θ")
    flag("--schedule", choices=SCHEDULES, help="whether α stays, or how it falls to 0")
    flag("--warm-up", metavar="N", type=_steps, help="steps over which α first rises")
    flag(
        "--rule",
        choices=RULES,
        help="how θ moves along the gradient; for 'adam', α is best below 0.01",
    )
    flag(
        "--weight-decay",
        metavar="λ",
        type=_decay,
        help="shrink the weights by α λ at each step; with 'adam', this is AdamW",
    )
    flag(
        "--gradient",
        choices=GRADIENTS,
        help="differentiate by autograd, or by the formula: the same and faster",
    )
    flag(
        "--keep",
        choices=KEPT,
        help="the last weights, the average over the last half of the steps, or those "
        "of the epoch with the best validation NLL",
    )
    flag(
        "--shuffle",
        action=argparse.BooleanOptionalAction,
        help="draw a new order each epoch, or keep the file's",
    )
    return result


def flags_of(given: Sequence[str], data: str) -> argparse.Namespace:
    """Parse the flags of the job."""
    result = parser(data)
    flags = result.parse_args(given)
    if any(len(part.encode()) > MAX_PART_BYTES for part in flags.output.parts):
        result.error(f"--output: {flags.output}: the name of a folder is too long")
    if flags.device.type != "cpu" and recipe_of(flags).gradient == "closed-form":
        result.error("--gradient closed-form is of the CPU: leave out --device")
    return flags


def check_parser(data: str) -> argparse.ArgumentParser:
    """Build the parser of `digits-train check`."""
    result = argparse.ArgumentParser(
        prog="digits-train check",
        description="Compare the gradients with finite differences of the loss, in "
        "float64 on rows of the data, and tell where each differs the most.",
    )
    flag = result.add_argument
    flag("--data", metavar="SOURCE", default=data, help="as for the training")
    flag("--features", choices=FEATURES, default="pixels", help="the feature map φ")
    flag(
        "--classes",
        metavar="LIST",
        type=_classes,
        default=ALL_CLASSES,
        help="two make the binary model (default: all ten)",
    )
    flag(
        "--batch-size",
        metavar="N",
        type=_count,
        default=64,
        help="rows, the first of those to train on (default: %(default)s)",
    )
    flag(
        "--derivatives",
        metavar="N",
        type=_count,
        default=1000,
        help="how many to compare, drawn by the seed (default: %(default)s)",
    )
    flag("--seed", metavar="N", type=_seed, default=0, help="(default: %(default)s)")
    return result


def sweep_parser() -> argparse.ArgumentParser:
    """Build the parser of what `digits-train sweep` adds to the flags of the job."""
    result = argparse.ArgumentParser(
        prog="digits-train sweep",
        description="Train at several values of a flag, print a table of what came of "
        "it, and plot the curves. All other flags are those of the training.",
        allow_abbrev=False,
    )
    flag = result.add_argument
    flag(
        "--over",
        metavar="FLAG=V,V,...",
        type=_over,
        action="append",
        help="such as batch-size=16,64; of several, every combination is trained "
        f"(default: learning-rate={','.join(RATES)})",
    )
    flag(
        "--output",
        metavar="FOLDER",
        type=_folder,
        default="sweep",
        help="for the plot, and a folder for each run (default: %(default)s)",
    )
    return result


def report_parser(data: str) -> argparse.ArgumentParser:
    """Build the parser of `digits-train report`."""
    result = argparse.ArgumentParser(
        prog="digits-train report",
        description="Write a page with figures on a weights file: how good it is, how "
        "sure, what it mistakes, how it reads digits as people post them; and beside "
        "it a model card. Of several weights files, write a page that compares them.",
    )
    flag = result.add_argument
    flag("weights", type=Path, nargs="*", default=[Path("digits.safetensors")])
    flag(
        "--data",
        metavar="SOURCE",
        help="to test it on, as for the training (default: synthetic digits if it was "
        f"trained on them, else {data or 'MNIST'})",
    )
    flag(
        "--output",
        metavar="FILE",
        type=_output,
        help="(default: report.html beside the weights, or comparison.html here)",
    )
    return result
