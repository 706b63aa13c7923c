"""What remains without a kernel: a static page, a saved notebook opened again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.sign import NotebookNotary

from browser.lab import Lab
from browser.view import View

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

FIRST = (120, 90)
BACKGROUND = (330, 90)
CELL = (
    "from dynamite_widget import DynaMITeWidget\n"
    "from stand_ins import Discs\n"
    "w = DynaMITeWidget('images/cat.jpg', predictor=Discs(), classes=['spot'])\n"
    f"w.click{FIRST}\nw.click_background{BACKGROUND}\nw.wait(60)\nw"
)


def check_saved_view(view: View) -> None:
    """Picture, overlay and both clicks are there; nothing pretends to be editable."""
    view.wait_overlay(*FIRST, visible=True)
    assert view.overlay(FIRST[0] + 25, FIRST[1]).alpha > 40
    assert view.overlay(*BACKGROUND).alpha > 40, "the marker of the background click"
    assert view.overlay(FIRST[0] + 60, FIRST[1]).alpha == 0
    across, down = view.place(225, 150)
    assert view.picture(across, down).alpha == 255
    assert "spot" in view.root.locator(".dmw-row").inner_html()
    view.click(300, 220)
    assert view.root.locator(".dmw-row").count() == 1
    assert view.overlay(300, 220).alpha == 0


def test_static_page_opened_from_disk(
    bench: Lab, served: Path, new_context: Callable[..., BrowserContext]
) -> None:
    bench.show(CELL)
    bench.kernel("w.to_html('saved.html')")
    context = new_context(offline=True)
    problems: list[str] = []
    context.on("weberror", lambda error: problems.append(str(error.error)))
    page = context.new_page()
    try:
        page.on(
            "request",
            lambda request: problems.append(request.url) if "http" in request.url[:5] else None,
        )
        page.goto((served / "saved.html").as_uri())
        check_saved_view(View(page).wait_ready())
        assert problems == []
    finally:
        context.close()


@pytest.fixture
def executed(served: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A notebook that was run without a page, as nbconvert does, and keeps its widgets."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(
        notebook, timeout=60, resources={"metadata": {"path": str(served)}}, store_widget_state=True
    ).execute()
    path = served / "executed.ipynb"
    nbformat.write(notebook, path)
    return path.name


def test_saved_notebook_shows_the_result_without_its_kernel(
    lab: Lab, executed: str, scratch: Path
) -> None:
    state = nbformat.read(lab.root / executed, 4).metadata.widgets
    ours = [
        model["state"]
        for model in state["application/vnd.jupyter.widget-state+json"]["state"].values()
        if "image_info" in model["state"]
    ]
    assert len(ours) == 1
    kept = {name: value for name, value in ours[0].items() if name not in ("_esm", "_css")}
    assert len(str(kept)) < 100_000

    # Opened with a new kernel that has never heard of the widget. A notebook from elsewhere may
    # run no script: it shows a plain picture instead.
    lab.open(executed)
    picture = lab.page.locator(".jp-OutputArea img")
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 300

    notary = NotebookNotary(data_dir=str(scratch / "data"))
    notary.sign(nbformat.read(lab.root / executed, 4))
    lab.open(executed)
    view = View(lab.page)
    view.wait_for("root.dataset.readOnly === '1'")
    check_saved_view(view)
    view.wait_text("saved")
