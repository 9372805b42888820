"""Sizes of the packages, their files and functions, and of the README.

python -m benchmarks.house [--check]
"""

import argparse
import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
MAX_TOP_FILES = {"service": 11, "training": 12}
MAX_CODE_LINES = {"service": 7_790, "training": 4_000}
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_README_LINES = 400, 60, 150  # lines
NOT_CODE = {  # tokens that make no line a line of code
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


class Figure(NamedTuple):
    """A size, what it may be at most, and where it was found."""

    what: str
    value: int
    limit: int
    where: str = ""


def figures() -> Iterator[Figure]:
    """Measure every size that has a limit."""
    for package in MAX_CODE_LINES:
        folder = ROOT / package
        sources = {path: path.read_text() for path in sorted(folder.rglob("*.py"))}
        n_top = sum(path.parent == folder for path in sources)
        yield Figure(f"files at the top of {package}", n_top, MAX_TOP_FILES[package])
        n_lines = {path: len(text.splitlines()) for path, text in sources.items()}
        path = max(n_lines, key=lambda path: n_lines[path])
        where = str(path.relative_to(ROOT))
        yield Figure(f"largest file of {package}", n_lines[path], MAX_FILE_LINES, where)
        n, where = max(longest_function(path) for path in sources)
        yield Figure(f"longest function of {package}", n, MAX_FUNCTION_LINES, where)
        n_code = sum(map(code_lines, sources.values()))
        yield Figure(f"code lines of {package}", n_code, MAX_CODE_LINES[package])
    n_readme = len((ROOT / "README.md").read_text().splitlines())
    yield Figure("lines of README.md", n_readme, MAX_README_LINES)


def longest_function(path: Path) -> tuple[int, str]:
    """Return the number of lines of a file's longest function, and its place."""
    functions = [
        (_n_lines(node), f"{path.relative_to(ROOT)}: {node.name}")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return max(functions, default=(0, ""))


def code_lines(source: str) -> int:
    """Count lines of code: neither blank, nor comment, nor docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - _docstring_lines(source))


def _docstring_lines(source: str) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and ast.get_docstring(node, clean=False):
            docstring = node.body[0]
            lines.update(range(docstring.lineno, _end(docstring) + 1))
    return lines


def _n_lines(node: ast.stmt) -> int:
    return _end(node) - node.lineno + 1


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def main() -> None:
    """Print the figures; with --check, exit with status 1 if one is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail over a limit")
    is_check = parser.parse_args().check
    over = 0
    for figure in figures():
        is_over = figure.value > figure.limit
        over += is_over
        mark = "OVER" if is_over else ""
        print(
            f"{figure.what:<30}{figure.value:>6,} of {figure.limit:<6,} {mark:<5}"
            f"{figure.where}".rstrip()
        )
    if is_check and over:
        sys.exit(f"{over} figures are over their limits")


if __name__ == "__main__":
    main()
