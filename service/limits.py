"""What a request may hold."""

from typing import NamedTuple

MAX_HEAD_BYTES = 64 * 2**10  # of a request's line and headers


class Limits(NamedTuple):
    """The most of everything that a request may hold; each of these is a setting."""

    max_bytes: int = 16 * 2**20  # of its body
    max_pictures: int = 1_000  # in a form
    max_fields: int = 10  # of a form beside its pictures
    max_field_bytes: int = 256 * 2**10  # of all its fields that are no files
    max_pixels: int = 25_000_000  # of a picture: a 4,000 x 4,000 photo and some more
    max_images: int = 10_000  # of 28 x 28, in a bulk request

    @property
    def max_pixels_together(self) -> int:
        """Give the pixels that the pictures of a form share out evenly."""
        return 4 * self.max_pixels


DEFAULT = Limits()
# the least and the most that each may be set to
BOUNDS = {
    "max_bytes": (2**16, 2**26),
    "max_pictures": (1, 10_000),
    "max_fields": (0, 1_000),
    # Werkzeug holds this limit against its buffer of 64 KiB too, with what is left in
    # it from before: one as small refuses files now and then.
    "max_field_bytes": (2**17, 2**24),
    "max_pixels": (2**10, 80_000_000),  # from 90 million on, Pillow opens none
    "max_images": (1, 80_000),
}
