"""Hyperparameters of a run, and named recipes."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

METRICS = "metrics.jsonl"  # the training curve, beside the weights file
OWN, FINE_TUNING = "own", "fine-tuning"  # recipes of own data, without and with --init
FEEDBACK = "feedback"  # of corrections, with --init
MIN_STEPS = 1_000  # of the recipes "own" and "feedback": what a few hundred rows need


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a run, named as their flags.

    The weights file records those that have a default here only if they differ from it.
    """

    features: str
    drawn: int
    augment: int
    centre: bool
    calibrate: bool
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    shuffle: bool
    warm_up: int = 0
    rule: str = "descent"
    weight_decay: float = 0.0
    gradient: str = "autograd"
    keep: str = "last"
    non_digits: int = 0

    def recorded(self) -> dict[str, Any]:
        """Return the hyperparameters for the weights file, in the order of the fields.

        Those at their default are left out.
        """
        values = dataclasses.asdict(self)
        return {n: v for n, v in values.items() if DEFAULTS.get(n) != v}


DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(Recipe)
    if field.default is not dataclasses.MISSING
}
PIXELS = Recipe(
    features="pixels",
    drawn=0,
    augment=0,
    centre=False,
    calibrate=False,
    epochs=20,
    batch_size=64,
    learning_rate=0.5,
    schedule="linear",
    shuffle=True,
)
DEFAULT = dataclasses.replace(
    PIXELS,
    features="stroke-waves",
    drawn=14000,
    augment=9,
    centre=True,
    calibrate=True,
    epochs=4,
    batch_size=100,
    learning_rate=0.16,
    non_digits=24000,
)
RECIPES = {
    "default": DEFAULT,
    OWN: dataclasses.replace(DEFAULT, drawn=0, non_digits=0),
    # few short steps stay near the initial weights; augmented copies lead further away
    FINE_TUNING: dataclasses.replace(
        DEFAULT, drawn=0, augment=0, calibrate=False, epochs=50, learning_rate=0.02, non_digits=0
    ),
    # of MNIST's rows, two epochs are MIN_STEPS
    FEEDBACK: dataclasses.replace(
        DEFAULT, drawn=0, augment=0, calibrate=False, epochs=2, learning_rate=0.02, non_digits=0
    ),
    "pixels": PIXELS,
    "article": dataclasses.replace(PIXELS, epochs=2, schedule="constant", shuffle=False),
}


def recipe_of(name: str, changes: Mapping[str, Any], n_rows: int | None = None) -> Recipe:
    """Return the named recipe with the given hyperparameters; None leaves one as is.

    With a number of rows, the recipes "own" and "feedback" have at least MIN_STEPS steps.
    """
    names = {field.name for field in dataclasses.fields(Recipe)}
    given = {n: v for n, v in changes.items() if n in names and v is not None}
    recipe = dataclasses.replace(RECIPES[name], **given)
    if name not in (OWN, FEEDBACK) or n_rows is None or "epochs" in given:
        return recipe
    per_epoch = math.ceil(n_rows * (1 + recipe.augment) / recipe.batch_size)
    return dataclasses.replace(recipe, epochs=max(recipe.epochs, math.ceil(MIN_STEPS / per_epoch)))
