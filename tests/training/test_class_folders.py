"""Data in folders of pictures, one for each class."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.classifier import load
from service.images import read_image
from service.settings import allowed_cpus
from tests.conftest import ROOT, encode, wait_until
from tests.training.conftest import write_pictures
from training.__main__ import main
from training.data.class_folders import load_pictures
from training.data.dataset import InvalidData
from training.data.sources import load_data
from training.job import split

QUICK = ["--recipe", "pixels", "--epochs", "2"]


@pytest.fixture
def folder(drawn, tmp_path) -> Path:
    """A folder of 20 pictures of each digit."""
    return write_pictures(drawn, tmp_path / "mine", 20)


def test_pictures_are_read_as_the_service_reads_uploads(drawn, tmp_path):
    folder = write_pictures(drawn, tmp_path / "mine", 5, side=84)
    data = load_pictures(folder, seed=0)

    expected = {read_image(path.read_bytes()).tobytes() for path in folder.glob("7/*.png")}
    parts = (data.train, data.test)
    read = {image.tobytes() for part in parts for image in part.images[part.labels == 7]}
    assert read == expected
    assert data.name == "mine"


def test_test_set_is_a_fifth_of_each_class_and_chosen_by_the_seed(folder):
    first, again, other = (load_pictures(folder, seed) for seed in (0, 0, 1))

    assert np.bincount(first.test.labels).tolist() == [4] * 10
    assert np.bincount(first.train.labels).tolist() == [16] * 10
    assert first.sha256() == again.sha256() != other.sha256()


def test_every_seed_has_every_class_in_all_three_sets(folder, tmp_path):
    for seed in range(20):
        parts = split(load_data(str(folder), tmp_path, seed), tuple(range(10)), None, seed)

        counts = [np.bincount(part.labels).tolist() for part in parts]
        assert counts == [[14] * 10, [2] * 10, [4] * 10]


def test_own_pictures_are_trained_on_without_synthetic_digits(folder, tmp_path, capsys):
    path = tmp_path / "w"

    assert main(["--data", str(folder), "--output", str(path)]) == 0

    assert "training on 1,400 rows, with 1,260 augmented copies\n" in capsys.readouterr().out
    saved = load(path)
    assert (saved.training["recipe"], saved.training["drawn"], saved.detector) == ("own", 0, None)
    assert saved.training["epochs"] * 14 >= 1_000  # steps
    assert saved.evaluation["accuracy"] > 0.9


def test_folders_below_a_class_folder_and_links_to_files_are_read(folder):
    (folder / "7" / "alice").mkdir()
    picture = next((folder / "7").glob("*.png"))
    (folder / "7" / "alice" / "1.png").write_bytes(picture.read_bytes())
    (folder / "7" / "alice" / "2.png").symlink_to(picture)
    (folder / "7" / "alice" / "round").symlink_to(folder / "7")
    (folder / "7" / ".hidden").write_text("of the system")

    data = load_pictures(folder, seed=0)

    assert sum((part.labels == 7).sum() for part in (data.train, data.test)) == 22


def test_pictures_that_cannot_be_read_are_listed_with_reasons_and_left_out(folder, capsys):
    (folder / "3" / "blank.png").write_bytes(encode(np.full((50, 50), 255, np.uint8)))
    (folder / "3" / "notes.txt").write_text("three")
    (folder / "3" / "huge.png").write_bytes(encode(Image.new("1", (6000, 6000))))
    (folder / "3" / "broken").symlink_to("nowhere")
    os.mkfifo(folder / "3" / "pipe")

    data = load_pictures(folder, seed=0)

    err = capsys.readouterr().err
    assert "5 of 205 pictures cannot be read:\n" in err
    for name, reason in {
        "blank.png": "no digit",
        "notes.txt": "",
        "huge.png": "25,000,000",
        "broken": "not a file",
        "pipe": "not a file",
    }.items():
        assert f"  {folder}/3/{name}: " in err
        assert reason in err.partition(f"{name}: ")[2].partition("\n")[0]
    assert len(data.train) + len(data.test) == 200


def test_long_list_of_unreadable_pictures_is_cut(folder, capsys):
    for i in range(50):
        (folder / "3" / f"{i}.txt").write_text("three")

    load_pictures(folder, seed=0)

    err = capsys.readouterr().err
    assert err.count("\n") == 22
    assert err.endswith("  and 30 more\n")


def test_classes_are_those_of_the_folders(drawn, tmp_path, capsys):
    folder = write_pictures(drawn, tmp_path / "mine", 6, classes=(3, 8))

    assert main(["--data", str(folder), *QUICK, "--output", str(tmp_path / "w")]) == 0

    assert "classes 3, 8\n" in capsys.readouterr().out
    assert load(tmp_path / "w").classes == (3, 8)


@pytest.mark.parametrize(
    ("names", "n_train"),
    [(("train", "test"), 4), (("Training", "Testing"), 4), (("train", "test", "val"), 6)],
)
def test_pictures_that_are_split_already_stay_split(names, n_train, drawn, tmp_path):
    for name, n in zip(names, (4, 1, 2), strict=False):
        write_pictures(drawn, tmp_path / "mine" / name, n)

    data = load_data(str(tmp_path / "mine"), tmp_path)

    assert np.bincount(data.train.labels).tolist() == [n_train] * 10
    assert np.bincount(data.test.labels).tolist() == [1] * 10


def split_already(drawn, folder: Path, n_train: int = 2, n_val: int = 1) -> Path:
    """Write pictures of 3 and 8 to train on, to validate and to test on."""
    for name, n in (("train", n_train), ("val", n_val), ("test", 1)):
        write_pictures(drawn, folder / name, n, classes=(3, 8))
    return folder


@pytest.mark.parametrize("n_train", [1, 2])
def test_one_picture_of_a_class_in_val_is_enough(n_train, drawn, tmp_path):
    folder = split_already(drawn, tmp_path / "mine", n_train)

    assert len(load_pictures(folder, seed=0).train) == 2 * (n_train + 1)


def test_digit_with_one_picture_to_train_on_is_refused(drawn, tmp_path):
    folder = split_already(drawn, tmp_path / "mine")
    shutil.rmtree(folder / "val" / "8")
    next((folder / "train" / "8").iterdir()).unlink()

    with pytest.raises(InvalidData, match="mine: 1 pictures of the digit 8 to train on"):
        load_pictures(folder, seed=0)


def test_digits_that_are_only_tested_on_are_refused_and_named(drawn, tmp_path):
    folder = split_already(drawn, tmp_path / "mine")
    write_pictures(drawn, folder / "test", 1, classes=(0, 5))
    write_pictures(drawn, folder / "val", 2, classes=(0,))

    with pytest.raises(InvalidData, match=r"test has digits that are in no folder to train on: 5$"):
        load_pictures(folder, seed=0)


def test_pictures_beside_train_and_test_are_listed(drawn, tmp_path, capsys):
    folder = split_already(drawn, tmp_path / "mine")
    (folder / "scan.png").write_bytes(next(folder.glob("val/3/*.png")).read_bytes())
    (folder / "labels.csv").write_text("scan.png,3")

    load_pictures(folder, seed=0)

    err = capsys.readouterr().err
    assert err.startswith("1 of 9 pictures cannot be read:\n")
    assert f"  {folder}/scan.png: not in a folder named 0 to 9\n" in err
    assert "labels.csv" not in err


@pytest.mark.parametrize("name", ["seven", "10", "unlabelled"])
def test_folder_that_is_no_class_is_an_error_and_is_not_ignored(name, folder, capsys):
    (folder / name).mkdir()

    assert main(["--data", str(folder), *QUICK]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert f"mine has folders that are no classes: {name}; name each folder by its digit" in line


def test_folders_of_programs_are_no_classes_and_no_error(folder):
    for name in (".git", "__MACOSX", "@eaDir"):
        (folder / name / "7").mkdir(parents=True)

    assert len(load_pictures(folder, seed=0).train) == 160


def test_pictures_outside_the_class_folders_are_listed(folder, capsys):
    (folder / "scan.png").write_bytes(next(folder.glob("7/*.png")).read_bytes())
    (folder / "labels.csv").write_text("scan.png,7")

    load_pictures(folder, seed=0)

    err = capsys.readouterr().err
    assert "1 of 201 pictures cannot be read:\n" in err
    assert f"  {folder}/scan.png: not in a folder named 0 to 9\n" in err
    assert "labels.csv" not in err


def test_three_pictures_of_a_class_are_enough_and_two_are_not(drawn, tmp_path, capsys):
    few = write_pictures(drawn, tmp_path / "few", 3)
    flags = [*QUICK, "--output", str(tmp_path / "w")]
    assert main(["--data", str(few), *flags]) == 0

    next((few / "4").iterdir()).unlink()

    assert main(["--data", str(few), *flags]) == 1
    assert f"{few}/4: 2 pictures that can be read; a digit needs 3" in capsys.readouterr().err


def test_single_class_and_empty_class_folders_are_refused(drawn, tmp_path, capsys):
    single = write_pictures(drawn, tmp_path / "single", 6, classes=(3,))
    flags = [*QUICK, "--output", str(tmp_path / "w")]

    assert main(["--data", str(single), *flags]) == 1
    assert "single has only the digit 3; two or more are needed" in capsys.readouterr().err

    (single / "5").mkdir()
    assert main(["--data", str(single), *flags]) == 1
    assert f"{single}/5: 0 pictures that can be read" in capsys.readouterr().err


def test_many_pictures_are_read_in_parallel_to_the_same_digits(folder, monkeypatch):
    alone = load_pictures(folder, seed=0).sha256()

    monkeypatch.setattr("training.data.class_folders.allowed_cpus", lambda: 2)
    monkeypatch.setattr("training.data.class_folders.MIN_PARALLEL", 20)

    assert load_pictures(folder, seed=0).sha256() == alone


def test_interrupt_while_pictures_are_read_ends_the_run_without_a_traceback(drawn, tmp_path):
    folder = write_pictures(drawn, tmp_path / "mine", 6, classes=(3, 8))
    photo = encode(Image.effect_noise((1000, 1000), 90))
    for i in range(400):
        os.link(folder / "3" / "first", folder / "3" / f"{i}") if i else (
            (folder / "3" / "first").write_bytes(photo)
        )
    job = subprocess.Popen(
        [sys.executable, "-m", "training", "--data", str(folder), "--output", str(tmp_path / "w")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        if allowed_cpus() > 1:
            wait_until(lambda: children(job.pid) and not ignores_interrupts(job.pid))
        else:
            time.sleep(6)  # no other process reads
        assert job.poll() is None
        os.killpg(job.pid, signal.SIGINT)  # as a terminal does
        _, err = job.communicate(timeout=60)
    finally:
        job.kill()

    assert job.returncode == 130
    assert "Traceback" not in err
    assert "stopped; nothing was saved" in err


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ignores_interrupts(pid: int) -> bool:
    """Return whether a process ignores Ctrl-C, as the job does while it starts the others."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigIgn:")[2].split()[0], 16) >> (signal.SIGINT - 1) & 1)


@pytest.mark.parametrize("name", ["3/w", "7/below/w"])
def test_output_among_the_pictures_is_refused(name, folder, capsys):
    assert main(["--data", str(folder), *QUICK, "--output", str(folder / name)]) == 1

    assert f"{folder}/{name} is a file of --data" in capsys.readouterr().err


@pytest.mark.usefixtures("few_corrupted")
def test_report_tests_a_model_on_the_pictures_that_it_was_not_trained_on(folder, tmp_path, capsys):
    path = tmp_path / "w"
    flags = ["--data", str(folder)]
    assert main([*flags, *QUICK, "--seed", "5", "--output", str(path)]) == 0
    capsys.readouterr()

    assert main(["report", str(path), *flags]) == 0

    assert "was trained on" not in capsys.readouterr().out  # the same digits by their digest


@pytest.mark.usefixtures("few_corrupted")
def test_report_finds_the_pictures_that_a_model_was_trained_on(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["--data", folder.name, *QUICK]) == 0

    assert main(["report"]) == 0
    assert "was trained on" not in capsys.readouterr().out

    folder.rename(tmp_path / "elsewhere")
    assert main(["report"]) == 1
    reason = "digits.safetensors was trained on mine, which is not in this folder; name it with"
    assert reason in capsys.readouterr().err


@pytest.mark.usefixtures("few_corrupted")
def test_report_does_not_take_a_folder_for_mnist_by_its_name(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder.rename(tmp_path / "MNIST_mine")
    assert main(["--data", "MNIST_mine", *QUICK]) == 0

    assert main(["report"]) == 0
    assert "was trained on" not in capsys.readouterr().out


def test_sweep_over_seeds_splits_the_pictures_by_each_seed(folder, tmp_path):
    flags = ["sweep", "--data", str(folder), *QUICK, "--over", "seed=1,2"]

    assert main([*flags, "--output", str(tmp_path)]) == 0

    digests = [
        load(tmp_path / f"seed={seed}" / "digits.safetensors").training["sha256"] for seed in (1, 2)
    ]
    assert digests == [load_pictures(folder, seed).sha256() for seed in (1, 2)]


def test_empty_class_folders_raise_invalid_data(tmp_path):
    (tmp_path / "0").mkdir()

    with pytest.raises(InvalidData, match="0 pictures"):
        load_pictures(tmp_path, seed=0)
