"""Notebook 7 and marimo: load, click, mask."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from browser import servers
from browser.lab import TIMEOUT_MS, Lab
from browser.view import View

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

CAT = (235, 160)
MARIMO = """
import marimo
app = marimo.App()

@app.cell
def _():
    import marimo as mo
    from dynamite_widget import DynaMITeWidget
    w = mo.ui.anywidget(DynaMITeWidget({picture!r}))
    w
    return mo, w

@app.cell
def _(mo, w):
    w.value
    pixels = int(w.widget.masks.sum()) if w.widget.clicks else 0
    mo.md(f"clicks {{len(w.widget.clicks)}}, pixels {{pixels}}")
    return

if __name__ == "__main__":
    app.run()
"""


def test_notebook_7(
    new_context: Callable[..., BrowserContext], served: Path, tmp_path: Path
) -> None:
    with servers.jupyter(served, tmp_path / "server", classic=True) as url:
        page = Lab(new_context(), url, served)
        page.write(
            "classic.ipynb",
            ["from dynamite_widget import DynaMITeWidget\nw = DynaMITeWidget('images/cat.jpg')\nw"],
        )
        page.open("classic.ipynb", classic=True)
        page.run_all()
        view = page.view()
        view.click(*CAT).wait_overlay(*CAT, visible=True).wait_acknowledged()
        assert page.value(f"bool(w.masks[0][{CAT[1]}, {CAT[0]}])")
        assert page.problems == []
        page.close()


def test_marimo(new_context: Callable[..., BrowserContext], served: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(MARIMO.format(picture=str(served / "images" / "cat.jpg")))
    with servers.marimo(program, tmp_path / "server") as url:
        context = new_context()
        context.set_default_timeout(TIMEOUT_MS)
        problems: list[str] = []
        context.on("weberror", lambda error: problems.append(str(error.error)))
        page = context.new_page()
        page.goto(url)
        view = View(page).wait_ready()
        view.click(*CAT).wait_overlay(*CAT, visible=True)
        page.get_by_text(
            re.compile("clicks 1, pixels [1-9]")
        ).wait_for()  # cells that depend on it run again
        assert problems == []
        context.close()
