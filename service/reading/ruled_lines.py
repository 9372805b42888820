"""Removal of the lines of ruled and squared paper."""

import numpy as np

from service.reading.errors import NoDigit
from service.reading.morphology import Ints, Mask, horizontal_runs
from service.reading.order_statistics import median

# slopes of ruled lines, the most likely first
SLOPES = (0.0, *(sign * percent / 100 for percent in range(1, 8) for sign in (1, -1)))
SLOPE_MARGIN = 1 / 25  # of the width: the steepest slope moves the sides by less
STEEPER_GAIN = 1.02  # times the score: what a slope must gain over a likelier one
PROFILE_PEAKS = 1 / 16  # of the height: the fullest rows, whose sum scores a slope
MIN_TILTED_SIDE = 64  # pixels: in less, tilted and level lines look the same
SIDE = 1 / 32  # of the width: a line reaches into these strips at both sides
LINE_LENGTH = 0.8  # of the width: the least that a line covers
LINE_THICKNESS = 0.07  # of the height: the most that a line covers
MIN_THICKNESS = 2  # pixels: a line may always be so thick
# Fewer lines than this may be bars of a digit that fills its picture: the rest of such
# a digit is wider than BAR_WIDTH of the picture, or less than BAR_REST of the ink.
N_LINES, BAR_WIDTH, BAR_REST = 3, 0.85, 0.3
MIN_PAPER_SIDE = 24  # pixels: no smaller picture shows paper with lines
MIN_REST, MIN_REST_PIXELS = 0.03, 4  # of the ink, and pixels: with less, lines are all


def remove_ruled_lines(mask: Mask) -> Mask:
    """Remove ruled or squared paper's lines from a mask (h, w), except under strokes.

    Raises InvalidImage where nothing but lines is found.
    """
    rows = find_lines(mask, may_be_bars=True)
    left = mask if rows is None else mask & ~rows
    # a single upright line is the margin of ruled paper; without ruled lines it is a 1
    columns = find_lines(left.T, may_be_one=rows is None, may_be_bars=True)
    if columns is not None:
        left = left & ~columns.T
    if left is mask:
        return mask
    n_left, n_before = np.count_nonzero(left), np.count_nonzero(mask)
    if n_left < max(MIN_REST_PIXELS, MIN_REST * n_before) and n_left < n_before:
        raise NoDigit("the picture holds only ruled lines")
    return left


def find_lines(mask: Mask, may_be_one: bool = False, may_be_bars: bool = False) -> Mask | None:
    """Find the straight lines that cross a mask (h, w) from side to side; None without one.

    may_be_one: whether a single line with nothing beside it may be a digit; may_be_bars:
    whether one or two may be bars of a digit.
    """
    h, w = mask.shape
    side = max(1, int(w * SIDE))
    if not (mask[:, :side].any() and mask[:, -side:].any()):
        return None
    y, x = np.nonzero(mask)
    rows, profile = _best_slope(mask, y, x)
    thickness = _thin_peaks(profile, h, w)
    if not thickness.any():
        return None
    # where the ink is taller than the line, a stroke crosses it
    hit = _heights(mask)[y, x] <= thickness[rows]
    if not hit.any():
        return None
    lines = np.zeros_like(mask)
    lines[y[hit], x[hit]] = True
    n_lines = len(horizontal_runs(thickness[np.newaxis] > 0).row)
    if not (mask & ~lines).any():
        return None if may_be_one and n_lines == 1 else lines
    return None if may_be_bars and n_lines < N_LINES and _are_bars(mask, lines) else lines


def _are_bars(mask: Mask, lines: Mask) -> bool:
    """Return whether lines across a mask (h, w) are bars of a digit that fills it."""
    h, w = mask.shape
    rest = mask & ~lines
    columns = np.flatnonzero(rest.any(0))
    return bool(
        min(h, w) < MIN_PAPER_SIDE
        or np.ptp(columns) + 1 > BAR_WIDTH * w
        or rest.sum() < BAR_REST * mask.sum()
    )


def _best_slope(mask: Mask, y: Ints, x: Ints) -> tuple[Ints, Ints]:
    """Find the slope along which the set pixels (y, x) gather in the fewest rows.

    Return each pixel's row along that slope, and the number of pixels in each row.
    """
    h, w = mask.shape
    margin = int(w * SLOPE_MARGIN) + 1
    n_peaks = max(1, int(h * PROFILE_PEAKS))
    best_score, best = -1.0, (y, y)
    for slope in SLOPES if w >= MIN_TILTED_SIDE else SLOPES[:1]:
        rows = np.floor(y - slope * (x - w / 2) + (margin + 0.5)).astype(np.intp)
        profile = np.bincount(rows, minlength=h + 2 * margin)
        score = float(np.sort(profile)[-n_peaks:].sum())
        if score > best_score * STEEPER_GAIN:
            best_score, best = score, (rows, profile)
    return best


def _thin_peaks(profile: Ints, h: int, w: int) -> Ints:
    """Return, for each row of a profile that a line fills, the most ink that is the line's.

    It is a height in pixels; 0 in other rows.
    """
    tallest = np.zeros(len(profile), np.intp)
    peaks = horizontal_runs((profile > LINE_LENGTH * w)[np.newaxis])
    thin = peaks.length <= max(MIN_THICKNESS, LINE_THICKNESS * h)
    if not thin.any():
        return tallest
    usual = int(median(peaks.length[thin]))
    edge = 1 if h >= MIN_TILTED_SIDE or usual > 1 else 0  # such lines have soft edges
    for start, end in zip(peaks.start[thin], peaks.end[thin], strict=True):
        # lines differ in thickness where they lie between the pixels, and in darkness
        thickness = max(usual, int(end - start))
        slack = max(1, thickness // 2) if h >= MIN_TILTED_SIDE else 0
        near = slice(max(start - edge, 0), end + edge)
        tallest[near] = np.maximum(tallest[near], thickness + slack)
    return tallest


def _heights(mask: Mask) -> Ints:
    """Return, for each set pixel of (h, w), the length of its vertical run."""
    lengths = horizontal_runs(mask.T).length
    result = np.zeros(mask.shape, np.intp)
    result.T[mask.T] = np.repeat(lengths, lengths)
    return result
