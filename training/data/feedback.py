"""Corrections of a service's answers, as labelled digits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.feedback import corrections
from service.images import InvalidImage, read_image
from service.settings import DEFAULT_LIMITS
from training.data.dataset import Digits, InvalidData


@dataclass(frozen=True, eq=False)
class Feedback:
    """Corrected digits, and the version of the model that answered each (n,)."""

    digits: Digits
    models: npt.NDArray[np.str_]

    def of_classes(self, classes: tuple[int, ...]) -> "Feedback":
        """Return the digits of these classes, labelled with the class indices.

        Raises InvalidData if there are none.
        """
        kept = np.isin(self.digits.labels, classes)
        if not kept.any():
            raise InvalidData(f"--feedback: no corrections to the digits {classes}")
        return Feedback(self.digits.of_classes(classes), self.models[kept])

    def before(self, version: str) -> Digits:
        """Return the digits that another model answered, which is an earlier one."""
        older = self.models != version
        return Digits(self.digits.images[older], self.digits.labels[older])


def load_feedback(folder: Path) -> Feedback:
    """Read the corrected pictures in a folder as the service reads them.

    Pictures that show no digit, and those that cannot be read, are left out. Raises
    InvalidData if none remains.
    """
    images, labels, models = [], [], []
    try:
        for each in corrections(folder):
            if each.digit is not None:
                try:
                    image = read_image(each.picture.read_bytes(), DEFAULT_LIMITS.max_pixels)
                except (FileNotFoundError, InvalidImage):  # erased, or read otherwise
                    continue
                images.append(image)
                labels.append(each.digit)
                models.append(str(each.answer.get("model")))
    except OSError as error:
        raise InvalidData(f"--feedback: {folder}: {error.strerror}") from error
    if not images:
        raise InvalidData(f"--feedback: {folder} has no corrections to a digit")
    return Feedback(Digits(np.stack(images), np.array(labels, np.uint8)), np.array(models))
