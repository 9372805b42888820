"""Hyperparameters of a run, and the recipes that name sets of them."""

import dataclasses
from typing import Any

METRICS = "metrics.jsonl"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a run: what the flags of the same names say.

    Those with a default here are told in the weights file only where they differ.
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

    def told(self) -> dict[str, Any]:
        """Tell the hyperparameters, without those that are at their default."""
        values = dataclasses.asdict(self)
        return {
            n: v for n, v in values.items() if n not in DEFAULTS or v != DEFAULTS[n]
        }


DEFAULTS = {  # of the hyperparameters that a weights file tells only if they differ
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
RECIPES = {
    "default": Recipe(
        features="stroke-edges",
        drawn=3000,
        augment=6,
        centre=True,
        calibrate=True,
        epochs=12,
        batch_size=100,
        learning_rate=1.0,
        schedule="linear",
        shuffle=True,
    ),
    "pixels": PIXELS,
    "article": dataclasses.replace(
        PIXELS, epochs=2, schedule="constant", shuffle=False
    ),
}
