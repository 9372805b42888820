"""What a picture can be refused for.

ValueError
└── InvalidImage
    └── UnknownFormat
"""


class InvalidImage(ValueError):
    """A picture in which no digit can be read; the message says what was found."""


class UnknownFormat(InvalidImage):
    """Bytes that are not a picture in a format that is taken."""
