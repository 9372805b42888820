"""The job's command line: recipes, and the flags that change them."""

import argparse
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.features import FEATURES
from training.descent import MAX_SEED, SCHEDULES

ALL_CLASSES = tuple(range(10))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a run."""

    features: str
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    shuffle: bool


RECIPES = {
    "default": Recipe("pixels", 20, 64, 0.5, "linear", shuffle=True),
    "article": Recipe("pixels", 2, 64, 0.5, "constant", shuffle=False),
}


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


_count = _value(int, lambda n: n > 0, "a whole number above 0")
_rate = _value(float, lambda x: 0 < x < math.inf, "a number above 0")
_seed = _value(int, lambda n: 0 <= n < MAX_SEED, "a whole number from 0, below 2^63")
_classes = _value(
    lambda text: tuple(int(digit) for digit in text.split(",")),
    lambda ds: len(set(ds)) == len(ds) > 1 and set(ds) <= set(ALL_CLASSES),
    "two or more different digits, such as 3,8",
)


def parser(data: str) -> argparse.ArgumentParser:
    """Build the parser; `data` is the source of data where --data names none."""
    result = argparse.ArgumentParser(
        prog="digits-train",
        description="Train logistic regression on handwritten digits by gradient "
        "descent, evaluate it on the test set, and save it for the service.",
        epilog="Without --data, MNIST is looked for in the folder DIGITS_MNIST and in "
        "the cache, and then downloaded. Flags without a default take the recipe's.",
    )
    # fmt: off  (a table: one flag, its type and its help in two lines)
    flag = result.add_argument
    flag(
        "--data",
        metavar="SOURCE",
        default=data,
        help="a folder with MNIST's four files, the article's mnist.pkl.gz, or "
        "'synthetic' for digits drawn on the spot",
    )
    flag(
        "--output",
        metavar="FILE",
        type=Path,
        default=Path("digits.safetensors"),
        help="the weights file; metrics.jsonl goes beside it (default: %(default)s)",
    )
    flag(
        "--recipe",
        choices=RECIPES,
        default="default",
        help="'article' is the tutorial to the letter (default: %(default)s)",
    )
    flag(
        "--seed",
        metavar="N",
        type=_seed,
        default=0,
        help="of first weights and orders; the same seed, data and versions give the "
        "same file (default: %(default)s)",
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
        help="train on the first N rows (default: all but those to validate)",
    )
    flag("--features", choices=FEATURES, help="the feature map φ")
    flag("--epochs", metavar="N", type=_count, help="passes over the rows")
    flag("--batch-size", metavar="N", type=_count, help="rows to a step")
    flag("--learning-rate", metavar="α", type=_rate, help="in θ ← θ - α ∂J/∂θ")
    flag("--schedule", choices=SCHEDULES, help="whether α stays or falls to zero")
    flag(
        "--shuffle",
        action=argparse.BooleanOptionalAction,
        help="draw a new order each epoch, or keep the file's",
    )
    # fmt: on
    return result
