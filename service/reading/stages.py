"""Observation of the intermediate images of a reading."""

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

# called with the name of a stage and its image: bytes, or floats of which 1 is full
Show = Callable[[str, npt.NDArray[Any]], None]


def ignore(stage: str, image: npt.NDArray[Any]) -> None:
    """Do nothing, as a reading does with its stages unless they are asked for."""
