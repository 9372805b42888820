"""Cuts between digits that touch: the paths from top to bottom that cross the least ink."""

from math import ceil
from typing import NamedTuple

import numpy as np

from service.reading.morphology import Grey, Ints

TURN = 0.2  # pixels of ink that a step to the side costs as much as: cuts are nearly straight
SIDE = 0.1  # of the height: a digit is wider than what a cut leaves of it
APART = 0.07  # of the height: the least distance between two cuts
MAX_INK = 0.8  # of the height: the most ink that a cut crosses
# cuts that are tried in a shape as wide as it is high, and in any shape
CUTS_PER_HEIGHT, MAX_CUTS = 12, 20


class Cut(NamedTuple):
    """A path from the top to the bottom of ink (h, w)."""

    columns: Ints  # (h,): pixels from these columns on are right of the cut
    crossed: float  # of the height: the ink that it crosses


def find_cuts(ink: Grey) -> list[Cut]:
    """Find where ink (h, w) in [0, 1] may be cut, from left to right.

    A path enters each row at most one column beside its place in the row above.
    """
    h, w = ink.shape
    down, steps_up = _costs(ink)
    up, steps_down = _costs(ink[::-1])
    middle = h // 2
    # the path through each column of the middle row, whose own pixel counts twice
    total = down[middle] + up[h - 1 - middle] - ink[middle]
    side = max(1, round(SIDE * h))
    candidates = np.arange(side, w - side)
    candidates = candidates[total[candidates] <= MAX_INK * h]
    chosen: list[int] = []
    for x in candidates[np.argsort(total[candidates], kind="stable")].tolist():
        if len(chosen) == min(ceil(CUTS_PER_HEIGHT * w / h), MAX_CUTS):
            break
        if all(abs(x - other) > max(1, APART * h) for other in chosen):
            chosen.append(x)
    columns = np.array(sorted(chosen), np.intp)
    above = _follow(columns, steps_up[: middle + 1][::-1])
    below = _follow(columns, steps_down[: h - middle][::-1])
    paths = np.concatenate([above[::-1], below[1:]]).T
    crossed = (total[columns] / h).tolist()
    return [Cut(*each) for each in zip(paths, crossed, strict=True)]


def _costs(ink: Grey) -> tuple[Grey, Ints]:
    """Compute the least cost of a path from the top to each pixel of ink (h, w).

    Return also the step from each pixel to the column of the row above: -1, 0 or 1.
    """
    h, w = ink.shape
    cost = np.zeros((h, w), np.float32)
    steps = np.zeros((h, w), np.intp)
    cost[0] = ink[0]
    padded = np.full(w + 2, np.inf, np.float32)
    for row in range(1, h):
        padded[1:-1] = cost[row - 1]
        ways = np.stack([padded[1:-1], padded[:-2] + TURN, padded[2:] + TURN])
        best = ways.argmin(0)
        steps[row] = np.array([0, -1, 1])[best]
        cost[row] = ways.min(0) + ink[row]
    return cost, steps


def _follow(columns: Ints, steps: Ints) -> Ints:
    """Follow steps (n, w) row by row from columns (m,): the columns (n, m) of m paths."""
    paths = [columns]
    for row in steps[:-1]:
        columns = columns + row[columns]
        paths.append(columns)
    return np.array(paths)
