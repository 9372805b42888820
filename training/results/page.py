"""A page of HTML that needs nothing from elsewhere: its sections, tables, figures."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; background: #fff }
h2 { margin-top: 2.5rem } img { max-width: 100% }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right }
th { overflow-wrap: anywhere }
th:first-child, td:first-child { text-align: left }
tr:nth-child(even) { background: #f3f3f3 }
"""


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """Put sections, each a title and its HTML, on a page."""
    body = "".join(f"<h2>{name}</h2>\n{content}\n" for name, content in sections)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style>\n<h1>{title}</h1>\n{body}</html>\n"
    )


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Lay out the text of cells as a table."""

    def line(cells: Sequence[object], kind: str) -> str:
        return "".join(f"<{kind}>{html.escape(str(cell))}</{kind}>" for cell in cells)

    body = "".join(f"<tr>{line(row, 'td')}</tr>\n" for row in rows)
    return f"<table><tr>{line(head, 'th')}</tr>\n{body}</table>"


def subplots(
    columns: int = 1, rows: int = 1, size: tuple[float, float] = (8, 4)
) -> Any:
    """Make a figure and its axes, without a window and without global state."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def image(figure: Figure, alt: str) -> str:
    """Draw a figure into the page."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{data}">'
