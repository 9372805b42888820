"""Fenced blocks, tables and examples of README and docs."""

import itertools
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import ROOT

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
API, BATCH, OPERATIONS, TRAINING = (
    ROOT / "docs" / f"{name}.md" for name in ("api", "batch", "operations", "training")
)
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS]
# CHANGELOG and the log of decisions name what there was
OF_TODAY = [README, *(page for page in DOCS if page.name != "decisions.md")]
ELISION = "…"
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
HERE = "http://127.0.0.1:8000"


class Block(NamedTuple):
    """A fenced block: its language, its text, and what lies before the next one."""

    kind: str
    text: str
    gap: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = list(FENCE.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    return [
        Block(match[2], textwrap.dedent(match[3]), text[match.end() : end])
        for match, end in zip(found, ends, strict=True)
    ]


class Example(NamedTuple):
    """A command that a page shows, and its output, if the page shows it."""

    command: str
    kind: str  # of the output: "json", "text", or "" if none is shown
    output: str


def examples(page: Path) -> list[Example]:
    """List the scripts of a page, and the commands that call curl or have an output."""
    result = []
    for block, after in itertools.zip_longest(blocks(page), blocks(page)[1:]):
        is_followed = after and not block.gap.strip() and after.kind in ("json", "text")
        output = (after.kind, after.text) if is_followed else ("", "")
        if block.kind == "py" or (
            block.kind == "sh" and (is_followed or block.text.startswith("curl"))
        ):
            command = block.text
            if block.kind == "py":
                command = f"python3 - <<'END'\n{block.text}END\n"
            result.append(Example(command, *output))
    return result


def rows(page: Path, first: str) -> list[list[str]]:
    """Return the rows of the table whose first heading is this one, as cells."""
    (table,) = re.findall(
        rf"^\| {re.escape(first)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", page.read_text(), re.MULTILINE
    )
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def output_of(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    plain = {k: v for k, v in os.environ.items() if not k.startswith("DIGITS_")}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=plain | {"PATH": path, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


def differences(shown: Any, found: Any, where: str = "reply") -> list[str]:
    """List where a reply is not what is shown, "…" standing for anything left out."""
    if shown == ELISION:
        return []
    if isinstance(shown, dict) and isinstance(found, dict):
        names = set(shown) - {ELISION}
        wrong = names - set(found) if ELISION in shown else names ^ set(found)
        return [f"{where}.{name}" for name in wrong] + [
            difference
            for name in names & set(found)
            for difference in differences(shown[name], found[name], f"{where}.{name}")
        ]
    if isinstance(shown, list) and isinstance(found, list):
        kept = shown[:-1] if shown and shown[-1] == ELISION else shown
        if len(kept) > len(found) or (kept is shown and len(kept) != len(found)):
            return [f"{where}: {len(found)} items"]
        return [
            difference
            for i, item in enumerate(kept)
            for difference in differences(item, found[i], f"{where}[{i}]")
        ]
    if isinstance(shown, str) and isinstance(found, str):
        pattern = re.escape(shown).replace(ELISION, ".*")
        return [] if re.fullmatch(pattern, found, re.DOTALL) else [f"{where}: {found}"]
    if isinstance(shown, float) and isinstance(found, float):
        # the last bits of a logit differ between processors; seven digits are shown
        scale = min(shown, 1 - shown) if 0 < shown < 1 else abs(shown)
        is_near = abs(found - shown) <= 1e-4 * scale + 1e-7 * abs(shown)
        return [] if is_near else [f"{where}: {found}"]
    return [] if shown == found else [f"{where}: {found!r}"]
