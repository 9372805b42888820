"""The pictures of benchmarks.reading and benchmarks.serving, and the programs that read them."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from benchmarks import reading
from benchmarks.everyday import KINDS, MIX, MNIST
from benchmarks.reading import running
from service.classifier import load
from service.features import MAX_GREY
from service.number import read_one
from service.settings import EMBEDDED_WEIGHTS

# slow to draw, and a screen that is read badly
LARGE = {name for name in KINDS if "megapixels" in name or "screenshot" in name}


def draw(kind: str, image: np.ndarray) -> bytes:
    return KINDS[kind][0](image / MAX_GREY, np.random.default_rng(0))


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - LARGE))
def test_the_service_reads_the_digit_in_each_kind_of_picture(kind, drawn):
    shipped = load(EMBEDDED_WEIGHTS)
    images, labels = drawn.test.images[:3], drawn.test.labels[:3]

    read = np.stack([read_one(draw(kind, image), shipped) for image in images])

    right = shipped.predict_proba(read).argmax(axis=1) == labels
    assert right.sum() >= 2


def test_the_mix_is_of_known_kinds_and_complete():
    assert set(MIX) < set(KINDS)
    assert sum(MIX.values()) == 100


@pytest.fixture
def uploads(drawn, tmp_path) -> Path:
    path = tmp_path / "uploads.pickle"
    pictures = [draw(kind, drawn.test.images[0]) for kind in (MNIST, "scan 100x100")]
    path.write_bytes(pickle.dumps([*pictures, b"no picture"]))
    return path


def test_readers_time_pictures_and_name_their_digits(drawn, uploads):
    with running("service") as ours, running("pillow") as pillow:
        answers = ours.ask("answers", uploads)
        stages = ours.ask("stages", uploads)
        reading_, decoding = ours.ask("read", uploads), pillow.ask("decode", uploads)

    assert [answer and answer[0] for answer in answers] == [*[drawn.test.labels[0]] * 2, None]
    assert {"decoded", "ink", "28x28", "score", "refused"} <= set(stages)
    assert min(reading_, decoding) > 0


def test_an_answer_is_lost_if_it_was_right_and_one_of_the_two_is_confident():
    lost = reading._is_lost

    assert lost((3, 0.95), (7, 0.5), 7)
    assert lost(None, (7, 0.9), 7)
    assert not lost((3, 0.5), (7, 0.5), 7)
    assert not lost((7, 0.95), (3, 0.95), 7)
    assert not lost((3, 0.95), (1, 0.95), 7)
