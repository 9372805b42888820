"""Who may know whom, held in fresh interpreters: what a module really brings along."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT


def brought_along(module: str) -> set[str]:
    """List the modules that importing this one loads."""
    script = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_service_never_imports_torch_or_training():
    assert not brought_along("service.app") & {"torch", "training", "tqdm", "scipy"}


@pytest.mark.parametrize(
    ("module", "unknown"),
    [
        ("service.features", {"service.images", "service.classifier", "PIL", "flask"}),
        ("service.reading.morphology", {"service.features", "service.images", "PIL"}),
        (
            "service.reading.background",
            {"service.features", "service.reading.segmentation", "PIL"},
        ),
        (
            "service.reading.segmentation",
            {"service.features", "service.reading.background", "PIL"},
        ),
        (
            "service.reading.mnist_format",
            {"service.images", "service.reading.background", "service.classifier"},
        ),
        ("service.images", {"service.classifier", "service.app", "flask"}),
        ("service.classifier", {"service.images", "service.app", "PIL", "flask"}),
        ("service.explain", {"service.images", "service.app", "PIL", "flask"}),
        ("training.__main__", {"service.app", "flask", "gunicorn"}),
        ("training.losses", {"service.classifier", "training.descent"}),
        ("training.gradients", {"training.rules", "training.design.rows"}),
        ("training.descent", {"service.features", "training.data.mnist"}),
        ("training.data.mnist", {"torch"}),
        ("training.data.synthetic", {"torch"}),
    ],
)
def test_arrows_point_one_way(module, unknown):
    assert not brought_along(module) & unknown


@pytest.mark.parametrize(
    "module",
    ["service.app", "service.classifier", "service.images", "training.__main__"],
)
def test_importing_reads_no_file_of_ours_and_prints_nothing(module):
    script = (
        "import sys\n"
        "opened = []\n"
        "hook = lambda event, args: event == 'open' and opened.append(str(args[0]))\n"
        "sys.addaudithook(hook)\n"
        f"import {module}\n"
        "print(*(p for p in opened if p.endswith(('.safetensors', 'ubyte.gz'))))"
    )
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == run.stderr == ""
