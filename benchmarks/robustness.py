"""Accuracy on corrupted test digits, rare handwriting and scenes, as uploads.

python -m benchmarks.robustness [--rows NAME ...] [--model FILE] [--misread FOLDER]
    [--stretched FOLDER] [--corrupted FILE]
"""

import argparse
import io
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from benchmarks.contact_sheet import contact_sheet
from benchmarks.hands import STYLES, Drawing
from benchmarks.scenes import DRAWN, SCENES
from service.classifier import Classifier, load
from service.features import IMAGE_SIZE, MAX_GREY
from service.number import read_one
from service.settings import EMBEDDED_WEIGHTS
from training.__main__ import main
from training.data.dataset import Digits, Labels
from training.data.mnist import cache_folder
from training.data.sources import load_data
from training.results.corruptions import CORRUPTIONS, Corruption, corrupt, read_uploads

SEED = 3
CONFIDENT = 0.9  # probability
HEADS = ("default", "pixels", "naive", "refused", "confident", "correct")
# rows of --corrupted: no corruption, and one that hides what the digit is
IDENTITY, UNREADABLE = "identity", "stripe"


class Uploads(NamedTuple):
    """The pictures of a row and their labels (n,)."""

    files: list[bytes]
    labels: Labels


Kind = Callable[[], Uploads]  # draws the uploads of a row


class Answers(NamedTuple):
    """What the default model answers to n uploads: arrays (n,)."""

    digits: npt.NDArray[np.integer]
    probability: npt.NDArray[np.float64]  # 0 if refused
    correct: npt.NDArray[np.bool_]

    @property
    def confident(self) -> npt.NDArray[np.bool_]:
        """Return which answers have p >= CONFIDENT."""
        return self.probability >= CONFIDENT


def measure(flags: argparse.Namespace) -> None:
    """Print one row per kind of picture whose name contains one of `flags.rows`."""
    default = load(flags.model)
    pixels = load(flags.pixels) if flags.pixels else _pixels()
    print(
        f"{flags.digits:,} of MNIST's test digits per corruption, {flags.drawn:,} pictures per "
        "style and scene;\naccuracies in %, refusals are wrong; "
        f"confident: % with p >= {CONFIDENT}, correct: % of the confident ones"
    )
    print(f"{'':<22}" + "".join(f"{head:>10}" for head in HEADS))
    corrupted = of_file(flags.corrupted)
    rows = {**kinds(flags.digits, flags.drawn), **stretched(flags.stretched), **corrupted}
    named = [name for name in rows if any(part in name for part in flags.rows)]
    answers = {}
    for name in tqdm(named, disable=None, leave=False):
        uploads = rows[name]()
        answers[name] = _row(name, uploads, default, pixels)
        if flags.misread:
            _save_misread(uploads, answers[name], flags.misread / f"{name}.png")
    _summarise({name: answers[name] for name in corrupted if name in answers})


def _pixels() -> Classifier:
    """Return a model trained on raw pixels, as most tutorials serve."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.safetensors"
        main(["--recipe", "pixels", "--output", str(path)])
        return load(path)


def kinds(n: int, n_drawn: int) -> dict[str, Kind]:
    """Return what makes n corrupted test digits, or n styles or scenes, by row."""
    source = os.environ.get("DIGITS_MNIST", "")
    test = load_data(source, cache_folder(os.environ)).test
    digits, fewer = _every(test, n), _every(test, n_drawn)
    return {
        **{name: partial(_corrupted, digits, each) for name, each in CORRUPTIONS.items()},
        **{name: partial(_drawn, n_drawn, each) for name, each in STYLES.items()},
        **{name: partial(_drawn, n_drawn, each) for name, each in DRAWN.items()},
        **{name: partial(_corrupted, fewer, each) for name, each in SCENES.items()},
    }


def _every(digits: Digits, n: int) -> Digits:
    """Return n digits at equal distances."""
    step = len(digits) // n
    return Digits(digits.images[::step][:n], digits.labels[::step][:n])


def _corrupted(digits: Digits, corruption: Corruption) -> Uploads:
    return Uploads(corrupt(digits.images, corruption, SEED), digits.labels)


def _drawn(n: int, drawing: Drawing) -> Uploads:
    rng = np.random.default_rng(SEED)
    files, labels = zip(*(drawing(rng) for _ in range(n)), strict=True)
    return Uploads(list(files), np.array(labels, np.uint8))


def stretched(folder: Path | None) -> dict[str, Kind]:
    """Return what makes the uploads of each data set of a folder."""
    rows: dict[str, Kind] = {}
    for path in sorted(folder.glob("*.npz")) if folder else ():
        with np.load(path) as arrays:
            digits = Digits(arrays["images"], arrays["labels"])
        rows[path.stem] = partial(_corrupted, digits, CORRUPTIONS["none"])
    return rows


def of_file(path: Path | None) -> dict[str, Kind]:
    """Return what makes the uploads of each array of images, all of the same labels."""
    if not path:
        return {}
    with np.load(path) as arrays:
        images = dict(arrays)
    labels = images.pop("labels")
    return {
        name: partial(_corrupted, Digits(each, labels), CORRUPTIONS["none"])
        for name, each in images.items()
    }


def read_naively(upload: bytes) -> npt.NDArray[np.uint8]:
    """Read an upload as most tutorials do: grey, resized, inverted if bright."""
    with Image.open(io.BytesIO(upload)) as picture:
        levels = np.asarray(picture.convert("L").resize(IMAGE_SIZE))
    return MAX_GREY - levels if levels.mean() > MAX_GREY / 2 else levels


def _row(name: str, uploads: Uploads, default: Classifier, pixels: Classifier) -> Answers:
    """Print the accuracies, and how often the default model is confident."""
    files, labels = uploads
    images, refused = read_uploads(files, partial(read_one, classifier=default))
    refused[default.refused(default.score(images))] = True
    naive = np.stack([read_naively(file) for file in files])
    probabilities = default.predict_proba(images)
    digits, probability = probabilities.argmax(1), np.where(refused, 0, probabilities.max(1))
    answers = Answers(digits, probability, (digits == labels) & ~refused)
    figures = (
        answers.correct.mean(),
        ((pixels.predict_proba(images).argmax(1) == labels) & ~refused).mean(),
        (pixels.predict_proba(naive).argmax(1) == labels).mean(),
    )
    correct = answers.correct[answers.confident]
    tqdm.write(
        f"{name:<22}"
        + "".join(f"{100 * figure:>10.1f}" for figure in figures)
        + f"{refused.sum():>10}{100 * answers.confident.mean():>10.1f}"
        + (f"{100 * correct.mean():>10.1f}" if len(correct) else f"{'-':>10}")
    )
    return answers


def _save_misread(uploads: Uploads, answers: Answers, path: Path) -> None:
    """Save a contact sheet of the misread pictures: label, answer and probability."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tiles = []
    for i in np.flatnonzero(~answers.correct):
        refused = answers.probability[i] == 0
        answer = "refused" if refused else f"{answers.digits[i]} ({answers.probability[i]:.3f})"
        picture = Image.open(io.BytesIO(uploads.files[i]))
        tiles.append((picture, f"{i}: {uploads.labels[i]} as {answer}"))
    if tiles:
        contact_sheet(tiles).save(path)


def _summarise(corrupted: dict[str, Answers]) -> None:
    """Print the mean over the readable corruptions, and the answers to UNREADABLE."""
    readable = [
        answers.correct.mean()
        for name, answers in corrupted.items()
        if name not in (IDENTITY, UNREADABLE)
    ]
    if readable:
        mean = 100 * np.mean(readable)
        print(f"mean of {len(readable)} corruptions without {UNREADABLE}: {mean:.1f} %")
    if UNREADABLE in corrupted:
        share = corrupted[UNREADABLE].confident.mean()
        print(f"{UNREADABLE} answered with p >= {CONFIDENT}: {100 * share:.1f} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness")
    parser.add_argument("--digits", type=int, default=1000, help="test digits per corruption")
    parser.add_argument("--drawn", type=int, default=300, help="pictures per style and scene")
    parser.add_argument("--rows", nargs="+", default=[""], help="parts of the rows' names")
    parser.add_argument("--model", type=Path, default=EMBEDDED_WEIGHTS, help="weights to measure")
    parser.add_argument("--pixels", type=Path, help="weights of the recipe pixels, else trained")
    parser.add_argument("--misread", type=Path, help="folder for sheets of misread pictures")
    parser.add_argument(
        "--stretched", type=Path, help="folder of .npz files with arrays `images` and `labels`"
    )
    parser.add_argument(
        "--corrupted", type=Path, help=".npz file of `labels` and of images by corruption"
    )
    measure(parser.parse_args())
