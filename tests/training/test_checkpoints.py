"""Checkpoints: read back to the last bit, or refused."""

import dataclasses
import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.descent import State
from training.runs.checkpoints import (
    GRACE,
    Checkpointer,
    InvalidCheckpoint,
    Stopped,
    checkpoint_path,
    read_checkpoint,
    write_checkpoint,
)
from training.runs.state import Run

ALIGNMENT = 64  # bytes, of torch's own tensors
FACTS = {"learning_rate": 0.1, "seed": 3, "classes": (3, 8)}


@pytest.fixture
def run() -> Run:
    tensors = torch.randn(5, 2, 7, generator=torch.Generator().manual_seed(1))
    theta, mean, best, *memory = tensors
    point = {"epoch": 1, "step": 41, "loss": 0.1 + 0.2}
    state = State(theta, memory, mean, 42)
    return Run(state, best, 1 / 3, [point], [0.1, 1e-300])


@pytest.fixture
def path(run, tmp_path):
    write_checkpoint(run, FACTS, tmp_path / "w.checkpoint")
    return tmp_path / "w.checkpoint"


def test_run_is_read_back_to_the_last_bit(run, path):
    again = read_checkpoint(path, FACTS)

    ours, theirs = (
        vars(each.state) | {n: v for n, v in vars(each).items() if n != "state"}
        for each in (run, again)
    )
    assert ours.keys() == theirs.keys()
    assert len(theirs["memory"]) == 2
    assert all(map(torch.equal, ours.pop("memory"), theirs.pop("memory")))
    for name in ("theta", "mean", "best"):
        assert torch.equal(ours.pop(name), theirs.pop(name))
    assert ours == theirs


def test_tensors_read_from_a_checkpoint_are_aligned(run, tmp_path):
    """Otherwise the last bits of MKL's products, and of the resumed run, differ."""
    for length in range(16):
        facts = FACTS | {"name": "x" * length}
        write_checkpoint(run, facts, tmp_path / "w")
        again = read_checkpoint(tmp_path / "w", facts)
        for tensor in (again.state.theta, again.state.mean, again.best, *again.state.memory):
            assert tensor.data_ptr() % ALIGNMENT == 0


def test_run_that_has_not_validated_yet_is_read_back(run, path):
    write_checkpoint(dataclasses.replace(run, least=float("inf")), FACTS, path)

    assert read_checkpoint(path, FACTS).least == float("inf")


def test_twelve_tensors_of_memory_keep_their_order(run, path):
    memory = [torch.full((2, 7), float(i)) for i in range(12)]
    run.state.memory = memory
    write_checkpoint(run, FACTS, path)

    again = read_checkpoint(path, FACTS).state.memory

    assert [tensor[0, 0].item() for tensor in again] == list(range(12))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"learning_rate": 0.2}, "its learning_rate is 0.1, here it is 0.2"),
        ({"rule": "adam"}, "its rule is 'default', here it is 'adam'"),
        ({"classes": (3, 5)}, r"its classes is \[3, 8\], here it is \[3, 5\]"),
    ],
)
def test_checkpoint_of_another_run_is_refused_with_the_difference(changed, words, path):
    with pytest.raises(InvalidCheckpoint, match=rf"w\.checkpoint: checkpoint of another.*{words}"):
        read_checkpoint(path, FACTS | changed)


def test_damage_anywhere_in_the_file_is_detected(path):
    content = path.read_bytes()
    for i in range(0, len(content), 23):
        path.write_bytes(content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :])
        with pytest.raises(InvalidCheckpoint, match=r"w\.checkpoint: "):
            read_checkpoint(path, FACTS)


@pytest.mark.parametrize("n", [0, 7, 100, 500, -1])
def test_truncated_checkpoint_is_refused(n, path):
    path.write_bytes(path.read_bytes()[:n])

    with pytest.raises(InvalidCheckpoint, match=r"w\.checkpoint: damaged"):
        read_checkpoint(path, FACTS)


def test_other_safetensors_files_are_refused(weights, tmp_path):
    foreign = tmp_path / "foreign"
    save_file({"theta": torch.zeros(2, 3)}, foreign)

    for path in (foreign, weights):
        with pytest.raises(InvalidCheckpoint, match=f"{path}: not a 'digits checkpoint 1'"):
            read_checkpoint(path, FACTS)


def test_checkpoint_is_an_ordinary_safetensors_file(run, path):
    tensors = load_file(path)

    assert set(tensors) == {"theta", "mean", "best", "memory.0", "memory.1"}
    assert torch.equal(tensors["theta"], run.state.theta)


def test_checkpoint_is_written_at_the_interval(run, tmp_path):
    now = [0.0]
    path = tmp_path / "kept"
    checkpointer = Checkpointer(run, FACTS, path, 10, clock=lambda: now[0])
    written = []
    for now[0] in (1.0, 9.0, 10.0, 11.0, 19.0, 20.0, 35.0, 44.0, 45.0):
        checkpointer.watch()
        if path.exists():
            written.append(now[0])
            path.unlink()

    assert written == [10.0, 20.0, 35.0, 45.0]


def test_signal_stops_the_run_at_the_end_of_the_step(run, tmp_path):
    path = tmp_path / "kept"
    checkpointer = Checkpointer(run, FACTS, path, 1000)
    before = signal.getsignal(signal.SIGTERM)

    with checkpointer.guarding():
        checkpointer.watch()
        assert not path.exists()
        os.kill(os.getpid(), signal.SIGTERM)
        run.state.theta += 1  # the rest of the step
        with pytest.raises(Stopped, match=f"stopped at step 42; resume from {path} with --resume"):
            checkpointer.watch()

    assert torch.equal(read_checkpoint(path, FACTS).state.theta, run.state.theta)
    assert signal.getsignal(signal.SIGTERM) is before


def test_second_signal_interrupts_at_once(run, tmp_path):
    checkpointer = Checkpointer(run, FACTS, tmp_path / "kept", 1000)

    with checkpointer.guarding():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_failed_checkpoint_ends_the_run_only_if_it_is_the_last(run, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    checkpointer = Checkpointer(run, FACTS, tmp_path / "file" / "kept", 0)

    with checkpointer.guarding():
        checkpointer.watch()
        assert "checkpoint not written: " in capsys.readouterr().out
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(OSError, match="kept"):
            checkpointer.watch()


def test_step_is_overdue_some_seconds_after_a_signal(run, tmp_path):
    now = [0.0]
    checkpointer = Checkpointer(run, FACTS, tmp_path / "kept", 1000, clock=lambda: now[0])

    with checkpointer.guarding():
        now[0] = 100.0
        assert not checkpointer.is_overdue()
        os.kill(os.getpid(), signal.SIGTERM)
        assert not checkpointer.is_overdue()
        now[0] += GRACE + 1
        assert checkpointer.is_overdue()


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link"])
def test_path_that_is_not_a_file_is_refused(kind, tmp_path):
    path = tmp_path / "kept"
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "dangling link": lambda: path.symlink_to("absent"),
    }[kind]()

    with pytest.raises(InvalidCheckpoint, match="kept: not a file"):
        read_checkpoint(path, FACTS)


def test_facts_are_in_the_metadata_of_the_file(path):
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))

    assert json.loads(header["__metadata__"]["facts"])["seed"] == 3
    assert checkpoint_path(path).name == "w.checkpoint.checkpoint"
