"""A new fit of the logistic regression that a wide shape is several digits, not one.

python -m benchmarks.several [--pairs N] [--singles N]

The shapes are pairs of touching digits and corrupted single digits of MNIST's validation
rows. The test digits judge the service's weights and the fit, whose bias takes as many single
digits of the validation rows for several as the service does.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.binary import fitted
from benchmarks.number_pictures import RENDERINGS, draw_number
from benchmarks.scenes import SCENES
from service.classifier import Classifier, Floats, load
from service.images import InvalidImage
from service.number import read_one, refusals
from service.settings import EMBEDDED_WEIGHTS
from training.data.dataset import Digits
from training.data.mnist import cache_folder
from training.data.sources import load_data
from training.job import VALIDATION_SHARE
from training.results.corruptions import CORRUPTIONS, corrupt

SEED = 11


class Shapes(NamedTuple):
    """The evidence of the wide shapes, of how many pictures."""

    evidence: Floats  # (n, 6), the last column 1
    n_pictures: int


def main(n_pairs: int, n_singles: int) -> None:
    """Print the weights of the service and of a new fit, and what the test digits say."""
    torch.set_num_threads(1)
    classifier = load(EMBEDDED_WEIGHTS)
    data = load_data(os.environ.get("DIGITS_MNIST", ""), cache_folder(os.environ))
    _, validation = data.train.parted(VALIDATION_SHARE, seed=0)
    pairs = shapes(_pairs(validation, n_pairs), classifier)
    singles = shapes(_singles(validation, n_singles), classifier)
    service = refusals.SEVERAL_WEIGHTS
    new = fitted_weights(pairs, singles, n_several(singles, service))
    print(f"fitted to {len(pairs.evidence):,} wide pairs and {len(singles.evidence):,} digits")
    pairs = shapes(_pairs(data.test, n_pairs), classifier)
    singles = shapes(_singles(data.test, n_singles), classifier)
    for name, weights in (("service", service), ("fitted", new)):
        print(
            f"{name:<8} {np.round(weights, 2).tolist()}: several are "
            f"{n_several(pairs, weights):,} of {len(pairs.evidence):,} wide pairs, and "
            f"{n_several(singles, weights):,} of {singles.n_pictures:,} digits"
        )


def n_several(shapes: Shapes, weights: Floats) -> int:
    """Count the shapes that are several digits by weights (6,)."""
    return int((shapes.evidence @ weights > 0).sum())


def fitted_weights(pairs: Shapes, singles: Shapes, n_refused: int) -> Floats:
    """Return the weights (6,), with the bias at which n_refused of the single digits are several.

    Single digits with a wide shape are few, so that each is repeated until both classes have
    about as many rows. Descends on standardised columns; the weights returned are of those as
    they were.
    """
    repeated = singles.evidence.repeat(len(pairs.evidence) // len(singles.evidence), axis=0)
    table = np.concatenate([pairs.evidence, repeated])[:, :-1]
    mean, deviation = table.mean(axis=0), table.std(axis=0)
    standardised = np.column_stack([(table - mean) / deviation, np.ones(len(table))])
    labels = torch.arange(len(table)) < len(pairs.evidence)
    theta = fitted(torch.from_numpy(standardised).float(), labels.long(), SEED)
    slopes = theta[0, :-1].double().numpy() / deviation
    z = np.sort(singles.evidence[:, :-1] @ slopes)[::-1]
    return np.append(slopes, -z[n_refused])


def shapes(uploads: list[bytes], classifier: Classifier) -> Shapes:
    """Read the uploads, and return what was weighed of those with a wide shape."""
    with _recorded() as evidence:
        for upload in tqdm(uploads, disable=None, leave=False):
            with suppress(InvalidImage):
                read_one(upload, classifier)
        return Shapes(np.array(evidence).reshape(-1, len(refusals.SEVERAL_WEIGHTS)), len(uploads))


@contextmanager
def _recorded() -> Iterator[list[Floats]]:
    """Record each evidence that the service computes."""
    evidence: list[Floats] = []
    names, compute = vars(refusals), refusals.evidence_of_several

    def record(*arguments: Any) -> Floats:
        evidence.append(compute(*arguments))
        return evidence[-1]

    names[compute.__name__] = record
    try:
        yield evidence
    finally:
        names[compute.__name__] = compute


def _pairs(digits: Digits, n: int) -> list[bytes]:
    """Draw two digits that touch, as each rendering in turn."""
    rng = np.random.default_rng(SEED)
    renderings = list(RENDERINGS.values())
    inks = (draw_number(digits, 2, rng, touching=True).ink for _ in range(n))
    return [renderings[i % len(renderings)](ink, rng) for i, ink in enumerate(inks)]


def _singles(digits: Digits, n: int) -> list[bytes]:
    """Corrupt n digits, with each corruption and in each scene in turn."""
    kinds = [*CORRUPTIONS.values(), *SCENES.values()]
    n_each = n // len(kinds)
    images = np.array_split(digits.images[: n_each * len(kinds)], len(kinds))
    pairs = zip(images, kinds, strict=True)
    return [upload for some, kind in pairs for upload in corrupt(some, kind, SEED)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.several")
    parser.add_argument("--pairs", type=int, default=2_400, help="pairs to fit, and to judge")
    parser.add_argument("--singles", type=int, default=8_400, help="single digits, likewise")
    flags = parser.parse_args()
    main(flags.pairs, flags.singles)
