"""φ: the fixed feature maps, shared by training and serving so they cannot disagree."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

IMAGE_SIZE = (28, 28)
MAX_GREY = 255

Images = npt.NDArray[np.uint8]
FeatureMap = Callable[[Images], npt.NDArray[np.float32]]


def pixels(images: Images) -> npt.NDArray[np.float32]:
    """Take the grey levels themselves as features.

    images (n, 28, 28) in 0..255 -> features (n, 784) in [0, 1]
    """
    n, height, width = images.shape
    return images.reshape(n, height * width).astype(np.float32) / np.float32(MAX_GREY)


FEATURES: dict[str, FeatureMap] = {"pixels": pixels}


def n_features(name: str) -> int:
    """Count the features D that the map `name` gives, by applying it to no image."""
    width: int = FEATURES[name](np.zeros((0, *IMAGE_SIZE), np.uint8)).shape[1]
    return width
