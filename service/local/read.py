"""The command read: the digit in one picture, and the stages of its reading."""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from service.classifier import load_first
from service.features import MAX_GREY
from service.images import InvalidImage, SeveralDigits
from service.local.digits import Digits, NotADigit
from service.reading.background import MIN_CONTRAST
from service.reading.stages import Show, Stage, ignore
from service.settings import Settings

SHOWN_SIDE = 280  # pixels: smaller stages are enlarged to about this longer side


def read(path: Path, stages: Path | None, settings: Settings) -> None:
    """Print the digit in a picture file; write the stages of its reading."""
    digits = Digits(load_first(settings.weights), settings.limits.max_pixels)
    show = _writer(stages) if stages else ignore
    try:
        answer = digits.read(path, show)
    except NotADigit as error:
        more = f"is_digit: {error.is_digit:.4f}; nearest digit: {error.digit}"
        raise InvalidImage(f"{error} ({more})") from None
    except SeveralDigits as error:
        remedy = "use `classify --several`, or send a picture of one digit"
        raise InvalidImage(f"{error}; {remedy}") from None
    print(f"digit: {answer.digit}")
    print(f"probability: {answer.probability:.4f}")
    if answer.is_digit is not None:
        print(f"is_digit: {answer.is_digit:.4f}")


def _writer(folder: Path) -> Show:
    """Return a function that writes each stage as a numbered PNG into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = itertools.count(1)

    def write(name: str, stage: Stage) -> None:
        image = np.asarray(stage)
        if name == "ink":  # of any level: show it from black to white
            image = image / max(image.max(), MIN_CONTRAST)
        if image.dtype != np.uint8:
            image = np.rint(np.clip(image, 0, 1) * MAX_GREY).astype(np.uint8)
        factor = max(1, SHOWN_SIDE // max(image.shape[:2]))
        enlarged = image.repeat(factor, 0).repeat(factor, 1)
        Image.fromarray(enlarged).save(folder / f"{next(numbers)}-{name}.png")

    return write
