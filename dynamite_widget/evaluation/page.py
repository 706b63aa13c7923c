"""Parts of HTML pages that need nothing from outside: style, tables, numbers, JSON without NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem;
       color: #1b1b1b; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .5rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th, td { white-space: nowrap; }
tr.published td { color: #555; font-size: .9rem; } tr.measured td { font-weight: 600; }
.note { color: #555; font-size: .9rem; } .scroll { overflow-x: auto; }
img, svg { max-width: 100%; height: auto; } figure { margin: .8rem 0; }
figcaption { color: #555; font-size: .9rem; } code { background: #f3f3f3; padding: .1rem .25rem; }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """Return a whole page; `parts` are HTML, `title` is text."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>"
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def table(header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return a table of texts; each row is (CSS class, cells)."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f'<tr class="{escape(kind)}">'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for kind, cells in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def note(text: str) -> str:
    """Return a small paragraph of text."""
    return f'<p class="note">{escape(text)}</p>'


def number(value: Any) -> str:
    """Return a number for a table; "-" for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


def plain(value: Any) -> Any:
    """Replace NaN and infinity, which JSON has not, by None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
