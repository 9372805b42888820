"""The second descent: logistic regressions of whether an image is a digit."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from service.classifier import Classifier, Detector
from training.descent import Batch, Step, fit, start
from training.design.rows import Rows
from training.gradients import by_autograd
from training.losses import detection_cross_entropy
from training.recipes import Recipe
from training.runs.progress import Diverged

DRAWN = 0.125  # of the rows of digits: rare shapes must stay digits
# The rows are digits and non-digits in equal numbers; of the pictures that are sent to a
# service of digits, this share are digits.
PRIOR = 0.75
INT8_MAX = 127
# the share of validation digits that may fall below the threshold
REFUSED = 0.001


@dataclass(frozen=True, eq=False)
class Mixture:
    """Rows of non-digits, and as many of the rows of digits, at random.

    A non-digit's label is 0; 1 stands for a digit among them.
    """

    others: Rows
    digits: Rows
    chosen: Tensor  # indices (n,) of rows of digits

    def __len__(self) -> int:
        return len(self.others) + len(self.chosen)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (n, D + 1) and whether they are a digit's (n,), by indices."""
        n = len(self.others)
        t = rows >= n
        others, is_digit = self.others.batch(rows[~t])
        digits, _ = self.digits.batch(self.chosen[rows[t] - n])
        return torch.cat([others, digits]), torch.cat([is_digit, t[t].long()])


def mixed(digits: Rows, others: Rows, drawn: range, n_drawn: int, seed: int) -> Mixture:
    """Choose rows of digits for rows of non-digits, which get the digits' centre.

    drawn: rows of synthetic digits; the first n_drawn of them are used as far as they fit
    into the share DRAWN, the others never. All other rows are chosen at random.
    """
    generator = torch.Generator().manual_seed(seed)
    rest = torch.cat([torch.arange(drawn.start), torch.arange(drawn.stop, len(digits))])
    rest = rest[torch.randperm(len(rest), generator=generator)]
    some = torch.arange(drawn.start, drawn.start + min(n_drawn, int(DRAWN * len(others))))
    others = dataclasses.replace(others, centre=digits.centre, device=digits.device)
    return Mixture(others, digits, torch.cat([some, rest])[: len(others)])


def fit_detector(classifier: Classifier, mixture: Mixture, recipe: Recipe, seed: int) -> Detector:
    """Minimise the cross-entropy of being a digit, by the recipe; leave the threshold 0.

    θ (1 + K, D + 1) starts at 0: its first row counts for every image, the others for
    those that are read as class k. Raises Diverged if it is not finite.
    """
    gradient = by_autograd(detection_cross_entropy)
    d, k = classifier.weight.shape
    device = mixture.digits.device
    centre = torch.zeros(d + 1) if mixture.digits.centre is None else mixture.digits.centre.cpu()
    weight = torch.from_numpy(classifier.weight)
    bias = torch.from_numpy(classifier.bias) + centre[:-1] @ weight
    reader = torch.vstack([weight, bias]).T.to(device)  # (K, D + 1)

    def of_batch(theta: Tensor, batch: Batch) -> tuple[float, Tensor]:
        rows = torch.arange(len(mixture))[batch] if isinstance(batch, slice) else batch
        phi, is_digit = mixture.batch(rows)
        read = (reader @ phi.T).argmax(dim=0)
        return gradient(theta, phi, 2 * read + is_digit.to(device))

    state = start(torch.zeros(1 + k, d + 1, device=device), recipe.rule)
    with tqdm(unit="step", desc="P(digit)", disable=None, leave=False) as bar:

        def watch(step: Step) -> None:
            bar.total = step.n_steps
            bar.update()

        fit(state, of_batch, len(mixture), recipe, seed, watch=watch)
    theta = (state.theta[:1] + state.theta[1:]).cpu()
    if not theta.isfinite().all():
        raise Diverged("the weights of P(digit) are not finite", recipe.learning_rate)
    return to_detector(theta, centre)


def to_detector(theta: Tensor, centre: Tensor) -> Detector:
    """Round the weights of θ (K, D + 1) to int8; fold the centre (D + 1,) and PRIOR in.

    With π = PRIOR in place of one half, the logit rises by log(π / (1 - π)).
    """
    largest = theta[:, :-1].abs().amax(dim=1, keepdim=True).clamp(min=1e-12)
    scale = largest / INT8_MAX
    weight = (theta[:, :-1] / scale).round()
    bias = theta[:, -1] - (weight * scale) @ centre[:-1] + np.log(PRIOR / (1 - PRIOR))
    arrays = weight.to(torch.int8).numpy(), scale[:, 0].numpy(), bias.float().numpy()
    return Detector(*arrays, threshold=0.0)


def with_threshold(detector: Detector, is_digit: npt.NDArray[np.float64]) -> Detector:
    """Refuse the share REFUSED of the validation digits, whose P(digit) is given (n,)."""
    threshold = float(np.quantile(is_digit, REFUSED, method="lower"))
    return dataclasses.replace(detector, threshold=float(f"{threshold:.3g}"))
