"""Shards in one process, and on ranks that a real torchrun starts."""

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
from training.__main__ import main
from training.design.rows import Rows
from training.gradients import gradients_of
from training.runs.checkpoints import checkpoint_path
from training.runs.distributed import InvalidShards, Shards, join, split

TORCHRUN = Path(sys.executable).with_name("torchrun")


@pytest.fixture
def rows() -> Rows:
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(101, 7, generator=generator)
    labels = torch.randint(3, (101,), generator=generator)
    return Rows(torch.hstack([features, torch.ones(101, 1)]), labels)


@pytest.mark.parametrize("batch", [slice(3, 14), torch.tensor([9, 1, 5, 5, 0])])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
def test_every_row_of_a_batch_is_in_one_shard_in_its_order(batch, n):
    parts = split(batch, n)

    rows = torch.arange(101)
    assert torch.equal(torch.cat([rows[part] for part in parts]), rows[batch])
    sizes = [len(rows[part]) for part in parts]
    assert len(sizes) == n
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("n", [2, 3, 7, 16])
@pytest.mark.parametrize("batch", [slice(0, 64), slice(98, 101), torch.arange(5, 69)])
@pytest.mark.parametrize("way", gradients_of(10))
def test_shards_add_up_to_the_gradient_of_the_batch(n, batch, way, rows):
    gradient = gradients_of(10)[way]
    theta = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))

    j, g = Shards(n).mean_gradient(gradient, rows, theta, batch)

    whole_j, whole_g = gradient(theta, *rows.batch(batch))
    assert j == pytest.approx(whole_j, rel=1e-6)
    torch.testing.assert_close(g, whole_g, rtol=1e-5, atol=1e-7)


@pytest.fixture
def flags(synthetic) -> list[str]:
    return ["--data", synthetic, "--recipe", "pixels", "--epochs", "2"]


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


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_ranks_end_in_the_bytes_of_one_process_with_as_many_shards(flags, n, tmp_path):
    alone, ranks = tmp_path / "alone" / "w", tmp_path / "ranks" / "w"
    flags = [*flags, "--batch-size", "50", "--rule", "momentum"]
    flags += ["--learning-rate", "0.05", "--keep", "best", "--calibrate"]

    started = torchrun(n, *flags, "--output", str(ranks))
    assert main([*flags, "--shards", str(n), "--output", str(alone)]) == 0
    said, _ = started.communicate(timeout=120)

    assert started.returncode == 0, said
    for path in (alone, ranks):
        assert load(path).training["shards"] == n
    assert alone.read_bytes() == ranks.read_bytes()
    curves = [path.with_name("metrics.jsonl").read_bytes() for path in (alone, ranks)]
    assert curves[0] == curves[1]
    assert said.count("epoch 2: loss") == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_rank_on_cuda_ends_in_the_bytes_of_one_process_on_cuda(flags, tmp_path):
    alone, rank = tmp_path / "alone" / "w", tmp_path / "rank" / "w"
    flags = [*flags, "--device", "cuda"]

    started = torchrun(1, *flags, "--output", str(rank))
    assert main([*flags, "--output", str(alone)]) == 0
    said, _ = started.communicate(timeout=120)

    assert started.returncode == 0, said
    assert alone.read_bytes() == rank.read_bytes()


@pytest.mark.parametrize(
    ("local_rank", "refusal"),
    [("512", "rank 512 of this machine has no CUDA device"), ("", "LOCAL_RANK is ''")],
)
def test_rank_without_a_cuda_device_is_refused(local_rank, refusal):
    given = {"WORLD_SIZE": "1024", "RANK": "512", "LOCAL_RANK": local_rank}

    with pytest.raises(InvalidShards, match=refusal), join(given, None, torch.device("cuda")):
        pass


def test_lost_rank_ends_the_run_and_one_process_resumes_from_its_checkpoint(
    flags, tmp_path, capsys
):
    """A rank is killed within an epoch; the checkpoint of the other is enough."""
    whole, cut_short = tmp_path / "whole" / "w", tmp_path / "cut" / "w"
    flags = [*flags, "--epochs", "60", "--batch-size", "50", "--rule", "momentum"]
    flags += ["--learning-rate", "0.05", "--keep", "best", "--calibrate"]
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

    flags += ["--shards", "2", "--output"]
    assert main([*flags, str(cut_short), "--resume"]) == 0
    assert "resuming from step" in capsys.readouterr().out
    assert main([*flags, str(whole)]) == 0
    assert cut_short.read_bytes() == whole.read_bytes()
    curves = [path.with_name("metrics.jsonl").read_bytes() for path in (cut_short, whole)]
    assert curves[0] == curves[1]
    assert not checkpoint_path(cut_short).exists()


def wait_for_epoch(number: int, started: subprocess.Popen) -> None:
    """Read the output up to the line of an epoch."""
    for line in started.stdout:
        if f"epoch {number}:" in line:
            return
    raise AssertionError(f"ended before epoch {number}")


@pytest.mark.slow
def test_loss_of_rank_0_leaves_a_checkpoint_of_the_other(flags, tmp_path):
    path = tmp_path / "w"
    started = torchrun(2, *flags, "--epochs", "600", "--output", str(path))
    try:
        wait_for_epoch(3, started)
        os.kill(process_of_rank(0, started.pid), 9)
        said, _ = started.communicate(timeout=60)
    finally:
        started.kill()

    assert "lost another rank after step" in said
    assert checkpoint_path(path).exists()


@pytest.mark.slow
def test_ranks_with_different_flags_are_refused(flags, tmp_path):
    script = tmp_path / "mixed.py"
    script.write_text(
        "import os, sys\n"
        "from training.__main__ import main\n"
        "size = {'0': '64', '1': '50'}[os.environ['RANK']]\n"
        "sys.exit(main([*sys.argv[1:], '--batch-size', size]))\n"
    )
    command = [str(TORCHRUN), "--standalone", "--nproc-per-node", "2", str(script)]
    run = subprocess.run(
        [*command, *flags, "--output", str(tmp_path / "w")],
        cwd=ROOT,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert run.returncode != 0
    assert "batch_size is 64 on rank 0 and 50 on another" in run.stderr
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_silent_rank_does_not_keep_the_others_from_stopping(flags, tmp_path):
    path = tmp_path / "w"
    started = torchrun(2, *flags, "--epochs", "600", "--output", str(path))
    try:
        wait_for_epoch(3, started)
        silent = process_of_rank(1, started.pid)
        os.kill(silent, signal.SIGSTOP)
        time.sleep(1)  # until rank 0 waits for it
        os.kill(process_of_rank(0, started.pid), signal.SIGTERM)
        wait_until(checkpoint_path(path).exists)
        os.kill(silent, signal.SIGCONT)
        said, _ = started.communicate(timeout=60)
    finally:
        started.kill()

    assert "no response" in said


@pytest.mark.parametrize("value", ["", "two"])
def test_invalid_number_of_ranks_is_refused(value, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WORLD_SIZE", value)
    monkeypatch.setenv("RANK", "0")

    assert main(["--output", str(tmp_path / "w")]) == 1

    assert f"digits-train: WORLD_SIZE is {value!r}, not the number" in (capsys.readouterr().err)


def test_sweep_is_refused_under_torchrun(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")

    assert main(["sweep", "--output", str(tmp_path / "w")]) == 1

    assert "sweep runs in one process, not under torchrun" in capsys.readouterr().err


def process_of_rank(rank: int, parent: int) -> int:
    """Return the pid of a rank of torchrun."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for child in children:
            variables = Path(f"/proc/{child}/environ").read_text().split("\0")
            if f"RANK={rank}" in variables:
                return int(child)
    raise AssertionError(f"no rank {rank} below {parent}")


def test_number_of_shards_other_than_the_ranks_is_refused(flags, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")

    assert main([*flags, "--shards", "3", "--output", str(tmp_path / "w")]) == 1

    assert "--shards 3: torchrun started 1 ranks" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
