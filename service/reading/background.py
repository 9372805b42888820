"""Separation of ink from its background: colour, polarity, uneven light, shadows."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.reading import morphology
from service.reading.errors import NoDigit
from service.reading.morphology import Grey, Mask
from service.reading.stages import Show, ignore

# Levels and contrasts are in [0, 1], reaches and widths in parts of a side.
MIN_CONTRAST = 6 / 255  # anything fainter is no ink
SAME_COLOUR = 2.5 / 255  # colours no further apart count as one
# In a picture of two colours, so many of the pixels have just these, and a third colour
# fits between them; in a faint gradient none does.
TWO_COLOURS, APART = 0.8, 3 * SAME_COLOUR
FIT_POINTS, FIT_ROUNDS = 32, 10  # points per side that the background is fitted to
MIN_RESIDUAL = 0.02  # below it a point's weight in the fit grows no more
# holds the surface flat where there is much ink; by coefficient of the quadratic
RIDGE = (0, 1e-3, 1e-3, 1e-2, 1e-2, 1e-2)

# The ink's colour is taken from the pixels with this part of the strongest difference's
# energy, which is at this rank from the top, or lower, in a large picture.
STRONG_ENERGY, STRONGEST_RANK, PIXELS_PER_RANK = 0.25, 8, 200
# The lines of squared paper may have a colour of their own. Pixels with GRID_ENERGY of
# that energy are ink or lines, and cover at most MAX_SEEN of the picture; most of the
# lines' are within NEAR_GRID radians of one colour. Along the border they have at least
# GRID_BORDER of their density. Without their colour, MIN_KEPT of the ink's is left.
GRID_ENERGY, MAX_SEEN, NEAR_GRID, GRID_BORDER, MIN_KEPT = 0.04, 0.3, 0.1, 0.3, 1 / 3
# cuts whose variance is this close to the largest are averaged
OTSU_BINS, OTSU_TIE = 64, 0.9999
POLARITY_REACH = 1 / 9  # of the longer side: strokes are narrower
# A vote so close to a tie is in doubt; a fat brush covers more than this of the picture;
# the weight in the vote of the evenness of its strokes.
DOUBT, FAT_INK, EVENNESS = 0.9, 0.25, 16
# No square fits into a stroke that reaches so many of its widths from its centre; the
# weight in the evenness of being in one piece.
WIDE, PIECES = 1.1, 0.5
# Noise is about as strong on both sides of the background; ink is on one. A speck of
# 2 x 2 pixels covers 16 when smoothed; in large pictures specks are larger.
ONE_SIDED, SPECK, PIXELS_PER_SPECK = 2, 16, 400

MIN_SHADOW_SIDE = 48  # pixels: in less, shadows are no wider than strokes
# of the ink's contrast: an even background, averaged over about so many cells per side,
# varies less between these percentiles
FLAT, FLAT_CELLS, FLAT_PERCENTILES = 0.12, 32, (10, 90)
MAX_FAINT = 4 * MIN_CONTRAST  # range of such cells: thin faint lines raise it to this
# One colour has at least this part of each of so many coarse cells per side: no shadow.
EVERYWHERE, COARSE_CELLS = 1 / 8, 4
PLUMP = 1 / 3  # of the shorter side: no stroke is so wide
# A sheet on a desk: the desk holds DESK_BORDER of the picture's border, the sheet has
# SHEET_SIDE of the picture's shorter side and fills SHEET_FILLED of its box (thick
# digits fill 0.75 at most, tilted sheets 0.8 at least).
DESK_BORDER, SHEET_SIDE, SHEET_FILLED = 0.9, 0.3, 0.79
# Two levels: a level's pixels are within LEVEL of the ink's contrast; NEAR_PAPER and
# NEAR_PEN of the pixels on either side of the cut are, and at most THIRD is elsewhere.
LEVEL, NEAR_PAPER, NEAR_PEN, THIRD = 0.12, 0.85, 0.7, 0.01

HAT_REACHES = (0.06, 0.08, 0.12)  # of the shorter side: widths that strokes may have
HALVED_SIDE = 128  # pixels: larger pictures are halved to compare light and dark
SHADOW_REACH = 0.24  # of the shorter side: strokes are narrower, shadows wider
# Of what seems to be strokes: details of the other polarity that have at most this part
# of the width, and at least this part of the length, are the strokes.
THINNER, NO_SHORTER = 0.5, 0.7
SHADOW_STROKES = 3.5  # stroke widths: the reach once these are known
MIN_REACH, MIN_FINER_REACH = 3, 5  # pixels
# The strongest detail is at this rank, as stray pixels may be stronger; what exceeds
# this part of it counts for the stroke width.
STRAY_PIXELS, STRONG_STROKE = 8, 0.5
# of the range of the light between these percentiles: ink has more contrast
MIN_SHARE, RANGE_PERCENTILES = 0.15, (2, 98)
# Contrast is scaled to this percentile of the light, but not in light below this level
# and not by more than this factor.
BRIGHT_PERCENTILE, MIN_LIGHT, MAX_GAIN = 90, 0.2, 2.0
# of the ink's level: pixels above it are ink, on an even background and where shadows
# were removed
THRESHOLD, SHADOW_THRESHOLD = 0.3, 0.45


class Ink(NamedTuple):
    """Ink without its background."""

    plane: Grey  # (h, w): about 0 on the background, larger on ink
    threshold: float  # share of the ink's level above which a pixel is ink


class Hat(NamedTuple):
    """Levels and their opening: what rises above it is strokes, if they are light."""

    is_light: bool  # if not, the levels are negated
    soft: Grey  # (h, w): the smoothed levels
    ground: Grey  # (h, w): their opening
    width: float  # pixels, of the strokes; infinite where there are none
    length: float  # pixels, of all strokes together


def separate_ink(levels: Grey, show: Show = ignore) -> Ink:
    """Separate the ink of levels (h, w) or (h, w, 3) in [0, 1] from the background.

    Raises InvalidImage where nothing differs from the background.
    """
    background = _estimate_background(levels)
    show("background", np.broadcast_to(background, levels.shape))
    difference = levels - background
    if levels.ndim == 3:
        direction = _ink_direction(difference)
        levels, difference = levels @ direction, difference @ direction
    if float(np.abs(difference).max()) < MIN_CONTRAST:
        raise NoDigit("the picture is blank (one colour or a smooth gradient)")
    cut = otsu(difference)
    bright = difference > cut
    may_be_fat = background.ndim == 1  # one colour: the picture may have two levels
    is_light = _ink_is_light(bright, difference, cut, may_be_fat)
    ink: Grey = difference if is_light else -difference
    ink = ink - np.median(ink[bright != is_light])
    if min(ink.shape) >= MIN_SHADOW_SIDE and not _is_even(ink, background.ndim == 1):
        return Ink(_remove_shadows(levels, is_light, show), SHADOW_THRESHOLD)
    return Ink(ink, THRESHOLD)


def _estimate_background(levels: Grey) -> Grey:
    """Estimate the background: the commonest of one or two colours, else a surface.

    Return (1,) or (3,), or an array of the levels' shape. The surface is quadratic and
    fitted to least absolute differences by iteratively reweighted least squares, so
    that ink, which covers less than half, does not bend it.
    """
    h, w = levels.shape[:2]
    step_y, step_x = max(1, h // FIT_POINTS), max(1, w // FIT_POINTS)
    sample = levels[step_y // 2 :: step_y, step_x // 2 :: step_x]
    n, m = sample.shape[:2]
    values = sample.reshape(n * m, -1)
    common = np.median(values, axis=0)
    if _share_near(values, common) > 0.5:
        return common.astype(np.float32)
    order = values.sum(1).argsort()  # of two colours, each holds one of these quartiles
    dark, light = values[order[[len(order) // 4, -len(order) // 4]]]
    dark_share, light_share = _share_near(values, dark), _share_near(values, light)
    are_apart = float(np.abs(light - dark).max()) > APART
    if are_apart and dark_share + light_share > TWO_COLOURS:
        return dark if dark_share > light_share else light
    y = (np.arange(n, dtype=np.float32) * step_y + step_y // 2) / h
    x = (np.arange(m, dtype=np.float32) * step_x + step_x // 2) / w
    basis = _quadratic_basis(y, x).reshape(n * m, -1)
    ridge = np.diag(RIDGE).astype(np.float32) * len(values)
    residual = values - common
    for _ in range(FIT_ROUNDS):
        weight = 1 / np.maximum(np.sqrt((residual**2).sum(1)), MIN_RESIDUAL)
        left = basis.T * weight
        coefficients = np.linalg.solve(left @ basis + ridge, left @ values)
        residual = values - basis @ coefficients
    y, x = np.arange(h, dtype=np.float32) / h, np.arange(w, dtype=np.float32) / w
    return (_quadratic_basis(y, x) @ coefficients.astype(np.float32)).reshape(levels.shape)


def _share_near(values: Grey, colour: Grey) -> float:
    """Return the share of values (n, 1 or 3) that count as one colour."""
    return float((np.abs(values - colour).max(1) < SAME_COLOUR).mean())


def _quadratic_basis(y: Grey, x: Grey) -> Grey:
    """Compute 1, y, x, y², x², yx for rows and columns in [0, 1): (h, w, 6)."""
    y, x = np.broadcast_arrays(y[:, np.newaxis] - 0.5, x[np.newaxis] - 0.5)
    return np.stack([np.ones_like(y), y, x, y * y, x * x, y * x], axis=-1)


def _ink_direction(difference: Grey) -> Grey:
    """Find the colour direction (3,) along which ink differs most from background.

    It is the first principal component of the strongest differences (h, w, 3), or
    a direction in which a grid of another colour is not seen.
    """
    colours = difference.reshape(-1, 3)
    energy = (colours * colours).sum(1)
    rank = max(STRONGEST_RANK, len(energy) // PIXELS_PER_RANK)
    strongest = np.partition(energy, -rank)[-rank]
    strong = colours[energy >= STRONG_ENERGY * strongest]
    direction = np.linalg.eigh(strong.T @ strong)[1][:, -1]
    seen = (energy >= GRID_ENERGY * strongest).reshape(difference.shape[:2])
    if min(seen.shape) >= MIN_SHADOW_SIDE and seen.mean() < MAX_SEEN:
        direction = _direction_without_grid(difference, seen, direction)
    direction = direction / np.abs(direction).sum()
    return (direction if direction.sum() >= 0 else -direction).astype(np.float32)


def _direction_without_grid(difference: Grey, seen: Mask, direction: Grey) -> Grey:
    """Find the colour direction at right angles to that of a grid of lines.

    Of two colours among the seen differences (h, w, 3), the grid's is the weaker one,
    and is as common along the border of the picture. Without a grid, or where its
    colour is nearly the ink's, return `direction`.
    """
    colours = difference[seen]
    second, first = np.linalg.eigh(colours.T @ colours)[1].T[1:]
    x, y = colours @ first, colours @ second
    # light and dark differences of one colour have the same angle
    angle = np.arctan2(np.where(x < 0, -y, y), np.abs(x))
    if np.ptp(angle) < NEAR_GRID:
        return direction
    above = angle > otsu(angle[np.newaxis])
    if min(np.count_nonzero(above), np.count_nonzero(~above)) < STRAY_PIXELS:
        return direction
    strength = np.hypot(x, y)
    is_grid = above if _strongest(strength[above]) < _strongest(strength[~above]) else ~above
    turn = np.median(angle[is_grid])
    across: Grey = np.cos(turn) * second - np.sin(turn) * first
    kept = _strongest(np.abs(colours[~is_grid] @ across)) / _strongest(strength)
    grid = np.zeros_like(seen)
    grid[seen] = is_grid
    if (
        kept < MIN_KEPT
        or (np.abs(angle[is_grid] - turn) < NEAR_GRID).mean() < 0.5
        or morphology.border_pixels(grid).mean() < GRID_BORDER * grid.mean()
    ):
        return direction
    return across


def _ink_is_light(bright: Mask, difference: Grey, cut: float, may_be_fat: bool) -> bool:
    """Return whether the bright pixels, whose difference exceeds the cut, are the ink.

    Ink covers less of the picture, seldom touches its border, and vanishes when opened:
    each is a share that is 0 where bright is clearly ink, 1 where it is background. Ink
    of a fat brush does none of this, but its strokes are of even width. Where the cut
    is in the noise, the side with the stronger difference is the ink.
    """
    border = morphology.border_pixels(bright).mean()
    reach = max(MIN_REACH, round(max(bright.shape) * POLARITY_REACH) | 1)
    stays, dark_stays = (morphology.opening(each, reach).mean() for each in (bright, ~bright))
    vote = border + bright.mean() + stays - dark_stays
    if abs(vote - 1) < DOUBT and FAT_INK < bright.mean() < 1 - FAT_INK:
        if may_be_fat and _has_two_levels(difference, cut):
            vote += EVENNESS * (_evenness(~bright) - _evenness(bright))
            return bool(vote <= 1)
        rank = min(max(SPECK, bright.size // PIXELS_PER_SPECK), bright.size // 2)
        soft = np.partition(morphology.smooth(difference), (rank - 1, -rank), axis=None)
        light, dark = float(soft[-rank]), -float(soft[rank - 1])
        if max(light, dark) > ONE_SIDED * min(light, dark):
            return light > dark
    return bool(vote <= 1)


def _evenness(mask: Mask) -> float:
    """Rate whether a mask is strokes: nowhere much wider than they are, in one piece.

    The background that a fat brush leaves is wide in some places, narrow in others.
    """
    reach = 2 * round(WIDE * morphology.stroke_width(mask)) + 1
    wide = np.count_nonzero(morphology.opening(mask, reach)) / np.count_nonzero(mask)
    return PIECES * morphology.largest_share(mask) - wide


def otsu(grey: Grey) -> float:
    """Compute the threshold of (h, w) that best separates two classes: Otsu, 1979."""
    low, high = float(grey.min()), float(grey.max())
    bins = ((grey - low) * ((OTSU_BINS - 0.01) / (high - low))).astype(np.uint8)
    count = np.bincount(bins.ravel(), minlength=OTSU_BINS).astype(float)
    below, mass = np.cumsum(count), np.cumsum(count * np.arange(OTSU_BINS))
    above = below[-1] - below
    # the variance between the classes; above the last cut there is no pixel
    between = (mass[-1] * below - mass * below[-1]) ** 2 / np.maximum(below * above, 1)
    between[above == 0] = 0
    best = np.flatnonzero(between >= between.max() * OTSU_TIE)
    return low + (float(best.mean()) + 1) * (high - low) / OTSU_BINS


def _is_even(ink: Grey, is_one_colour: bool) -> bool:
    """Return whether the background varies little beside the ink's contrast.

    One colour does not if it is seen beside the ink all over the picture.

    An area darker and wider than any stroke is a shadow, unless the picture has two
    levels and no third, as a crop of a thick digit does.
    """
    near = np.abs(ink) < SAME_COLOUR
    if is_one_colour and morphology.least_share(near, COARSE_CELLS) > EVERYWHERE:
        return True
    cut = otsu(ink)
    if _has_two_levels(ink, cut) and not _has_sheet(ink > cut):
        return True
    cell = max(1, min(ink.shape) // FLAT_CELLS)
    h, w = ink.shape[0] // cell, ink.shape[1] // cell
    soft = ink[: h * cell, : w * cell].reshape(h, cell, w, cell).mean((1, 3))
    # fainter than any ink, except for thin lines; or ink in rows beyond the last cell
    spread = np.ptp(np.percentile(soft, FLAT_PERCENTILES))
    if spread < MIN_CONTRAST / 2 and np.ptp(soft) < MAX_FAINT:
        return True
    cut = otsu(soft)
    low, high = np.percentile(soft[soft <= cut], FLAT_PERCENTILES)
    if high - low >= FLAT * (soft[soft > cut].mean() - low):
        return False
    reach = int(PLUMP * min(h, w)) | 1
    return not morphology.opening(soft > cut, reach).any()


def _has_two_levels(ink: Grey, cut: float) -> bool:
    """Return whether nearly all pixels are near one of two levels."""
    paper, pen = ink[ink <= cut], ink[ink > cut]
    low, high = float(np.median(paper)), float(np.median(pen))
    near, far = LEVEL * (high - low), (high - low) / 2
    # a level far above the ink or below the background makes the other one a shadow
    third = ((ink > high + far) | (ink < low - far)).mean()
    return bool(
        (np.abs(paper - low) < near).mean() > NEAR_PAPER
        and (np.abs(pen - high) < near).mean() > NEAR_PEN
        and third < THIRD
    )


def _has_sheet(mask: Mask) -> bool:
    """Return whether the picture shows a sheet on a desk.

    The desk is the class along the border; the sheet is large and fills its box.
    """
    border = morphology.border_pixels(mask).mean()
    sheet = ~mask if border > 0.5 else mask
    if max(border, 1 - border) < DESK_BORDER or not sheet.any():
        return False
    box = sheet[morphology.bounding_box(sheet)]
    return bool(min(box.shape) > SHEET_SIDE * min(mask.shape) and box.mean() > SHEET_FILLED)


def _remove_shadows(raw: Grey, seems_light: bool, show: Show) -> Grey:
    """Subtract light and shadows from levels (h, w) by a top hat wider than strokes.

    seems_light: whether the ink is light, judged by the uneven background. Ink in
    shadow is scaled to the contrast it would have in the light. Raises InvalidImage
    where the ink is faint beside the range of the light.
    """
    is_light, soft, ground, width, _ = _choose_hat(morphology.smooth(raw), seems_light)
    if width == np.inf:
        raise NoDigit("the ink is a blob or a shadow, no stroke")
    raw = raw if is_light else -raw
    finer = max(MIN_FINER_REACH, int(SHADOW_STROKES * width) | 1)
    if finer < _widest_reach(soft):
        ground = morphology.opening(soft, finer)
    show("shadows", ground if is_light else -ground)
    ink = raw - ground
    ink -= np.median(ink)
    dark, bright = np.percentile(ground, RANGE_PERCENTILES)
    if _strongest(ink) < MIN_SHARE * (bright - dark):
        raise NoDigit("the picture shows light and shadow, no stroke")
    if not is_light:  # then -ground is the brightness of the background
        light = float(np.percentile(-ground, BRIGHT_PERCENTILE))
        if light > MIN_LIGHT:
            ink = ink * (light / np.clip(-ground, light / MAX_GAIN, light))
    return ink.astype(np.float32)


def _choose_hat(soft: Grey, seems_light: bool) -> Hat:
    """Choose the polarity of the strokes in levels (h, w) under shadows.

    The gaps between thin strokes are as strong as the strokes and larger: by their
    energy they are the ink. They are also much wider, which decides in doubt.
    """
    is_light = _details_are_light(soft)
    hat = _wide_hat(soft, is_light)
    if is_light == seems_light:
        return hat
    other = _wide_hat(soft, seems_light)
    is_thinner = other.width < THINNER * hat.width
    return other if is_thinner and other.length > NO_SHORTER * hat.length else hat


def _details_are_light(soft: Grey) -> bool:
    """Return whether light details have more energy than dark ones of stroke width."""
    if min(soft.shape) >= HALVED_SIDE:
        soft = soft[::2, ::2]
    vote = 0.0
    for share in HAT_REACHES:
        reach = max(MIN_REACH, int(share * min(soft.shape)) | 1)
        light = soft - morphology.opening(soft, reach)
        dark = morphology.opening(soft, reach, np.maximum, np.minimum) - soft
        vote += float((light * light).sum() - (dark * dark).sum())
    return vote > 0


def _wide_hat(soft: Grey, is_light: bool) -> Hat:
    """Open levels (h, w) of ink of one polarity, wider than any stroke."""
    soft = soft if is_light else -soft
    ground = morphology.opening(soft, _widest_reach(soft))
    top = soft - ground
    strongest = _strongest(top)
    if strongest < MIN_CONTRAST:
        return Hat(is_light, soft, ground, np.inf, 0)
    strokes = top > STRONG_STROKE * strongest
    width = morphology.stroke_width(strokes)
    return Hat(is_light, soft, ground, width, np.count_nonzero(strokes) / width)


def _widest_reach(soft: Grey) -> int:
    """Return the side in pixels of a square that is wider than the strokes."""
    return int(SHADOW_REACH * min(soft.shape)) | 1


def _strongest(a: npt.NDArray[np.float32]) -> float:
    """Return about the largest value, ignoring a few stray pixels."""
    return float(np.partition(a.ravel(), -STRAY_PIXELS)[-STRAY_PIXELS])
