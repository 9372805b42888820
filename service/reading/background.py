"""Separation of ink from its background: colour, polarity, uneven light, shadows."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from service.reading import morphology
from service.reading.colour import ink_direction
from service.reading.errors import NoDigit
from service.reading.morphology import Grey, Mask
from service.reading.order_statistics import median, otsu, quantiles, strongest, within
from service.reading.stages import Show, ignore

# Levels and contrasts are in [0, 1], reaches and widths in parts of a side.
MIN_CONTRAST = 6 / 255  # anything fainter is no ink
SAME_COLOUR = 2.5 / 255  # colours no further apart count as one
# In a picture of two colours, so many of the pixels have just these, and a third colour
# fits between them; in a faint gradient none does.
TWO_COLOURS, APART = 0.8, 3 * SAME_COLOUR
FIT_POINTS = 32  # points per side that the background is fitted to
FIT_ROUNDS, FITTED = 10, 0.05 / 255  # most rounds, and the change of a term that ends them
MIN_RESIDUAL = 0.02  # below it a point's weight in the fit grows no more
# Noisy paper has one colour if so many of its pixels have just this colour, and in all but
# one of 3 x 3 parts of the picture at least EVEN of the mean.
NOISY_SHARE, PARTS, EVEN = 0.15, 3, 0.5
# the powers of y and of x in each term of the quadratic, and what holds the surface flat
# where there is much ink
MAX_POWERS = 64  # sides whose powers are kept: 24 KB each at most
POWERS = (0, 1, 0, 2, 0, 1), (0, 0, 1, 0, 2, 1)
RIDGE = np.diag(np.array((0, 1e-3, 1e-3, 1e-2, 1e-2, 1e-2), np.float32))

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
# varies less between these quantiles
FLAT, FLAT_CELLS, FLAT_QUANTILES = 0.12, 32, (0.1, 0.9)
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
# of the strongest detail: what exceeds this part of it counts for the stroke width
STRONG_STROKE = 0.5
# of the range of the light between these quantiles: ink has more contrast
MIN_SHARE, RANGE_QUANTILES = 0.15, (0.02, 0.98)
# Contrast is scaled to this quantile of the light, but not in light below this level
# and not by more than this factor.
BRIGHT_QUANTILE, MIN_LIGHT, MAX_GAIN = 0.9, 0.2, 2.0
GREY = np.ones(1, np.float32)  # the direction of the only colour of grey levels
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
    """Separate the ink of levels (h, w) or (3, h, w) in [0, 1] from the background.

    Raises InvalidImage where nothing differs from the background.
    """
    planes = levels.reshape(-1, *levels.shape[-2:])  # (1 or 3, h, w)
    background = _estimate_background(planes)
    if show is not ignore:
        shown = np.broadcast_to(background, planes.shape)
        show("background", shown.transpose(1, 2, 0).squeeze())
    differences = planes - background
    direction = ink_direction(differences) if len(planes) > 1 else GREY
    difference = _along(direction, differences)
    if max(float(difference.max()), -float(difference.min())) < MIN_CONTRAST:
        raise NoDigit("the picture is blank (one colour or a smooth gradient)")
    bright = difference > otsu(difference)
    is_one_colour = background.size == len(planes)  # the picture may have two levels
    is_light = _ink_is_light(bright, difference, may_be_fat=is_one_colour)
    mask = bright if is_light else ~bright
    ink: Grey = difference if is_light else -difference
    middle = median(within(ink, ~mask))
    if middle:
        ink = ink - np.float32(middle)
    if min(ink.shape) >= MIN_SHADOW_SIDE and not _is_even(ink, mask, is_one_colour):
        return Ink(_remove_shadows(_along(direction, planes), is_light, show), SHADOW_THRESHOLD)
    return Ink(ink, THRESHOLD)


def _along(direction: Grey, planes: Grey) -> Grey:
    """Return the components (h, w) of colours (1 or 3, h, w) along a direction."""
    if direction is GREY:
        return planes[0]
    component: Grey = direction @ planes.reshape(len(planes), -1)
    return component.reshape(planes.shape[1:])


def _estimate_background(planes: Grey) -> Grey:
    """Estimate the background: the commonest of one or two colours, else a surface.

    Return a colour (1 or 3, 1, 1), or an array of the planes' shape. The surface is
    quadratic and fitted to least absolute differences by iteratively reweighted least
    squares, so that ink, which covers less than half, does not bend it.
    """
    h, w = planes.shape[1:]
    rows, columns = (slice(step // 2, None, step) for step in (_fit_step(h), _fit_step(w)))
    points = planes[:, rows, columns]
    values = points.reshape(len(planes), -1)
    common = np.array([[median(plane)] for plane in values], np.float32)
    if _have_one_colour(points, common, (h, w)):
        return common[..., np.newaxis]
    # of two colours, each holds one of these quartiles
    quartiles = len(values[0]) // 4, -len(values[0]) // 4
    order = values.sum(0).argpartition(quartiles)
    dark, light = (values[:, [order[at]]] for at in quartiles)
    dark_share, light_share = _share_near(values, dark), _share_near(values, light)
    are_apart = float(np.abs(light - dark).max()) > APART
    if are_apart and dark_share + light_share > TWO_COLOURS:
        return (dark if dark_share > light_share else light)[..., np.newaxis]
    y, x = _powers(h), _powers(w)
    terms = y[:, rows, np.newaxis][POWERS[0], :] * x[:, np.newaxis, columns][POWERS[1], :]
    terms = terms.reshape(len(RIDGE), -1)
    ridge = RIDGE * np.float32(values.shape[1])
    coefficients = np.zeros((len(planes), len(RIDGE)), np.float32)
    residual = values - common
    for _ in range(FIT_ROUNDS):
        left = terms / np.maximum(np.sqrt((residual * residual).sum(0)), MIN_RESIDUAL)
        before, normal = coefficients, left @ terms.T + ridge
        coefficients = np.linalg.solve(normal, left @ values.T).T
        if float(np.abs(coefficients - before).max()) < FITTED:
            break
        residual = values - coefficients @ terms
    quadratic: Grey = np.zeros((len(planes), 3, 3), np.float32)
    quadratic[:, *POWERS] = coefficients
    return np.matmul(y.T, quadratic @ x)


def _have_one_colour(points: Grey, common: Grey, size: tuple[int, ...]) -> bool:
    """Return whether points (1 or 3, h, w) are of a common colour but for ink and noise.

    size: of the picture, in pixels. In a small one, shadows are not looked for later.
    """
    is_near = _distance(points, common[..., np.newaxis]) < SAME_COLOUR
    share = np.count_nonzero(is_near) / is_near.size
    if not NOISY_SHARE < share <= 0.5 or min(size) < MIN_SHADOW_SIDE:
        return bool(share > 0.5)
    h, w = (side // PARTS for side in is_near.shape)
    parts = is_near[: h * PARTS, : w * PARTS].reshape(PARTS, h, PARTS, w)
    shares = np.sort(parts.sum((1, 3), dtype=np.intp), axis=None) / (h * w)
    return bool(shares[1] >= EVEN * share)


def _distance(values: Grey, colour: Grey) -> Grey:
    """Return the largest difference of values (1 or 3, ...) from a colour in any channel."""
    distances = np.abs(values - colour)
    return distances[0] if len(distances) == 1 else distances.max(0)


def _fit_step(side: int) -> int:
    """Return the distance in pixels of the points along a side that a surface is fitted to."""
    return max(1, side // FIT_POINTS)


@lru_cache(MAX_POWERS)
def _powers(side: int) -> Grey:
    """Compute the powers 0, 1 and 2 of the coordinate of each pixel along a side: (3, side).

    The coordinate is in parts of the side, from its middle.
    """
    at = np.arange(side, dtype=np.float32) / side - np.float32(0.5)
    return np.stack([np.ones_like(at), at, at * at])


def _share_near(values: Grey, colour: Grey) -> float:
    """Return the share of values (1 or 3, n) that count as one colour."""
    is_near = _distance(values, colour) < SAME_COLOUR
    return np.count_nonzero(is_near) / len(is_near)


def _ink_is_light(bright: Mask, difference: Grey, may_be_fat: bool) -> bool:
    """Return whether the bright pixels of a difference are the ink.

    Ink covers less of the picture, seldom touches its border, and vanishes when opened:
    each is a share that is 0 where bright is clearly ink, 1 where it is background. Ink
    of a fat brush does none of this, but its strokes are of even width. Where the cut
    is in the noise, the side with the stronger difference is the ink.
    """
    border = morphology.border_share(bright)
    share = np.count_nonzero(bright) / bright.size
    is_fat = FAT_INK < share < 1 - FAT_INK
    # what stays when opened is less than the share: most pictures need no opening
    if not is_fat and not 1 < border + 2 * share <= 2:
        return bool(border + 2 * share <= 1)
    reach = max(MIN_REACH, round(max(bright.shape) * POLARITY_REACH) | 1)
    stays, dark_stays = (
        np.count_nonzero(morphology.opening(each, reach)) / each.size for each in (bright, ~bright)
    )
    vote = border + share + stays - dark_stays
    if abs(vote - 1) < DOUBT and is_fat:
        if may_be_fat and _has_two_levels(difference, bright):
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


def _is_even(ink: Grey, mask: Mask, is_one_colour: bool) -> bool:
    """Return whether the background varies little beside the ink's contrast.

    mask (h, w): the pixels on the ink's side of the cut. One colour varies little if it
    is seen beside the ink all over the picture. An area darker and wider than any stroke
    is a shadow, unless the picture has two levels and no third, as a crop of a thick
    digit does.
    """
    if is_one_colour:
        near = np.abs(ink[:: _fit_step(len(ink)), :: _fit_step(ink.shape[1])]) < SAME_COLOUR
        if morphology.least_share(near, COARSE_CELLS) > EVERYWHERE:
            return True
    if _has_two_levels(ink, mask) and not _has_sheet(mask):
        return True
    cell = max(1, min(ink.shape) // FLAT_CELLS)
    h, w = ink.shape[0] // cell, ink.shape[1] // cell
    soft = ink[: h * cell, : w * cell].reshape(h, cell, -1).mean(1).reshape(h, w, cell).mean(2)
    # fainter than any ink, except for thin lines; or ink in rows beyond the last cell
    low, high = quantiles(soft, *FLAT_QUANTILES)
    if high - low < MIN_CONTRAST / 2 and np.ptp(soft) < MAX_FAINT:
        return True
    cut = otsu(soft)
    low, high = quantiles(soft[soft <= cut], *FLAT_QUANTILES)
    if high - low >= FLAT * (soft[soft > cut].mean() - low):
        return False
    reach = int(PLUMP * min(h, w)) | 1
    return not morphology.opening(soft > cut, reach).any()


def _has_two_levels(ink: Grey, mask: Mask) -> bool:
    """Return whether nearly all pixels are near a level of the mask or one of the rest."""
    paper, pen = within(ink, ~mask), within(ink, mask)
    low, high = median(paper), median(pen)
    near, far = LEVEL * (high - low), (high - low) / 2
    if np.count_nonzero(np.abs(paper - low) < near) <= NEAR_PAPER * len(paper):
        return False
    if np.count_nonzero(np.abs(pen - high) < near) <= NEAR_PEN * len(pen):
        return False
    # a level far above the ink or below the background makes the other one a shadow
    n_third = np.count_nonzero(ink > high + far) + np.count_nonzero(ink < low - far)
    return bool(n_third < THIRD * ink.size)


def _has_sheet(mask: Mask) -> bool:
    """Return whether the picture shows a sheet on a desk.

    The desk is the class along the border; the sheet is large and fills its box.
    """
    border = morphology.border_share(mask)
    sheet = ~mask if border > 0.5 else mask
    if max(border, 1 - border) < DESK_BORDER or not sheet.any():
        return False
    box = sheet[morphology.bounding_box(sheet)]
    is_large = min(box.shape) > SHEET_SIDE * min(mask.shape)
    return bool(is_large and np.count_nonzero(box) > SHEET_FILLED * box.size)


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
    ink -= np.float32(median(ink))
    dark, bright = quantiles(ground, *RANGE_QUANTILES)
    if strongest(ink) < MIN_SHARE * (bright - dark):
        raise NoDigit("the picture shows light and shadow, no stroke")
    if not is_light:  # then -ground is the brightness of the background
        (light,) = quantiles(-ground, BRIGHT_QUANTILE)
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
    peak = strongest(top)
    if peak < MIN_CONTRAST:
        return Hat(is_light, soft, ground, np.inf, 0)
    strokes = top > STRONG_STROKE * peak
    width = morphology.stroke_width(strokes)
    return Hat(is_light, soft, ground, width, np.count_nonzero(strokes) / width)


def _widest_reach(soft: Grey) -> int:
    """Return the side in pixels of a square that is wider than the strokes."""
    return int(SHADOW_REACH * min(soft.shape)) | 1
