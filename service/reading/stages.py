"""Observation of the intermediate images of a reading."""

from collections.abc import Callable
from typing import Any

import numpy.typing as npt
from PIL import Image

# grey levels or RGB: a picture, or an array of bytes, truth values or floats up to 1
Stage = Image.Image | npt.NDArray[Any]
Show = Callable[[str, Stage], None]  # receives the name of a stage and its image


def ignore(name: str, stage: Stage) -> None:
    """Do nothing: a reading shows its stages to this unless they are requested."""
