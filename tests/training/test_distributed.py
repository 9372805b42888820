"""Shards of one process, and of ranks that a real torchrun starts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from service.classifier import load
from tests.conftest import ROOT, wait_until
from training.design.rows import Rows
from training.gradients import GRADIENTS
from training.runs.checkpoints import checkpoint_path
from training.runs.distributed import Shards, cut

TORCHRUN = Path(sys.executable).with_name("torchrun")
FLAGS = ["--data", "synthetic", "--recipe", "pixels", "--epochs", "2"]


@pytest.fixture
def rows() -> Rows:
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(101, 7, generator=generator)
    labels = torch.randint(3, (101,), generator=generator)
    return Rows(torch.hstack([features, torch.ones(101, 1)]), labels)


@pytest.mark.parametrize("batch", [slice(3, 14), torch.tensor([9, 1, 5, 5, 0])])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
def test_every_row_of_a_batch_is_in_one_shard_in_its_order(batch, n):
    parts = cut(batch, n)

    rows = torch.arange(101)
    assert torch.equal(torch.cat([rows[part] for part in parts]), rows[batch])
    sizes = [len(rows[part]) for part in parts]
    assert len(sizes) == n
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("n", [2, 3, 7, 16])
@pytest.mark.parametrize("batch", [slice(0, 64), slice(98, 101), torch.arange(5, 69)])
@pytest.mark.parametrize("way", GRADIENTS)
def test_shards_add_up_to_the_gradient_of_the_batch(n, batch, way, rows):
    gradient = GRADIENTS[way][False]
    theta = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))

    j, g = Shards(n).mean_gradient(gradient, theta, rows, batch)

    whole_j, whole_g = gradient(theta, *rows.batch(batch))
    assert j == pytest.approx(whole_j, rel=1e-6)
    torch.testing.assert_close(g, whole_g, rtol=1e-5, atol=1e-7)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}


def torchrun(n: int, *flags: str, **options) -> subprocess.Popen[str]:
    command = [str(TORCHRUN), "--standalone", "--nproc-per-node", str(n)]
    return subprocess.Popen(
        [*command, "-m", "training", *flags],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def job(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("n", [2, 3])
def test_ranks_end_in_the_bytes_of_one_process_with_as_many_shards(n, tmp_path):
    alone, ranks = tmp_path / "alone" / "w", tmp_path / "ranks" / "w"
    flags = [*FLAGS, "--batch-size", "50", "--rule", "momentum"]
    flags += ["--learning-rate", "0.05", "--keep", "best", "--calibrate"]

    started = torchrun(n, *flags, "--output", str(ranks))
    run = job(*flags, "--shards", str(n), "--output", str(alone))
    said, _ = started.communicate(timeout=120)

    assert run.returncode == 0, run.stderr
    assert started.returncode == 0, said
    for path in (alone, ranks):
        assert load(path).training["shards"] == n
    assert alone.read_bytes() == ranks.read_bytes()
    curves = [path.with_name("metrics.jsonl").read_bytes() for path in (alone, ranks)]
    assert curves[0] == curves[1]
    assert said.count("epoch 2: loss") == 1


def test_lost_rank_ends_the_run_and_one_process_goes_on_from_its_checkpoint(tmp_path):
    """A rank is killed in mid-epoch; what the other leaves is enough."""
    whole, cut_short = tmp_path / "whole" / "w", tmp_path / "cut" / "w"
    flags = [*FLAGS, "--epochs", "60"]
    started = torchrun(2, *flags, "--output", str(cut_short))
    try:
        for line in started.stdout:
            if "epoch 3:" in line:
                break
        rank = process_of_rank(1, started.pid)
        os.kill(rank, 9)
        said, _ = started.communicate(timeout=60)
    finally:
        started.kill()

    assert started.returncode != 0
    assert "--resume" in said
    assert str(checkpoint_path(cut_short)) in said
    assert not cut_short.exists()

    resumed = job(*flags, "--shards", "2", "--resume", "--output", str(cut_short))
    assert "goes on from step" in resumed.stdout, resumed.stderr
    assert job(*flags, "--shards", "2", "--output", str(whole)).returncode == 0
    assert cut_short.read_bytes() == whole.read_bytes()
    assert not checkpoint_path(cut_short).exists()


def test_first_rank_lost_leaves_its_run_to_the_other(tmp_path):
    path = tmp_path / "w"
    started = torchrun(2, *FLAGS, "--epochs", "300", "--output", str(path))
    try:
        for line in started.stdout:
            if "epoch 3:" in line:
                break
        os.kill(process_of_rank(0, started.pid), 9)
        said, _ = started.communicate(timeout=60)
    finally:
        started.kill()

    assert "another rank was lost after step" in said
    assert checkpoint_path(path).exists()


def test_ranks_that_are_given_other_flags_are_refused(tmp_path):
    script = tmp_path / "mixed.py"
    script.write_text(
        "import os, sys\n"
        "from training.__main__ import main\n"
        "size = {'0': '64', '1': '50'}[os.environ['RANK']]\n"
        "sys.exit(main([*sys.argv[1:], '--batch-size', size]))\n"
    )
    command = [str(TORCHRUN), "--standalone", "--nproc-per-node", "2", str(script)]
    run = subprocess.run(
        [*command, *FLAGS, "--output", str(tmp_path / "w")],
        cwd=ROOT,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert run.returncode != 0
    assert "the ranks differ in batch_size: 64 of the first, 50" in run.stderr
    assert not (tmp_path / "w").exists()


def test_rank_that_says_nothing_does_not_keep_the_others_from_stopping(tmp_path):
    path = tmp_path / "w"
    started = torchrun(2, *FLAGS, "--epochs", "300", "--output", str(path))
    try:
        for line in started.stdout:
            if "epoch 3:" in line:
                break
        silent = process_of_rank(1, started.pid)
        os.kill(silent, signal.SIGSTOP)
        time.sleep(1)  # until the other waits for it
        os.kill(process_of_rank(0, started.pid), signal.SIGTERM)
        wait_until(checkpoint_path(path).exists)
        os.kill(silent, signal.SIGCONT)
        said, _ = started.communicate(timeout=60)
    finally:
        started.kill()

    assert "it says nothing" in said


@pytest.mark.parametrize("value", ["", "two"])
def test_number_of_ranks_that_is_none_is_refused(value, tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "training", *FLAGS, "--output", str(tmp_path / "w")],
        cwd=ROOT,
        env=environment() | {"WORLD_SIZE": value, "RANK": "0"},
        capture_output=True,
        text=True,
    )

    assert run.returncode == 1
    assert f"digits-train: WORLD_SIZE is {value!r}, not a number" in run.stderr


def test_sweep_is_not_for_ranks(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "training", "sweep", "--output", str(tmp_path / "w")],
        cwd=ROOT,
        env=environment() | {"WORLD_SIZE": "2", "RANK": "0"},
        capture_output=True,
        text=True,
    )

    assert run.returncode == 1
    assert "sweep is for one process, not for torchrun" in run.stderr


def process_of_rank(rank: int, parent: int) -> int:
    """Find the process that torchrun started as a rank."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for child in children:
            variables = Path(f"/proc/{child}/environ").read_text().split("\0")
            if f"RANK={rank}" in variables:
                return int(child)
    raise AssertionError(f"no rank {rank} below {parent}")


def test_shards_that_are_not_the_ranks_are_refused(tmp_path):
    started = torchrun(1, *FLAGS, "--shards", "3", "--output", str(tmp_path / "w"))
    said, _ = started.communicate(timeout=60)

    assert started.returncode != 0
    assert "--shards 3: torchrun started 1 ranks" in said
    assert list(tmp_path.iterdir()) == []
