"""Digits in pictures: one, or a row of them, segmented as the model finds the likeliest."""

from service.number.one_digit import read_one, read_with_scores
from service.number.row_of_digits import DigitAt, Number, read_number

__all__ = ["DigitAt", "Number", "read_number", "read_one", "read_with_scores"]
