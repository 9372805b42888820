"""The arrows between rooms: what each may import, and that importing does nothing."""

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

TEXTBOOK = (
    *("training.losses", "training.gradients", "training.rules", "training.schedules"),
    *("training.descent", "training.gradient_check"),
)
CONTRACT = (  # what training uses of the service
    *("service.features", "service.classifier", "service.images", "service.settings"),
    *("service.reading.mnist_format", "service.reading.morphology", "service.feedback"),
)
# a room, and the modules and rooms that its modules may import beside itself
ARROWS = {
    "service.app": ("service.web", "service.feedback", "service.settings"),
    "service.gunicorn.conf": ("service.server", "service.settings"),
    "service.__main__": ("service.local",),
    "service.local": (
        *("service.classifier", "service.features", "service.images", "service.reading"),
        *("service.number", "service.settings", "service.feedback"),
    ),
    "service.feedback": ("service.classifier", "service.reading", "service.settings"),
    "service.settings": (),
    "service.features": (),
    "service.classifier": ("service.features",),
    "service.explain": ("service.classifier", "service.features"),
    "service.images": ("service.reading", "service.features"),
    "service.number": (
        *("service.images", "service.classifier", "service.features", "service.reading"),
    ),
    "service.reading": ("service.features",),
    "service.web": (
        *("service.images", "service.number", "service.features", "service.classifier"),
        *("service.explain", "service.settings", "service.feedback"),
        *("service.server.wsgi_keys", "service.server.metrics"),
    ),
    "service.server": ("service.settings",),
    "training.data": CONTRACT,
    **dict.fromkeys(TEXTBOOK, TEXTBOOK),
    "training": (*CONTRACT, "training"),
}
# The packages that no module of a room may load, not even indirectly. "training" is all
# of its modules that load torch: one interpreter that pays for torch is enough.
FOREIGN = {
    "service": {"torch", "training", "tqdm", "scipy", "matplotlib", "gunicorn"},
    "service.reading": {"flask", "werkzeug", "gunicorn", "torch", "training"},
    "service.local": {"flask", "werkzeug", "gunicorn", "torch", "training", "tqdm"},
    "service.web": {"gunicorn", "torch", "training"},
    "service.server": {"flask", "werkzeug", "PIL", "safetensors", "torch", "training"},
    "textbook": {"service", "PIL", "matplotlib"},
    "training.data": {"torch", "flask", "werkzeug", "gunicorn"},
    "training": {"flask", "werkzeug", "gunicorn"},
}


@functools.cache
def project() -> dict[str, Path]:
    """Return the file of every module of the two packages."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ("service", "training")
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def is_in(module: str, *rooms: str) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def imports(module: str) -> dict[str, set[str]]:
    """Map each project module that a module imports to the names taken from it."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(project()[module].read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.setdefault(alias.name, set())
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole in project()
                names = found.setdefault(whole if is_module else node.module, set())
                names |= set() if is_module else {alias.name}
    return {name: names for name, names in found.items() if name in project()}


def modules_of(room: str) -> list[str]:
    """List the modules of a room that can be imported by name."""
    if room == "textbook":
        return list(TEXTBOOK)
    if room == "training":
        others = (*TEXTBOOK, "training.data")
        return [m for m in project() if is_in(m, room) and not is_in(m, *others)]
    names = [name for name in project() if name.rpartition(".")[0] == room]
    return [name for name in names if project()[name].stem.isidentifier()]


def fresh_interpreter(script: str, *arguments: str, report: Path) -> dict:
    """Run a script that must print nothing; return what it writes to `report`."""
    command = [sys.executable, "-c", script, str(report), *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    return json.loads(report.read_text())


def names_imported(module: str) -> set[str]:
    """Return whatever a module imports of other packages, each with its parents."""
    found = set()
    for node in ast.walk(ast.parse(project()[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return {name for name in found if not is_in(name, "service", "training")}


@pytest.mark.parametrize("room", ARROWS)
def test_room_imports_only_what_its_arrows_lead_to(room):
    nested = [other for other in ARROWS if other != room and is_in(other, room)]
    modules = [m for m in project() if is_in(m, room) and not is_in(m, *nested)]

    astray = {
        (module, name)
        for module in modules
        for name in imports(module)
        if name != "service" and not is_in(name, room, *ARROWS[room])
    }

    assert modules
    assert not astray


def test_every_module_belongs_to_a_room_with_arrows():
    strangers = [m for m in project() if m != "service" and not is_in(m, *ARROWS)]
    assert not strangers


def test_reading_uses_only_constants_of_the_features():
    for module in modules_of("service.reading"):
        names = imports(module).get("service.features", set())
        assert all(name.isupper() for name in names), (module, names)


def test_results_import_no_command_line():
    for module in modules_of("training.results"):
        assert not {"training.cli", "training.commands", "training.__main__"} & set(
            imports(module)
        ), module


LOADED = """
import importlib, json, sys
report, *modules = sys.argv[1:]
loaded = {}
for module in modules:
    before = set(sys.modules)
    importlib.import_module(module)
    new = set(sys.modules) - before
    loaded[module] = sorted({name.partition(".")[0] for name in new})
open(report, "w").write(json.dumps(loaded))
"""


@pytest.mark.parametrize("room", FOREIGN)
def test_room_loads_no_foreign_package(room, tmp_path):
    loaded = fresh_interpreter(LOADED, *modules_of(room), report=tmp_path / "loaded")

    found = {module: FOREIGN[room] & set(names) for module, names in loaded.items()}
    assert {module: names for module, names in found.items() if names} == {}


def test_recipes_and_readers_of_finished_runs_load_no_torch_and_no_argparse(tmp_path):
    light = ("training.recipes", "training.results.model_card")
    loaded = fresh_interpreter(
        LOADED, *light, "training.results.run_files", report=tmp_path / "loaded"
    )

    assert "argparse" not in loaded["training.recipes"]
    assert not any("torch" in names for names in loaded.values())


# Imports the libraries first. Any change after that comes from modules of the project.
SIDE_EFFECTS = """
import contextlib, gc, importlib, json, logging, os, random, signal, sys, threading
import warnings
report, root, libraries, *modules = sys.argv[1:]

def state():
    import matplotlib, numpy, torch
    pillow = {
        f"{name}.{key}": repr(value)
        for name, module in list(sys.modules.items()) if name.startswith("PIL")
        for key, value in vars(module).items()
        if key.isupper() and isinstance(value, (int, str, type(None)))
    }
    return pillow | {
        "opened files": list(opened),
        "environment": dict(os.environ),
        "garbage collector": (gc.isenabled(), gc.get_threshold()),
        "logging": (logging.root.level, repr(logging.root.handlers)),
        "matplotlib": repr(dict(matplotlib.rcParams)),
        "numpy": (numpy.geterr(), repr(numpy.get_printoptions())),
        "random": (hash(random.getstate()), hash(numpy.random.get_state()[1].tobytes()),
                   hash(torch.get_rng_state().numpy().tobytes())),
        "signals": {int(s): repr(signal.getsignal(s)) for s in signal.valid_signals()},
        "sys": (sys.path, repr(sys.excepthook), sys.getrecursionlimit()),
        "threads": threading.active_count(),
        "torch": (torch.get_num_threads(), str(torch.get_default_dtype())),
        "warnings": repr(warnings.filters),
    }

def note(event, arguments):
    path = str(arguments[0]) if event == "open" else ""
    if path.startswith(root) and not path.startswith(sys.prefix):
        if not path.endswith((".py", ".pyc")) and "__pycache__" not in path:
            opened.append(path)

opened = []
for library in libraries.split():
    with contextlib.suppress(ImportError):  # a name in a module, no module
        importlib.import_module(library)
sys.addaudithook(note)
changed = {}
state()  # loads what it needs itself
before = state()
for module in modules:
    importlib.import_module(module)
    after = state()
    difference = {k: (before.get(k), v) for k, v in after.items() if before.get(k) != v}
    if difference:
        changed[module] = difference
    before = after
open(report, "w").write(json.dumps(changed))
"""


def test_importing_any_module_prints_opens_and_changes_nothing(tmp_path):
    modules = [name for name, path in project().items() if path.stem.isidentifier()]

    libraries = " ".join(sorted(set().union(*map(names_imported, modules))))

    changed = fresh_interpreter(
        SIDE_EFFECTS, str(ROOT), libraries, *modules, report=tmp_path / "changed"
    )

    assert len(modules) > 50
    assert changed == {}
