"""Validation digits as the service sees them in uploads: augmented and read again."""

import numpy as np
import torch

from service.images import InvalidImage, read_levels
from training.data.dataset import Digits
from training.design.augment import AUGMENTATIONS, augment

N_DIGITS = 1_000  # validation digits that are rendered, each once per augmentation


def as_uploads(digits: Digits) -> Digits:
    """Return the first N_DIGITS digits and a copy of them for each of AUGMENTATIONS.

    The copies are read as uploads; those that are refused are left out.
    """
    some = digits.rows(0, N_DIGITS)
    generator = torch.Generator().manual_seed(0)
    copies = [augment(some.images, limits, generator) for limits in AUGMENTATIONS]
    images, kept = [*some.images], [*range(len(some))]
    for i, levels in enumerate(np.concatenate(copies)):
        try:
            images.append(read_levels(levels))
        except InvalidImage:
            continue
        kept.append(i % len(some))
    return Digits(np.stack(images), some.labels[kept])
