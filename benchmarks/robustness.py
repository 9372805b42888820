"""Accuracy on test digits as people would post them: every byte through the reading.

python -m benchmarks.robustness [--digits N] [--stretched FOLDER]
"""

import argparse
import io
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from service.classifier import Classifier, load
from service.features import IMAGE_SIZE, MAX_GREY, Images
from service.settings import EMBEDDED_WEIGHTS
from training.__main__ import main
from training.data.mnist import cache_folder
from training.job import load_data
from training.results.corruptions import CORRUPTIONS, corrupt, read_uploads

SEED = 3
SURE = 0.9


def measure(n: int, stretched: Path | None) -> None:
    """Print a row for each way of posting digits, and one for each other data set."""
    source = os.environ.get("DIGITS_MNIST", "")
    test = load_data(source, cache_folder(os.environ)).test
    step = len(test) // n
    images, labels = test.images[::step][:n], test.labels[::step][:n]
    default, pixels = load(EMBEDDED_WEIGHTS), _pixels()
    print(f"{n:,} of MNIST's test digits a row; a refusal counts as wrong; %")
    print(
        f"{'':<22}{'default':>9}{'pixels':>9}{'naive':>9}{'refused':>9}{'sure':>8}{'right':>8}"
    )
    rows = list(CORRUPTIONS.items())
    for name, corruption in tqdm(rows, disable=None, leave=False):
        _row(name, corrupt(images, corruption, SEED), labels, default, pixels)
    for path in sorted(stretched.glob("*.npz")) if stretched else ():
        with np.load(path) as arrays:
            uploads = corrupt(arrays["images"], CORRUPTIONS["none"], SEED)
            _row(path.stem, uploads, arrays["labels"], default, pixels)


def _pixels() -> Classifier:
    """Train the model that most tutorials serve, at its best."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.safetensors"
        main(["--recipe", "pixels", "--output", str(path)])
        return load(path)


def read_naively(upload: bytes) -> npt.NDArray[np.uint8]:
    """Read an upload as most tutorials do: grey, resized, inverted if bright."""
    with Image.open(io.BytesIO(upload)) as picture:
        levels = np.asarray(picture.convert("L").resize(IMAGE_SIZE))
    return MAX_GREY - levels if levels.mean() > MAX_GREY / 2 else levels


def _row(
    name: str,
    uploads: list[bytes],
    labels: Images,
    default: Classifier,
    pixels: Classifier,
) -> None:
    """Print the accuracies, and of the default's sure answers how many there are."""
    images, refused = read_uploads(uploads)
    naive = np.stack([read_naively(upload) for upload in uploads])
    probabilities = default.predict_proba(images)
    right = (probabilities.argmax(1) == labels) & ~refused
    sure = (probabilities.max(1) >= SURE) & ~refused
    figures = (
        right.mean(),
        ((pixels.predict_proba(images).argmax(1) == labels) & ~refused).mean(),
        (pixels.predict_proba(naive).argmax(1) == labels).mean(),
    )
    tqdm.write(
        f"{name:<22}"
        + "".join(f"{100 * figure:>9.1f}" for figure in figures)
        + f"{refused.sum():>9}{100 * sure.mean():>8.1f}{100 * right[sure].mean():>8.1f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness")
    parser.add_argument("--digits", type=int, default=1000, help="test digits a row")
    parser.add_argument(
        "--stretched", type=Path, help="a folder of .npz files with images and labels"
    )
    flags = parser.parse_args()
    measure(flags.digits, flags.stretched)
