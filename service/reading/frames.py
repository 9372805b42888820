"""Frames and fingers at the border, and printed boxes and circles around digits."""

import math

import numpy as np

from service.reading.components import MIN_AREA, Components
from service.reading.errors import NoDigit
from service.reading.morphology import Ints, Mask

EDGE_BAND = 0.08  # of the shorter side: a frame lies within it
FRAME_INSIDE = 0.15  # of a component's area: a frame has less of it inside the band
# a printed box or a circle around the digit: its least size beside the largest component,
# the width of its rim in its size, and the most of its area that is inside the rim
BOX_SIZE, BOX_RIM, BOX_CORE = 0.6, 0.1, 0.12
# width over height of a circle, which a 0 rarely has; of its size, what a circle frames, and
# what a narrower ring does: the dot or the slash in a 0 is smaller
ROUND, FRAMED, FRAMED_NARROWLY = 0.8, 0.3, 0.5
# of the ring's stroke times its own diagonal: the area of a straight stroke, which may be
# the slash in a 0, is less
STRAIGHT = 1.25
MAX_BOXES = 64  # components that are checked for a box: more of one size are no boxes
# of a box's height, width and area: how far those of an empty box like it differ
ALIKE = np.array([0.1, 0.1, 0.35])
LEAST_ALIKE = 0.8  # of a box's size: nothing smaller is like it
# of the largest component's area: what makes all outside of its box no digit has more; of its
# height: what is outside and as tall may be another digit
MIN_FRAMED, TALL_OUTSIDE = 0.2, 0.5
# a finger at the border: how much of its box it fills, its least width, of the shorter side of
# the picture, and its length over its width at most; and strokes beside it: their least area,
# of the largest component's, and height, of the picture's
FINGER_FILL, FINGER, FINGER_LENGTH = 0.55, 0.06, 4
BESIDE_FINGERS, TALL_BESIDE_FINGERS = 0.05, 0.12
MIN_FRAMED_SIDE = 24  # pixels: in less, a frame and a digit's strokes look the same
MIN_BESIDE_FRAMES = 0.01  # of the largest component's area: less is no digit


def not_frames(parts: Components) -> Mask:
    """Return which components are neither frames at the border nor printed boxes.

    Those outside of boxes are left out too if a large one is in a box.
    """
    h, w = parts.shape
    result = np.ones(len(parts.area), bool)
    if parts.touches.any():
        band = max(1, round(EDGE_BAND * min(h, w)))
        inside = parts.area_within(band, h - band, band, w - band)
        result = ~((inside < FRAME_INSIDE * parts.area) & parts.touches)
    elif len(result) == 1:
        return result
    large = parts.size >= BOX_SIZE * parts.size.max()
    largest = np.argsort(-parts.size, kind="stable")[:MAX_BOXES]
    for i in largest[large[largest]] if len(large) > 1 else ():
        rim = max(1, round(BOX_RIM * parts.size[i]))
        top, bottom, left, right = parts.box(i)
        core = top + rim, bottom - rim, left + rim, right - rim
        within = parts.are_inside(i) & (parts.area > BOX_CORE * parts.area[i])
        if not within.any():
            continue
        least = BOX_CORE * parts.area[i]
        is_box = parts.area_within(*core)[i] < least
        is_round = right - left >= ROUND * (bottom - top)
        framed = parts.size[i] * (FRAMED if is_round else FRAMED_NARROWLY)
        pen = parts.area[i] / (math.pi / 2 * (right - left + bottom - top))
        diagonal = np.hypot(parts.width, parts.height)
        is_bar = parts.area < STRAIGHT * pen * diagonal
        is_framed = within & (parts.size >= framed) & ~is_bar
        if is_box or (is_framed.any() and parts.area_within_ellipse(*core)[i] < least):
            result[i] = False
    result = _framed(parts, result, np.flatnonzero(~result & ~parts.touches))
    least = max(MIN_AREA, MIN_BESIDE_FRAMES * parts.area.max())
    if (parts.area * result).max() >= least:
        return result
    if min(h, w) >= MIN_FRAMED_SIDE:
        raise NoDigit("the ink is only a frame")
    return np.ones_like(result)


def _framed(parts: Components, possible: Mask, boxes: Ints) -> Mask:
    """Return which of the possible components are in the innermost of boxes (k,).

    If the boxes hold only small ones, or another is as tall, they are all but empty boxes.
    """
    if not len(boxes):
        return possible
    # specks may be many thousands
    large = np.flatnonzero(parts.size >= LEAST_ALIKE * parts.size[boxes].min())
    measures = np.stack([parts.height, parts.width, parts.area], axis=1)
    differences = np.abs(measures[large, np.newaxis] / measures[boxes] - 1)
    are_alike = np.zeros(len(possible), bool)
    are_alike[large] = np.any(np.all(differences <= ALIKE, axis=2), axis=1)
    # what is in a box is no box like it
    in_box = np.any([parts.are_inside(i) for i in boxes.tolist()], axis=0)
    are_alike &= ~in_box | ~possible
    possible = possible & ~are_alike
    alike = np.flatnonzero(are_alike)[:MAX_BOXES].tolist()
    depth = np.sum([parts.are_inside(i) for i in alike], axis=0)
    area = parts.area * possible
    largest = int((area * (depth > 0)).argmax())
    framed = possible & (depth >= depth[largest])
    is_tall = parts.height >= TALL_OUTSIDE * parts.height[largest]
    is_small = depth[largest] == 0 or area[largest] < MIN_FRAMED * area.max()
    return possible if is_small or (is_tall & possible & ~framed).any() else framed


def not_fingers(parts: Components, possible: Mask) -> Mask:
    """Return the possible components without plump ones at the border if others are strokes."""
    if len(possible) == 1 or not parts.touches.any():
        return possible
    height, width, length = parts.height, parts.width, parts.size
    least = np.minimum(height, width)
    is_finger = parts.touches & (parts.area > FINGER_FILL * height * width)
    is_finger &= (least > FINGER * min(parts.shape)) & (length < FINGER_LENGTH * least)
    # a digit that fills its picture reaches from border to border
    is_finger &= (height < parts.shape[0]) & (width < parts.shape[1])
    rest = possible & ~is_finger & ~parts.touches
    is_stroke = parts.area * rest > BESIDE_FINGERS * (parts.area * possible).max()
    is_stroke &= height >= TALL_BESIDE_FINGERS * parts.shape[0]
    return possible & ~is_finger if is_stroke.any() else possible
