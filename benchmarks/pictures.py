"""The pictures of docs/tutorial.md: a sweep of learning rates, and paths of rules.

python -m benchmarks.pictures    (the committed ones are of MNIST)
"""

import io
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.uploads import MNIST_FOLDER, find_mnist
from service.features import pixels
from training.__main__ import main as job
from training.data.dataset import Digits
from training.data.synthetic import draw_digits
from training.gradients import of_sigmoid
from training.results.plots import subplots
from training.results.sweep import PLOT
from training.rules import RULES

DOCS = Path(__file__).parent.parent / "docs"
PAIR = (4, 9)  # the digits that the default model confuses most
START = (0.0, 4.0)  # (w, b): every row is the second class with probability 0.98
N_STEPS = 100
# A rule and its α L, where L is the largest curvature of J at its minimum. Descent
# diverges from α L = 2. Adam's α is the length of a step, whatever the curvature.
ROUTES = (
    ("descent", 0.2),
    ("descent", 1.7),
    ("descent", 2.3),
    ("momentum", 0.2),
    ("nesterov", 0.2),
    ("adam", None),
)
ADAM_ALPHA = 0.3
NEWTON_STEPS = 30
GRID = 60  # points of the contour plot per side
N_CONTOURS = 14
MARGIN = 0.08  # around the paths, of their extent
DPI = 110


def draw_rates() -> None:
    """Sweep the learning rates of the tutorial's recipe and copy the plot."""
    data = str(MNIST_FOLDER) if find_mnist() else "synthetic"
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--recipe", "article", "--data", data, "--output", folder]
        if job(["sweep", *flags]) == 0:
            shutil.copy(Path(folder, PLOT), DOCS / "rates.svg")


def draw_descents(digits: Digits, path: Path) -> None:
    """Draw the path of each rule over the contours of J, for digits of two classes."""
    phi, labels = one_feature(digits)
    lowest = minimum(phi, labels)
    routes = [(rule, alpha_of(share, lowest, phi)) for rule, share in ROUTES]
    paths = [path_of(rule, alpha, phi, labels) for rule, alpha in routes]
    w, b = grid([*paths, lowest])
    j = surface(w, b, phi, labels)
    heights = j.min() + (j.max() - j.min()) * torch.logspace(-3, 0, N_CONTOURS)
    figure, cells = subplots(columns=3, rows=2, size=(10, 6.5))
    for axes, (rule, alpha), theta in zip(cells, routes, paths, strict=True):
        axes.contour(w, b, j, heights, colors="silver", linewidths=0.8)
        axes.plot(*lowest[0], "*", c="black", ms=14)
        axes.plot(*theta.T, ".-", lw=1.2, ms=4)
        axes.plot(*theta[0], "o", c="black", mfc="white")
        axes.plot(*theta[-1], "o", c="tab:red", ms=5)
        axes.set_title(f"{rule}, α = {alpha:.2f}", fontsize=10)
        axes.set(xlabel="w", ylabel="b")
    file = io.BytesIO()
    figure.savefig(file, dpi=DPI)
    # 256 colours need a quarter of the bytes
    Image.open(file).convert("RGB").quantize().save(path, optimize=True)


def one_feature(digits: Digits) -> tuple[Tensor, Tensor]:
    """Describe digits of the classes 0 and 1 by one feature: Φ (n, 2), labels (n,).

    x is the ink where the average of class 1 has more of it than that of class 0, in
    units of its mean. It is not centred: in σ(w x + b) a larger w does nearly what a
    larger b does, and J is a long valley.
    """
    ink, labels = pixels(digits.images), digits.labels
    first, second = (ink[labels == label].mean(axis=0) for label in (0, 1))
    x = (ink @ np.maximum(second - first, 0)).astype(np.float64)
    phi = np.column_stack([x / x.mean(), np.ones_like(x)])
    return torch.from_numpy(phi), torch.from_numpy(labels.astype(np.int64))


def alpha_of(share: float | None, lowest: Tensor, phi: Tensor) -> float:
    """Return α, given α L, by the curvature L at the minimum."""
    largest = torch.linalg.eigvalsh(hessian(lowest, phi))[-1].item()
    return share / largest if share else ADAM_ALPHA


def path_of(rule: str, alpha: float, phi: Tensor, labels: Tensor) -> Tensor:
    """Follow a rule from START by the gradient of all rows: θ (N_STEPS + 1, 2)."""
    theta = torch.tensor([START], dtype=phi.dtype)
    update, n_memory = RULES[rule]
    memory = [torch.zeros_like(theta) for _ in range(n_memory)]
    path = [theta.clone()]
    for t in range(1, N_STEPS + 1):
        _, g = of_sigmoid(theta, phi, labels)
        update(theta, g, alpha, t, *memory)
        path.append(theta.clone())
    return torch.vstack(path)


def minimum(phi: Tensor, labels: Tensor) -> Tensor:
    """Compute the θ (1, 2) of the least J by Newton's steps θ ← θ - H⁻¹ ∂J/∂θ.

    Bishop, PRML, eq. 4.92
    """
    theta = phi.new_zeros(1, 2)
    for _ in range(NEWTON_STEPS):
        _, g = of_sigmoid(theta, phi, labels)
        theta = theta - torch.linalg.solve(hessian(theta, phi), g[0])
    return theta


def hessian(theta: Tensor, phi: Tensor) -> Tensor:
    """Compute ∂²J/∂θ² (2, 2) at θ (1, 2): Φᵀ R Φ / N, with R = y (1 - y) of each row.

    Bishop, PRML, eq. 4.97 (there a sum)
    """
    y = (theta @ phi.T).sigmoid()
    return (y * (1 - y) / len(phi) * phi.T) @ phi


def grid(paths: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return GRID values of w and of b that cover points (n, 2) with a margin."""
    shown = torch.vstack(list(paths))
    low, high = shown.min(dim=0).values, shown.max(dim=0).values
    margin = MARGIN * (high - low)
    steps = torch.linspace(0, 1, GRID, dtype=shown.dtype)[:, None]
    w, b = ((low - margin) + steps * (high - low + 2 * margin)).T
    return w, b


def surface(w: Tensor, b: Tensor, phi: Tensor, labels: Tensor) -> Tensor:
    """Compute J over a grid of w (m,) and b (n,): (n, m)."""
    rows = [[of_sigmoid(torch.stack([x, y])[None], phi, labels)[0] for x in w] for y in b]
    return torch.tensor(rows)


if __name__ == "__main__":
    data = find_mnist() or draw_digits()
    draw_rates()
    draw_descents(data.train.of_classes(PAIR), DOCS / "descents.png")
