"""What a classifier makes of many rows, a block of them at a time."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from service.classifier import Classifier
from service.features import Images
from training.design.rows import Rows

BLOCK = 1000  # rows that are in memory as float32


def logits(classifier: Classifier, rows: Rows) -> npt.NDArray[np.float32]:
    """Give the logits (n, K) of rows of the classifier's own features."""
    return np.concatenate(
        [
            classifier.logits(np.ascontiguousarray(rows.batch(block)[0][:, :-1]))
            for block in _blocks(len(rows))
        ]
    )


def probabilities(classifier: Classifier, images: Images) -> npt.NDArray[np.float64]:
    """Give the probabilities (n, K) of images (n, 28, 28)."""
    return np.concatenate(
        [classifier.predict_proba(images[block]) for block in _blocks(len(images))]
    )


def _blocks(n: int) -> Iterator[slice]:
    yield from (slice(i, min(i + BLOCK, n)) for i in range(0, n, BLOCK))
