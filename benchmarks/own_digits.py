"""Training on 200 pictures of one hand, alone and on top of the shipped weights.

python -m benchmarks.own_digits [--hands 10]

Each hand writes 20 pictures of every digit into class folders, and 200 others. Hands of an
even number lean and turn as most do; the others more than any digit of MNIST's. The first
line, "many", is of many hands: 200 of MNIST's validation rows, and the others. The seed of
a run is the number of its hand. Prints the accuracy on the others, in which a refusal is
an error, and on MNIST's test rows (DIGITS_MNIST).
"""

import argparse
import contextlib
import io
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.hands import BLOCKS, SHAPES, Hand, any_hand, ink_of, placed, strokes_of
from benchmarks.handwriting import VARIANTS
from service.classifier import Classifier, load
from service.images import InvalidImage, read_image
from service.settings import EMBEDDED_WEIGHTS
from training.__main__ import main as train
from training.data.dataset import Digits
from training.data.mnist import cache_folder
from training.data.sources import load_data
from training.results.corruptions import encoded

N_PICTURES = 20  # of a digit
SIDE, HEIGHT = (60, 200), (0.5, 0.85)  # pixels; of the side
FIRST_VALIDATION = 50_000  # of MNIST's training rows, on which no weights are trained
N_SHAPES = 2  # ways of a hand to write a digit


def draw_hand(number: int) -> tuple[Hand, dict[int, list[str]]]:
    """Draw a hand and its shapes of each digit."""
    rng = np.random.default_rng(number)
    hand, side = any_hand(rng), rng.choice([-1, 1])
    if number % 2:
        turn, slant = side * rng.uniform(0.3, 0.5), rng.choice([-0.5, 0.8]) * rng.uniform(0.8, 1.2)
        hand = hand._replace(rotation=turn, slant=slant)
    pool = [*BLOCKS, *(shape for shapes in SHAPES.values() for shape in shapes)]
    pool += [f"{k} {' / '.join(strokes)}" for k, ways in VARIANTS.items() for strokes in ways]
    shapes = {k: [shape for shape in pool if shape[0] == str(k)] for k in range(10)}
    return hand, {k: rng.choice(shapes[k], N_SHAPES).tolist() for k in shapes}


def write(hand: Hand, shape: str, rng: np.random.Generator) -> bytes:
    """Write a shape once more, never quite the same: a PNG."""
    hand = hand._replace(
        tremor=0.02,
        slant=hand.slant + rng.normal(0, 0.05),
        width=hand.width * np.exp(rng.normal(0, 0.1)),
        rotation=hand.rotation + rng.normal(0, 0.07),
        pen=hand.pen * np.exp(rng.normal(0, 0.15)),
    )
    side, height = int(rng.integers(*SIDE)), rng.uniform(*HEIGHT)
    strokes = placed(strokes_of(shape, hand, rng), (side, side), height, rng)
    return encoded(1 - ink_of(strokes, (side, side), max(1.0, hand.pen * height * side), rng))


def write_folders(number: int, folder: Path) -> Digits:
    """Write the pictures of a hand into class folders; return others, as images."""
    hand, shapes = draw_hand(number)
    rng = np.random.default_rng([number, 1])
    images, labels = [], []
    for k, ways in shapes.items():
        (folder / str(k)).mkdir(parents=True)
        for i in range(N_PICTURES):
            (folder / str(k) / f"{i}.png").write_bytes(write(hand, rng.choice(ways), rng))
            with contextlib.suppress(InvalidImage):
                images.append(read_image(write(hand, rng.choice(ways), rng)))
                labels.append(k)
    return Digits(np.stack(images), np.array(labels, np.uint8))


def write_rows(digits: Digits, folder: Path) -> Digits:
    """Write the first pictures of each digit into class folders; return the others."""
    chosen = [np.flatnonzero(digits.labels == k)[:N_PICTURES] for k in range(10)]
    for k, rows in enumerate(chosen):
        (folder / str(k)).mkdir(parents=True)
        for i in rows:
            Image.fromarray(digits.images[i]).save(folder / str(k) / f"{i}.png")
    rest = np.setdiff1d(np.arange(len(digits)), np.concatenate(chosen))
    return Digits(digits.images[rest], digits.labels[rest])


def accuracy(classifier: Classifier, digits: Digits) -> float:
    """Return the share of digits that are read right and not refused."""
    scores = classifier.score(digits.images)
    right = scores.probabilities.argmax(axis=1) == digits.labels
    right[classifier.refused(scores)] = False
    return float(right.mean())


def main() -> None:
    """Print a line for each hand, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hands", type=int, default=10)
    n_hands = parser.parse_args().hands
    torch.set_num_threads(1)
    data = load_data(os.environ.get("DIGITS_MNIST", ""), cache_folder(os.environ))
    mnist, validation = data.test, data.train.rows(FIRST_VALIDATION, len(data.train))
    ways = {"shipped": None, "alone": [], "with --init": ["--init", str(EMBEDDED_WEIGHTS)]}
    print(f"{'hand':<6}" + "".join(f"{way:>12}{'MNIST':>8}" for way in ways))
    table = []
    for number in range(-1, n_hands):
        row = []
        with tempfile.TemporaryDirectory() as folder:
            own, path = Path(folder, "own"), Path(folder, "digits.safetensors")
            others = write_rows(validation, own) if number < 0 else write_folders(number, own)
            for flags in ways.values():
                if flags is None:
                    classifier = load(EMBEDDED_WEIGHTS)
                else:
                    given = ["--data", str(own), "--seed", str(max(number, 0)), *flags]
                    with contextlib.redirect_stdout(io.StringIO()):
                        if train([*given, "--output", str(path)]):
                            raise SystemExit(f"hand {number}: not trained")
                    classifier = load(path)
                row += [accuracy(classifier, others), accuracy(classifier, mnist)]
        table += [row] if number >= 0 else []
        name = "many" if number < 0 else str(number)
        print(f"{name:<6}" + "".join(f"{a:>12.3f}{m:>8.4f}" for a, m in _pairs(row)), flush=True)
    for name, summary in (("median", np.median), ("least", np.min)):
        pairs = _pairs(summary(table, axis=0).tolist())
        print(f"{name:<6}" + "".join(f"{a:>12.3f}{m:>8.4f}" for a, m in pairs))


def _pairs(row: list[float]) -> list[tuple[float, float]]:
    return list(zip(row[::2], row[1::2], strict=True))


if __name__ == "__main__":
    main()
