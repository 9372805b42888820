"""Paper and ink told apart: colour, polarity, uneven light, shadows."""

import numpy as np
import numpy.typing as npt

from service.reading.errors import InvalidImage
from service.reading.morphology import (
    Grey,
    Mask,
    blurred,
    border_of,
    box_of,
    opened,
    stroke_width,
)

MIN_CONTRAST = 6 / 255  # fainter than this is no ink
FIT_POINTS = 32  # the paper is fitted on about so many points a side
FIT_ROUNDS = 10
SAME = 2.5 / 255  # colours no further apart than this are one
RIDGE = (0, 1e-3, 1e-3, 1e-2, 1e-2, 1e-2)  # holds the surface back where ink is much
# of the strongest difference's energy: what the ink's colour is taken from
STRONG = 0.25
OTSU_BINS = 64
POLARITY_REACH = 1 / 9  # of the longer side: strokes are narrower
MIN_SHADOW_SIDE = 48  # pixels: below it there is no room between strokes and shadows
FLAT = 0.12  # of the ink's contrast: paper whose levels spread less is even
PLUMP = 1 / 3  # of the shorter side: no stroke is so wide
# of the border, what a desk holds; of the picture's side, what a sheet on it has; of
# its box, what it fills: thick digits 0.75 at most, tilted sheets 0.8 at least
DESK_BORDER, SHEET_SIDE, SHEET_FILLED = 0.9, 0.3, 0.79
# of the ink's contrast: how near a level is; then, of the pixels on either side of the
# cut, how many are that near, and how many may make a third level
LEVEL, NEAR_PAPER, NEAR_PEN, THIRD = 0.12, 0.85, 0.7, 0.01
HAT_REACHES = (0.06, 0.08, 0.12)  # of the shorter side: widths that strokes may have
SHADOW_REACH = 0.24  # of the shorter side: strokes are narrower, shadows wider
SHADOW_STROKES = 3.5  # stroke widths, once these are known
MIN_SHARE = 0.15  # of the light's range: ink stands out more than this
# share of the ink's level over which a pixel is ink, on even paper and where a shadow
# was taken off
THRESHOLD, SHADOW_THRESHOLD = 0.3, 0.45


def ink_plane(levels: Grey) -> tuple[Grey, float]:
    """Turn levels (h, w) or (h, w, 3) in [0, 1] into ink (h, w), about 0 on paper.

    Also gives the share of the ink's level over which a pixel is ink. Raises
    InvalidImage where nothing differs from the paper.
    """
    paper = _paper(levels)
    difference = levels - paper
    weights = np.ones(1, np.float32)
    if levels.ndim == 3:
        weights = _ink_direction(difference)
        difference = difference @ weights
    if float(np.abs(difference).max()) < MIN_CONTRAST:
        raise InvalidImage(
            "the picture is blank: one colour or a smooth gradient, without ink"
        )
    bright = difference > otsu(difference)
    is_light = _ink_is_light(bright)
    ink: Grey = difference if is_light else -difference
    ink = ink - np.median(ink[bright != is_light])
    if min(ink.shape) >= MIN_SHADOW_SIDE and not _is_even(ink):
        raw: Grey = levels @ weights if levels.ndim == 3 else levels
        return _without_shadows(raw), SHADOW_THRESHOLD
    return ink, THRESHOLD


def _paper(levels: Grey) -> Grey:
    """Estimate the paper at every pixel: one colour if most share it, else a surface.

    The surface is quadratic and fitted to least absolute differences, by iteratively
    reweighted least squares, so that ink, being less than half, does not pull it.
    """
    h, w = levels.shape[:2]
    step_y, step_x = max(1, h // FIT_POINTS), max(1, w // FIT_POINTS)
    sample = levels[step_y // 2 :: step_y, step_x // 2 :: step_x]
    n, m = sample.shape[:2]
    values = sample.reshape(n * m, -1)
    common = np.median(values, axis=0)
    if (np.abs(values - common).max(1) < SAME).mean() > 0.5:
        return common.astype(np.float32)
    y = (np.arange(n, dtype=np.float32) * step_y + step_y // 2) / h
    x = (np.arange(m, dtype=np.float32) * step_x + step_x // 2) / w
    basis = _quadratic(y, x).reshape(n * m, -1)
    ridge = np.diag(RIDGE).astype(np.float32) * len(values)
    residual = values - common
    for _ in range(FIT_ROUNDS):
        weight = 1 / np.maximum(np.sqrt((residual**2).sum(1)), 0.02)
        left = basis.T * weight
        coefficients = np.linalg.solve(left @ basis + ridge, left @ values)
        residual = values - basis @ coefficients
    y, x = np.arange(h, dtype=np.float32) / h, np.arange(w, dtype=np.float32) / w
    surface: Grey = _quadratic(y, x) @ coefficients.astype(np.float32)
    return surface.reshape(levels.shape)


def _quadratic(y: Grey, x: Grey) -> Grey:
    """Lay out 1, y, x, y², x², yx for rows and columns in [0, 1): (h, w, 6)."""
    y, x = np.broadcast_arrays(y[:, np.newaxis] - 0.5, x[np.newaxis] - 0.5)
    return np.stack([np.ones_like(y), y, x, y * y, x * x, y * x], axis=-1)


def _ink_direction(difference: Grey) -> Grey:
    """Find the direction (3,) in colours along which ink differs most from paper.

    The first principal component of the strongest differences (h, w, 3).
    """
    colours = difference.reshape(-1, 3)
    energy = (colours * colours).sum(1)
    rank = max(8, len(energy) // 200)
    strongest = np.partition(energy, -rank)[-rank]
    strong = colours[energy >= STRONG * strongest]
    direction = np.linalg.eigh(strong.T @ strong)[1][:, -1]
    direction = direction / np.abs(direction).sum()
    return (direction if direction.sum() >= 0 else -direction).astype(np.float32)


def _ink_is_light(bright: Mask) -> bool:
    """Tell whether the bright pixels are the ink.

    Ink is the smaller class, it keeps from the border, and it vanishes when opened:
    three shares that would be 0 if bright were wholly ink, 1 if wholly paper.
    """
    border = border_of(bright).mean()
    reach = max(3, round(max(bright.shape) * POLARITY_REACH) | 1)
    stays, dark_stays = (
        opened(mask, reach, np.logical_and, np.logical_or).mean()
        for mask in (bright, ~bright)
    )
    return bool(border + bright.mean() + stays - dark_stays <= 1)


def otsu(grey: Grey) -> float:
    """Find the level that parts (h, w) into the two classes most apart: Otsu, 1979."""
    low, high = float(grey.min()), float(grey.max())
    bins = ((grey - low) * ((OTSU_BINS - 0.01) / (high - low))).astype(np.uint8)
    count = np.bincount(bins.ravel(), minlength=OTSU_BINS).astype(float)
    below, mass = np.cumsum(count), np.cumsum(count * np.arange(OTSU_BINS))
    above = below[-1] - below
    # the variance between the classes; the last cut leaves nothing above
    between = (mass[-1] * below - mass * below[-1]) ** 2 / np.maximum(below * above, 1)
    between[above == 0] = 0
    best = np.flatnonzero(between >= between.max() * 0.9999)
    return low + (float(best.mean()) + 1) * (high - low) / OTSU_BINS


def _is_even(ink: Grey) -> bool:
    """Tell whether the paper's level varies little beside the ink's contrast.

    What is darker and wider than any stroke is not ink, but a shadow; unless the
    picture has two levels and no third, as a crop of a thick digit has.
    """
    cut = otsu(ink)
    if _has_two_levels(ink, cut) and not _has_sheet(ink > cut):
        return True
    cell = max(1, min(ink.shape) // 32)
    h, w = ink.shape[0] // cell, ink.shape[1] // cell
    soft = ink[: h * cell, : w * cell].reshape(h, cell, w, cell).mean((1, 3))
    if np.ptp(soft) < MIN_CONTRAST:  # the ink is in the rows that were cut off
        return True
    cut = otsu(soft)
    low, high = np.percentile(soft[soft <= cut], (10, 90))
    if high - low >= FLAT * (soft[soft > cut].mean() - low):
        return False
    reach = int(PLUMP * min(h, w)) | 1
    return not opened(soft > cut, reach, np.logical_and, np.logical_or).any()


def _has_two_levels(ink: Grey, cut: float) -> bool:
    """Tell whether nearly all pixels are near one level of paper or one of ink."""
    paper, pen = ink[ink <= cut], ink[ink > cut]
    low, high = float(np.median(paper)), float(np.median(pen))
    near, far = LEVEL * (high - low), (high - low) / 2
    # with ink that is much stronger, or lighter than the paper, the other is a shadow
    third = ((ink > high + far) | (ink < low - far)).mean()
    return bool(
        (np.abs(paper - low) < near).mean() > NEAR_PAPER
        and (np.abs(pen - high) < near).mean() > NEAR_PEN
        and third < THIRD
    )


def _has_sheet(mask: Mask) -> bool:
    """Tell whether a sheet lies in the picture: large, and filling its box.

    It is the class that does not hold the picture's border, on a desk that does.
    """
    border = border_of(mask).mean()
    sheet = ~mask if border > 0.5 else mask
    if max(border, 1 - border) < DESK_BORDER or not sheet.any():
        return False
    top, bottom, left, right = box_of(sheet)
    is_large = min(bottom - top, right - left) > SHEET_SIDE * min(mask.shape)
    return bool(is_large and sheet[top:bottom, left:right].mean() > SHEET_FILLED)


def _without_shadows(raw: Grey) -> Grey:
    """Take the light and its shadows off levels (h, w): a top hat, wider than strokes.

    Ink in shadow gets the contrast it would have in the light. Raises InvalidImage
    where what is left is faint beside the light's own range.
    """
    is_light = _strokes_are_light(raw)
    raw = raw if is_light else -raw
    soft = blurred(raw)
    reach = int(SHADOW_REACH * min(raw.shape)) | 1
    ground = opened(soft, reach)
    top = soft - ground
    if _eighth_largest(top) < MIN_CONTRAST:
        raise InvalidImage("the picture holds a blob or a shadow, no stroke")
    finer = max(5, int(SHADOW_STROKES * _width_of_strongest(top)) | 1)
    if finer < reach:
        ground = opened(soft, finer)
    ink = raw - ground
    ink -= np.median(ink)
    dark, bright = np.percentile(ground, (2, 98))
    if _eighth_largest(ink) < MIN_SHARE * (bright - dark):
        raise InvalidImage("the picture holds light and shadow, no stroke")
    if not is_light:  # then -ground is the paper's brightness
        light = float(np.percentile(-ground, 90))
        if light > 0.2:
            ink = ink * (light / np.clip(-ground, 0.5 * light, light))
    return ink.astype(np.float32)


def _strokes_are_light(raw: Grey) -> bool:
    """Tell whether light or dark details hold more energy, at several stroke widths."""
    soft = blurred(raw)
    if min(raw.shape) >= 128:
        soft = soft[::2, ::2]
    vote = 0.0
    for share in HAT_REACHES:
        reach = max(3, int(share * min(soft.shape)) | 1)
        light = soft - opened(soft, reach)
        dark = opened(soft, reach, np.maximum, np.minimum) - soft
        vote += float((light * light).sum() - (dark * dark).sum())
    return vote > 0


def _width_of_strongest(top: Grey) -> float:
    return stroke_width(top > 0.5 * _eighth_largest(top))


def _eighth_largest(a: npt.NDArray[np.float32]) -> float:
    """Give about the largest value, whatever a few stray pixels hold."""
    return float(np.partition(a.ravel(), -8)[-8])
