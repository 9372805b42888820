"""The folder of corrections, whoever writes it and whatever is in it."""

import concurrent.futures
import json
import multiprocessing
import resource
from pathlib import Path

import pytest

from service import feedback
from service.feedback import (
    MAX_RECORD_BYTES,
    NotKept,
    UnknownCorrection,
    corrections,
    erase,
    keep,
    make_folder,
)
from service.settings import InvalidSetting, read_settings
from tests.conftest import encode

ANSWER = {"digit": 9, "probability": 0.6, "is_digit": 0.9, "model": "3f9a1c22b07e"}
SECONDS = 1_800_000_000


@pytest.fixture
def pictures(drawn) -> list[bytes]:
    return [encode(image) for image in drawn.test.images[:30]]


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_correction_is_kept_with_the_original_bytes(pictures, tmp_path):
    name = keep(tmp_path, pictures[0], 4, ANSWER, SECONDS)

    (kept,) = corrections(tmp_path)
    assert kept.picture == tmp_path / f"{name}.png"
    assert kept.picture.read_bytes() == pictures[0]
    assert kept[1:] == (4, ANSWER, "2027-01-15T08:00:00Z")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_file_is_named_after_its_format(drawn, tmp_path, kind):
    keep(tmp_path, encode(drawn.test.images[0], kind), None, ANSWER, SECONDS)

    (kept,) = corrections(tmp_path)
    assert kept.picture.suffix == f".{kind.lower()}"
    assert kept.digit is None


def test_later_correction_of_a_picture_replaces_the_earlier_one(pictures, tmp_path):
    for i, digit in enumerate((4, None, 7)):
        keep(tmp_path, pictures[0], digit, ANSWER, SECONDS + i)

    assert [each.digit for each in corrections(tmp_path)] == [7]
    assert len(contents(tmp_path)) == 2


def test_corrections_are_listed_from_the_oldest(pictures, tmp_path):
    for i, picture in enumerate(pictures):
        keep(tmp_path, picture, i % 10, ANSWER, SECONDS - i)

    assert [each.digit for each in corrections(tmp_path)] == [i % 10 for i in range(30)][::-1]


def test_full_folder_refuses_new_pictures_and_takes_changes(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(feedback, "MAX_CORRECTIONS", 3)
    for picture in pictures[:3]:
        keep(tmp_path, picture, 1, ANSWER, SECONDS)
    before = contents(tmp_path)

    with pytest.raises(NotKept, match="3 corrections"):
        keep(tmp_path, pictures[3], 1, ANSWER, SECONDS)
    assert contents(tmp_path) == before
    keep(tmp_path, pictures[0], 2, ANSWER, SECONDS)
    erase(tmp_path, [Path(before[0]).stem])
    keep(tmp_path, pictures[3], 1, ANSWER, SECONDS)


def test_bytes_of_the_folder_are_bounded(pictures, tmp_path, monkeypatch):
    most = 3 * MAX_RECORD_BYTES
    monkeypatch.setattr(feedback, "MAX_FOLDER_BYTES", most)

    assert 2 < _keep_all(tmp_path, pictures) < 30
    with pytest.raises(NotKept, match="12,288 bytes"):
        keep(tmp_path, pictures[-1], 1, ANSWER, SECONDS)

    assert sum((tmp_path / name).stat().st_size for name in contents(tmp_path)) <= most


def _keep_limited(folder: Path, picture: bytes, n_bytes: int) -> str:
    """Keep a correction in a process whose files have n_bytes at most."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    try:
        return keep(folder, picture, 1, ANSWER, SECONDS)
    except OSError as error:
        return error.strerror


@pytest.mark.parametrize("n_bytes", [0, 100, 400])
def test_write_that_fails_leaves_nothing_behind(drawn, tmp_path, n_bytes):
    picture = encode(drawn.test.images[0])
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        result = pool.submit(_keep_limited, tmp_path, picture, n_bytes).result()

    if n_bytes < min(len(picture), 400):
        assert result == "File too large"
        assert contents(tmp_path) == []


def _keep_all(folder: Path, pictures: list[bytes]) -> int:
    n = 0
    for picture in pictures:
        try:
            keep(folder, picture, 1, ANSWER, SECONDS)
            n += 1
        except NotKept:  # the folder is full
            continue
    return n


@pytest.mark.slow
def test_processes_that_write_and_erase_at_once_leave_no_half_of_a_correction(pictures, tmp_path):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(3, context) as pool:
        writers = [pool.submit(_keep_all, tmp_path, pictures) for _ in range(3)]
        while not all(writer.done() for writer in writers):
            erase(tmp_path)
            corrections(tmp_path)
    assert all(writer.result() for writer in writers)

    names = contents(tmp_path)
    stems = [Path(name).stem for name in names]
    assert all(stems.count(stem) == 2 for stem in stems)
    assert len(corrections(tmp_path)) == len(names) / 2
    erase(tmp_path)
    assert contents(tmp_path) == []


def test_names_that_do_not_exist_are_refused(pictures, tmp_path):
    keep(tmp_path, pictures[0], 1, ANSWER, SECONDS)

    for name in ("../x", "0" * 24, ".lock", ""):
        with pytest.raises(UnknownCorrection, match="has no correction"):
            erase(tmp_path, [name])
    assert len(corrections(tmp_path)) == 1


def test_erase_leaves_files_of_others(pictures, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "4.json").write_text("mine")
    keep(tmp_path, pictures[0], 1, ANSWER, SECONDS)

    assert erase(tmp_path) == 1
    assert contents(tmp_path) == ["4.json", "notes.txt"]


@pytest.mark.parametrize(
    "change",
    [
        {"picture": "../../etc/passwd"},
        {"picture": "0" * 24 + ".png"},
        {"digit": 10},
        {"digit": True},
        {"digit": "4"},
        {"answer": []},
        {"time": 7},
    ],
)
def test_damaged_record_is_left_out_with_a_warning(pictures, tmp_path, caplog, change):
    keep(tmp_path, pictures[0], 1, ANSWER, SECONDS)
    name = keep(tmp_path, pictures[1], 2, ANSWER, SECONDS)
    record = tmp_path / f"{name}.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))

    assert [each.digit for each in corrections(tmp_path)] == [1]
    assert f"{record}: damaged, left out" in caplog.text
    assert erase(tmp_path) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 4000, b"\xff", b"null", b"{}" + b" " * 9000])
def test_record_of_any_bytes_is_no_error(pictures, tmp_path, content):
    name = keep(tmp_path, pictures[1], 2, ANSWER, SECONDS)
    (tmp_path / f"{name}.json").write_bytes(content)

    assert corrections(tmp_path) == []


def test_folder_is_made_and_must_be_writable(tmp_path):
    assert read_settings({}).feedback_dir is None
    path = tmp_path / "a" / "b"
    assert read_settings({"DIGITS_FEEDBACK_DIR": str(path)}).feedback_dir == path

    make_folder(path)
    make_folder(path)

    assert path.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "x", "/proc/corrections", "x" * 5000):
        with pytest.raises(InvalidSetting, match="DIGITS_FEEDBACK_DIR is"):
            make_folder(Path(path))
