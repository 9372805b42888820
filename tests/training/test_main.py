"""The training job by its command line, on synthetic digits."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from service.classifier import load
from tests.conftest import ROOT, wait_until
from training.__main__ import main
from training.recipes import recipe_of
from training.runs.checkpoints import checkpoint_path

RECIPE = ["--recipe", "pixels", "--epochs", "2"]


@pytest.fixture
def quick(synthetic) -> list[str]:
    """Flags of a run of less than a second."""
    return ["--data", synthetic, *RECIPE]


@pytest.fixture
def run(quick, tmp_path):
    """Train quickly, with more flags, and return the path of the weights file."""

    def run(*flags: str) -> Path:
        path = tmp_path / "digits.safetensors"
        assert main([*quick, *flags, "--output", str(path)]) == 0
        return path

    return run


def test_job_prints_its_data_its_epochs_and_the_evaluation_of_the_saved_file(run, tmp_path, capsys):
    path = run()

    out = capsys.readouterr().out
    saved = load(tmp_path / "digits.safetensors")
    assert "synthetic: 1,250 training rows, 250 validation rows" in out
    assert "epoch 2: loss" in out
    assert f"{path} ({saved.version}), 300 rows of synthetic test" in out
    assert f"accuracy  {saved.evaluation['accuracy']:.4f}" in out
    assert "true \\ read" in out


def test_saved_file_records_its_training(run, tmp_path):
    run("--seed", "5", "--learning-rate", "0.25", "--no-shuffle")

    training = load(tmp_path / "digits.safetensors").training

    assert training["seed"] == 5
    assert training["learning_rate"] == 0.25
    assert training["shuffle"] is False
    assert training["data"] == "synthetic"
    assert len(training["sha256"]) == 64
    assert set(training["versions"]) == {"numpy", "torch"}


def test_saved_file_records_only_the_hyperparameters_that_are_not_the_default(run, tmp_path):
    run()
    usual = load(tmp_path / "digits.safetensors").training
    unusual = {"rule": "adam", "learning_rate": 0.01, "weight_decay": 0.1}
    unusual |= {"warm_up": 5, "gradient": "closed-form", "keep": "average"}
    unusual |= {"schedule": "cosine"}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in unusual.items()]
    run(*flags)
    training = load(tmp_path / "digits.safetensors").training

    assert not {"rule", "weight_decay", "warm_up", "gradient", "keep"} & set(usual)
    assert unusual.items() <= training.items()


@pytest.mark.parametrize(
    "flags", [["--rule", "momentum", "--learning-rate", "0.05"], ["--keep", "average"]]
)
def test_closed_form_trains_with_other_rules(run, flags, tmp_path):
    run("--gradient", "closed-form", "--epochs", "8", *flags)

    assert load(tmp_path / "digits.safetensors").evaluation["accuracy"] > 0.94


def test_best_weights_are_those_of_the_epoch_with_the_lowest_validation_nll(run, tmp_path):
    """At this rate the loss goes up and down: the third epoch is the best of four."""
    flags = ["--learning-rate", "3", "--schedule", "constant"]
    run(*flags, "--epochs", "4", "--keep", "best")
    best = load(tmp_path / "digits.safetensors").weight
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    points = [json.loads(line) for line in lines]
    nll = {p["epoch"]: p["validation"]["nll"] for p in points if "validation" in p}
    epoch = min(nll, key=nll.get)

    run(*flags, "--epochs", str(epoch))

    assert epoch < 4
    np.testing.assert_array_equal(load(tmp_path / "digits.safetensors").weight, best)


def test_article_recipe_has_the_articles_hyperparameters(synthetic, tmp_path):
    path = tmp_path / "w.safetensors"
    flags = ["--data", synthetic, "--recipe", "article"]
    assert main([*flags, "--output", str(path)]) == 0

    training = load(path).training

    assert training["recipe"] == "article"
    assert (training["epochs"], training["batch_size"]) == (2, 64)
    assert (training["learning_rate"], training["schedule"]) == (0.5, "constant")
    assert training["shuffle"] is False
    assert training["features"] == "pixels"


@pytest.mark.slow
def test_default_recipe_makes_the_same_bytes_in_two_processes(synthetic, tmp_path, capsys):
    flags = ["--data", synthetic, "--rows", "500", "--epochs", "2", "--non-digits", "300"]
    flags += ["--recipe", "default", "--drawn", "500", "--output"]
    here, there = tmp_path / "here" / "w", tmp_path / "there" / "w"

    command = [sys.executable, "-m", "training", *flags, str(there)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as other:
        assert main([*flags, str(here)]) == 0
    assert other.returncode == 0

    training = load(here).training
    assert training["features"] == "stroke-waves"
    assert training["augment"] == 9
    assert training["drawn"] == 500
    assert training["rows"] == 1000
    assert training["centre"] is training["calibrate"] is True
    out = capsys.readouterr().out
    assert "with 500 synthetic digits and 4,850 augmented copies" in out
    assert f"temperature {training['temperature']}" in out
    assert load(here).evaluation["accuracy"] > 0.98
    assert 0 < load(here).detector.threshold < 0.5
    recipe = recipe_of("default", {})
    assert (recipe.drawn, recipe.non_digits) == (14000, 24000)
    assert here.read_bytes() == there.read_bytes()
    curves = [path.with_name("metrics.jsonl").read_bytes() for path in (here, there)]
    assert curves[0] == curves[1]


def test_another_seed_makes_another_file(run, tmp_path):
    run("--seed", "1")
    first = load(tmp_path / "digits.safetensors").weight
    run("--seed", "2")

    assert not np.array_equal(first, load(tmp_path / "digits.safetensors").weight)


def test_metrics_record_the_curve(run, tmp_path):
    run("--batch-size", "8")

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    points = [json.loads(line) for line in lines]
    assert [p["step"] for p in points] == [100, 157, 257, 314]
    assert [p["epoch"] for p in points] == [1, 1, 2, 2]
    assert points[0]["loss"] > points[-1]["loss"]
    assert points[-1]["learning_rate"] == pytest.approx(0.5 / 314)
    assert [sorted(p.get("validation", {})) for p in points] == [
        [],
        ["accuracy", "nll"],
        [],
        ["accuracy", "nll"],
    ]


def test_two_classes_make_the_binary_model(run, tmp_path):
    run("--classes", "3,8")

    pair = load(tmp_path / "digits.safetensors")

    assert pair.classes == (3, 8)
    assert not pair.weight[:, 0].any()
    assert pair.evaluation["n"] == 60
    assert pair.evaluation["accuracy"] > 0.95


def test_three_classes_make_a_model_of_three_columns(run, tmp_path):
    run("--classes", "7,1,4")

    assert load(tmp_path / "digits.safetensors").weight.shape == (784, 3)


def test_rows_are_the_first_of_the_training_rows(run, capsys):
    run("--rows", "300")

    assert "300 training rows, 250 validation rows" in capsys.readouterr().out


def test_article_pickle_is_trained_on_by_its_path(tmp_path, drawn, capsys):
    rows = [
        (d.images.reshape(-1, 784) / np.float32(256), d.labels.astype(int))
        for d in (drawn.train, drawn.train, drawn.test)
    ]
    source = tmp_path / "mnist.pkl.gz"
    source.write_bytes(pickle.dumps(tuple(rows)))

    path = tmp_path / "w.safetensors"
    assert main([*RECIPE, "--data", str(source), "--output", str(path)]) == 0
    assert "MNIST, pickled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--epochs", "0"], "'0' is not a whole number from 1"),
        (["--batch-size", "x"], "'x' is not a whole number from 1"),
        (["--learning-rate", "-1"], "'-1' is not a number above 0"),
        (["--learning-rate", "nan"], "'nan' is not a number above 0"),
        (["--learning-rate", "inf"], "'inf' is not a number above 0"),
        (["--learning-rate", "1e39"], "'1e39' is not a number above 0, below 1e38"),
        (["--seed", "-1"], "'-1' is not a whole number from 0"),
        (["--classes", "3"], "'3' is not two or more different digits"),
        (["--classes", "3,3"], "'3,3' is not two"),
        (["--classes", "3,11"], "'3,11' is not two"),
        (["--classes", "a,b"], "'a,b' is not two"),
        (["--schedule", "magic"], "'magic'"),
        (["--rule", "magic"], "'magic'"),
        (["--gradient", "magic"], "'magic'"),
        (["--keep", "magic"], "'magic'"),
        (["--warm-up", "-1"], "'-1' is not a whole number from 0"),
        (["--weight-decay", "-1"], "'-1' is not a number from 0 to 1"),
        (["--weight-decay", "2"], "'2' is not a number from 0 to 1"),
        (["--shards", "0"], "'0' is not a whole number from 1"),
        (["--checkpoint-every", "-1"], "'-1' is not a number of seconds"),
        (["--device", "magic"], "'magic' is not cpu, or cuda"),
        (["--features", "magic"], "'magic'"),
        (["--recipe", "magic"], "'magic'"),
    ],
)
def test_bad_flag_is_an_error_with_its_value(flags, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(flags)

    assert stop.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data", "/absent"], "/absent is neither a file nor a folder; accepted are"),
        (["--data", "/dev/null"], "/dev/null"),
        (["--data", str(ROOT / "docs")], ".svg; accepted are"),
        (["--data", "~nobody/here"], "~nobody/here is neither a file nor a folder"),
        (["--rows", "3"], "the 3 training rows lack the digits"),
        (["--learning-rate", "9e37"], "lower --learning-rate"),
    ],
)
def test_job_that_fails_prints_one_message_and_writes_nothing(
    quick, flags, words, tmp_path, capsys
):
    assert main([*quick, *flags, "--output", str(tmp_path / "w")]) == 1

    err = capsys.readouterr().err
    assert err.startswith("digits-train: ")
    assert words in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_the_job_with_a_checkpoint_and_leaves_the_output(quick, how, tmp_path):
    path = tmp_path / "digits.safetensors"
    path.write_bytes(b"what was there")
    flags = [*quick, "--epochs", "100000", "--output", str(path)]
    job = subprocess.Popen(
        [sys.executable, "-m", "training", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        # a script that runs the tests in the background has its children ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        for line in job.stdout:
            if "epoch 2" in line:
                break
        job.send_signal(how)
        _, err = job.communicate(timeout=30)
    finally:
        job.kill()

    checkpoint = checkpoint_path(path)
    assert job.returncode == 130
    assert re.search(f"stopped at step \\d+; resume from {checkpoint} with --resume", err)
    assert "Traceback" not in err
    assert path.read_bytes() == b"what was there"
    assert sorted(tmp_path.iterdir()) == [path, checkpoint]


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_job_resumes_to_the_same_bytes(kills, quick, tmp_path, capsys):
    """Killed by SIGKILL within an epoch; the flags need the whole state of a run."""
    flags = [*quick, "--epochs", "30", "--rule", "adam", "--learning-rate", "0.001"]
    flags += ["--keep", "average", "--batch-size", "8"]
    whole, cut = tmp_path / "whole" / "w", tmp_path / "cut" / "w"
    assert main([*flags, "--output", str(whole)]) == 0
    steps = []
    flags += ["--resume", "--checkpoint-every", "0.01", "--output", str(cut)]

    for _ in range(kills):
        command = [sys.executable, "-m", "training", *flags]
        job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        written = when_written(checkpoint_path(cut))
        wait_until(lambda was=written: when_written(checkpoint_path(cut)) > was)
        job.kill()
        said, _ = job.communicate()
        steps += re.findall(r"resuming from step (\d+)", said)
    assert not cut.exists()
    capsys.readouterr()
    assert main(flags) == 0

    steps += re.findall(r"resuming from step (\d+)", capsys.readouterr().out)
    assert len(steps) == kills
    assert cut.read_bytes() == whole.read_bytes()
    curves = [path.with_name("metrics.jsonl").read_bytes() for path in (cut, whole)]
    assert curves[0] == curves[1]
    assert not checkpoint_path(cut).exists()


def when_written(path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def test_closed_stdout_ends_the_run_with_a_checkpoint(quick, tmp_path):
    path = tmp_path / "w"
    flags = [*quick, "--epochs", "3000", "--output", str(path)]
    job = subprocess.Popen(
        [sys.executable, "-m", "training", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    job.stdout.readline()
    job.stdout.close()

    err = job.stderr.read().decode()
    job.wait(timeout=60)
    job.stderr.close()

    assert job.returncode == 1
    assert "Broken pipe" in err
    assert checkpoint_path(path).exists()


def test_interrupt_after_the_last_step_leaves_a_checkpoint(quick, tmp_path, monkeypatch, capsys):
    path = tmp_path / "w"

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("training.job.export", interrupt)
    assert main([*quick, "--output", str(path)]) == 130
    assert f"resume from {checkpoint_path(path)} with --resume" in capsys.readouterr().err
    monkeypatch.undo()

    assert main([*quick, "--resume", "--output", str(path)]) == 0
    assert not checkpoint_path(path).exists()


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=pytest.mark.slow),
    ],
)
def test_help_prints_in_encodings_without_greek_letters(variables):
    run = subprocess.run(
        [sys.executable, "-m", "training", "--help"],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
    )

    assert run.returncode == 0


def test_resume_of_a_finished_run_leaves_it_unchanged(run, tmp_path, capsys):
    path = tmp_path / "digits.safetensors"
    run()
    written = path.stat().st_mtime_ns

    run("--resume")

    assert f"{path} exists: this run is already finished" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == written
    run("--resume", "--seed", "1")
    assert load(path).training["seed"] == 1


def test_light_images_cause_a_warning(run, tmp_path, drawn, capsys):
    folder = tmp_path / "dark"
    folder.mkdir()
    for part, digits in (("train", drawn.train), ("test", drawn.test)):
        np.save(folder / f"{part}-images.npy", 255 - digits.images)
        np.save(folder / f"{part}-labels.npy", digits.labels)

    run("--data", str(folder))

    assert "the images are mostly light" in capsys.readouterr().out


def test_weights_too_large_to_serve_are_reported_as_divergence(quick, tmp_path, capsys):
    path = tmp_path / "digits.safetensors"

    assert main([*quick, "--learning-rate", "1e7", "--output", str(path)]) == 1

    assert "lower --learning-rate (now" in capsys.readouterr().err


def test_loss_of_an_epoch_is_the_mean_of_its_own_steps(run, tmp_path):
    run("--epochs", "3", "--batch-size", "250")  # 5 steps an epoch

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == 3
    assert losses[0] > 1.5 * losses[2]


def test_resume_without_a_checkpoint_starts_a_new_run(run, capsys):
    path = run("--resume")

    assert f"no checkpoint {path}.checkpoint: starting a new run" in capsys.readouterr().out


def test_damaged_checkpoint_is_refused_and_kept(quick, tmp_path, capsys):
    path = tmp_path / "digits.safetensors"
    checkpoint = checkpoint_path(path)
    checkpoint.write_bytes(b"not a checkpoint")

    assert main([*quick, "--resume", "--output", str(path)]) == 1

    assert f"{checkpoint}: damaged or not a checkpoint" in capsys.readouterr().err
    assert checkpoint.read_bytes() == b"not a checkpoint"
    assert not path.exists()


def test_run_without_resume_reports_that_it_replaces_a_checkpoint(run, tmp_path, capsys):
    checkpoint = tmp_path / "digits.safetensors.checkpoint"
    checkpoint.write_bytes(b"of a run that was stopped")

    run()

    expected = f"starting a new run; --resume would have continued from {checkpoint}"
    assert expected in capsys.readouterr().out
    assert not checkpoint.exists()


def test_missing_device_is_refused(quick, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(SystemExit) as stop:
        main([*quick, "--device", "cuda"])

    assert stop.value.code == 2
    assert "is not cpu, or cuda where torch finds a CUDA device" in capsys.readouterr().err


def test_closed_form_is_refused_on_other_devices(quick, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(SystemExit) as stop:
        main([*quick, "--device", "cuda", "--gradient", "closed-form"])

    assert stop.value.code == 2
    assert "--gradient closed-form runs on the CPU only" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_job_on_cuda_learns_the_weights_of_the_cpu(run, tmp_path):
    run()
    on_cpu = load(tmp_path / "digits.safetensors").weight
    run("--device", "cuda")

    on_cuda = load(tmp_path / "digits.safetensors")
    np.testing.assert_allclose(on_cuda.weight, on_cpu, rtol=1e-3, atol=1e-4)
    assert on_cuda.training["device"] == "cuda"


@pytest.mark.parametrize(
    "output", [".", "/", "/dev/null", "metrics.jsonl", "x" * 250, "file/below/w"]
)
def test_output_that_cannot_be_written_is_refused_before_the_training(
    quick, output, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(SystemExit) as stop:
        main([*quick, "--output", output])

    assert stop.value.code == 2
    assert repr(output) in capsys.readouterr().err


def test_output_through_a_link_replaces_its_target(quick, tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "w", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)

    assert main([*quick, "--output", str(link)]) == 0

    assert link.is_symlink()
    assert load(target).version == load(link).version


def test_classes_without_test_rows_are_refused(tmp_path, drawn, capsys):
    few = drawn.test.rows(0, 3)
    parts = [
        (d.images.reshape(-1, 784) / np.float32(256), d.labels.astype(int))
        for d in (drawn.train, drawn.train, few)
    ]
    source = tmp_path / "mnist.pkl.gz"
    source.write_bytes(pickle.dumps(tuple(parts)))

    status = main(["--data", str(source), "--output", str(tmp_path / "w")])

    assert status == 1
    lacking = ", ".join(str(digit) for digit in range(10) if digit not in few.labels)
    assert f"the 3 test rows lack the digits {lacking}; add rows" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "module",
    [
        "torch._C",
        pytest.param("numpy", marks=pytest.mark.slow),
        pytest.param("training.cli", marks=pytest.mark.slow),
    ],
)
def test_interrupt_during_the_imports_prints_one_line(module):
    job = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "training", "check"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        for line in job.stderr:
            if line.split("|")[-1].strip() == module:  # it is imported
                break
        job.send_signal(signal.SIGINT)
        _, err = job.communicate(timeout=60)
    finally:
        job.kill()

    assert job.returncode == 130
    assert err.endswith("\ndigits-train: stopped; nothing was saved\n")
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["train", "sweep", "check", "report"])
def test_unknown_setting_is_refused_with_what_was_meant(command, monkeypatch, capsys):
    monkeypatch.setenv("DIGITS_MNITS", "/data")

    assert main([command]) == 1

    expected = "digits-train: unknown setting DIGITS_MNITS; did you mean DIGITS_MNIST?\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("batch_size", ["64", "2000000000"])
def test_more_shards_than_rows_in_a_batch_are_refused(batch_size, quick, tmp_path, capsys):
    flags = [*quick, "--shards", "2000000000", "--batch-size", batch_size]

    assert main([*flags, "--output", str(tmp_path / "w")]) == 1

    n = {"64": "64", "2000000000": "1,250"}[batch_size]
    expected = f"--shards 2000000000: a batch has only {n} rows; use at most so many"
    assert expected in capsys.readouterr().err


def test_as_many_shards_as_rows_in_a_batch_are_accepted(run):
    run("--shards", "64", "--epochs", "1")
