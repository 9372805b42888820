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


def modules_of(room: str) -> list[str]:
    """List the modules of a room, such as service/web."""
    folder = ROOT / room
    names = [path.stem for path in folder.glob("*.py") if path.stem.isidentifier()]
    package = room.replace("/", ".")
    return [f"{package}.{name}" for name in sorted(names) if name != "__init__"]


def loads(module: str, *packages: str) -> set[str]:
    """List what importing a module loads of some packages, submodules included."""
    return {
        name
        for name in brought_along(module)
        if name.startswith(tuple(f"{package}." for package in packages))
        or name in packages
    }


@pytest.mark.parametrize("module", modules_of("service/reading"))
def test_reading_knows_pictures_and_no_http(module):
    found = loads(module, "service", "flask", "werkzeug", "gunicorn", "training")
    assert found - {"service"} <= {
        "service.features",
        *(name for name in found if name.startswith("service.reading")),
    }


@pytest.mark.parametrize("module", modules_of("service/web"))
def test_web_knows_neither_gunicorn_nor_sockets(module):
    found = loads(module, "service.server", "gunicorn", "torch", "training")
    names = ("balancing", "metrics", "process_stats", "wsgi_keys")
    assert found <= {"service.server", *(f"service.server.{name}" for name in names)}


@pytest.mark.parametrize("module", modules_of("service/server"))
def test_server_knows_no_flask_no_pillow_and_no_model(module):
    found = loads(module, "service", "flask", "werkzeug", "PIL", "safetensors")
    rest = {name for name in found if not name.startswith("service.server")}
    assert rest <= {"service", "service.settings"}


@pytest.mark.parametrize(
    ("module", "unknown"),
    [
        ("service.features", {"service.images", "service.classifier", "PIL", "flask"}),
        ("service.images", {"service.classifier", "service.settings", "flask"}),
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
