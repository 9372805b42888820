"""Working size of a picture, and the closer crop of a digit that is small in it."""

from PIL import Image

WORKING_SIDE = 256  # pixels: a picture is averaged down to about this longer side
MIN_WORKING_SIDE = 8  # pixels: the shorter side is not averaged down below this
CLOSE_BELOW = 72  # pixels of working size: a smaller digit is cropped and read again
CROP_MARGIN = 3  # pixels of working size around a crop, besides half the digit's length


def reduction(size: tuple[int, int]) -> int:
    """Choose the factor that averages a picture of this size down to working size."""
    return max(1, min(-(-max(size) // WORKING_SIDE), min(size) // MIN_WORKING_SIDE))


def reduced(picture: Image.Image) -> Image.Image:
    """Average a picture down to working size."""
    factor = reduction(picture.size)
    return picture.reduce(factor) if factor > 1 else picture


def closer_crop(
    picture: Image.Image, box: tuple[int, int, int, int]
) -> Image.Image | None:
    """Crop a picture around a digit whose box, at working size, is small.

    box: top, bottom, left and right. Return None where a crop would show no more.
    """
    factor = reduction(picture.size)
    top, bottom, left, right = box
    length = max(bottom - top, right - left)
    if factor == 1 or length >= CLOSE_BELOW:
        return None
    margin = length / 2 + CROP_MARGIN
    crop = picture.crop(
        (
            int(max(left - margin, 0) * factor),
            int(max(top - margin, 0) * factor),
            int(min((right + margin) * factor, picture.width)),
            int(min((bottom + margin) * factor, picture.height)),
        )
    )
    return crop if reduction(crop.size) < factor else None
