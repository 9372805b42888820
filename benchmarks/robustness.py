"""Accuracy on corrupted test digits, such as scans, photos and drawings, as uploads.

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
from training.data.sources import load_data
from training.results.corruptions import CORRUPTIONS, corrupt, read_uploads

SEED = 3
CONFIDENT = 0.9  # probability


def measure(n: int, stretched: Path | None) -> None:
    """Print one row per corruption of the test digits and per stretched data set."""
    source = os.environ.get("DIGITS_MNIST", "")
    test = load_data(source, cache_folder(os.environ)).test
    step = len(test) // n
    images, labels = test.images[::step][:n], test.labels[::step][:n]
    default, pixels = load(EMBEDDED_WEIGHTS), _pixels()
    print(
        f"{n:,} of MNIST's test digits per row; accuracies in %, refusals are wrong;\n"
        f"confident: % with p >= {CONFIDENT}, correct: % of the confident ones"
    )
    heads = ("default", "pixels", "naive", "refused", "confident", "correct")
    print(f"{'':<22}" + "".join(f"{head:>10}" for head in heads))
    rows = list(CORRUPTIONS.items())
    for name, corruption in tqdm(rows, disable=None, leave=False):
        _row(name, corrupt(images, corruption, SEED), labels, default, pixels)
    for path in sorted(stretched.glob("*.npz")) if stretched else ():
        with np.load(path) as arrays:
            uploads = corrupt(arrays["images"], CORRUPTIONS["none"], SEED)
            _row(path.stem, uploads, arrays["labels"], default, pixels)


def _pixels() -> Classifier:
    """Return a model trained on raw pixels, as most tutorials serve."""
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
    name: str, uploads: list[bytes], labels: Images, default: Classifier, pixels: Classifier
) -> None:
    """Print the accuracies, and how often the default model is confident."""
    images, refused = read_uploads(uploads)
    naive = np.stack([read_naively(upload) for upload in uploads])
    probabilities = default.predict_proba(images)
    correct = (probabilities.argmax(1) == labels) & ~refused
    confident = (probabilities.max(1) >= CONFIDENT) & ~refused
    figures = (
        correct.mean(),
        ((pixels.predict_proba(images).argmax(1) == labels) & ~refused).mean(),
        (pixels.predict_proba(naive).argmax(1) == labels).mean(),
    )
    tqdm.write(
        f"{name:<22}"
        + "".join(f"{100 * figure:>10.1f}" for figure in figures)
        + f"{refused.sum():>10}{100 * confident.mean():>10.1f}"
        + f"{100 * correct[confident].mean():>10.1f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness")
    parser.add_argument("--digits", type=int, default=1000, help="test digits per row")
    parser.add_argument(
        "--stretched", type=Path, help="folder of .npz files with arrays `images` and `labels`"
    )
    flags = parser.parse_args()
    measure(flags.digits, flags.stretched)
