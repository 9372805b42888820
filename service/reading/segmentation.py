"""Which of the ink is the digit: not rules, not frames, not specks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.reading.errors import InvalidImage
from service.reading.morphology import Grey, Mask, Runs, components_of, runs_of

# slopes of ruled lines, the likeliest first
SLOPES = (0.0, *(sign * percent / 100 for percent in range(1, 8) for sign in (1, -1)))
MIN_TILTED_SIDE = 64  # pixels: below it a tilted line cannot be told from a level one
RULE_SHARE = 0.8  # of the picture's width: what a rule covers at least
RULE_THICKNESS = 0.07  # of the picture's height: what a rule covers at most
N_RULES = 3  # as few lines may be bars of a digit that fills its picture
BAR_WIDTH, BAR_REST = 0.85, 0.3  # then what is left is narrower, and not much less

EDGE_BAND = 0.08  # of the shorter side: a frame lies within it
FRAME_INSIDE = 0.15  # of a component's area: a frame has less inside of the band
BOX_SIZE, BOX_RIM, BOX_CORE = 0.6, 0.1, 0.12  # of a printed box around the digit
MIN_FRAMED_SIDE = 24  # pixels: in less, the edge is too near to tell a frame from ink
TOUCHING = 0.3  # what a component that touches the picture's edge counts
CENTRAL = 0.5  # what one at the corner loses
# how large, beside the main component, another must be at a gap of so many of its sizes
GAPS = ((0.3, 0.04), (0.8, 0.15), (np.inf, 0.5))
SPECK_SHARE = 0.25  # of all: a main component with less is a speck among specks
MANY = 12  # components


def without_rules(mask: Mask) -> Mask:
    """Take ruled or squared paper's lines off a mask (h, w), but where strokes cross.

    Raises InvalidImage where nothing else is left.
    """
    rows = _rules(mask, may_be_one=False)
    left = mask & ~rows
    # on ruled paper, a single upright line is the margin's; else it is a 1
    left = left & ~_rules(left.T, may_be_one=not rows.any()).T
    if left.sum() < max(4, 0.03 * mask.sum()) and left.sum() < mask.sum():
        raise InvalidImage("the picture holds ruled lines and nothing else")
    return left


def _rules(mask: Mask, may_be_one: bool) -> Mask:
    """Find the straight lines that cross the mask (h, w) from side to side.

    may_be_one: whether a line with nothing beside it may be a digit.
    """
    h, w = mask.shape
    none = np.zeros_like(mask)
    side = max(1, w // 32)
    if not (mask[:, :side].any() and mask[:, -side:].any()):
        return none
    y, x = np.nonzero(mask)
    rows, profile = _best_slope(mask, y, x)
    thickness, near = _thin_peaks(profile, h, w)
    if thickness == 0:
        return none
    # a pixel is the rule's, not a stroke's, where the ink is no taller than the rule
    slack = max(1, thickness // 2) if h >= MIN_TILTED_SIDE else 0
    hit = near[rows] & (_heights(mask)[y, x] <= thickness + slack)
    lines = np.zeros_like(mask)
    lines[y[hit], x[hit]] = True
    n_rules = np.count_nonzero(np.diff(near.astype(np.int8), prepend=0) == 1)
    if not (mask & ~lines).any():
        return none if may_be_one and n_rules == 1 else lines
    return none if n_rules < N_RULES and _are_bars(mask, lines) else lines


def _are_bars(mask: Mask, lines: Mask) -> bool:
    """Tell whether few lines across a mask are bars of a digit that fills it."""
    h, w = mask.shape
    rest = mask & ~lines
    columns = np.flatnonzero(rest.any(0))
    return bool(
        min(h, w) < MIN_FRAMED_SIDE
        or np.ptp(columns) + 1 > BAR_WIDTH * w
        or rest.sum() < BAR_REST * mask.sum()
    )


def _best_slope(
    mask: Mask, y: npt.NDArray[np.intp], x: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Sum the mask along the slope at which it gathers in the fewest rows.

    Gives each pixel's row along that slope, and the sums of the rows.
    """
    h, w = mask.shape
    margin = w // 25 + 1  # what the steepest slope moves the sides by
    best_score, best = -1.0, (y, y)
    for slope in SLOPES if w >= MIN_TILTED_SIDE else SLOPES[:1]:
        rows = np.floor(y - slope * (x - w / 2) + (margin + 0.5)).astype(np.intp)
        profile = np.bincount(rows, minlength=h + 2 * margin)
        score = float(np.sort(profile)[-max(1, h // 16) :].sum())
        if score > best_score * 1.02:
            best_score, best = score, (rows, profile)
    return best


def _thin_peaks(profile: npt.NDArray[np.intp], h: int, w: int) -> tuple[int, Mask]:
    """Find the rows of a profile that lines fill: their thickness, which they are."""
    full = np.concatenate([[False], profile > RULE_SHARE * w, [False]])
    edges = np.flatnonzero(np.diff(full.astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    thin = ends - starts <= max(2, RULE_THICKNESS * h)
    near = np.zeros(len(profile) + 2, bool)
    for start, end in zip(starts[thin], ends[thin], strict=True):
        near[start + 1 : end + 1] = True
    if not thin.any():
        return 0, near[1:-1]
    thickness = int(np.median((ends - starts)[thin]))
    if h >= MIN_TILTED_SIDE or thickness > 1:  # then a line has soft sides
        return thickness, near[:-2] | near[1:-1] | near[2:]
    return thickness, near[1:-1]


def _heights(mask: Mask) -> npt.NDArray[np.intp]:
    """Give each set pixel the length of the vertical run that it is in."""
    lengths = runs_of(mask.T).length
    result = np.zeros(mask.shape, np.intp)
    result.T[mask.T] = np.repeat(lengths, lengths)
    return result


@dataclass(frozen=True)
class Components:
    """The connected components of a mask (h, w): per component its box and its area."""

    shape: tuple[int, int]
    runs: Runs
    label: npt.NDArray[np.intp]  # of each run
    area: npt.NDArray[np.intp]
    top: npt.NDArray[np.intp]
    bottom: npt.NDArray[np.intp]
    left: npt.NDArray[np.intp]
    right: npt.NDArray[np.intp]

    @classmethod
    def of(cls, mask: Mask) -> "Components":
        """Find the components of a mask that has at least one pixel set."""
        h, w = mask.shape
        runs = runs_of(mask)
        label = components_of(runs, w)
        n = int(label.max()) + 1
        area = np.zeros(n, np.intp)
        np.add.at(area, label, runs.length)
        top, left = np.full(n, h), np.full(n, w)
        bottom, right = np.zeros(n, np.intp), np.zeros(n, np.intp)
        np.minimum.at(top, label, runs.row)
        np.maximum.at(bottom, label, runs.row + 1)
        np.minimum.at(left, label, runs.start)
        np.maximum.at(right, label, runs.end)
        return cls((h, w), runs, label, area, top, bottom, left, right)

    @property
    def size(self) -> npt.NDArray[np.intp]:
        """The longer sides of their boxes."""
        return np.maximum(self.bottom - self.top, self.right - self.left)

    @property
    def touches(self) -> Mask:
        """Which reach the picture's edge."""
        h, w = self.shape
        ends = (self.bottom == h) | (self.right == w)
        return (self.top == 0) | (self.left == 0) | ends

    def area_within(
        self, top: int, bottom: int, left: int, right: int
    ) -> npt.NDArray[np.intp]:
        """Count each component's pixels within a box."""
        length = np.minimum(self.runs.end, right) - np.maximum(self.runs.start, left)
        inside = (self.runs.row >= top) & (self.runs.row < bottom)
        area = np.zeros(len(self.area), np.intp)
        np.add.at(area, self.label, np.where(inside, np.maximum(length, 0), 0))
        return area


def digit_part(mask: Mask, ink: Grey) -> Mask:
    """Keep the components of a mask that are the digit; `ink` (h, w) is how strong.

    Raises InvalidImage where there is none: no ink, a frame alone, specks alone.
    """
    if not mask.any():
        raise InvalidImage("the picture holds no ink that stands out from its paper")
    parts = Components.of(mask)
    possible = _not_frames(parts)
    main = _main(parts, possible, ink[mask])
    if not parts.touches[main]:
        possible = possible & ~parts.touches
    kept = possible & (parts.area >= np.maximum(_needed_area(parts, main), 2))
    kept[main] = True
    total = parts.area[kept].sum()
    is_speck = parts.area[main] < max(2, SPECK_SHARE * total)
    is_noise = len(kept) > MANY and total < SPECK_SHARE * parts.area[possible].sum()
    if is_speck or is_noise:
        raise InvalidImage("the picture holds only specks or noise, no stroke")
    digit = np.zeros_like(mask)
    digit[mask] = np.repeat(kept[parts.label], parts.runs.length)
    return digit


def _not_frames(parts: Components) -> Mask:
    """Tell which components are neither frames at the edge nor boxes around others."""
    h, w = parts.shape
    band = max(1, round(EDGE_BAND * min(h, w)))
    inside = parts.area_within(band, h - band, band, w - band)
    result = ~((inside < FRAME_INSIDE * parts.area) & parts.touches)
    large = parts.size >= BOX_SIZE * parts.size.max()
    for i in np.flatnonzero(large) if len(large) > 1 else ():
        rim = max(1, round(BOX_RIM * parts.size[i]))
        top, bottom = parts.top[i], parts.bottom[i]
        left, right = parts.left[i], parts.right[i]
        core = parts.area_within(top + rim, bottom - rim, left + rim, right - rim)[i]
        within = (parts.top > top) & (parts.bottom < bottom)
        within &= (parts.left > left) & (parts.right < right)
        within &= parts.area > BOX_CORE * parts.area[i]
        if core < BOX_CORE * parts.area[i] and within.any():
            result[i] = False
    if (parts.area * result).max() < max(2, 0.01 * parts.area.max()):
        if min(h, w) >= MIN_FRAMED_SIDE:
            raise InvalidImage("the picture holds a frame and nothing else")
        return np.ones_like(result)
    return result


def _main(parts: Components, possible: Mask, ink: Grey) -> int:
    """Choose the component that is large, strong, and rather in the middle.

    ink: how strong each pixel of the components is, in reading order.
    """
    h, w = parts.shape
    y = (parts.top + parts.bottom) / 2 / h - 0.5
    x = (parts.left + parts.right) / 2 / w - 0.5
    first = np.cumsum(parts.runs.length) - parts.runs.length
    strength = np.bincount(parts.label, np.add.reduceat(ink, first)) / parts.area
    score = parts.area * strength**2 * (1 - CENTRAL * np.hypot(y, x))
    return int((score * np.where(parts.touches, TOUCHING, 1) * possible).argmax())


def _needed_area(parts: Components, main: int) -> npt.NDArray[np.float64]:
    """Tell how large each component must be to belong to the main one, by its gap."""
    gap_y = np.maximum(parts.top - parts.bottom[main], parts.top[main] - parts.bottom)
    gap_x = np.maximum(parts.left - parts.right[main], parts.left[main] - parts.right)
    gap = np.hypot(np.maximum(gap_y, 0), np.maximum(gap_x, 0)) / parts.size[main]
    shares = np.select([gap < limit for limit, _ in GAPS], [share for _, share in GAPS])
    return shares * parts.area[main]
