"""Why an answer: each region's exact share in the logits. The model is linear in φ."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from service.classifier import Classifier
from service.features import (
    CELLS,
    FEATURES,
    GRID,
    IMAGE_SIZE,
    N_STROKE_EDGES,
    Images,
    placement_of,
)

BLOCK = 4  # pixels a side of a region, where the features are pixels
DIGITS = 6  # after the point: finer than float32 adds up

Outlines = npt.NDArray[np.float64]  # (regions, 4 corners, x and y), in pixels


def explain(classifier: Classifier, image: Images) -> dict[str, Any]:
    """Share the logits of one image (28, 28) out among the regions of the image.

    logit_k = bias_k + Σ_regions logits_k, for every class k; a region's `evidence` is
    what it adds to the logit of the answer beyond that of the runner-up. Outlines are
    in pixels, x to the right and y down from the image's upper left corner.
    """
    phi = FEATURES[classifier.features](image[np.newaxis])[0]
    region, outlines = _REGIONS[classifier.features](image)
    shares = np.zeros((len(outlines), len(classifier.classes)))
    np.add.at(shares, region, phi[:, np.newaxis].astype(np.float64) * classifier.weight)
    logits = shares.sum(axis=0) + classifier.bias
    runner_up, answer = np.argsort(logits)[-2:]
    return {
        "image": image.tolist(),
        "answer": classifier.classes[answer],
        "runner_up": classifier.classes[runner_up],
        "logits": logits.round(DIGITS).tolist(),
        "bias": classifier.bias.astype(np.float64).round(DIGITS).tolist(),
        "regions": [
            {
                "outline": outline.round(2).tolist(),
                "evidence": round(share[answer] - share[runner_up], DIGITS),
                "logits": share.round(DIGITS).tolist(),
            }
            for outline, share in zip(outlines, shares, strict=True)
        ],
    }


def _regions_of_pixels(image: Images) -> tuple[npt.NDArray[np.intp], Outlines]:
    """Give each pixel's region (784,), and the regions: blocks of 4 x 4 pixels."""
    height, width = IMAGE_SIZE
    y, x = np.divmod(np.arange(height * width), width)
    outlines = _cells(np.arange(0, width + 1, BLOCK), np.arange(0, height + 1, BLOCK))
    return y // BLOCK * (width // BLOCK) + x // BLOCK, outlines


def _regions_of_stroke_edges(image: Images) -> tuple[npt.NDArray[np.intp], Outlines]:
    """Give each feature's cell (720,), and the cells where they lie on the image.

    Cells overlap, being triangular windows: an outline is where one weighs the most.
    """
    ends = (np.arange(CELLS + 1) - CELLS / 2) * _CELL
    u, v = np.moveaxis(_cells(ends, ends), -1, 0)
    place = placement_of(image)
    x = place.x + place.width * u + place.slant * v + IMAGE_SIZE[1] / 2
    y = place.y + place.height * v + IMAGE_SIZE[0] / 2
    return np.arange(N_STROKE_EDGES) % CELLS**2, np.stack([x, y], axis=-1)


_CELL = (GRID + 2) / CELLS  # points of the grid from the middle of a cell to the next's


def _cells(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Outlines:
    """Outline the cells between the lines x and y, row by row: (cells, 4, 2)."""
    return np.array(
        [
            [(left, top), (right, top), (right, bottom), (left, bottom)]
            for top, bottom in pairwise(y)
            for left, right in pairwise(x)
        ],
        float,
    )


_REGIONS = {"pixels": _regions_of_pixels, "stroke-edges": _regions_of_stroke_edges}
