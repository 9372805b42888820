"""Sweeps over hyperparameters."""

import os
import signal
import subprocess
import sys

import pytest

from service.classifier import load
from tests.conftest import ROOT
from training.__main__ import main
from training.results.sweep import Outcome, combinations, plot, table

QUICK = ["sweep", "--recipe", "pixels", "--epochs", "2"]


def test_sweep_trains_at_every_rate_and_marks_the_best(source, tmp_path, capsys):
    folder = tmp_path / "rates"
    over = ["--over", "learning-rate=0.001,0.5,9e37"]

    assert main([*QUICK, "--data", source, *over, "--output", str(folder)]) == 0

    out = capsys.readouterr().out
    crawls, best, overshoots = out.splitlines()[-5:-2]
    assert crawls.startswith("learning-rate=0.001")
    assert best.endswith("best")
    assert float(crawls.split()[1]) > float(best.split()[1])
    assert overshoots.split() == ["learning-rate=9e37", "diverged"]
    assert "lower --learning-rate" in out
    names = {path.name for path in folder.iterdir() if any(path.parent.glob("*"))}
    assert {"learning-rate=0.001", "learning-rate=0.5", "sweep.svg"} <= names
    assert "learning-rate=0.5" in (folder / "sweep.svg").read_text()
    weights = load(folder / "learning-rate=0.5" / "digits.safetensors")
    assert weights.training["learning_rate"] == 0.5


def test_several_flags_are_combined(source, tmp_path, capsys):
    over = ["--over", "rule=descent,nesterov", "--over", "batch-size=50,100"]

    assert main([*QUICK, "--data", source, *over, "--output", str(tmp_path)]) == 0

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "rule=descent,batch-size=100",
        "rule=descent,batch-size=50",
        "rule=nesterov,batch-size=100",
        "rule=nesterov,batch-size=50",
        "sweep.svg",
    ]
    assert capsys.readouterr().out.count("best") == 1


def test_figures_are_those_of_the_weights_that_were_kept(source, tmp_path, capsys):
    over = ["--over", "keep=last,average", "--learning-rate", "2"]

    assert main([*QUICK, "--data", source, *over, "--output", str(tmp_path)]) == 0

    last, average = capsys.readouterr().out.splitlines()[-4:-2]
    assert last.split()[1] == average.split()[1]  # the loss at the end of the same run
    assert last.split()[3] != average.split()[3]


def test_interrupted_sweep_reports_the_finished_runs(source, tmp_path):
    command = [sys.executable, "-m", "training", *QUICK, "--data", source]
    command += ["--over", "epochs=2,100000", "--output", str(tmp_path)]
    job = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in job.stdout:
        if line.startswith("2 of 2"):
            break
    for line in job.stdout:
        if "epoch 2:" in line:
            break
    job.send_signal(signal.SIGTERM)
    out, err = job.communicate(timeout=60)

    assert job.returncode == 130
    assert "--resume" in err
    assert "best" in out
    assert (tmp_path / "sweep.svg").exists()


@pytest.mark.parametrize(
    "values", [["seed=1", "--over", "seed=2"], ["seed=1", "--outp", "elsewhere"]]
)
def test_flags_that_would_be_ignored_are_refused(values, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main([*QUICK, "--output", str(tmp_path / "none"), "--over", *values])

    assert stop.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_repeated_value_is_trained_once(source, tmp_path, capsys):
    over = ["--over", "seed=1,1"]

    assert main([*QUICK, "--data", source, *over, "--output", str(tmp_path)]) == 0

    assert "1 of 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "over", ["magic=1,2", "learning-rate", "learning-rate=1,,2", "shuffle=1", "=1"]
)
def test_invalid_values_of_over_are_refused_and_named(over, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["sweep", "--over", over])

    assert stop.value.code == 2
    assert repr(over) in capsys.readouterr().err


def test_bad_value_is_refused_before_the_first_run(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*QUICK, "--over", "epochs=1,none", "--output", str(tmp_path)])

    assert "'none' is not a whole number" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_combinations_are_in_the_order_of_the_values():
    assert combinations({"a": ["1", "2"], "b": ["x", "y"]}) == [
        {"a": "1", "b": "x"},
        {"a": "1", "b": "y"},
        {"a": "2", "b": "x"},
        {"a": "2", "b": "y"},
    ]


def test_runs_that_diverged_are_in_the_table_and_not_in_the_plot(tmp_path):
    point = {"step": 5, "loss": 0.3, "kept": {"accuracy": 0.9, "nll": 0.35}}
    outcomes = [Outcome({"rule": "adam"}, [point]), Outcome({"rule": "descent"}, [])]

    plot(outcomes, tmp_path / "plot.svg")

    svg = (tmp_path / "plot.svg").read_text()
    assert "rule=adam" in svg
    assert "rule=descent" not in svg
    assert "diverged" in table(outcomes)
