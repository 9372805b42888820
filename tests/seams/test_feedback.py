"""The loop of corrections: drawings that are misread are corrected, learnt and then read."""

import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks.handwriting import strokes_of
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import MNIST, curl, running_service, wait_until, write_arrays
from tests.seams.documents import OPERATIONS, TRAINING, blocks, output_of
from training.__main__ import main

SIDE, DIGIT = 280, 3


def mirrored(writer: int, seed: int) -> bytes:
    """Draw a mirrored 3, as children write it: a writer's, in another size and tilt."""
    generator = np.random.default_rng([seed, writer])
    angle, scale = generator.uniform(-0.1, 0.1), generator.uniform(0.9, 1.3)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    picture = Image.new("L", (SIDE, SIDE), 255)
    draw, width = ImageDraw.Draw(picture), int(generator.integers(14, 22))
    for stroke in strokes_of(DIGIT, writer):
        x, y = np.array(stroke).T - 0.5
        x = -x + generator.normal(0, 0.004, len(x))
        points = np.stack([cos * x - sin * y, sin * x + cos * y], axis=1) * SIDE + SIDE / 2
        draw.line([*map(tuple, points)], 0, width, joint="curve")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_corrections_of_a_style_are_learnt_and_served(drawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "digits.safetensors"
    weights.write_bytes(EMBEDDED_WEIGHTS.read_bytes())
    folder = tmp_path / "corrections"
    with running_service(
        DIGITS_WEIGHTS=str(weights), DIGITS_FEEDBACK_DIR=str(folder), WEB_CONCURRENCY="2"
    ) as service:

        def post(picture: bytes, route: str, *fields: str) -> dict:
            Path("picture.png").write_bytes(picture)
            reply = curl("-F", "image=@picture.png", *fields, f"{service.url}/{route}")
            return json.loads(reply[2])

        def n_read() -> int:
            replies = [post(mirrored(i % 10, seed=2 + i // 10), "predict") for i in range(20)]
            return sum("probabilities" in each and each["digit"] == DIGIT for each in replies)

        assert n_read() <= 5
        for writer in range(10):
            assert "correction" in post(mirrored(writer, 1), "feedback", "-F", f"digit={DIGIT}")
        before = json.loads(curl(f"{service.url}/model")[2])

        (arguments,) = re.findall(r'ARGS="(--feedback [^"]+)"', TRAINING.read_text())
        data = []
        if MNIST is None:
            (tmp_path / "data").mkdir()
            write_arrays(drawn, tmp_path / "data")
            data = ["--data", str(tmp_path / "data")]
        assert main([*shlex.split(arguments), *data]) == 0

        wait_until(lambda: json.loads(curl(f"{service.url}/model")[2])["model"] != before["model"])
        # the other worker loads the weights a moment later
        wait_until(lambda: n_read() >= 18)

        (shown,) = (b.text for b in blocks(OPERATIONS) if "feedback list" in b.text)
        listing, erasing = shown.splitlines()
        lines = output_of(listing, tmp_path).splitlines()
        assert len(lines) == 10
        for line in lines:
            assert re.fullmatch(
                r"\S+Z  3  corrections/\w+\.png  digit=\d .*model=" + before["model"], line
            )
        assert output_of(erasing, tmp_path) == "erased 10 corrections\n"
        assert [path.name for path in folder.iterdir()] == [".lock"]
        # the service still takes corrections
        assert "correction" in post(mirrored(0, 1), "feedback", "-F", "digit=none")
