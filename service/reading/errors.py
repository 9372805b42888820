"""Reasons to refuse a picture.

ValueError
└── InvalidImage
    ├── NoDigit
    │   └── MaybeRow
    ├── SeveralDigits
    ├── UnlikeDigits
    └── UnknownFormat
"""


class InvalidImage(ValueError):
    """A picture that no digit can be read from; the message says why."""


class NoDigit(InvalidImage):
    """A picture without a digit that can be read; its argument is the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no digit found: {reason}")


class MaybeRow(NoDigit):
    """A picture whose ink is no digit, but may be a row of digits."""


class SeveralDigits(InvalidImage):
    """A picture of n_digits digits where one is expected."""

    def __init__(self, n_digits: int) -> None:
        super().__init__(f"the picture holds {n_digits} digits")
        self.n_digits = n_digits


class UnlikeDigits(InvalidImage):
    """Parts of a number that do not look like digits, by P(digit) of each of them."""

    def __init__(self, is_digit: list[float]) -> None:
        super().__init__("a part of the number does not look like a digit")
        self.is_digit = is_digit


class UnknownFormat(InvalidImage):
    """Bytes that are not a picture in a supported format."""
