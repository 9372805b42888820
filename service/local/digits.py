"""Digits in pictures, read from Python."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from service.classifier import Classifier, load
from service.features import Images
from service.images import InvalidImage, are_mnist_shaped, read_levels, read_mnist_png
from service.number import read_one
from service.reading.stages import Show, ignore
from service.settings import DEFAULT_LIMITS, EMBEDDED_WEIGHTS

__all__ = ["Answer", "Digits", "InvalidImage", "NotADigit"]

# a picture file's path or bytes, a Pillow image, or grey levels or colours as uint8
Picture = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any]

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")  # as which Pillow writes PNG
PLANES = (1, 3, 4)  # grey, RGB, RGBA
BLOCK = 256  # images scored at once: their features take 3 MB


class Answer(NamedTuple):
    """The digit in a picture."""

    digit: int
    probability: float  # of the digit, if the picture shows one
    probabilities: npt.NDArray[np.float64]  # (K,), in class order
    is_digit: float | None  # P(the picture shows a digit); None without a detector


class NotADigit(InvalidImage):
    """An image that does not look like a digit; it resembles `digit` most."""

    def __init__(self, digit: int, is_digit: float) -> None:
        super().__init__("this does not look like a digit")
        self.digit, self.is_digit = digit, is_digit


@dataclass(frozen=True, eq=False)
class Digits:
    """Reads digits with a model, as the service does.

    max_pixels: a picture of more pixels is refused
    """

    classifier: Classifier
    max_pixels: int = DEFAULT_LIMITS.max_pixels

    @classmethod
    def load(cls, weights: str | os.PathLike[str] = EMBEDDED_WEIGHTS) -> Self:
        """Load a weights file; raise InvalidWeights if it cannot be used."""
        return cls(load(Path(weights)))

    def read(self, picture: Picture, show: Show = ignore) -> Answer:
        """Read the digit in one picture; `show` receives every intermediate image.

        Raises InvalidImage for a picture without a digit or with several, whose message
        says why, and OSError for a file that cannot be read.
        """
        image = self.image_of(_upload_of(picture), show)
        (answer,) = self.score(image[np.newaxis])
        if isinstance(answer, InvalidImage):
            raise answer
        return answer

    def image_of(self, upload: bytes, show: Show = ignore) -> Images:
        """Read the bytes of a picture file as an image (28, 28), as `read` does."""
        image = read_mnist_png(upload) if show is ignore else None
        return read_one(upload, self.classifier, self.max_pixels, show) if image is None else image

    def read_images(self, images: Images) -> list[Answer | InvalidImage]:
        """Read the digit in each of some images (n, 28, 28) of grey levels.

        Images that are not in MNIST's format are read as pictures. An error takes the
        place of an answer.
        """
        unusual = np.flatnonzero(~are_mnist_shaped(images)).tolist()
        images, errors = images.copy(), {}
        for i in unusual:
            try:
                images[i] = read_levels(images[i])
            except InvalidImage as error:
                errors[i] = error
        return [errors.get(i, answer) for i, answer in enumerate(self.score(images))]

    def score(self, images: Images) -> list[Answer | InvalidImage]:
        """Classify images (n, 28, 28) in MNIST's format; NotADigit takes places of answers."""
        answers: list[Answer | InvalidImage] = []
        for first in range(0, len(images), BLOCK):
            scores = self.classifier.score(images[first : first + BLOCK])
            n, probabilities = len(scores.probabilities), scores.probabilities
            digits = np.array(self.classifier.classes)[probabilities.argmax(axis=1)].tolist()
            is_digit: list[Any] = [None] * n
            if scores.is_digit is not None:
                is_digit = scores.is_digit.tolist()
            answers += map(Answer, digits, probabilities.max(1).tolist(), probabilities, is_digit)
            for i in self.classifier.refused(scores):
                answers[first + i] = NotADigit(digits[i], is_digit[i])
        return answers


def _upload_of(picture: Picture) -> bytes:
    """Return a picture as the bytes of a file."""
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, str | os.PathLike):
        return Path(picture).read_bytes()
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(_checked(picture))
    picture = ImageOps.exif_transpose(picture)
    file = io.BytesIO()
    is_plain = picture.mode in PNG_MODES
    (picture if is_plain else picture.convert("RGB")).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _checked(levels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return an array (h, w) or (h, w, 3 or 4) of uint8; raise InvalidImage for others."""
    array = np.asarray(levels)
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in PLANES)
    if array.dtype != np.uint8 or not is_picture or not array.size:
        raise InvalidImage(
            f"the array is {array.dtype} {array.shape}; pass uint8 (h, w), (h, w, 3) or (h, w, 4) "
            "of levels from 0 to 255: of levels from 0 to 1, pass "
            "(255 * levels).astype(numpy.uint8)"
        )
    return array[..., 0] if array.shape[2:] == (1,) else array
