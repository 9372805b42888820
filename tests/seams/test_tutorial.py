"""The tutorial shows the code of the source, and links to what exists."""

import importlib.util
import inspect
import re
import textwrap
from pathlib import Path

import pytest

from benchmarks.uploads import MNIST_FOLDER
from tests.conftest import ROOT
from training.__main__ import main

FOLDER = ROOT / "docs"
TUTORIAL = (FOLDER / "tutorial.md").read_text()
LINK = r"\[`([\w.]+)`\]\(([\w./]+\.py)\)"
SHOWN = re.findall(rf"^{LINK}\n\n```python\n(.*?)```", TUTORIAL, re.MULTILINE | re.DOTALL)
LINKED = re.findall(LINK, TUTORIAL)


def symbol(name: str, file: str) -> object:
    """Return what a link names in the module that it links to."""
    path = (FOLDER / file).resolve().relative_to(ROOT)
    module, *attributes = name.split(".")
    assert path.stem == module, name
    found = importlib.import_module(".".join(path.with_suffix("").parts))
    for attribute in attributes:
        found = getattr(found, attribute)
    return found


def test_every_code_block_is_below_the_name_of_its_function():
    assert len(SHOWN) == TUTORIAL.count("```python") >= 12


@pytest.mark.parametrize(("name", "file"), LINKED)
def test_every_linked_symbol_exists(name, file):
    assert inspect.getmodule(symbol(name, file)).__file__.endswith(Path(file).name)


@pytest.mark.parametrize(("name", "file", "code"), SHOWN)
def test_shown_code_is_the_source(name, file, code):
    source = inspect.getsource(symbol(name, file))
    lines = [line.strip() for line in source.splitlines()]

    shown = [line.strip() for line in code.splitlines()]

    assert "\n".join(shown) in "\n".join(lines)
    assert textwrap.dedent(code) == code


def test_every_picture_command_and_flag_exists(capsys):
    for command in ([], ["sweep"], ["check"], ["report"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
    known = capsys.readouterr().out + "--standalone --nproc-per-node"  # torchrun's
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TUTORIAL):
        assert (FOLDER / picture).exists(), picture
    modules = set(re.findall(r"python -m ([\w.]+)", TUTORIAL))
    assert "benchmarks.resume" in modules
    for module in modules:
        assert importlib.util.find_spec(module), module
    for flag in set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", TUTORIAL)):
        assert flag in known, flag


def test_gradient_check_of_mnist_is_as_shown(mnist, capsys):
    (shown,) = [
        block
        for block in re.findall(r"```text\n(.*?)```", TUTORIAL, re.DOTALL)
        if "worst error" in block
    ]

    assert main(["check", "--data", str(MNIST_FOLDER)]) == 0

    said = capsys.readouterr().out
    assert said.splitlines()[0] == shown.splitlines()[0]
    for line in said.splitlines()[2:]:
        assert float(line.split()[1]) < 1e-8
