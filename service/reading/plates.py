"""Plates in a picture: tiles, sheets, screens, and what a strip along a side leaves."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.reading.background import MIN_CONTRAST
from service.reading.components import Components
from service.reading.errors import InvalidImage
from service.reading.morphology import Grey, Mask, select_runs, stroke_width
from service.reading.order_statistics import otsu
from service.reading.scale import WHOLE, Corners, View, corners_of, levels_of, normalised, view_of

SEARCH_SIDE, MIN_SIDE = 80, 24  # pixels: plates are searched at about this longer side
CUT_OUT = 28  # pixels: no larger picture is a digit that was cut out, without a plate
MAX_PLATES = 3  # one within the other
WARPED_SIDE = 512  # pixels: the longer side of a tilted plate is averaged down to this
# of the pixels along a side: more are of one class in a margin, fewer are paper in a strip
ONE_CLASS, STRIP = 0.8, 0.5
# of the picture: the least that a plate in a margin covers, and the least of one that is
# sure. If less than MIN_WITHIN is no margin, it must be a plate with sides that are level
# over so much of the picture, and its tiles are not refused.
MIN_PLATE, SURE_PLATE, MIN_WITHIN, LEVEL_SIDE = 0.03, 0.15, 0.1, 0.15
# quantiles of every so many pixels of a page: its own level, and that of a similar plate
PAGE_TONES, SAMPLED = (0.1, 0.9), 16
# of the difference between these two: so many of the pixels are so near one of them
NEAR_TONE, FLAT = 0.2, 0.8
# of the picture's side across a strip: its width; beside it, no ink is so near another side
MAX_STRIP, STRIP_BAND, CLEAR = 0.15, 0.04, 0.97
STRIP_LENGTH = 0.95  # of the side: a shorter strip may be the bar of a 7
# A plate's side is straight in the middle part of its length, but for a share of it: the
# deviation is in pixels or, where that is more, in parts of the picture. Less of it is
# notched by a digit. Holes and wires of a binding are so many pixels apart.
MIDDLE, STRAIGHT, NOTCHED, DEVIATION, HOLES = 0.7, 0.5, 0.45, (1.0, 0.012), 4
MIN_LENGTH = 8  # pixels of a side
MAX_SLOPE, LEVEL = 0.2, 0.012  # of a side, and the slope up to which it is level
MIN_FILLED = 0.65  # of a plate: its ground
# A tile beside a plate: least and most of its box that is ground, not marks, and the least
# along its rim, in its side; the ratio of their sides at most, and of its own; and of the
# picture, its least area
TILE_GROUND, RIM, RIM_GROUND = (0.65, 0.97), 0.12, 0.9
SAME_SIZE, OBLONG, MIN_TILE, MAX_TILES = 1.4, 2.0, 0.02, 16
TILES = "the picture shows several tiles side by side; send one of them"
# A disc with marks in it: the least and most of the ellipse in its box that it covers, the
# ratio of the box's sides at most, the least of a rim, between two radii, that it covers, and
# the most of the box that it covers beyond another; and the side of the square that is read
DISC_GROUND, DISC_OBLONG, DISC_RIM, RIM_RADII = (0.8, 0.98), 1.25, 0.93, (0.82, 0.95)
DISC_RADIUS, BEYOND_DISC, WITHIN_DISC = 1.06, 0.015, 0.7
INSET = 1.0  # pixels of a plate that are left out along its edge
# Bars at two opposite sides, as of a photo on a screen: their least depth, in the picture's
# side, the range of their levels, how much of a row beside them has another level, and how
# many rows between may be blurred
MIN_BAR, BAR_RANGE, OTHER_LEVEL, BLURRED = 0.06, 0.06, 0.97, 2
MAX_STROKE = 0.27  # of a digit in a plate: holes of a boxy digit are plumper

Picture = TypeVar("Picture", Grey, Mask)


class Side(NamedTuple):
    """A side of a plate: the distance from the picture's side, start + slope * along."""

    start: float  # pixels
    slope: float
    length: int  # pixels

    @property
    def depth(self) -> float:
        """The largest distance, in pixels."""
        return self.start + max(self.slope, 0) * (self.length - 1)


def nested_plates(view: View) -> Iterator[View]:
    """Yield a picture and its plates, MAX_PLATES at most, each within the one before."""
    yield view
    for _ in range(MAX_PLATES):
        corners = find_plate(view.working)
        if corners is None:
            return
        picture, corners = crop_plate(view.picture, corners)
        view = view_of(picture, view.within(corners))
        yield view


def n_sure(views: list[View]) -> int:
    """Count the views of a picture and its plates before the first that may be no plate."""
    for i, (whole, part) in enumerate(itertools.pairwise(views), 1):
        if _area(part.corners) < SURE_PLATE * _area(whole.corners):
            return i
    return len(views)


def find_plate(picture: Image.Image) -> Corners | None:
    """Find a plate in a picture of working size, by the classes of its pixels.

    Return its corners (4, 2) as x, y in parts of the picture's sides: top left, bottom
    left, bottom right, top right; or None.
    """
    if max(picture.size) <= CUT_OUT:
        return None
    factor = max(1, round(max(picture.size) / SEARCH_SIDE))
    small = picture.reduce(factor) if factor > 1 else picture
    small = small if small.mode == "L" else small.convert("L")
    levels = normalised(levels_of(small))
    if min(levels.shape) < MIN_SIDE or levels.max() - levels.min() < MIN_CONTRAST:
        return None
    bright = levels > otsu(levels)
    corners = _plate_of_class(bright)
    if corners is None:
        # a plate's level may be nearer to the page's than to the digit's
        page = levels[bright == (2 * np.count_nonzero(bright) > bright.size)]
        cut = _cut_of_two_levels(page)
        corners = None if cut is None else _plate_of_class(levels > cut)
    corners = _between_bars(levels) if corners is None else corners
    return None if corners is None else np.clip(corners * factor / picture.size, 0, 1)


def _between_bars(levels: Grey) -> Corners | None:
    """Find what two bars of one level, at opposite sides, leave of a picture (h, w)."""
    height, width = levels.shape
    top, bottom, left, right = _views(abs(levels - levels[0, 0]))
    if (above := _depth_of_bar(top)) and (below := _depth_of_bar(bottom)):
        return corners_of((0, above, width, height - below))
    if (before := _depth_of_bar(left)) and (after := _depth_of_bar(right)):
        return corners_of((before, 0, width - after, height))
    return None


def _depth_of_bar(distance: Grey) -> int:
    """Count the rows of a bar, by distances from its level; 0 if it does not end at once."""
    n = int((distance.max(1) <= BAR_RANGE).argmin())
    if n < MIN_BAR * len(distance):
        return 0
    beside = distance[n : n + BLURRED + 1] > MIN_CONTRAST
    is_other = np.count_nonzero(beside, axis=1) >= OTHER_LEVEL * beside.shape[1]
    return n + int(is_other.argmax()) if is_other.any() else 0


def _cut_of_two_levels(page: Grey) -> float | None:
    """Return the level between a page and a plate of nearly its level (n,), if both are flat."""
    tones = np.sort(page[::SAMPLED])
    low, high = (float(tones[int(share * len(tones))]) for share in PAGE_TONES)
    if high - low <= MIN_CONTRAST:
        return None
    distance = np.minimum(abs(tones - np.float32(low)), abs(tones - np.float32(high)))
    n_near = np.count_nonzero(distance < NEAR_TONE * (high - low))
    return (low + high) / 2 if n_near > FLAT * len(tones) else None


def crop_plate(picture: Image.Image, corners: Corners) -> tuple[Image.Image, Corners]:
    """Crop a picture to the plate at corners (4, 2), made level if it is tilted.

    Return it with the corners of what was cropped.
    """
    points = corners * picture.size
    x, y = np.sort(points[:, 0]), np.sort(points[:, 1])
    tilt = max(x[1] - x[0], x[3] - x[2], y[1] - y[0], y[3] - y[2])
    if tilt < LEVEL * max(picture.size):
        box = (int(x[1]), int(y[1]), int(x[2]), int(y[2]))
        return picture.crop(box), corners_of(box) / picture.size
    box = (int(x[0]), int(y[0]), math.ceil(x[3]), math.ceil(y[3]))
    factor = max(1, round(max(box[2] - box[0], box[3] - box[1]) / WARPED_SIDE))
    inside = (points - box[:2]) / factor
    width, height = (float(np.hypot(*(inside[i] - inside[0]))) for i in (3, 1))
    level = picture.reduce(factor, box).transform(
        (round(width), round(height)),
        Image.Transform.QUAD,
        inside.ravel().tolist(),
        Image.Resampling.BILINEAR,
    )
    return level, corners


def has_strokes(mask: Mask) -> bool:
    """Return whether a mask (h, w) in a plate is of strokes, not of a boxy digit's holes."""
    return stroke_width(mask) <= MAX_STROKE * int(Components(mask).size.max())


def _plate_of_class(bright: Mask) -> Corners | None:
    """Find a plate that is bright or dark in a picture (h, w): its corners in pixels."""
    borders = [np.count_nonzero(view[0]) / view.shape[1] for view in _views(bright)]
    if min(borders) > ONE_CLASS or max(borders) < 1 - ONE_CLASS:
        within = bright if borders[0] < 0.5 else ~bright
        share = np.count_nonzero(within) / within.size
        if share < MIN_PLATE or (share < MIN_WITHIN and not _has_level_sides(within)):
            return None
        return _in_margin(within, ~within)
    if 2 * np.count_nonzero(bright) > bright.size:
        return _beside_strips(bright) if min(borders) < STRIP else None
    return _beside_strips(~bright) if max(borders) > 1 - STRIP else None


def _has_level_sides(mask: Mask) -> bool:
    """Return whether a mask (h, w) may show a level plate: something straight on each side."""
    least = LEVEL_SIDE * max(mask.shape)
    ends = (view[1:] & ~view[:-1] for view in _views(mask))
    return all(np.count_nonzero(each, axis=1).max() >= least for each in ends)


def _in_margin(mask: Mask, others: Mask | None = None) -> Corners | None:
    """Find a plate that is the largest component of a mask (h, w) off its border.

    others: the pixels among which the plate is if that component is only its frame.
    """
    parts = Components(mask)
    area = parts.area * ~parts.touches
    if not area.any():
        return None
    sides = _sides(select_runs(mask, parts.runs, parts.label == area.argmax()))
    if sides is None:
        return _in_disc(mask, parts, int(area.argmax()))
    corners = _corners(sides, mask.shape)
    covered = _area(corners)
    is_filled = area.max() > MIN_FILLED * covered
    if is_filled and covered >= MIN_TILE * mask.size and _n_tiles(parts) > 1:
        # cells are not plates: the digits in them are a row
        if others is None or parts.area.sum() < MIN_WITHIN * mask.size:
            return None
        raise InvalidImage(TILES)
    if covered < MIN_PLATE * mask.size:
        return None
    if is_filled:
        return corners
    # a small frame may be a boxy 0 with a slash
    if others is None or covered < SURE_PLATE * mask.size:
        return None
    return _in_margin(others)


def _in_disc(mask: Mask, parts: Components, i: int) -> Corners | None:
    """Return the square within a component of a mask (h, w) if it is a disc with marks."""
    top, bottom, left, right = parts.box(i)
    height, width, area = bottom - top, right - left, int(parts.area[i])
    full = math.pi / 4 * height * width
    is_even = max(height, width) <= DISC_OBLONG * min(height, width)
    is_full = DISC_GROUND[0] * full <= area <= DISC_GROUND[1] * full
    if not (is_even and is_full) or height * width < SURE_PLATE * math.prod(parts.shape):
        return None
    centre, half = np.array([left + right, top + bottom]) / 2, np.array([width, height]) / 2

    def area_within(radius: float) -> int:
        (x, y), (x_end, y_end) = centre - radius * half, centre + radius * half
        return int(parts.area_within_ellipse(y, y_end, x, x_end)[i])

    low, high = RIM_RADII
    has_rim = area_within(high) - area_within(low) >= DISC_RIM * full * (high**2 - low**2)
    if not has_rim or area - area_within(DISC_RADIUS) > BEYOND_DISC * height * width:
        return None
    corners = centre + WITHIN_DISC * half * (2 * WHOLE - 1)
    (x, y), (x_end, y_end) = corners[::2].astype(int).tolist()
    marks = ~mask[y:y_end, x:x_end]
    # the hole of a bold 0 is no stroke
    return corners if marks.any() and has_strokes(marks) else None


def _n_tiles(parts: Components) -> int:
    """Count the components that may be tiles with marks, of about the size of the largest."""
    height, width = parts.height, parts.width
    ground = parts.area / (height * width)
    is_tile = (TILE_GROUND[0] <= ground) & (ground <= TILE_GROUND[1]) & ~parts.touches
    is_tile &= np.maximum(height, width) <= OBLONG * np.minimum(height, width)
    if not is_tile.any():
        return 0
    largest = int((parts.area * is_tile).argmax())
    for side in (height, width):
        is_tile &= np.maximum(side / side[largest], side[largest] / side) <= SAME_SIZE
    return sum(_has_rim(parts, i) for i in np.flatnonzero(is_tile)[:MAX_TILES].tolist())


def _has_rim(parts: Components, i: int) -> bool:
    """Return whether a component fills the rim of its box, as a tile does."""
    top, bottom, left, right = parts.box(i)
    rim = max(1, round(RIM * min(bottom - top, right - left)))
    core = (bottom - top - 2 * rim) * (right - left - 2 * rim)
    within = parts.area_within(top + rim, bottom - rim, left + rim, right - rim)[i]
    area = (bottom - top) * (right - left) - max(core, 0)
    return bool(parts.area[i] - within >= RIM_GROUND * area)


def _beside_strips(paper: Mask) -> Corners | None:
    """Find the plate that strips along one side or more leave of the paper (h, w)."""
    parts = Components(paper)
    sides = _sides(select_runs(paper, parts.runs, parts.label == parts.area.argmax()))
    if sides is None or all(side.depth < 1 for side in sides):
        return None
    for side, view in zip(sides, _views(paper), strict=True):
        h, w = view.shape
        is_strip = side.depth >= 1
        if side.depth > MAX_STRIP * h or (is_strip and np.mean(~view[0]) < STRIP_LENGTH):
            return None
        # ink beside the other sides: the strip may be the bar of a digit that fills the picture
        margin = int(MAX_STRIP * w)
        band = view[: max(1, round(STRIP_BAND * h)), margin : w - margin]
        if not is_strip and band.mean() < CLEAR:
            return None
    return _corners(sides, paper.shape)


def _views(picture: Picture) -> tuple[Picture, Picture, Picture, Picture]:
    """Return a picture (h, w) as seen from its top, its bottom, its left and its right side."""
    return picture, picture[::-1], picture.T, picture.T[::-1]


def _sides(plate: Mask) -> list[Side] | None:
    """Fit a line to each side of a plate in a mask: top, bottom, left, right.

    Return None if one of them is not straight.
    """
    sides = []
    for view in _views(plate):
        side = _side(view.T)
        if side is None:
            return None
        sides.append(side)
    return sides


def _side(view: Mask) -> Side | None:
    """Fit a line to the first set pixel of each row of a mask; None if it is not straight.

    The slope is that between the medians of the first and the last third: Tukey's
    resistant line.
    """
    rows = np.flatnonzero(view.any(1))
    skipped = int(len(rows) * (1 - MIDDLE) / 2)
    y = rows[skipped : len(rows) - skipped]
    if len(y) < MIN_LENGTH:
        return None
    x = view[y].argmax(1)
    for _ in range(HOLES):
        x = np.maximum(x[1:], x[:-1])
    y = y[HOLES // 2 : HOLES // 2 + len(x)]
    third = len(y) // 3
    slope = (_median(x[-third:]) - _median(x[:third])) / (len(y) - third)
    start = _median(x - slope * y)
    beyond = x - slope * y - start
    most = max(DEVIATION[0], DEVIATION[1] * view.shape[1])
    n_near, n_notched = np.count_nonzero(abs(beyond) <= most), np.count_nonzero(beyond > most)
    is_straight = n_near >= STRAIGHT * len(y) and n_notched <= NOTCHED * len(y)
    return Side(start, slope, len(view)) if is_straight and abs(slope) <= MAX_SLOPE else None


def _median(values: npt.NDArray[Any]) -> float:
    """Return the upper median of a few values, much faster than np.median."""
    return float(np.sort(values)[len(values) // 2])


def _corners(sides: list[Side], shape: tuple[int, ...]) -> Corners:
    """Return the corners (4, 2) of a plate as x, y in pixels, without its edge."""
    insets = [INSET * (side.depth >= 1) for side in sides]
    (top, bottom, left, right), (h, w) = sides, shape
    y = [(top.start + insets[0], top.slope), (h - bottom.start - insets[1], -bottom.slope)]
    x = [(left.start + insets[2], left.slope), (w - right.start - insets[3], -right.slope)]
    # where y = a + b x and x = c + d y: y (1 - b d) = a + b c
    corners = []
    for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)):
        (a, b), (c, d) = y[i], x[j]
        at = (a + b * c) / (1 - b * d)
        corners.append((c + d * at, at))
    return np.array(corners)


def _area(corners: Corners) -> float:
    """Compute the area of a quadrilateral from its corners (4, 2)."""
    diagonal, other = corners[2] - corners[0], corners[1] - corners[3]
    return float(abs(diagonal[0] * other[1] - diagonal[1] * other[0]) / 2)
