"""Accuracy on numbers of several digits, and how often a digit is taken for several.

python -m benchmarks.numbers [--numbers N] [--singles N] [--model FILE] [--rows NAME ...]
    [--misread FOLDER]
"""

import argparse
import io
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.number_pictures import RENDERINGS, draw_number
from benchmarks.robustness import CONFIDENT, kinds
from service.classifier import Classifier, load
from service.images import InvalidImage, SeveralDigits
from service.number import read_number, read_one
from service.settings import EMBEDDED_WEIGHTS
from training.data.dataset import Digits
from training.data.mnist import cache_folder
from training.data.sources import load_data

SEED = 11
N_DIGITS, N_PLAIN_DIGITS = (2, 7), (2, 4)  # of a number, and of a picture sent as one digit
TOUCHING = 1 / 3  # of the pictures that are sent as one digit
HEADS = ("read", "confident", "correct", "touching", "or refused", "wrong", "not one", "count")


class Answer(NamedTuple):
    """What the service answers to a picture of a number."""

    expected: str
    text: str  # empty if refused
    probability: float


def measure(flags: argparse.Namespace) -> None:
    """Print one row per rendering, then one per row of the robustness benchmark."""
    classifier = load(flags.model)
    digits = load_data(os.environ.get("DIGITS_MNIST", ""), cache_folder(os.environ)).test
    print(
        f"numbers of 2 to 6 of MNIST's test digits, {flags.numbers:,} per cell, in %\n"
        f"apart: read whole; confident, p >= {CONFIDENT}; correct of the confident ones\n"
        "one pair touching: read whole; read or refused; confident and wrong\n"
        "2 or 3 digits sent as one: refused; with the right number of digits"
    )
    print(f"{'':<24}" + "".join(f"{head:>11}" for head in HEADS))
    rows = []
    for name in tqdm(RENDERINGS, disable=None, leave=False):
        if any(part in name for part in flags.rows):
            rows.append(_row(name, digits, flags.numbers, classifier, flags.misread))
    if rows:
        _print("all", np.nanmean(rows, axis=0).tolist())
    if flags.singles:
        _measure_singles(flags.singles, flags.rows, classifier)


def _row(
    name: str, digits: Digits, n: int, classifier: Classifier, misread: Path | None
) -> list[float]:
    """Print and return the figures of one rendering."""
    rng = np.random.default_rng([SEED, list(RENDERINGS).index(name)])
    apart, touching = (
        [_answer(name, digits, touches, classifier, rng, misread) for _ in range(n)]
        for touches in (False, True)
    )
    counts = [_refusal(name, digits, classifier, rng) for _ in range(n)]
    correct = [answer.text == answer.expected for answer in apart]
    sure = [answer.probability >= CONFIDENT for answer in apart]
    joined = [answer.text == answer.expected for answer in touching]
    figures = [
        np.mean(correct),
        np.mean(sure),
        np.mean([right for right, each in zip(correct, sure, strict=True) if each] or np.nan),
        np.mean(joined),
        np.mean([right or not answer.text for right, answer in zip(joined, touching, strict=True)]),
        np.mean(
            [
                not right and answer.probability >= CONFIDENT
                for right, answer in zip(joined, touching, strict=True)
            ]
        ),
        np.mean([found != 0 for _, found in counts]),
        np.mean([found == expected for expected, found in counts]),
    ]
    return _print(name, [float(figure) for figure in figures])


def _print(name: str, figures: list[float]) -> list[float]:
    tqdm.write(f"{name:<24}" + "".join(f"{100 * figure:>11.1f}" for figure in figures))
    return figures


def _answer(
    name: str,
    digits: Digits,
    touches: bool,
    classifier: Classifier,
    rng: np.random.Generator,
    misread: Path | None,
) -> Answer:
    """Draw a number and read it."""
    drawn = draw_number(digits, int(rng.integers(*N_DIGITS)), rng, touches)
    upload = RENDERINGS[name](drawn.ink, rng)
    try:
        number = read_number(upload, classifier)
    except InvalidImage:
        return Answer(drawn.text, "", 0)
    read = (classifier.classes[digit.probabilities.argmax()] for digit in number.digits)
    answer = Answer(drawn.text, "".join(map(str, read)), number.probability)
    if misread and answer.text != answer.expected:
        misread.mkdir(parents=True, exist_ok=True)
        path = misread / f"{answer.expected} as {answer.text}, {name}.png"
        Image.open(io.BytesIO(upload)).convert("RGB").save(path)
    return answer


def _refusal(
    name: str, digits: Digits, classifier: Classifier, rng: np.random.Generator
) -> tuple[int, int]:
    """Send several digits as one: their number, and what the refusal says; 0 if it is read.

    A refusal that does not name a number is -1.
    """
    n = int(rng.integers(*N_PLAIN_DIGITS))
    drawn = draw_number(digits, n, rng, bool(rng.random() < TOUCHING))
    try:
        image = read_one(RENDERINGS[name](drawn.ink, rng), classifier)
    except SeveralDigits as error:
        return n, error.n_digits
    except InvalidImage:
        return n, -1
    is_digit = classifier.score(image[np.newaxis]).is_digit
    if classifier.detector and is_digit is not None and is_digit[0] < classifier.detector.threshold:
        return n, -1
    return n, 0


def _measure_singles(n: int, parts: list[str], classifier: Classifier) -> None:
    """Print the share of single digits that are refused as several, by row."""
    print(f"\nsingle digits refused as several, {n:,} per row, in %")
    shares = []
    for name, kind in tqdm(kinds(n, n).items(), disable=None, leave=False):
        if any(part in name for part in parts):
            uploads = kind().files
            refused = [_is_several(upload, classifier) for upload in uploads]
            shares.append(np.mean(refused))
            tqdm.write(f"{name:<24}{100 * shares[-1]:>11.1f}")
    if shares:
        print(f"{'all':<24}{100 * np.mean(shares):>11.2f}")


def _is_several(upload: bytes, classifier: Classifier) -> bool:
    try:
        read_one(upload, classifier)
    except SeveralDigits:
        return True
    except InvalidImage:
        pass
    return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.numbers")
    parser.add_argument("--numbers", type=int, default=100, help="numbers per cell")
    parser.add_argument("--singles", type=int, default=0, help="single digits per row")
    parser.add_argument("--rows", nargs="+", default=[""], help="parts of the rows' names")
    parser.add_argument("--model", type=Path, default=EMBEDDED_WEIGHTS, help="weights to measure")
    parser.add_argument("--misread", type=Path, help="folder for the misread pictures")
    measure(parser.parse_args())
