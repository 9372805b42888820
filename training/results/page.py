"""A self-contained HTML page of sections, tables and figures."""

import base64
import html
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from training.results.plots import svg

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; background: #fff }
h2 { margin-top: 2.5rem } img { max-width: 100% }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right }
th { overflow-wrap: anywhere }
th:first-child, td:first-child { text-align: left }
tr:nth-child(even) { background: #f3f3f3 }
"""


def page(title: str, sections: Mapping[str, str]) -> str:
    """Return a page of sections, each a title and its HTML."""
    body = "".join(f"<h2>{name}</h2>\n{content}\n" for name, content in sections.items())
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style>\n<h1>{title}</h1>\n{body}</html>\n"
    )


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a table; the text of its cells is escaped."""

    def line(cells: Sequence[object], kind: str) -> str:
        return "".join(f"<{kind}>{html.escape(str(cell))}</{kind}>" for cell in cells)

    body = "".join(f"<tr>{line(row, 'td')}</tr>\n" for row in rows)
    return f"<table><tr>{line(head, 'th')}</tr>\n{body}</table>"


def image(figure: Figure, alt: str) -> str:
    """Return a figure as an <img> element that contains its SVG."""
    data = base64.b64encode(svg(figure)).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{data}">'
