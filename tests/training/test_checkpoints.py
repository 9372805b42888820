import dataclasses
import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.runs.checkpoints import (
    GRACE,
    InvalidCheckpoint,
    Keeper,
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
    return Run(theta, memory, mean, best, 42, 1 / 3, [point], [0.1, 1e-300])


@pytest.fixture
def path(run, tmp_path):
    write_checkpoint(run, FACTS, tmp_path / "w.checkpoint")
    return tmp_path / "w.checkpoint"


def test_all_of_a_run_is_read_back_to_the_last_bit(run, path):
    again = read_checkpoint(path, FACTS)

    for field in dataclasses.fields(Run):
        ours, theirs = getattr(run, field.name), getattr(again, field.name)
        if field.name == "memory":
            assert len(ours) == len(theirs) == 2
            assert all(map(torch.equal, ours, theirs))
        elif isinstance(ours, torch.Tensor):
            assert torch.equal(ours, theirs)
        else:
            assert ours == theirs


def test_what_is_read_lies_in_memory_as_what_was_written(run, tmp_path):
    """Else MKL's products differ in their last bits, and the run from the whole one."""
    for length in range(16):
        facts = FACTS | {"name": "x" * length}
        write_checkpoint(run, facts, tmp_path / "w")
        again = read_checkpoint(tmp_path / "w", facts)
        for tensor in (again.theta, again.mean, again.best, *again.memory):
            assert tensor.data_ptr() % ALIGNMENT == 0


def test_a_run_that_has_not_validated_yet_is_read_back(run, path):
    write_checkpoint(dataclasses.replace(run, least=float("inf")), FACTS, path)

    assert read_checkpoint(path, FACTS).least == float("inf")


def test_ten_tensors_of_memory_keep_their_order(run, path):
    memory = [torch.full((2, 7), float(i)) for i in range(12)]
    write_checkpoint(dataclasses.replace(run, memory=memory), FACTS, path)

    again = read_checkpoint(path, FACTS).memory

    assert [tensor[0, 0].item() for tensor in again] == list(range(12))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"learning_rate": 0.2}, "its learning_rate is 0.1, here it is 0.2"),
        ({"rule": "adam"}, "its rule is the default, here it is 'adam'"),
        ({"classes": (3, 5)}, r"its classes is \[3, 8\], here it is \[3, 5\]"),
    ],
)
def test_checkpoint_of_another_run_is_refused_by_what_differs(changed, words, path):
    with pytest.raises(InvalidCheckpoint, match=rf"w\.checkpoint: of another.*{words}"):
        read_checkpoint(path, FACTS | changed)


def test_damage_anywhere_in_the_file_is_found(path):
    content = path.read_bytes()
    for i in range(0, len(content), 23):
        path.write_bytes(content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :])
        with pytest.raises(InvalidCheckpoint, match=r"w\.checkpoint: "):
            read_checkpoint(path, FACTS)


@pytest.mark.parametrize("n", [0, 7, 100, 500, -1])
def test_cut_checkpoint_is_refused(n, path):
    path.write_bytes(path.read_bytes()[:n])

    with pytest.raises(InvalidCheckpoint, match=r"w\.checkpoint: damaged"):
        read_checkpoint(path, FACTS)


def test_what_is_no_checkpoint_is_refused(weights, tmp_path):
    foreign = tmp_path / "foreign"
    save_file({"theta": torch.zeros(2, 3)}, foreign)

    for path in (foreign, weights):
        with pytest.raises(InvalidCheckpoint, match=f"{path}: format .*no checkpoint"):
            read_checkpoint(path, FACTS)


def test_checkpoint_is_read_by_others_too(run, path):
    tensors = load_file(path)

    assert set(tensors) == {"theta", "mean", "best", "memory.0", "memory.1"}
    assert torch.equal(tensors["theta"], run.theta)


def test_keeper_writes_when_it_is_time(run, tmp_path):
    now = [0.0]
    path = tmp_path / "kept"
    keeper = Keeper(run, FACTS, path, 10, clock=lambda: now[0])
    written = []
    for now[0] in (1.0, 9.0, 10.0, 11.0, 19.0, 20.0, 35.0, 44.0, 45.0):
        keeper.watch()
        if path.exists():
            written.append(now[0])
            path.unlink()

    assert written == [10.0, 20.0, 35.0, 45.0]


def test_signal_waits_for_the_end_of_the_step_and_is_then_obeyed(run, tmp_path):
    path = tmp_path / "kept"
    keeper = Keeper(run, FACTS, path, 1000)
    before = signal.getsignal(signal.SIGTERM)

    with keeper.deferring_signals():
        keeper.watch()
        assert not path.exists()
        os.kill(os.getpid(), signal.SIGTERM)
        run.theta += 1  # the step goes on
        with pytest.raises(Stopped, match=f"stopped at step 42; --resume.*{path}"):
            keeper.watch()

    assert torch.equal(read_checkpoint(path, FACTS).theta, run.theta)
    assert signal.getsignal(signal.SIGTERM) is before


def test_second_signal_interrupts_at_once(run, tmp_path):
    keeper = Keeper(run, FACTS, tmp_path / "kept", 1000)

    with keeper.deferring_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_checkpoint_that_cannot_be_written_ends_the_run_only_if_it_is_the_last(
    run, tmp_path, capsys
):
    (tmp_path / "file").write_text("in the way")
    keeper = Keeper(run, FACTS, tmp_path / "file" / "kept", 0)

    with keeper.deferring_signals():
        keeper.watch()
        assert "there is no checkpoint of this moment" in capsys.readouterr().out
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(OSError, match="kept"):
            keeper.watch()


def test_a_step_that_does_not_end_after_a_signal_is_given_up(run, tmp_path):
    now = [0.0]
    keeper = Keeper(run, FACTS, tmp_path / "kept", 1000, clock=lambda: now[0])

    with keeper.deferring_signals():
        now[0] = 100.0
        assert not keeper.has_waited()
        os.kill(os.getpid(), signal.SIGHUP)
        assert not keeper.has_waited()
        now[0] += GRACE + 1
        assert keeper.has_waited()


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link"])
def test_what_is_no_file_is_refused(kind, tmp_path):
    path = tmp_path / "kept"
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "dangling link": lambda: path.symlink_to("absent"),
    }[kind]()

    with pytest.raises(InvalidCheckpoint, match="kept: not a file"):
        read_checkpoint(path, FACTS)


def test_facts_are_those_that_the_file_tells(path):
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))

    assert json.loads(header["__metadata__"]["facts"])["seed"] == 3
    assert checkpoint_path(path).name == "w.checkpoint.checkpoint"
