"""The descent as a picture: the path of each rule over the contours of J."""

import numpy as np
import torch
from torch import Tensor

from training.data import Digits
from training.gradients import of_sigmoid
from training.page import image, subplots, table
from training.rules import RULES
from training.surface import N_STEPS, RATES, minimum, one_feature, path_of, surface

GRID = 60  # points a side
N_CONTOURS = 14
MARGIN = 0.08  # of what is shown, around it


def draw_descents(first: int, second: int, digits: Digits) -> str:
    """Show how each rule finds the model of two parameters that tells two digits apart.

    digits: of the classes `first` and `second`, whose labels are 0 and 1
    """
    if len(np.unique(digits.labels)) < 2:
        return f"<p>There are no training rows of both {first} and {second}.</p>"
    phi, labels = one_feature(digits)
    paths = {rule: path_of(rule, phi, labels) for rule in RULES}
    ends = {rule: of_sigmoid(path[-1:], phi, labels)[0] for rule, path in paths.items()}
    lowest = minimum(phi, labels)
    if lowest is None:
        least = "J has no minimum: x tells the two apart, and J falls for ever."
    else:
        least = f"J is least, {of_sigmoid(lowest, phi, labels)[0]:.4f}, at the star."
    text = (
        f"σ(w x + b) tells {second} from {first}, the two digits confused most. Its "
        f"feature x is the ink where the average {second} has more than the average "
        f"{first}, in units of its mean. The lines are of equal J, the mean negative "
        f"log-likelihood of {len(digits):,} training digits. {least} From the white "
        f"point, where all are taken for {second}, each rule makes {N_STEPS} steps by "
        "the gradient of all these digits, to the red one: down into a valley, since w "
        "and b do nearly the same, and along it."
    )
    rows = [(rule, RATES[rule], f"{ends[rule]:.4f}") for rule in RULES]
    return (
        f"<p>{text}</p>"
        + table(("rule", "α", f"J after {N_STEPS} steps"), rows)
        + _draw(paths, lowest, phi, labels)
    )


def _draw(
    paths: dict[str, Tensor], lowest: Tensor | None, phi: Tensor, labels: Tensor
) -> str:
    shown = torch.vstack([*paths.values(), *([] if lowest is None else [lowest])])
    low, high = shown.min(dim=0).values, shown.max(dim=0).values
    margin = MARGIN * (high - low)
    w, b = (
        torch.linspace(start, end, GRID, dtype=phi.dtype)
        for start, end in zip(low - margin, high + margin, strict=True)
    )
    j = surface(w, b, phi, labels)
    heights = j.min() + (j.max() - j.min()) * torch.logspace(-3, 0, N_CONTOURS)
    figure, cells = subplots(columns=2, rows=-(-len(paths) // 2), size=(9, 8))
    for axes, (rule, path) in zip(cells, paths.items(), strict=False):
        axes.contour(w, b, j, heights, colors="silver", linewidths=0.8)
        if lowest is not None:
            axes.plot(*lowest[0], "*", c="black", ms=14)
        axes.plot(*path.T, ".-", lw=1.2, ms=4)
        axes.plot(*path[0], "o", c="black", mfc="white")
        axes.plot(*path[-1], "o", c="tab:red", ms=5)
        axes.set(title=rule, xlabel="w", ylabel="b")
    return image(figure, "the path of each rule over the contours of J")
