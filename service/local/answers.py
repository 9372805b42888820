"""Answers as rows of CSV, of JSON lines, or of an array."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from service.images import InvalidImage, SeveralDigits
from service.local.digits import Answer, NotADigit
from service.number import DigitAt, Number

PLAIN = re.compile(r'[^",\r\n]*')  # a name that CSV does not quote
WHOLE = {"0": "0.0", "1": "1.0"}  # as Python writes these numbers
NO_DIGIT = -1  # in an array, in place of a digit

Result = Answer | Number | InvalidImage


class Format(NamedTuple):
    """A format of answers: the head of n rows, and rows of file names and results."""

    head: Callable[[int], bytes]
    rows: Callable[[Sequence[str], Sequence[Result]], bytes]


def format_of(suffix: str, is_several: bool, classes: Sequence[int]) -> Format:
    """Return the format of a file: .csv, .jsonl, or .npy, which has no numbers."""
    cells = _number if is_several else _digit
    columns = ["file", *cells(InvalidImage(), classes)]
    dtype = np.dtype(
        [
            *(("digit", "i1"), ("probability", "<f4"), ("is_digit", "<f4")),
            ("probabilities", "<f4", (len(classes),)),
        ]
    )

    def line(name: str, result: Result) -> str:
        if isinstance(result, Answer) and PLAIN.fullmatch(name):
            return _line(name, result)
        row = cells(result, classes)
        if row.get("digits"):  # a list: as JSON
            row["digits"] = json.dumps(row["digits"])
        return _csv([name, *row.values()])

    def as_csv(names: Sequence[str], results: Sequence[Result]) -> bytes:
        return "".join(map(line, names, results)).encode()

    def as_json(names: Sequence[str], results: Sequence[Result]) -> bytes:
        rows = (cells(result, classes) for result in results)
        named = ({"file": name} | row for name, row in zip(names, rows, strict=True))
        return "".join(f"{json.dumps(row)}\n" for row in named).encode()

    def as_array(names: Sequence[str], results: Sequence[Result]) -> bytes:
        return np.array([_record(result, len(classes)) for result in results], dtype).tobytes()

    def head_of_array(n: int) -> bytes:
        file = io.BytesIO()  # numpy leaves room for any n
        descr = npy.dtype_to_descr(dtype)
        npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (n,)})
        return file.getvalue()

    return {
        ".csv": Format(lambda n: _csv(columns).encode(), as_csv),
        ".jsonl": Format(lambda n: b"", as_json),
        ".npy": Format(head_of_array, as_array),
    }[suffix]


def shown(path: str) -> str:
    r"""Return a path as text, its bytes that are no UTF-8 as \x…."""
    # csv does not quote \r
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace("\r", r"\x0d")


def _digit(result: Result, classes: Sequence[int]) -> dict[str, Any]:
    """Return the columns of one digit."""
    digit, probability, is_digit, error = None, None, None, None
    if isinstance(result, Answer):
        digit, probability, is_digit = result.digit, _rounded(result.probability), result.is_digit
    else:
        error = str(result)
        if isinstance(result, SeveralDigits):
            error += ": use --several, or pictures of one"
        if isinstance(result, NotADigit):
            is_digit = result.is_digit
    is_digit = None if is_digit is None else _rounded(is_digit)
    return {"digit": digit, "probability": probability, "is_digit": is_digit, "error": error}


def _number(result: Result, classes: Sequence[int]) -> dict[str, Any]:
    """Return the columns of a number, as those of the service's reply."""
    if not isinstance(result, Number):
        return {"number": None, "probability": None, "digits": None, "error": str(result)}
    digits = [_digit_at(each, classes) for each in result.digits]
    number = "".join(str(each["digit"]) for each in digits)
    probability = _rounded(result.probability)
    return {"number": number, "probability": probability, "digits": digits, "error": None}


def _digit_at(at: DigitAt, classes: Sequence[int]) -> dict[str, Any]:
    digit, probability = classes[int(at.probabilities.argmax())], _rounded(at.probabilities.max())
    is_digit = {} if at.is_digit is None else {"is_digit": _rounded(at.is_digit)}
    return {"digit": digit, "probability": probability, **is_digit, "box": at.box}


def _record(result: Result, n_classes: int) -> tuple[Any, ...]:
    if isinstance(result, Answer):
        is_digit = np.nan if result.is_digit is None else result.is_digit
        return result.digit, result.probability, is_digit, result.probabilities
    is_digit = result.is_digit if isinstance(result, NotADigit) else np.nan
    return NO_DIGIT, np.nan, is_digit, [np.nan] * n_classes


def _csv(row: Iterable[Any]) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerow(row)
    return file.getvalue()


def _line(name: str, answer: Answer) -> str:
    """Return what `_csv` does of one digit, in a fifth of the time."""
    numbers = answer.probability, answer.is_digit
    texts = ["" if number is None else f"{number:.7g}" for number in numbers]
    probability, is_digit = (WHOLE.get(text, text) for text in texts)
    return f"{name},{answer.digit},{probability},{is_digit},\n"


def _rounded(value: float) -> float:
    """Round to seven significant digits, as the service's replies."""
    return float(f"{value:.7g}")
