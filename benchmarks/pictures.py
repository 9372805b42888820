"""The pictures of training/README.md: what learning rates do, and how rules descend.

python -m benchmarks.pictures    (with MNIST, for the ones that are shown)
"""

import base64
import re
import shutil
import tempfile
from pathlib import Path

import matplotlib

from benchmarks.uploads import MNIST_FOLDER, find_mnist
from training.__main__ import main as job
from training.data.synthetic import draw_digits
from training.results.contours import draw_descents
from training.results.sweep import PLOT

DOCS = Path(__file__).parent.parent / "docs"
PAIR = (4, 9)  # which the default model confuses the most


def draw_rates() -> None:
    """Sweep the tutorial's recipe over learning rates; keep the plot."""
    data = str(MNIST_FOLDER) if find_mnist() else "synthetic"
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--recipe", "article", "--data", data, "--output", folder]
        if job(["sweep", *flags]) == 0:
            shutil.copy(Path(folder, PLOT), DOCS / "rates.svg")


def draw_rules() -> None:
    """Draw the report's picture of the descents on a pair of digits."""
    matplotlib.use("svg")
    data = find_mnist() or draw_digits()
    section = draw_descents(*PAIR, data.train.of_classes(PAIR))
    picture = re.search(r'base64,([^"]+)"', section)[1]
    (DOCS / "descents.svg").write_bytes(base64.b64decode(picture))


if __name__ == "__main__":
    draw_rates()
    draw_rules()
