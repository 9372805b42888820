"""The command classify: answers, their formats, failures, interruptions."""

import csv
import io
import json
import os
import pty
import resource
import shlex
import signal
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.app import create_app
from service.classifier import load
from service.local.answers import NO_DIGIT
from service.local.tasks import IMAGES, PICTURES, tasks
from service.settings import EMBEDDED_WEIGHTS
from tests.conftest import ROOT, encode, wait_until
from tests.web.test_several import picture_of

DIGIT = ROOT / "docs" / "digit.png"
COMMAND = [sys.executable, "-m", "service", "classify"]
HEAD = "file,digit,probability,is_digit,error"
FIVE = "5,0.9999948,0.9999465,"


def environment(**settings: str) -> dict[str, str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("DIGITS_")}
    return plain | {"PYTHONPATH": str(ROOT)} | settings


def run(folder: Path, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@contextmanager
def started(folder: Path, *arguments: object, **options) -> Iterator[subprocess.Popen[str]]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    command, limit = [*COMMAND, *map(str, arguments)], options.pop("limit", None)

    def prepare() -> None:
        # a script that runs the tests in the background has its children ignore Ctrl-C
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if limit:
            resource.setrlimit(*limit)

    options["preexec_fn"] = prepare
    with subprocess.Popen(command, cwd=folder, env=environment(), text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder of pictures that take a process a second or two."""
    (tmp_path / "many").mkdir()
    for i in range(10 * PICTURES):
        (tmp_path / "many" / f"{i:04}.png").symlink_to(DIGIT)
    return tmp_path


@pytest.fixture(scope="module")
def client():
    return create_app(load(EMBEDDED_WEIGHTS)).test_client()


def test_answers_are_written_in_the_order_of_the_names(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/2.png", "b/10.png", "b/c/1.png", "b/.hidden.png", "a.png"):
        (tmp_path / name).write_bytes(DIGIT.read_bytes())

    result = run(tmp_path, "b", "a.png", "b/2.png", "a.png")

    assert (result.returncode, result.stderr) == (0, "")
    names = ["b/10.png", "b/2.png", "b/c/1.png", "a.png", "b/2.png", "a.png"]
    assert result.stdout.splitlines() == [HEAD, *(f"{name},{FIVE}" for name in names)]


def test_pictures_arrays_and_folders_are_tasks_in_the_order_of_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for i in range(3):
        (tmp_path / "folder" / f"{i}.png").symlink_to(DIGIT)
    np.save("images.npy", np.zeros((IMAGES + 1, 28, 28), np.uint8))
    many = ["a.png"] * PICTURES

    found = [(task.paths, len(task.images)) for task in tasks([*many, "folder", "images.npy"], "")]

    folder = [f"folder/{i}.png" for i in range(3)]
    assert found == [(many, 0), (folder, 0), (["images.npy"], IMAGES), (["images.npy"], 1)]


def test_images_of_an_array_have_the_answers_of_a_bulk_request(tmp_path, client, drawn):
    odd = np.stack([255 - drawn.test.images[0], np.zeros((28, 28), np.uint8)])
    images = np.concatenate([drawn.train.images[:100].repeat(11, 0), odd])
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "columns.npy", np.asfortranarray(images))
    np.save(tmp_path / "flat.npy", images.reshape(-1, 784))

    results = [run(tmp_path, f"{name}.npy") for name in ("images", "columns", "flat")]

    reply = client.post("/predict", data=images.tobytes(), content_type="application/octet-stream")
    found = rows(results[0].stdout)
    assert len(found) == len(images) > IMAGES
    for i, (row, one) in enumerate(zip(found, reply.json["predictions"], strict=True)):
        assert row.pop("file") == f"images.npy[{i}]"
        if "error" in one:
            assert row["error"] == one["error"]["detail"]
            assert row["digit"] == row["probability"] == ""
        else:
            values = one["digit"], one["probability"], one["is_digit"]
            assert row == dict(zip(row, [*map(str, values), ""], strict=True))
    for result in results:
        assert result.returncode == 1
        assert [list(row.values())[1:] for row in rows(result.stdout)] == [
            list(row.values()) for row in found
        ]
    n = sum(row["error"] != "" for row in found)
    assert results[0].stderr == (
        f"digits: {n} of 1,102 could not be read: see the column 'error'\n"
    )


def test_formats_have_the_same_answers(tmp_path):
    Image.new("L", (40, 40)).save(tmp_path / "blank.png")
    names = [DIGIT, ROOT / "docs" / "coverage.png", "blank.png"]

    for suffix in ("csv", "jsonl", "npy"):
        assert run(tmp_path, *names, "--output", f"answers.{suffix}").returncode == 1

    as_csv = rows((tmp_path / "answers.csv").read_text())
    as_json = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    array = np.load(tmp_path / "answers.npy")
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in as_json] == as_csv
    assert [row["digit"] for row in as_json] == [5, None, None]
    assert [row["error"] for row in as_json][:2] == [None, "this does not look like a digit"]
    assert as_json[2]["error"].startswith("no digit found: the picture is blank")
    np.testing.assert_array_equal(array["digit"], [5, NO_DIGIT, NO_DIGIT])
    for name in ("probability", "is_digit"):
        values = [np.nan if row[name] is None else row[name] for row in as_json]
        np.testing.assert_allclose(array[name], values, rtol=1e-6)
    assert array["probabilities"].shape == (3, 10)
    assert array["probabilities"][0, 5] == array["probability"][0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_several_reads_numbers_with_the_values_of_the_digits(tmp_path, client, drawn):
    images = np.stack([drawn.test.images[drawn.test.labels == digit][0] for digit in (2, 0, 7)])
    (tmp_path / "207.png").write_bytes(encode(picture_of(images)))

    refused = run(tmp_path, "207.png")
    for suffix in ("csv", "jsonl"):
        assert run(tmp_path, "207.png", "--several", "--output", f"n.{suffix}").returncode == 0

    assert refused.returncode == 1
    assert rows(refused.stdout)[0]["error"] == (
        "the picture holds 3 digits: use --several, or pictures of one"
    )
    upload = (tmp_path / "207.png").read_bytes()
    reply = client.post("/predict?several=1", data=upload, content_type="image/png").json
    found = json.loads((tmp_path / "n.jsonl").read_text())
    assert (found["file"], found["number"], found["error"]) == ("207.png", reply["number"], None)
    assert found["probability"] == pytest.approx(reply["probability"], rel=1e-6)
    for ours, theirs in zip(found["digits"], reply["digits"], strict=True):
        assert {k: v for k, v in theirs.items() if k != "probabilities"} == ours
    (row,) = rows((tmp_path / "n.csv").read_text())
    assert list(row) == ["file", "number", "probability", "digits", "error"]
    assert (row["number"], json.loads(row["digits"])) == (found["number"], found["digits"])


def test_what_cannot_be_read_is_an_error_in_its_row(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "large.png").write_bytes(DIGIT.read_bytes() + bytes(2**16))
    (tmp_path / "notes.txt").write_text("seven")
    (tmp_path / "truncated.png").write_bytes(DIGIT.read_bytes()[:300])

    result = run(tmp_path, ".", DIGIT, "missing.png", DIGITS_MAX_BYTES=str(2**16))

    errors = {row["file"]: row["error"] for row in rows(result.stdout)}
    reasons = {
        **{"./pipe.png": "a pipe or a device", "./loop": "Is a directory"},
        **{"./dangling.png": "No such file or directory", "./empty.png": "not a picture"},
        **{"./large.png": "more than 65,536 bytes", "./notes.txt": "not a picture"},
        **{"./truncated.png": "damaged", "missing.png": "No such file", str(DIGIT): ""},
    }
    assert result.returncode == 1
    assert set(errors) == set(reasons)
    assert not [name for name in errors if reasons[name] not in errors[name]]


def test_file_names_of_any_bytes_are_written_as_text(tmp_path):
    names = [b"caf\xe9.png", b"a,b.png", b'quo"te.png', b"two\nlines.png", b"re\rturn.png"]
    names += ["sieben\N{LATIN SMALL LETTER U WITH DIAERESIS}.png".encode()]
    for name in names:
        os.symlink(os.fsencode(DIGIT), os.path.join(os.fsencode(tmp_path), name))

    assert run(tmp_path, ".", "--output", tmp_path / "answers.csv").returncode == 0
    assert run(tmp_path, "--output", "answers.jsonl", *sorted(names)).returncode == 1

    shown = {row["file"] for row in rows((tmp_path / "answers.csv").read_bytes().decode())}
    assert shown == {
        *("./caf\\xe9.png", "./a,b.png", './quo"te.png', "./two\nlines.png"),
        *("./re\\x0dturn.png", "./siebenü.png"),
    }


def test_output_among_the_pictures_is_none_of_them(tmp_path):
    (tmp_path / "7.png").write_bytes(DIGIT.read_bytes())

    for _ in range(2):
        result = run(tmp_path, ".", "--output", "answers.csv")

    assert result.returncode == 0
    assert (tmp_path / "answers.csv").read_text() == f"{HEAD}\n./7.png,{FIVE}\n"


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "npy"])
def test_nothing_to_read_gives_no_rows(suffix, tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 28, 28), np.uint8))
    (tmp_path / "empty").mkdir()

    result = run(tmp_path, "none.npy", "empty", "--output", f"answers.{suffix}")

    assert (result.returncode, result.stderr) == (0, "digits: there are no pictures\n")
    if suffix == "npy":
        assert np.load(tmp_path / "answers.npy").shape == (0,)
    else:
        text = (tmp_path / f"answers.{suffix}").read_text()
        assert text == (f"{HEAD}\n" if suffix == "csv" else "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the following arguments are required"),
        ([DIGIT, "--output", "answers.txt"], "'answers.txt' does not end with .csv"),
        ([DIGIT, "--several", "--output", "answers.npy"], "--several is for pictures"),
        (["images.npy", "--several"], "--several is for pictures"),
        (["images.npy", "--output", "./images.npy"], "is one of the pictures"),
    ],
)
def test_wrong_usage_is_explained_with_status_2(arguments, reason, tmp_path):
    result = run(tmp_path, *arguments)

    assert (result.returncode, result.stdout) == (2, "")
    assert "usage: python -m service" in result.stderr
    assert reason in result.stderr


def kinds(folder: Path) -> dict[str, int]:
    """Return the files in a folder, with the kind of each: pipe, link, folder ..."""
    return {path.name: stat.S_IFMT(path.lstat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "settings", "reason"),
    [
        (["missing.npy"], {}, "missing.npy: No such file or directory"),
        (["levels.npy"], {}, "levels.npy: the array is float64 (2, 28, 28); save uint8"),
        (["objects.npy"], {}, "objects.npy: not an .npy file of images: "),
        (["text.npy"], {}, "text.npy: not an .npy file of images: "),
        (["cut.npy"], {}, "cut.npy: not an .npy file of images: "),
        ([DIGIT, "--output", "no/answers.csv"], {}, "no/answers.csv: No such file"),
        ([DIGIT, "--output", "folder.csv"], {}, "folder.csv: Is a directory"),
        ([DIGIT, "--output", f"{'x' * 255}.csv"], {}, "xxx.csv: File name too long"),
        ([DIGIT, "--output", "pipe.csv"], {}, "pipe.csv: not a file"),
        ([DIGIT, "--output", "device.csv"], {}, "device.csv: not a file"),
        (["pipe.npy"], {}, "pipe.npy: not a file"),
        (["folder.npy"], {}, "folder.npy: not a file"),
        ([DIGIT], {"DIGITS_WEIGHTS": "text.npy"}, "not a safetensors file"),
        ([DIGIT], {"DIGITS_MAX_BYTES": "x"}, "DIGITS_MAX_BYTES is 'x'"),
    ],
)
def test_run_that_cannot_begin_fails_with_one_line_and_status_2(
    arguments, settings, reason, tmp_path
):
    np.save(tmp_path / "levels.npy", np.zeros((2, 28, 28)))
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    np.save(tmp_path / "cut.npy", np.zeros((9, 28, 28), np.uint8))
    os.truncate(tmp_path / "cut.npy", 1000)
    (tmp_path / "text.npy").write_text("seven")
    for name in ("pipe.npy", "pipe.csv"):
        os.mkfifo(tmp_path / name)
    terminal, device = pty.openpty()
    (tmp_path / "device.csv").symlink_to(os.ttyname(device))
    for name in ("folder.csv", "folder.npy"):
        (tmp_path / name).mkdir()
    before = kinds(tmp_path)

    result = run(tmp_path, *arguments, **settings)
    os.close(terminal)
    os.close(device)

    assert (result.returncode, result.stdout) == (2, "")
    assert kinds(tmp_path) == before
    (line,) = result.stderr.splitlines()
    assert line.startswith("digits: ")
    assert reason in line


def interrupt(folder: Path, number: int) -> subprocess.CompletedProcess[str]:
    """Start a run on `many`; send it a signal when it has written some rows."""
    partial = folder / ".answers.csv.part"
    with started(folder, "many", "--output", "answers.csv") as process:
        wait_until(lambda: partial.exists() and partial.stat().st_size > len(HEAD) + 1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, "", errors)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_interrupted_run_continues_and_writes_the_same_bytes(number, many):
    stopped = interrupt(many, number)

    assert (stopped.returncode, stopped.stderr) == (
        128 + number,
        "digits: stopped; the same command continues\n",
    )
    assert not (many / "answers.csv").exists()
    n_rows = json.loads((many / ".answers.csv.state").read_text())["rows"]
    assert 0 < n_rows < 10 * PICTURES
    continued = run(many, "many", "--output", "answers.csv")
    assert continued.stderr == f"digits: continuing after {n_rows} rows\n"
    assert continued.returncode == 0
    assert run(many, "many", "--output", "whole.csv").stderr == ""
    assert (many / "answers.csv").read_bytes() == (many / "whole.csv").read_bytes()
    hidden = [path.name for path in many.iterdir() if path.name.startswith(".")]
    assert hidden == []


@pytest.mark.slow
def test_run_begins_again_when_a_picture_the_options_or_the_model_differ(many, tmp_path):
    assert interrupt(many, signal.SIGTERM).returncode == 128 + signal.SIGTERM
    state = (many / ".answers.csv.state").read_bytes()
    part = (many / ".answers.csv.part").read_bytes()
    os.remove(many / "many" / "0003.png")

    for more, settings in (([], {}), ([DIGIT], {}), ([], {"DIGITS_MAX_PIXELS": "90000"})):
        (many / ".answers.csv.state").write_bytes(state)
        (many / ".answers.csv.part").write_bytes(part)
        result = run(many, "many", *more, "--output", "answers.csv", **settings)

        assert (result.returncode, result.stderr) == (0, "")
        names = [row["file"] for row in rows((many / "answers.csv").read_text())]
        assert "many/0003.png" not in names
        assert len(names) == 10 * PICTURES - 1 + len(more)


@pytest.mark.slow
def test_run_that_is_killed_continues_from_its_record_or_the_beginning(many):
    assert interrupt(many, signal.SIGKILL).returncode == -signal.SIGKILL

    assert run(many, "many", "--output", "answers.csv").returncode == 0

    assert len(rows((many / "answers.csv").read_text())) == 10 * PICTURES


@pytest.mark.slow
def test_killed_worker_is_replaced_and_changes_no_answer(many):
    with started(many, "many", "--output", "answers.csv") as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: children.read_text().split())
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        _, errors = process.communicate(timeout=120)

    assert (process.returncode, errors) == (0, "")
    found = rows((many / "answers.csv").read_text())
    assert {tuple(row.values())[1:] for row in found} == {(*FIVE.rstrip(",").split(","), "")}
    assert [row["file"] for row in found] == [f"many/{i:04}.png" for i in range(10 * PICTURES)]


@pytest.mark.slow
def test_two_runs_do_not_write_one_file(many):
    partial = many / ".answers.csv.part"
    with started(many, "many", "--output", "answers.csv") as process:
        wait_until(lambda: partial.exists() and partial.stat().st_size > 0)
        process.send_signal(signal.SIGSTOP)  # on a busy machine it might end before the other
        second = run(many, DIGIT, "--output", "answers.csv")
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=120)

    assert second.returncode == 2
    assert second.stderr == "digits: answers.csv: another run is writing this file\n"
    assert (process.returncode, len(rows((many / "answers.csv").read_text()))) == (0, 320)


def test_reader_that_leaves_ends_the_run_quietly(many):
    with started(many, "many") as process:
        assert process.stdout.readline() == f"{HEAD}\n"
        process.stdout.close()
        errors = process.stderr.read()

    assert (process.returncode, errors) == (141, "")


def test_full_disk_is_an_error_of_one_line(tmp_path):
    with open("/dev/full", "w") as full, started(tmp_path, DIGIT, stdout=full) as process:
        errors = process.stderr.read()

    assert (process.wait(timeout=60), errors) == (
        2,
        "digits: standard output: No space left on device\n",
    )


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "npy"])
def test_run_on_a_full_disk_leaves_no_output_and_continues_later(suffix, many):
    for path in sorted((many / "many").iterdir())[4 * PICTURES :]:
        path.unlink()
    output = f"answers.{suffix}"
    limit = (resource.RLIMIT_FSIZE, (2_000, 2_000))  # bytes
    with started(many, "many", "--output", output, limit=limit) as process:
        errors = process.stderr.read()
    assert (process.wait(timeout=60), errors) == (2, f"digits: {output}: File too large\n")
    assert not (many / output).exists()

    continued = run(many, "many", "--output", output)
    other = run(many, "many", "--output", f"other.{suffix}")

    assert continued.returncode == other.returncode == 0
    assert (many / output).read_bytes() == (many / f"other.{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("redirection", "status", "output", "errors"),
    [
        (">&-", 2, "", "digits: standard output: it is closed\n"),
        ("2>&-", 1, f"{HEAD}\nmissing.png,,,,No such file or directory\n", ""),
    ],
)
def test_closed_streams_show_no_traceback(redirection, status, output, errors, tmp_path):
    command = f"exec {shlex.join(COMMAND)} missing.png {redirection}"
    result = subprocess.run(
        ["sh", "-c", command],
        **{"cwd": tmp_path, "env": environment(), "capture_output": True, "text": True},
        check=False,
        timeout=60,
    )

    assert (result.returncode, result.stdout, result.stderr) == (status, output, errors)


def test_output_that_is_a_link_stays_one(tmp_path):
    (tmp_path / "answers.csv").symlink_to("disk/answers.csv")
    (tmp_path / "disk").mkdir()

    assert run(tmp_path, DIGIT, "--output", "answers.csv").returncode == 0

    assert (tmp_path / "answers.csv").is_symlink()
    assert (tmp_path / "disk" / "answers.csv").read_text() == f"{HEAD}\n{DIGIT},{FIVE}\n"


def test_answers_behind_a_link_are_none_of_the_pictures(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "7.png").write_bytes(DIGIT.read_bytes())
    (tmp_path / "mine" / "again.csv").symlink_to("answers.csv")
    (tmp_path / "answers.csv").symlink_to("mine/answers.csv")
    (tmp_path / "here").symlink_to(".")

    for folder in ("mine", "here/mine"):
        for _ in range(2):
            assert run(tmp_path, folder, "--output", "answers.csv").returncode == 0

        text = (tmp_path / "mine" / "answers.csv").read_text()
        assert text == f"{HEAD}\n{folder}/7.png,{FIVE}\n"


def test_folders_may_be_nested_deeper_than_calls(tmp_path):
    folder, n = os.open(tmp_path, os.O_RDONLY), sys.getrecursionlimit() + 100
    for _ in range(n):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.symlink(DIGIT, "7.png", dir_fd=folder)
    os.close(folder)

    result = run(tmp_path, "d")
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # shutil.rmtree recurses

    assert result.stdout == f"{HEAD}\n{'d/' * n}7.png,{FIVE}\n"


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.2, 0.3])
def test_interrupt_at_the_start_shows_no_traceback(seconds, many):
    with started(many, "many") as process:
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)

    assert "Traceback" not in errors.partition("service/")[2]
    # 1: interrupted in an import; 0: the run was over before
    assert process.returncode in (130, -signal.SIGINT, 1, 0)


def test_progress_is_shown_on_a_terminal_only(many):
    ours, theirs = pty.openpty()
    with started(many, "many", stderr=theirs) as process:
        os.close(theirs)
        answers = process.stdout.read()
        shown = os.read(ours, 2**16).decode()
    os.close(ours)

    assert len(rows(answers)) == 10 * PICTURES
    assert " of 320, " in shown
    assert shown.endswith("\r")


def test_console_script_is_the_same_command(tmp_path):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["digits-classify"].partition(":")
    script = f"from {module} import {function}; {function}()"
    result = subprocess.run(
        [sys.executable, "-c", script, DIGIT], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert result.stdout == run(tmp_path, DIGIT).stdout == f"{HEAD}\n{DIGIT},{FIVE}\n"
