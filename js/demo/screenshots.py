"""Screenshots of the demo page, for looking at: ``python js/demo/screenshots.py [FOLDER]``.

Needs ``npm run demo:build`` in ``js/`` first, Playwright, and a Chromium (``CHROMIUM`` names one).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

DEMO = Path(__file__).resolve().parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
READY = ".dmw-root[data-ready='1'][data-busy='0']"


def chromium() -> str:
    """Return the browser to use."""
    named = os.environ.get("CHROMIUM")
    found = named or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        raise SystemExit("no Chromium found; set CHROMIUM to the path of one")
    return found


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """Return the page position of picture pixel (x, y) in the first view."""
    scale, left, top = map(float, page.get_attribute(".dmw-root", "data-view").split())
    box = page.locator(".dmw-front").first.bounding_box()
    return box["x"] + left + (x + 0.5) * scale, box["y"] + top + (y + 0.5) * scale


def key_sheet(page: Page) -> None:
    """Show the sheet of keys."""
    page.locator(".dmw-front").focus()
    page.keyboard.press("?")


def errors(page: Page) -> None:
    """Let the kernel report an error."""
    page.evaluate("demo.kernel.fail('CUDA out of memory: 2.1 GiB wanted, 0.8 GiB free')")


def brush(page: Page) -> None:
    """Stop in the middle of a stroke."""
    page.locator(".dmw-front").focus()
    for key in "b......":
        page.keyboard.press(key)
    page.mouse.move(*at(page, 620, 420))
    page.mouse.down()
    for step in range(12):
        page.mouse.move(*at(page, 620 + 8 * step, 420 + 6 * step))


def busy(page: Page) -> None:
    """Click while the kernel is silent."""
    page.evaluate("demo.kernel.pause()")
    page.mouse.click(*at(page, 640, 690))
    page.mouse.click(*at(page, 760, 300), button="right")
    page.wait_for_timeout(2200)


def heat(page: Page) -> None:
    """Show where the model is unsure."""
    page.locator(".dmw-front").focus()
    page.keyboard.press("m")


def look(page: Page) -> None:
    """Brighten the shadows."""
    page.locator("[data-command=look]").click()
    page.locator("[data-look=gamma]").fill("1.6")


def doubtful(page: Page) -> None:
    """Jump to a doubtful region."""
    page.locator(".dmw-front").focus()
    page.keyboard.press("Tab")


def preview(page: Page) -> None:
    """Hover with a new instance armed."""
    page.locator(".dmw-front").focus()
    page.keyboard.press("n")
    page.mouse.move(*at(page, 640, 700))
    page.mouse.move(*at(page, 645, 702))


def nothing(page: Page) -> None:
    """Show the page as it is."""
    page.mouse.move(5, 5)


SHOTS: dict[str, tuple[str, int, Callable[[Page], None]]] = {
    "light": ("theme=light&scenario=two", 1100, nothing),
    "dark": ("theme=dark&scenario=two", 1100, nothing),
    "eight": ("theme=light&scenario=eight", 1100, nothing),
    "eight-dark": ("theme=dark&scenario=eight", 1100, nothing),
    "empty": ("theme=light", 1100, nothing),
    "narrow": ("theme=light&scenario=eight", 440, nothing),
    "keys": ("theme=light&scenario=two", 1100, key_sheet),
    "keys-narrow": ("theme=dark&scenario=two", 440, key_sheet),
    "error": ("theme=light&scenario=two", 1100, errors),
    "brush": ("theme=light&scenario=two", 1100, brush),
    "busy": ("theme=dark&scenario=two", 1100, busy),
    "heat": ("theme=light&scenario=two", 1100, heat),
    "look": ("theme=light&scenario=eight", 1100, look),
    "doubtful": ("theme=light&scenario=two", 1100, doubtful),
    "preview": ("theme=light&scenario=two&preview=1", 1100, preview),
    "snapshot": ("theme=light&scenario=snapshot", 1100, nothing),
}


def main() -> None:
    """Take every screenshot, or those named on the command line."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO / "shots"
    wanted = sys.argv[2:] or list(SHOTS)
    folder.mkdir(parents=True, exist_ok=True)
    address = (DEMO / "index.html").as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        for name in wanted:
            query, width, act = SHOTS[name]
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.set_default_timeout(120_000)
            page.on("pageerror", lambda error, name=name: sys.stderr.write(f"{name}: {error}\n"))
            page.goto(f"{address}?{query}")
            if "snapshot" in query:
                page.wait_for_selector(".dmw-root[data-read-only='1']")
            else:
                page.wait_for_selector(READY)
                page.wait_for_timeout(400)
            act(page)
            page.wait_for_timeout(400)
            page.screenshot(path=folder / f"{name}.png", full_page=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
