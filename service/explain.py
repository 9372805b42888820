"""Explanation of a prediction: the exact additive evidence of each region."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from service.classifier import Classifier
from service.features import CELLS, FEATURES, GRID, IMAGE_SIZE, WAVES, Images, placement_of

BLOCK = 4  # pixels per side of a region, where the features are pixels
DECIMALS = 6  # of logits: finer than float32 adds up
OUTLINE_DECIMALS = 2  # of pixels

Outlines = npt.NDArray[np.float64]  # (regions, 4 corners, x and y), in pixels
Regions = tuple[npt.NDArray[np.intp], Outlines]  # the region of each feature; outlines


def explain(classifier: Classifier, image: Images) -> dict[str, Any]:
    """Split the logits of one image (28, 28) among the regions of the image.

    The model is linear in φ, so that logit_k = bias_k + Σ_regions logits_k exactly for
    every class k. The `evidence` of a region is what it adds to the logit of the answer
    minus what it adds to that of the runner-up. bias_k is the logit of a blank image, so
    that a region without ink adds nothing. Outlines are in pixels, x to the right and y
    down from the image's upper left corner.

    With a detector, the logit of P(digit) is split in the same way: `digit_logit` is
    `digit_bias` plus each region's `digit_evidence`.
    """
    features = FEATURES[classifier.features](np.stack([image, np.zeros_like(image)]))
    phi, blank = features.astype(np.float64)
    bias = classifier.bias + blank @ classifier.weight
    regions_of = REGIONS.get(classifier.features, _whole_image)
    region, outlines = regions_of(image, len(phi))
    shares = np.zeros((len(outlines), len(classifier.classes)))
    np.add.at(shares, region, (phi - blank)[:, np.newaxis] * classifier.weight)
    logits = shares.sum(axis=0) + bias
    runner_up, answer = np.argsort(logits)[-2:]
    explanation: dict[str, Any] = {
        "image": image.tolist(),
        "answer": classifier.classes[answer],
        "runner_up": classifier.classes[runner_up],
        "logits": logits.round(DECIMALS).tolist(),
        "bias": bias.round(DECIMALS).tolist(),
        "regions": [
            {
                "outline": outline.round(OUTLINE_DECIMALS).tolist(),
                "evidence": round(share[answer] - share[runner_up], DECIMALS),
                "logits": share.round(DECIMALS).tolist(),
            }
            for outline, share in zip(outlines, shares, strict=True)
        ],
    }
    if classifier.detector:
        weight, bias = classifier.detector.models[answer]
        evidence = np.bincount(region, (phi - blank) * weight, len(outlines))
        bias += blank @ weight
        explanation["digit_logit"] = round(bias + evidence.sum(), DECIMALS)
        explanation["digit_bias"] = round(bias, DECIMALS)
        for each, value in zip(explanation["regions"], evidence.tolist(), strict=True):
            each["digit_evidence"] = round(value, DECIMALS)
    return explanation


def _whole_image(image: Images, n_features: int) -> Regions:
    """Return the image as the one region of all features."""
    height, width = IMAGE_SIZE
    return np.zeros(n_features, np.intp), _cells((0, width), (0, height))


def _blocks_of_pixels(image: Images, n_features: int) -> Regions:
    """Return each pixel's region (784,), and the regions: blocks of 4 x 4 pixels."""
    height, width = IMAGE_SIZE
    y, x = np.divmod(np.arange(n_features), width)
    outlines = _cells(np.arange(0, width + 1, BLOCK), np.arange(0, height + 1, BLOCK))
    return y // BLOCK * (width // BLOCK) + x // BLOCK, outlines


def _cells_of_stroke_edges(image: Images, n_features: int) -> Regions:
    """Return each feature's cell (720,), and the outlines of the cells."""
    return np.arange(n_features) % CELLS**2, _outlines_of_cells(image)


def _cells_of_stroke_waves(image: Images, n_features: int) -> Regions:
    """Return each feature's cell (3150,), and the outlines of the cells."""
    return np.arange(n_features) // WAVES, _outlines_of_cells(image)


def _outlines_of_cells(image: Images) -> Outlines:
    """Return the outlines of φ's cells where they lie on the image.

    Cells are triangular windows, which overlap; an outline encloses the points where
    its cell has the largest weight.
    """
    ends = (np.arange(CELLS + 1) - CELLS / 2) * _CELL
    u, v = np.moveaxis(_cells(ends, ends), -1, 0)
    place = placement_of(image)
    x = place.x + place.width * u + place.slant * v + IMAGE_SIZE[1] / 2
    y = place.y + place.height * v + IMAGE_SIZE[0] / 2
    return np.stack([x, y], axis=-1)


_CELL = (GRID + 2) / CELLS  # points of the grid between the centres of two cells


def _cells(x: Iterable[float], y: Iterable[float]) -> Outlines:
    """Return the outlines of the cells between the lines x and y, row by row."""
    cells = [
        [(left, top), (right, top), (right, bottom), (left, bottom)]
        for top, bottom in pairwise(y)
        for left, right in pairwise(x)
    ]
    return np.array(cells, float)


# Maps whose features lie in known places; all others are explained as one region.
REGIONS = {
    "pixels": _blocks_of_pixels,
    "stroke-edges": _cells_of_stroke_edges,
    "stroke-waves": _cells_of_stroke_waves,
}
