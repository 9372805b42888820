"""Logistic regression, multinomial and binary, and its weights file."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite, tanh
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from service.features import FEATURES, n_features

FORMATS = ("1", "2")  # without and with a detector
ARRAYS = ["bias", "weight"]
DETECTOR_ARRAYS = ["digit_bias", "digit_scale", "digit_weight"]
ALL_CLASSES = tuple(range(10))
MAX_WEIGHTS_BYTES = 16 * 2**20
MAX_WEIGHT = 1e6  # in absolute value: sums of larger ones may not be finite
MAX_METADATA = 2**16  # characters of each JSON text; those of a training run have about 500
MAX_DEPTH = 16  # levels of nested arrays and objects
SHOWN = 60  # characters of an invalid value that a message shows
VERSION_DIGITS = 12  # hexadecimal digits of the file's SHA-256
HEADER_LENGTH_BYTES = 8  # safetensors: a little-endian length, a JSON header, data

Floats = npt.NDArray[np.floating[Any]]


class InvalidWeights(ValueError):
    """A weights file, or its arrays, that cannot be served; the message says why."""


def softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Compute probabilities (n, K), whose rows sum to 1, of logits (n, K).

    p_k = exp z_k / Σ_j exp z_j    Bishop, PRML, eq. 4.104
    """
    z = logits.astype(np.float64)
    # exp(710) overflows; subtracting the largest logit does not change the softmax
    exponentials = np.exp(z - z.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


class Scores(NamedTuple):
    """The probabilities (n, K) of the classes, and of being a digit, (n,), of n images."""

    probabilities: npt.NDArray[np.float64]
    is_digit: npt.NDArray[np.float64] | None  # None without a detector


@dataclass(frozen=True, eq=False)
class Detector:
    """Binary logistic regressions that estimate P(an image is a digit), one per class.

    The one of the class that the classifier reads decides whether the image really shows
    that digit. weight (K, D) int8, of which 1 stands for scale (K,) float32; bias (K,)
    float32; images whose probability is below the threshold are refused.
    """

    weight: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    threshold: float

    @cached_property
    def models(self) -> list[tuple[npt.NDArray[np.float32], float]]:
        """Return the weights (D,) and the bias of each class's regression."""
        weight = self.weight * self.scale[:, np.newaxis]
        return list(zip(weight, self.bias.tolist(), strict=True))

    def probability(
        self, features: npt.NDArray[np.float32], logits: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float64]:
        """Compute P(digit) (n,) of features (n, D) that are read by their logits (n, K).

        σ(a) = (1 + tanh(a / 2)) / 2    Bishop, PRML, eq. 4.59 and exercise 3.1
        """
        is_digit = []  # numpy's own loops take twice as long for one image
        for phi, k in zip(features, logits.argmax(axis=1).tolist(), strict=True):
            weight, bias = self.models[k]
            is_digit.append((1 + tanh((float(phi.dot(weight)) + bias) / 2)) / 2)
        return np.array(is_digit, np.float64)


@dataclass(frozen=True, eq=False)
class Classifier:
    """Multinomial logistic regression over the feature map named `features`.

    weight (D, K) float32, bias (K,) float32, classes: K distinct digits in column
    order; detector: whether an image is a digit at all; `training` and `evaluation` are
    metadata of the weights file. Raises InvalidWeights if these do not fit together.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    classes: tuple[int, ...]
    features: str
    training: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    version: str = "unsaved"
    detector: Detector | None = None

    def __post_init__(self) -> None:
        if self.features not in FEATURES:
            known = ", ".join(FEATURES)
            raise InvalidWeights(f"unknown feature map {self.features[:SHOWN]!r}; use {known}")
        if not _are_classes(self.classes):
            raise InvalidWeights(f"classes {str(self.classes)[:SHOWN]}, expected distinct digits")
        d, k = n_features(self.features), len(self.classes)
        shapes = {"weight": (d, k), "bias": (k,)}
        if self.detector is not None:
            shapes |= {"digit_weight": (k, d), "digit_scale": (k,), "digit_bias": (k,)}
            if not 0 <= self.detector.threshold < 1:
                raise InvalidWeights(f"threshold {self.detector.threshold}, expected 0 to 1")
        for name, array in self.arrays().items():
            _check(name, array, shapes[name])

    @property
    def format(self) -> str:
        """The format of its weights file."""
        return FORMATS[self.detector is not None]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of the weights file by their names."""
        arrays: dict[str, npt.NDArray[Any]] = {"weight": self.weight, "bias": self.bias}
        if self.detector is not None:
            own = self.detector
            arrays |= {"digit_weight": own.weight, "digit_scale": own.scale, "digit_bias": own.bias}
        return arrays

    def score(self, images: npt.NDArray[np.uint8]) -> Scores:
        """Compute the probabilities of classes and of being a digit of images (n, 28, 28)."""
        features = FEATURES[self.features](images)
        logits = self.logits(features)
        is_digit = self.detector.probability(features, logits) if self.detector else None
        return Scores(softmax(logits), is_digit)

    def refused(self, scores: Scores) -> list[int]:
        """Return the indices of the images that are refused: P(digit) is below the threshold."""
        if self.detector is None or scores.is_digit is None:
            return []
        threshold = self.detector.threshold
        return [i for i, p in enumerate(scores.is_digit.tolist()) if p < threshold]

    def predict_proba(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Compute class probabilities (n, K), in class order, of images (n, 28, 28).

        p(C_k | φ) = softmax_k(φ(x) W + b)    Bishop, PRML, eq. 4.104, 4.105
        """
        return softmax(self.logits(FEATURES[self.features](images)))

    def logits(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Compute the logits (n, K), φ W + b, of features (n, D)."""
        # one product per row: an image gets the same bits alone as in a batch
        return (features[:, np.newaxis] @ self.weight)[:, 0] + self.bias


def _check(name: str, array: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise InvalidWeights for an array of the weights file that cannot be served."""
    dtype = "int8" if name == "digit_weight" else "float32"
    if array.dtype != dtype or array.shape != shape:
        raise InvalidWeights(f"{name} is {array.dtype} {array.shape}, expected {dtype} {shape}")
    if not np.isfinite(array).all():
        raise InvalidWeights(f"{name} has a value that is not finite")
    if np.abs(array).max() > MAX_WEIGHT:
        raise InvalidWeights(f"{name} has a value beyond ±{MAX_WEIGHT:,.0f}")


def _are_classes(classes: object) -> bool:
    return (
        isinstance(classes, tuple)
        and all(type(c) is int and c in ALL_CLASSES for c in classes)
        and len(set(classes)) == len(classes) >= 2
    )


def save(classifier: Classifier, path: Path) -> None:
    """Write the weights file: the same bytes every time for the same classifier."""
    detector = classifier.detector
    metadata = {
        "format": classifier.format,
        "features": classifier.features,
        "classes": json.dumps(classifier.classes),
        "training": json.dumps(dict(classifier.training), sort_keys=True),
        "evaluation": json.dumps(dict(classifier.evaluation), sort_keys=True),
    }
    if detector is not None:
        metadata["digit_threshold"] = json.dumps(detector.threshold)
    arrays = {name: np.ascontiguousarray(array) for name, array in classifier.arrays().items()}
    header, data = _split(safetensors.numpy.save(arrays, metadata))
    # the library writes metadata in an order that differs between processes
    ordered = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    ordered += b" " * (-len(ordered) % HEADER_LENGTH_BYTES)
    length = len(ordered).to_bytes(HEADER_LENGTH_BYTES, "little")
    path.write_bytes(length + ordered + data)


def load(path: Path) -> Classifier:
    """Read a weights file.

    Raises InvalidWeights, which names the file and the reason, if it cannot be served.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            content = file.read(MAX_WEIGHTS_BYTES + 1)
        return _parse(content)
    except OSError as error:
        raise InvalidWeights(f"weights {path}: {error.strerror}") from error
    except InvalidWeights as error:
        raise InvalidWeights(f"weights {path}: {error}") from error


def load_first(paths: Sequence[Path]) -> Classifier:
    """Load the first existing file; raise InvalidWeights if it cannot be served."""
    return load(first_existing(paths))


def first_existing(paths: Sequence[Path]) -> Path:
    """Return the first path that exists, or the last; raise InvalidWeights."""
    for path in paths:
        try:
            if path.exists():
                return path
        except OSError as error:
            raise InvalidWeights(f"weights {path}: {error.strerror}") from error
    # loading this one reports that it does not exist
    return paths[-1]


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; do not block on a pipe that nobody writes to."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _parse(content: bytes) -> Classifier:
    if len(content) > MAX_WEIGHTS_BYTES:
        raise InvalidWeights(f"the file is larger than {MAX_WEIGHTS_BYTES:,} bytes")
    try:
        arrays = safetensors.numpy.load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InvalidWeights(f"not a safetensors file: {error}") from error
    metadata = _split(content)[0].get("__metadata__") or {}
    if (kind := metadata.get("format")) not in FORMATS:
        known = " or ".join(map(repr, FORMATS))
        raise InvalidWeights(f"format {kind!r:.{SHOWN}}, expected {known}")
    expected = ARRAYS if kind == FORMATS[0] else sorted(ARRAYS + DETECTOR_ARRAYS)
    if sorted(arrays) != expected:
        raise InvalidWeights(f"arrays {sorted(arrays)}, expected {expected}")
    try:
        names = ("classes", "training", "evaluation")
        classes, training, evaluation = (_metadata(metadata[name]) for name in names)
        detector = None if kind == FORMATS[0] else _detector(arrays, metadata)
    except (KeyError, ValueError, RecursionError) as error:
        raise InvalidWeights(f"bad metadata: {error!r}") from error
    if not isinstance(training, dict) or not isinstance(evaluation, dict):
        raise InvalidWeights("bad metadata: training and evaluation must be objects")
    return Classifier(
        weight=np.asfortranarray(arrays["weight"]),  # halves the time of a product
        bias=arrays["bias"],
        classes=tuple(classes) if isinstance(classes, list) else classes,
        features=metadata.get("features", ""),
        training=training,
        evaluation=evaluation,
        version=hashlib.sha256(content).hexdigest()[:VERSION_DIGITS],
        detector=detector,
    )


def _detector(arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> Detector:
    threshold = _metadata(metadata["digit_threshold"])
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
        raise ValueError(f"digit_threshold is {threshold!r:.{SHOWN}}, expected a number")
    weight, scale, bias = (arrays[name] for name in ("digit_weight", "digit_scale", "digit_bias"))
    return Detector(weight, scale, bias, float(threshold))


def _metadata(text: str) -> Any:
    """Parse JSON; raise ValueError for a number that is not finite, and beyond the limits."""
    if len(text) > MAX_METADATA:
        raise ValueError(f"{len(text):,} characters; write at most {MAX_METADATA:,}")
    value = json.loads(text, parse_int=_finite, parse_float=_finite, parse_constant=_finite)
    if _depth(value) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return value


def _finite(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError(f"{text[:SHOWN]} is not a finite number")
    return int(text) if text.lstrip("-").isdigit() else number


def _depth(value: object) -> int:
    if not isinstance(value, (dict, list)):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def _split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Split a safetensors file into its JSON header and its data."""
    start = HEADER_LENGTH_BYTES
    end = start + int.from_bytes(content[:start], "little")
    return json.loads(content[start:end]), content[end:]
