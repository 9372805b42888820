"""Training rows of corrected digits."""

import math

import numpy as np
import torch

from training.data.dataset import Digits
from training.design.augment import AUGMENTATIONS, augment

SHARE = 0.03  # of the other training rows: what few corrections count together
MAX_COPIES = 500  # of each correction


def weighted(digits: Digits, n_rows: int, seed: int) -> Digits:
    """Return corrected digits with augmented copies, for n_rows other training rows.

    They count SHARE of these together, as far as MAX_COPIES of each allow.
    """
    n_copies = min(MAX_COPIES, math.ceil(SHARE * n_rows / len(digits)))
    generator = torch.Generator().manual_seed(seed)
    every = [AUGMENTATIONS[i % len(AUGMENTATIONS)] for i in range(n_copies - 1)]
    copies = [augment(digits.images, limits, generator) for limits in every]
    return Digits(np.concatenate([digits.images, *copies]), np.tile(digits.labels, n_copies))
