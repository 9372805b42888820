"""The drawn digits and the scenes of benchmarks.robustness."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.hands import STYLES, flagged_one
from benchmarks.scenes import DRAWN, SCENES
from training.results.corruptions import corrupt

DRAWINGS = {**STYLES, **DRAWN}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_depend_on_the_seed_only(name):
    uploads = [DRAWINGS[name](np.random.default_rng(seed)) for seed in (1, 1, 2)]

    assert uploads[0] == uploads[1]
    assert uploads[0][0] != uploads[2][0]


@pytest.mark.parametrize("name", SCENES)
def test_scenes_depend_on_the_seed_only(name, drawn):
    image = drawn.test.images[:1]

    uploads = [corrupt(image, SCENES[name], seed)[0] for seed in (1, 1, 2)]

    assert uploads[0] == uploads[1]
    assert uploads[0] != uploads[2]


def test_the_flag_of_a_drawn_1_falls_between_30_and_60_degrees():
    rng = np.random.default_rng(1)
    for _ in range(100):
        shape, _ = flagged_one(rng)
        tip, top = (np.array(point.split(","), float) for point in shape[1:].split(" | ")[:2])
        right, up = tip - top
        assert 29 < np.degrees(np.arctan2(up, -right)) < 61
        assert 24 < np.hypot(right, up) < 61  # hundredths of the stem


def test_a_canvas_has_ink_of_either_polarity():
    rng = np.random.default_rng(1)
    corners = []
    for _ in range(20):
        upload, label = STYLES["closed 4"](rng)
        levels = np.asarray(Image.open(io.BytesIO(upload)))
        corners.append(levels[0, 0] > 128)
        assert label == 4
        assert np.ptp(levels) > 128
    assert any(corners)
    assert not all(corners)
