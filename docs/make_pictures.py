"""Takes the README's pictures of the real widgets, in a real JupyterLab and a real Chromium.

Writes ``docs/images/clicks.gif``, ``replay.jpg``, ``explain.jpg``, ``challenge.jpg`` and
``story.jpg``; `benchmarks/screenshots.py` makes the others::

    python docs/make_pictures.py
    python docs/make_pictures.py --only clicks replay
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser.lab import Lab  # noqa: E402
from browser.standalone import notebook_page  # noqa: E402

OUTPUT = ROOT / "docs" / "images"
MAX_BYTES = {".gif": 400_000, ".jpg": 160_000}
GIF_WIDTH_PX = 840
STATUS_PX = 31
logger = logging.getLogger("make_pictures")

CAT = 'w = DynaMITeWidget("images/cat.jpg", classes=["cat", "eye"])'
CLICKS = (
    'w.click(235, 170, "new", "cat")',
    "w.click_background(425, 120)",
    'w.click(152, 112, "new", "eye")',
    'w.click(303, 138, "new", "eye")',
    "w.click(360, 140, 1)",
    "w.click(335, 125, 3)",
    "w.click(197, 122, 2)",
    "w.click_background(400, 285)",
)
ALL_CLICKS = "\n".join([*CLICKS, "w.wait()"])
COINS = """
coins = load_image("images/coins.jpg")[:150, :184]
truth = read_truth(load_image("images/coins_truth.png")[:150, :184, 0], coins.shape[:2])
game = challenge(coins, truth, classes=["coin"], budget=10)
game.widget.layout.width = "640px"
"""
COINS_CLICKS = """
for x, y in [(44, 55), (100, 57), (155, 51)]:
    game.widget.click(x, y, "new")
game.widget.click_background(75, 92)
for x, y in [(46, 124), (103, 126), (154, 127)]:
    game.widget.click(x, y, "new")
game.widget.wait()
game.finish()
"""


def clicks(lab: Lab) -> None:
    """Step through a few clicks, and make an animation of the widget."""
    view = lab.show(CAT + "\nw")
    frames = []
    for step in ("pass", *CLICKS):
        lab.kernel(f"{step}\nw.wait()")
        view.wait_painted(lab.value("w.controller.revision"))
        view.wait_for("root.dataset.busy === '0'")
        lab.page.mouse.move(2, 2)
        lab.page.wait_for_timeout(300)
        frames.append(Image.open(io.BytesIO(view.root.screenshot())).convert("RGB"))
    # Without the status bar: its milliseconds are those of a busy machine that takes pictures.
    width, height = frames[0].width, min(frame.height for frame in frames) - STATUS_PX
    size = GIF_WIDTH_PX, round(height * GIF_WIDTH_PX / width)
    frames = [
        frame.crop((0, 0, width, height)).resize(size, Image.Resampling.LANCZOS) for frame in frames
    ]
    # Small areas of other colours would get no share of the palette of a brown picture.
    sample = Image.new("RGB", (size[0], 2 * size[1] + 90))
    sample.paste(frames[0], (0, 0))
    sample.paste(frames[-1], (0, size[1]))
    eyes = frames[-1].crop((round(0.2 * size[0]), round(0.3 * size[1]), size[0] // 3, size[1] // 2))
    sample.paste(eyes.resize((size[0], 90)), (0, 2 * size[1]))
    palette = sample.quantize(200)
    reduced = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [1100] * (len(frames) - 1) + [3500]
    path = OUTPUT / "clicks.gif"
    reduced[0].save(
        path, save_all=True, append_images=reduced[1:], duration=durations, loop=0, optimize=True
    )
    check(path)


def replay(lab: Lab) -> None:
    """Show a replay in the middle of its steps."""
    lab.replace_cells(f"{CAT}\n{ALL_CLICKS}\nr = ClickReplay(w)\nr")
    lab.run_all()
    lab.kernel("r.step = 5")
    take(lab, "replay.jpg", height=430)


def explain(lab: Lab) -> None:
    """Show the attention of one click's query."""
    lab.replace_cells(f"{CAT}\n{ALL_CLICKS}\ne = explain(w, click=3)\nv = e.show()\nv")
    lab.run_all()
    lab.kernel("v._view.value = 'mask'")
    take(lab, "explain.jpg", height=560)


def challenge(lab: Lab) -> None:
    """Show the end of a challenge."""
    lab.replace_cells(f"{COINS}\ngame")
    lab.run_all()
    lab.kernel(COINS_CLICKS)
    take(lab, "challenge.jpg", height=1300)


def story(lab: Lab) -> None:
    """Open the exported page from disk."""
    path = lab.root / "story.html"
    lab.kernel(
        f"{CAT}\n{ALL_CLICKS}\nClickReplay(w).to_html({str(path)!r}, title='A cat and its eyes')"
    )
    page = lab.context.new_page()
    page.set_viewport_size({"width": 1000, "height": 640})
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready='1']")
    for _ in range(4):
        page.click("#next")
    page.mouse.move(2, 2)
    page.screenshot(path=OUTPUT / "story.jpg", type="jpeg", quality=84)
    page.close()
    check(OUTPUT / "story.jpg")


def take(lab: Lab, name: str, height: int) -> None:
    """Photograph the output of the first cell, at most so many pixels high."""
    lab.page.mouse.move(2, 2)
    lab.page.wait_for_timeout(2500)  # ipycanvas says nothing when it has painted
    box = lab.page.locator(".jp-OutputArea-output").last.bounding_box()
    assert box is not None
    lab.page.screenshot(
        path=OUTPUT / name,
        type="jpeg",
        quality=84,
        clip={
            "x": box["x"],
            "y": box["y"],
            "width": min(box["width"], 1040),
            "height": min(box["height"], height),
        },
    )
    check(OUTPUT / name)


def check(path: Path) -> None:
    """Refuse files that make the repository heavy."""
    size = path.stat().st_size
    logger.info("%s  %s bytes", path.relative_to(ROOT), f"{size:,}")
    if size > MAX_BYTES[path.suffix]:
        raise SystemExit(f"{path.name} has {size:,} bytes; {MAX_BYTES[path.suffix]:,} are allowed")


PICTURES = {
    "clicks": clicks,
    "replay": replay,
    "explain": explain,
    "challenge": challenge,
    "story": story,
}


def main() -> None:
    """Make the pictures asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with notebook_page(1180, 1560) as lab:
        lab.command("application:toggle-left-area")
        lab.kernel(
            "from dynamite_widget import *\n"
            "from dynamite_widget.teaching.contest_scores import read_truth"
        )
        for name in options.only:
            PICTURES[name](lab)


if __name__ == "__main__":
    main()
