"""The descent as a picture: the path of each rule over the contours of J."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from training.data.dataset import Digits
from training.gradients import of_sigmoid
from training.results.page import image, subplots, table
from training.results.surface import (
    N_STEPS,
    WAYS,
    minimum,
    one_feature,
    path_of,
    rates,
    surface,
)

GRID = 60  # points a side
N_CONTOURS = 14
LOOKS = (10, 30, N_STEPS)  # steps after which J is told
MARGIN = 0.08  # of what is shown, around it


def draw_descents(first: int, second: int, digits: Digits) -> str:
    """Show how rules find the model of two parameters that tells two digits apart.

    digits: of the classes `first` and `second`, whose labels are 0 and 1
    """
    if len(np.unique(digits.labels)) < 2:
        return f"<p>There are no training rows of both {first} and {second}.</p>"
    phi, labels = one_feature(digits)
    lowest = minimum(phi, labels)
    ways = [
        (rule, alpha, share, path_of(rule, alpha, phi, labels))
        for (rule, share), alpha in zip(WAYS, rates(lowest, phi), strict=True)
    ]
    if lowest is None:
        least = "J has no minimum: x tells the two apart, and J falls for ever."
    else:
        least = f"J is least, {of_sigmoid(lowest, phi, labels)[0]:.4f}, at the star."
    text = (
        f"σ(w x + b) tells {second} from {first}. Its feature x is the ink where the "
        f"average {second} has more than the average {first}, in units of its mean. "
        "The lines are of equal J, the mean negative log-likelihood of "
        f"{len(digits):,} training digits. {least} From the white point, where all are "
        f"taken for {second}, each rule makes {N_STEPS} steps by the gradient of all "
        "these digits, to the red one: down into a valley, since w and b do nearly the "
        "same, and along it. With L the largest curvature, descent crawls where α L is "
        "small, is quickest below 2, and beyond 2 leaps from side to side for ever. "
        "Momentum makes its steps up to 1 / (1 - β) = 10 times as long where they all "
        "lead the same way. Adam's α is the length of a step, whatever the slope."
    )
    rows = [
        (
            rule,
            f"{alpha:.2f}",
            share or "",
            *(f"{j:.4f}" for j in _losses(path, phi, labels)),
        )
        for rule, alpha, share, path in ways
    ]
    head = ("rule", "α", "α L", *(f"J after {n} steps" for n in LOOKS))
    titled = [(f"{rule}, α = {alpha:.2f}", path) for rule, alpha, _, path in ways]
    return f"<p>{text}</p>" + table(head, rows) + _draw(titled, lowest, phi, labels)


def _losses(path: Tensor, phi: Tensor, labels: Tensor) -> list[float]:
    return [of_sigmoid(path[n : n + 1], phi, labels)[0] for n in LOOKS]


def _draw(
    titled: Sequence[tuple[str, Tensor]],
    lowest: Tensor | None,
    phi: Tensor,
    labels: Tensor,
) -> str:
    paths = [path for _, path in titled]
    shown = torch.vstack([*paths, *([] if lowest is None else [lowest])])
    low, high = shown.min(dim=0).values, shown.max(dim=0).values
    margin = MARGIN * (high - low)
    w, b = (
        torch.linspace(start, end, GRID, dtype=phi.dtype)
        for start, end in zip(low - margin, high + margin, strict=True)
    )
    j = surface(w, b, phi, labels)
    heights = j.min() + (j.max() - j.min()) * torch.logspace(-3, 0, N_CONTOURS)
    figure, cells = subplots(columns=3, rows=-(-len(paths) // 3), size=(10, 6.5))
    for axes, (title, path) in zip(cells, titled, strict=False):
        axes.contour(w, b, j, heights, colors="silver", linewidths=0.8)
        if lowest is not None:
            axes.plot(*lowest[0], "*", c="black", ms=14)
        axes.plot(*path.T, ".-", lw=1.2, ms=4)
        axes.plot(*path[0], "o", c="black", mfc="white")
        axes.plot(*path[-1], "o", c="tab:red", ms=5)
        axes.set_title(title, fontsize=10)
        axes.set(xlabel="w", ylabel="b")
    return image(figure, "the path of each rule over the contours of J")
