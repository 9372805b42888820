"""Order statistics of levels: medians, quantiles, ranks from the top, Otsu's threshold."""

from typing import Any

import numpy as np
import numpy.typing as npt

# values, evenly spaced in an array, from which quantiles are taken: the median of normal
# noise is then found to within 3 % of its standard deviation
SAMPLE = 2048
MIN_SAMPLE = 64  # values of a mask
SORTED = 1000  # values: fewer are sorted in less time than they are partitioned
STRAY_PIXELS = 8  # rank of the strongest value that counts
# cuts whose variance is this close to the largest are averaged
OTSU_SAMPLE, OTSU_BINS, OTSU_TIE = 4096, 64, 0.9999
# of the pixels of each bin, what counts up to each cut: their number, and their sum
_UP_TO_CUT = np.triu(np.ones((OTSU_BINS, OTSU_BINS)))
_UP_TO_CUT = np.stack([_UP_TO_CUT, _UP_TO_CUT * np.arange(OTSU_BINS)[:, np.newaxis]])


def quantiles(values: npt.NDArray[Any], *shares: float) -> list[float]:
    """Return the values (of any shape) below which these shares of them are.

    Between two values they are interpolated, as by np.percentile, which takes ten times
    as long for a few values. Those of a large array are those of a sample.
    """
    ranked = sampled(values)
    last = len(ranked) - 1
    if len(ranked) < SORTED:
        ranked.sort()
    else:
        ranks = [int(share * last) for share in shares]
        ranked.partition(ranks + [min(rank + 1, last) for rank in ranks])
    result = []
    for share in shares:
        rank = int(share * last)
        low, high = float(ranked[rank]), float(ranked[min(rank + 1, last)])
        result.append(low + (high - low) * (share * last - rank))
    return result


def median(values: npt.NDArray[Any]) -> float:
    """Return the median of values of any shape, by a sample of many."""
    return quantiles(values, 0.5)[0]


def sampled(values: npt.NDArray[Any], most: int = SAMPLE) -> npt.NDArray[Any]:
    """Return a copy of at most so many values, which are evenly spaced in an array."""
    if values.size <= most:
        return values.flatten()
    return values.reshape(-1)[:: -(-values.size // most)].copy()


def within(values: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Return the values in a mask, by a sample if it has enough of them."""
    if values.size > SAMPLE:
        chosen = sampled(values)[sampled(mask)]
        if len(chosen) >= MIN_SAMPLE:
            return chosen
    return values[mask]


def from_top(values: npt.NDArray[np.float32], *ranks: int) -> list[float]:
    """Return the values at these ranks from the largest, which has rank 1."""
    top = values.reshape(-1)
    if len(top) > SAMPLE:
        # much faster than among all values, of which many may be equal
        high = top[top > top.max() / 2]
        top = high if len(high) >= max(ranks) else top
    # with one position, numpy takes 25 times as long where many values are equal
    ordered = np.partition(top, [-1, *(-rank for rank in ranks)])
    return [float(ordered[-rank]) for rank in ranks]


def strongest(a: npt.NDArray[np.float32]) -> float:
    """Return about the largest value, ignoring a few stray pixels."""
    return from_top(a, STRAY_PIXELS)[0]


def otsu(grey: npt.NDArray[np.float32]) -> float:
    """Compute the threshold of levels that best separates two classes: Otsu, 1979.

    That of a large array is that of a sample.
    """
    low, high = float(grey.min()), float(grey.max())
    bins = sampled(grey, OTSU_SAMPLE) - np.float32(low)
    bins *= (OTSU_BINS - 0.01) / (high - low)
    count = np.bincount(bins.astype(np.intp), minlength=OTSU_BINS)
    below, mass = count @ _UP_TO_CUT
    n, total = float(below[-1]), float(mass[-1])
    # the variance between the classes, but for a factor; above the last cut is no pixel
    between = total * below - mass * n
    between *= between / np.maximum(below * (n - below), 1)
    best = (between >= between.max() * OTSU_TIE).nonzero()[0]
    return low + (float(best.sum()) / len(best) + 1) * (high - low) / OTSU_BINS
