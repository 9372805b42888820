"""Reasons to refuse a picture.

ValueError
└── InvalidImage
    └── UnknownFormat
"""


class InvalidImage(ValueError):
    """A picture that no digit can be read from; the message says why."""


class UnknownFormat(InvalidImage):
    """Bytes that are not a picture in a supported format."""
