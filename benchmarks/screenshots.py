"""Takes the pictures of the widget that the README shows, in a real JupyterLab.

Writes ``docs/images/light.jpg``, ``dark.jpg`` and ``eight.jpg``; needs the bundled model::

    python benchmarks/screenshots.py
    python benchmarks/screenshots.py --output somewhere --model none    # masks of discs
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser.lab import Lab  # noqa: E402
from browser.standalone import check_size, notebook_page, picture_options  # noqa: E402
from browser.view import View  # noqa: E402

CAT = """w = DynaMITeWidget("images/cat.jpg", classes=["cat", "eye", "nose"]{model})
w"""
CAT_CLICKS = """
w.click(235, 170, instance="new", class_name="cat")
w.click_background(425, 120)
w.click(152, 112, instance="new", class_name="eye")
w.click(303, 138, instance="new", class_name="eye")
w.click(360, 140, instance=1)  # corrections: beside the eye is cat
w.click(335, 125, instance=3)  # the other side of the pupil belongs to the eye, too
w.click(197, 122, instance=2)
w.click_background(400, 285)
w.wait(120)
"""
COINS = """w = DynaMITeWidget("images/coins.jpg", classes=["coin"]{model})
w"""
COINS_SIZE = (384, 303)
COINS_CLICKS = """
places = [(44, 55), (100, 57), (155, 51), (215, 52), (276, 52), (335, 44), (46, 124), (103, 126)]
for x, y in places:
    w.click(x, y, instance="new", class_name="coin")
w.click_background(180, 92)
w.wait(120)
"""


def show(lab: Lab, cell: str, clicks: str, picture_size: tuple[int, int]) -> View:
    """Show a widget, click, and wait until the masks are painted and the pointer is away."""
    view = lab.show(cell, picture_size=picture_size)
    lab.kernel(clicks)
    view.wait_painted(lab.value("w.controller.revision"))
    view.wait_for("root.dataset.busy === '0'")
    lab.page.mouse.move(2, 2)
    return view


def take(lab: Lab, path: Path) -> None:
    """Photograph the cells of the notebook."""
    first = lab.page.locator(".jp-InputArea-editor").first.bounding_box()
    last = lab.page.locator(".dmw-root").last.bounding_box()
    assert first is not None
    assert last is not None
    margin = 8
    lab.page.screenshot(
        path=path,
        type="jpeg",
        quality=86,
        clip={
            "x": first["x"] - margin,
            "y": first["y"] - margin,
            "width": last["width"] + 2 * margin,
            "height": last["y"] + last["height"] - first["y"] + 2 * margin,
        },
    )
    check_size(path)


def main() -> None:
    output, model = picture_options(__doc__.splitlines()[0])
    with notebook_page(1180, 900, scale=1.5) as lab:
        lab.kernel("from dynamite_widget import DynaMITeWidget\nfrom stand_ins import Discs")
        lab.command("application:toggle-left-area")
        show(lab, CAT.format(model=model), CAT_CLICKS, (451, 300))
        take(lab, output / "light.jpg")
        lab.command("apputils:change-theme", theme="JupyterLab Dark")
        View(lab.page).wait_for("root.dataset.theme === 'dark'")
        take(lab, output / "dark.jpg")
        lab.command("apputils:change-theme", theme="JupyterLab Light")
        View(lab.page).wait_for("root.dataset.theme === 'light'")
        show(lab, COINS.format(model=model), COINS_CLICKS, COINS_SIZE)
        take(lab, output / "eight.jpg")


if __name__ == "__main__":
    main()
