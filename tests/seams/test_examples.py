"""The examples run, each in the environment that a Makefile verb creates for it."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT

RAY = ROOT / ".venv-ray" / "bin" / "python"


def run(*command: object, folder: Path) -> None:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("DIGITS_")}
    environment = plain | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    result = subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode in (0, 1), result.stderr  # 1: of some pictures, there is no answer


def answers(*files: Path) -> list[tuple[str, ...]]:
    """Return the rows of CSV files, with seven digits of each probability."""

    def plain(cell: str) -> str:
        return f"{float(cell):.7g}" if cell.replace(".", "").replace("e-", "").isdigit() else cell

    rows = [row for file in files for row in csv.DictReader(file.read_text().splitlines())]
    return [(Path(row["file"]).name, *map(plain, list(row.values())[1:])) for row in rows]


@pytest.mark.slow
@pytest.mark.skipif(not RAY.exists(), reason="needs Ray: run `make ray`")
@pytest.mark.parametrize("kind", ["array", "folder"])
def test_ray_has_the_answers_of_the_command(kind, drawn, tmp_path):
    if kind == "array":
        pictures = tmp_path / "images.npy"
        odd = np.stack([255 - drawn.test.images[0], np.zeros((28, 28), np.uint8)])
        np.save(pictures, np.concatenate([drawn.train.images.repeat(4, 0), odd]))
    else:
        pictures = tmp_path / "pictures"
        pictures.mkdir()
        for path in (ROOT / "docs").glob("*.png"):
            (pictures / path.name).write_bytes(path.read_bytes())

    run(RAY, ROOT / "examples/ray_classify.py", pictures, "answers", folder=tmp_path)
    run(
        *(sys.executable, "-m", "service", "classify", pictures, "--output", "answers.csv"),
        folder=tmp_path,
    )

    # the command's advice on its flags is not the example's
    expected = [
        (*row[:-1], row[-1].removesuffix(": use --several, or pictures of one"))
        for row in answers(tmp_path / "answers.csv")
    ]
    assert answers(*sorted((tmp_path / "answers").glob("*.csv"))) == expected
    assert len(expected) > 4
    assert "" in {row[-1] for row in expected} != {""}
