"""Pictures of no digit: what `probability × is_digit` accepts, and what it costs digits.

python -m benchmarks.nondigits [--model FILE] [--omniglot ZIP] [--digits FOLDER]
    [--plot FILE]

The score of a picture is its probability × is_digit, or 0 if no digit was found in it.
None of the hands and shapes here draws training data.
"""

import argparse
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.hands import Hand, Points, any_hand, ink_of, placed, strokes_of
from service.classifier import Classifier, load
from service.features import Images
from service.number import read_one
from service.settings import EMBEDDED_WEIGHTS
from training.data.dataset import Digits
from training.data.mnist import cache_folder
from training.data.sources import load_data
from training.results import plots
from training.results.corruptions import CORRUPTIONS, corrupt, encoded, read_uploads
from training.results.evaluation import digit_probabilities, probabilities, refused

SEED = 8
SURE = 0.9  # of probability × is_digit
SIDE, HEIGHT = (70, 240), (0.5, 0.85)  # pixels of a canvas; of its side
CROP = (40, 200)  # pixels of a photo
LIMITS = (0.01, 0.5, 0.9, 0.99)  # of the score
HEADS = ("pictures", "p ≥ 0.9", "score ≥ 0.9", "refused")
PHOTOS = ("grace_hopper.jpg", "Minduka_Present_Blue_Pack.png", "logo2.png")

LETTERS = """
A 0,100 | 50,0 | 98,100 / 22,64 78,62
A 2,100 | 44,2 60,4 | 96,100 / 14,58 84,58
C 88,16 60,0 22,10 6,50 20,90 58,100 90,84
E 88,0 | 10,2 | 8,98 | 92,100 / 10,48 72,46
F 90,2 | 12,0 | 10,100 / 12,46 70,46
G 86,18 58,0 20,12 6,50 22,92 62,100 88,84 | 90,56 | 56,56
H 12,0 10,100 / 88,0 86,100 / 12,52 86,48
J 40,2 94,0 / 70,0 70,68 54,98 26,96 10,76
K 12,0 12,100 / 84,2 | 16,56 | 92,100
L 14,0 | 12,98 | 84,100
M 2,100 | 14,0 | 50,66 | 86,0 | 98,100
N 8,100 | 10,0 | 88,100 | 90,0
P 12,100 | 12,2 56,0 88,22 62,48 14,54
Q 52,0 14,20 10,72 50,100 90,74 86,22 52,0 / 60,70 98,106
R 12,100 | 12,2 58,0 86,22 58,46 14,50 | 90,100
T 0,2 100,0 / 52,0 50,100
U 10,0 12,66 34,98 66,98 88,66 90,0
V 2,0 | 50,100 | 98,0
W 0,0 | 24,100 | 50,30 | 76,100 | 100,0
X 4,0 96,100 / 94,2 6,100
Y 4,0 | 50,48 | 96,0 / 50,48 50,100
a 78,22 44,2 14,34 16,80 46,98 76,70 | 80,4 | 82,84 98,98
d 76,50 44,40 12,66 36,98 74,78 / 80,0 80,84 96,98
e 8,56 | 90,50 70,8 28,10 8,52 30,96 88,86
f 86,14 62,0 44,22 42,100 / 16,44 76,42
h 14,0 12,100 / 14,66 44,42 74,54 78,98
k 14,0 12,100 / 76,38 | 16,70 | 82,100
m 4,10 6,100 / 6,40 28,10 48,36 48,100 / 48,40 74,8 94,36 96,100
n 10,8 12,100 / 12,42 46,4 82,30 84,100
p 14,0 12,120 / 14,20 48,0 86,28 52,66 14,52
r 20,6 22,100 / 22,46 46,10 82,18
t 48,0 46,80 64,98 86,88 / 14,28 84,28
u 8,0 12,76 44,98 78,66 | 82,0 | 84,84 100,98
w 2,0 20,92 48,40 74,92 98,0
x 6,2 94,100 / 92,0 8,98
""".strip().splitlines()
SIGNS = """
+ 50,6 50,94 / 4,50 96,52
= 2,30 98,28 / 2,70 98,72
? 12,24 40,0 82,20 52,52 50,74 / 50,94 52,98
! 50,0 52,70 / 51,92 53,100
# 34,0 24,100 / 74,0 64,100 / 2,34 98,34 / 0,68 96,66
% 26,2 6,22 26,42 46,22 26,2 / 90,2 12,98 / 76,58 56,78 76,98 96,78 76,58
& 92,98 34,38 40,2 62,20 14,62 24,96 60,92 92,54
* 50,4 50,96 / 8,26 92,74 / 92,26 8,74
> 6,6 | 94,50 | 6,94
→ 0,50 98,50 / 66,22 | 100,50 | 66,80
↑ 50,100 50,2 / 22,34 | 50,0 | 78,34
✓ 2,58 | 36,100 | 98,2
♥ 50,28 24,2 2,30 28,70 50,100 | 74,70 98,30 76,2 50,28
★ 50,0 | 80,100 | 0,38 | 100,38 | 20,100 | 50,0
☺ 50,0 8,22 8,78 50,100 92,78 92,22 50,0 / 34,34 36,38 / 64,34 66,38 / 28,62 50,78 72,62
△ 50,0 | 100,96 | 0,96 | 50,0
□ 0,0 | 160,0 | 160,100 | 0,100 | 0,0
◇ 50,0 | 96,50 | 50,100 | 4,50 | 50,0
⬠ 50,0 | 100,38 | 80,100 | 20,100 | 0,38 | 50,0
@ 50,50 60,40 64,58 42,66 32,44 56,24 82,46 70,84 30,88 8,50 30,8 78,6
\\ 4,20 96,84
W 0,40 | 20,66 | 40,36 | 60,66 | 80,36 | 100,64
""".strip().splitlines()

Drawing = Callable[[np.random.Generator], bytes]


def _written(shapes: list[str]) -> Drawing:
    def draw(rng: np.random.Generator) -> bytes:
        hand = any_hand(rng)
        return _on_canvas(strokes_of(str(rng.choice(shapes)), hand, rng), hand, rng)

    return draw


def _scribbled(rng: np.random.Generator) -> bytes:
    n = int(rng.integers(6, 18))
    shape = " ".join(f"{x:.0f},{y:.0f}" for x, y in rng.uniform(0, 100, (n, 2)))
    hand = any_hand(rng)
    return _on_canvas(strokes_of(f"~ {shape}", hand, rng), hand, rng)


def _on_canvas(strokes: list[Points], hand: Hand, rng: np.random.Generator) -> bytes:
    side, height = int(rng.integers(*SIDE)), rng.uniform(*HEIGHT)
    strokes = placed(strokes, (side, side), height, rng)
    ink = ink_of(strokes, (side, side), max(1.0, hand.pen * height * side), rng)
    return encoded(ink if rng.random() < 0.3 else 1 - ink)


def _photo_crop(rng: np.random.Generator) -> bytes:
    """Crop a picture that matplotlib carries as an example."""
    folder = Path(matplotlib.get_data_path()) / "sample_data"
    picture = Image.open(folder / str(rng.choice(PHOTOS))).convert("RGB")
    side = min(int(rng.integers(*CROP)), *picture.size)
    x, y = (int(rng.integers(1 + length - side)) for length in picture.size)
    return encoded(np.asarray(picture.crop((x, y, x + side, y + side))) / 255)


DRAWINGS: dict[str, Drawing] = {
    "letters": _written(LETTERS),
    "signs and shapes": _written(SIGNS),
    "scribbles": _scribbled,
    "crops of photos": _photo_crop,
}


class Scored(NamedTuple):
    """What a model answers to n pictures: arrays (n,)."""

    read: npt.NDArray[np.integer]
    probability: npt.NDArray[np.float64]  # 0 if no digit was found in the picture
    score: npt.NDArray[np.float64]  # probability × is_digit
    refused: npt.NDArray[np.bool_]  # not read, or is_digit is below the threshold


def _scored(
    classifier: Classifier, images: Images, unread: npt.NDArray[np.bool_] | None = None
) -> Scored:
    """Score images (n, 28, 28), some of which stand for pictures that were not read."""
    unread = np.zeros(len(images), bool) if unread is None else unread
    p, is_digit = probabilities(classifier, images), digit_probabilities(classifier, images)
    probability = np.where(unread, 0, p.max(axis=1))
    is_refused = refused(classifier, images) | unread
    return Scored(p.argmax(axis=1), probability, probability * is_digit, is_refused)


def auroc(positive: npt.NDArray[np.float64], negative: npt.NDArray[np.float64]) -> float:
    """Return the probability that a positive score exceeds a negative one."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left")
    equal = np.searchsorted(ordered, positive, "right") - below
    return float((below + equal / 2).mean() / len(negative))


def measure(flags: argparse.Namespace) -> None:
    """Print what is accepted of no digits, what digits are refused, and the coverage."""
    classifier = load(flags.model)
    read = partial(read_one, classifier=classifier)
    test = load_data(os.environ.get("DIGITS_MNIST", ""), cache_folder(os.environ)).test
    digits = _scored(classifier, test.images)
    uploads = {name: _drawn(drawing, flags.drawn) for name, drawing in DRAWINGS.items()}
    if flags.omniglot:
        uploads["Omniglot"] = omniglot(flags.omniglot, flags.characters)
    print(("{:<24}" + 5 * "{:>12}").format("no digits", *HEADS, "AUROC"))
    others = []
    for name, files in uploads.items():
        others.append(_scored(classifier, *read_uploads(files, read)))
        area = auroc(digits.score, others[-1].score)
        print(_line(name, others[-1]) + f"{100 * area:>12.2f}")
    print(("\n{:<24}" + 4 * "{:>12}").format("digits", *HEADS))
    print(_line("MNIST test", digits))
    for name, files in _corrupted(test.rows(0, flags.corrupted), flags.digits):
        print(_line(name, _scored(classifier, *read_uploads(files, read))))
    score = np.concatenate([digits.score, *(each.score for each in others)])
    right = np.zeros(len(score), bool)
    right[: len(test)] = digits.read == test.labels
    print(f"\nMNIST test and {len(score) - len(test):,} pictures of no digit, which are wrong")
    for limit in LIMITS:
        kept = score >= limit
        shares = 100 * kept.mean(), 100 * right[kept].mean()
        print("score ≥ {:<5}{:>6.1f} % answered, {:.2f} % right".format(limit, *shares))
    if flags.plot:
        plots.coverage_curve(score, right).savefig(flags.plot, metadata={"Software": None})


def _line(name: str, scored: Scored) -> str:
    shares = (scored.probability >= SURE, scored.score >= SURE, scored.refused)
    figures = "".join(f"{100 * share.mean():>12.2f}" for share in shares)
    return f"{name:<24}{len(scored.read):>12,}{figures}"


def _drawn(drawing: Drawing, n: int) -> list[bytes]:
    rng = np.random.default_rng(SEED)
    return [drawing(rng) for _ in range(n)]


def omniglot(path: Path, n: int) -> list[bytes]:
    """Read about n pictures at equal distances from Omniglot's zip."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        return [archive.read(name) for name in names[:: max(1, len(names) // n)]]


def _corrupted(test: Digits, folder: Path | None) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the name and the uploads of each corruption, and of each file of a folder."""
    for name, corruption in CORRUPTIONS.items():
        yield name, corrupt(test.images, corruption, SEED)
    for path in sorted(folder.glob("*.npz")) if folder else ():
        with np.load(path) as arrays:
            yield path.stem, corrupt(arrays["images"], CORRUPTIONS["none"], SEED)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nondigits")
    parser.add_argument("--model", type=Path, default=EMBEDDED_WEIGHTS, help="weights to measure")
    parser.add_argument("--drawn", type=int, default=300, help="pictures per kind")
    parser.add_argument("--corrupted", type=int, default=300, help="test digits per corruption")
    parser.add_argument("--omniglot", type=Path, help="zip of Omniglot's pictures")
    parser.add_argument("--characters", type=int, default=4000, help="of Omniglot, at most about")
    parser.add_argument("--digits", type=Path, help="folder of .npz files with array `images`")
    parser.add_argument("--plot", type=Path, help="write the coverage curve to this file")
    measure(parser.parse_args())
