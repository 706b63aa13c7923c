"""The front end alone: the demo page in a real browser, with a kernel inside the page."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from browser.view import NEXT_FRAME

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
# Middles of pebbles of the demo's picture, and a place on the sand.
FIRST, SECOND, THIRD = (250, 230), (590, 180), (900, 220)
SAND = (740, 360)


def unavailable(reason: str) -> NoReturn:
    """Skip, or fail where the tests are required."""
    if os.environ.get("DYNAMITE_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def demo_page(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the demo page, built from the present sources."""
    esbuild = repository / "js" / "node_modules" / ".bin" / "esbuild"
    if not esbuild.is_file() or shutil.which("node") is None:
        unavailable("the demo page needs Node.js and `npm ci` in js/")
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run(
        [
            *(str(esbuild), "demo/main.ts", "demo/page.css", "--bundle", "--format=iife"),
            *("--target=es2022", "--log-level=warning", f"--outdir={folder / 'dist'}"),
        ],
        cwd=repository / "js",
        check=True,
    )
    shutil.copy(repository / "js" / "demo" / "index.html", folder)
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def browser(chromium: str, playwright_driver: Playwright) -> Iterator[Browser]:
    """A headless Chromium."""
    started = playwright_driver.chromium.launch(executable_path=chromium, args=FLAGS)
    yield started
    started.close()


class Demo:
    """The demo page and what a person does on it; places are picture pixels."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def at(self, place: tuple[float, float]) -> tuple[float, float]:
        """Return where the middle of a picture pixel lies on the page."""
        view = self.page.get_attribute(".dmw-root", "data-view")
        box = self.page.locator(".dmw-front").first.bounding_box()
        assert view is not None
        assert box is not None
        scale, left, top = map(float, view.split())
        return box["x"] + left + (place[0] + 0.5) * scale, box["y"] + top + (place[1] + 0.5) * scale

    def click(self, place: tuple[float, float], **options: Any) -> None:
        self.page.mouse.click(*self.at(place), **options)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        (x0, y0), (x1, y1) = self.at(start), self.at(end)
        mouse.move(x0, y0)
        mouse.down()
        mouse.move((x0 + x1) / 2, (y0 + y1) / 2)
        mouse.move(x1, y1)
        mouse.up()

    def press(self, *keys: str) -> None:
        self.page.locator(".dmw-front").first.focus()
        for key in keys:
            self.page.keyboard.press(key)
        self.drawn()

    def drawn(self) -> None:
        """Wait until the view has drawn (and written its attributes) after the last event."""
        self.page.evaluate(NEXT_FRAME)

    def settled(self) -> None:
        """Wait until everything is answered and painted."""
        self.drawn()
        self.page.wait_for_function(
            """() => {
              const root = document.querySelector('.dmw-root').dataset;
              return root.ready === '1' && root.busy === '0' && root.seq === root.acked;
            }"""
        )

    def kernel(self, expression: str) -> Any:
        return self.page.evaluate(f"demo.kernel.{expression}")

    def clicks(self) -> list[tuple[int, int, int]]:
        """Return (x, y, instance) of every click that the kernel has."""
        self.settled()
        return [(c["x"], c["y"], c["instance"]) for c in self.kernel("traits.clicks")]

    def wait_for_clicks(self, expected: list[tuple[int, int, int]]) -> None:
        """Wait until the kernel has exactly these clicks; fails when they do not come."""
        self.page.wait_for_function(
            """expected => JSON.stringify(
                 demo.kernel.traits.clicks.map(c => [c.x, c.y, c.instance])
               ) === JSON.stringify(expected)""",
            arg=[list(click) for click in expected],
            timeout=20_000,
        )

    def alpha(self, place: tuple[float, float]) -> int:
        """Return the opacity of the overlay at a picture pixel, 0..255."""
        x, y = self.at(place)
        return int(
            self.page.evaluate(
                """([x, y]) => {
                  const canvas = document.querySelector('.dmw-front');
                  const box = canvas.getBoundingClientRect();
                  const ratio = canvas.width / box.width;
                  const at = [(x - box.left) * ratio, (y - box.top) * ratio];
                  return canvas.getContext('2d').getImageData(...at.map(Math.floor), 1, 1).data[3];
                }""",
                [x, y],
            )
        )


@pytest.fixture
def demo(browser: Browser, demo_page: str) -> Iterator[Callable[..., Demo]]:
    """Open the demo page with options; errors of the page fail the test."""
    pages: list[Page] = []
    problems: list[str] = []

    def start(query: str = "", width: int = 1100, ready: bool = True) -> Demo:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(120_000)  # drawing the demo's picture takes its time
        pages.append(page)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{demo_page}?{query}")
        page.wait_for_selector(".dmw-root[data-ready='1']" if ready else ".dmw-root")
        demo = Demo(page)
        if ready:
            demo.settled()
        return demo

    yield start
    for page in pages:
        page.close()
    assert problems == []


def test_clicks_make_masks(demo: Callable[..., Demo]) -> None:
    view = demo()
    assert view.alpha((250, 190)) == 0
    view.click(FIRST)
    view.press("n")
    view.click(SECOND)
    view.click((600, 200))
    view.click(SAND, button="right")
    assert view.clicks() == [(*FIRST, 1), (*SECOND, 2), (600, 200, 2), (*SAND, 0)]
    assert view.alpha((250, 190)) > 80
    assert view.page.locator(".dmw-row").count() == 2
    assert view.page.locator(".dmw-row.dmw-active .dmw-swatch").inner_text() == "2"


def test_modifiers_select_and_remove(demo: Callable[..., Demo]) -> None:
    view = demo("scenario=two")
    view.page.keyboard.down("Alt")
    view.click((250, 290))
    view.page.keyboard.up("Alt")
    view.settled()
    assert view.kernel("traits.active_instance") == 1
    view.page.keyboard.down("Control")
    view.click(SAND)
    view.page.keyboard.up("Control")
    assert view.clicks()[-1] == (*SAND, 0)
    view.page.keyboard.down("Shift")
    view.click(SAND)
    view.page.keyboard.up("Shift")
    assert len(view.clicks()) == 2


def test_drag_delete_undo_redo(demo: Callable[..., Demo]) -> None:
    view = demo()
    view.click(FIRST)
    view.settled()
    view.drag(FIRST, SECOND)
    assert view.clicks() == [(*SECOND, 1)]
    assert view.kernel("traits.clicks")[0]["t"] == 0
    view.page.mouse.move(*view.at(SECOND))
    view.press("Delete")
    assert view.clicks() == []
    view.press("Control+z")
    assert view.clicks() == [(*SECOND, 1)]
    view.press("Control+z")
    view.wait_for_clicks([(*FIRST, 1)])
    view.press("Control+Shift+z", "Control+Shift+z")
    view.wait_for_clicks([])


def test_coordinates_are_exact_when_zoomed(demo: Callable[..., Demo]) -> None:
    view = demo()
    view.page.mouse.move(*view.at(THIRD))
    view.page.keyboard.down("Control")
    for _ in range(3):
        view.page.mouse.wheel(0, -120)
    view.page.keyboard.up("Control")
    view.page.wait_for_function(
        "Number(document.querySelector('.dmw-root').dataset.view.split(' ')[0]) > 2.5"
    )
    for place in [(900, 220), (907, 225), (850, 190)]:
        view.click(place)
        view.page.wait_for_timeout(400)  # or it would be a double click
    assert [c[:2] for c in view.clicks()] == [(900, 220), (907, 225), (850, 190)]
    # Space pans, 0 shows everything again.
    before = view.page.get_attribute(".dmw-root", "data-view")
    view.press("Escape")
    view.page.keyboard.down(" ")
    view.drag((900, 200), (880, 240))
    view.page.keyboard.up(" ")
    assert view.page.get_attribute(".dmw-root", "data-view") != before
    assert len(view.clicks()) == 3
    view.press("0")
    view.page.wait_for_function(
        "Number(document.querySelector('.dmw-root').dataset.view.split(' ')[0]) < 1"
    )
    view.click((20, 780))
    assert view.clicks()[-1][:2] == (20, 780)


def test_double_click_zooms_and_leaves_no_click(demo: Callable[..., Demo]) -> None:
    view = demo("scenario=two")
    before = view.clicks()
    x, y = view.at(THIRD)
    view.page.mouse.dblclick(x, y)
    view.page.wait_for_function(
        "Number(document.querySelector('.dmw-root').dataset.view.split(' ')[0]) > 1"
    )
    view.page.wait_for_function("demo.kernel.received.at(-1).type === 'undo'")
    assert view.clicks() == before
    assert len(view.kernel("traits.instances")) == 2
    view.page.wait_for_timeout(400)
    view.page.mouse.dblclick(x, y)
    view.page.wait_for_function(
        "Number(document.querySelector('.dmw-root').dataset.view.split(' ')[0]) < 1"
    )
    view.page.wait_for_function(
        "demo.kernel.received.filter((m) => m.type === 'undo').length === 2"
    )
    assert view.clicks() == before


def test_keyboard_only(demo: Callable[..., Demo]) -> None:
    view = demo()
    view.press("ArrowRight", "Shift+ArrowRight", "Enter")
    [(x, y, instance)] = view.clicks()
    assert instance == 1
    assert x > 600
    assert abs(y - 400) <= 1
    view.press("Shift+ArrowDown", "Shift+Enter", "2")
    assert view.clicks()[-1][2] == 0
    assert view.kernel("traits.instances")[0]["class_name"] == "shell"
    view.press("Delete")
    assert len(view.clicks()) == 1


def test_keys_act_only_inside_and_tab_gets_out(demo: Callable[..., Demo]) -> None:
    view = demo("scenario=two")
    view.page.locator("body").focus()
    view.page.keyboard.press("n")
    view.settled()
    assert view.page.get_attribute(".dmw-root", "data-armed") == "0"
    view.press("Tab")  # to the most doubtful region
    view.page.wait_for_function("demo.kernel.received.at(-1).type === 'doubtful'")
    focused = "document.activeElement.className"
    assert view.page.evaluate(focused) == "dmw-front"
    view.press("Escape", "Escape", "Tab")
    assert view.page.evaluate(focused) != "dmw-front"
    view.page.locator(".dmw-front").focus()
    view.page.keyboard.press("Shift+Tab")
    assert view.page.evaluate(focused) != "dmw-front"


def test_typing_a_class_is_not_a_shortcut(demo: Callable[..., Demo]) -> None:
    view = demo("scenario=two&classes=")
    field = view.page.locator(".dmw-row.dmw-active .dmw-class input")
    field.fill("brown noise 123")
    field.press("Enter")
    view.settled()
    assert view.kernel("traits.instances")[1]["class_name"] == "brown noise 123"
    assert view.page.get_attribute(".dmw-root", "data-tool") == "click"


def test_names_are_text(demo: Callable[..., Demo]) -> None:
    nasty = "<img src=x onerror=window.owned=1>"
    view = demo("scenario=two")
    view.kernel(f"set('classes', [{nasty!r}])")
    view.kernel(f"fail({nasty!r})")
    view.page.wait_for_selector(".dmw-notice")
    assert view.page.locator(".dmw-notice-text").inner_text() == nasty
    assert view.page.locator(".dmw-root img").count() == 0
    assert view.page.evaluate("window.owned") is None


def test_brush_and_eraser(demo: Callable[..., Demo]) -> None:
    view = demo("scenario=two")
    view.press("b")
    view.drag((600, 400), (700, 400))
    view.settled()
    stroke = view.page.evaluate("demo.kernel.received.findLast((m) => m.type === 'paint')")
    assert stroke["mode"] == "add"
    assert stroke["instance"] == 2
    assert stroke["points"][0] == [600, 400]
    assert view.alpha((650, 400)) > 60
    view.press("e")
    view.drag((640, 400), (660, 400))
    view.settled()
    view.page.mouse.move(5, 5)
    view.page.wait_for_timeout(200)
    assert view.alpha((650, 400)) == 0
    view.press("Control+z")
    view.settled()
    assert view.page.get_attribute(".dmw-root", "data-tool") == "eraser"
    view.press("Escape")
    view.page.wait_for_selector(".dmw-root[data-tool=click]")


def test_list_edits_instances(demo: Callable[..., Demo]) -> None:
    view = demo("scenario=eight")
    row = view.page.locator(".dmw-row").nth(1)
    assert "%" in row.locator(".dmw-meta").inner_text()
    row.hover()
    row.locator(".dmw-eye").click()
    view.settled()
    assert view.kernel("traits.instances")[1]["visible"] is False
    row.locator(".dmw-lock").click()
    row.locator("select").select_option("driftwood")
    view.settled()
    assert view.kernel("traits.instances")[1]["locked"] is True
    assert view.kernel("traits.instances")[1]["class_name"] == "driftwood"
    row.locator(".dmw-trash").click()
    view.settled()
    assert [i["id"] for i in view.kernel("traits.instances")] == [1, 3, 4, 5, 6, 7, 8]


def test_rapid_clicks_on_a_new_instance_stay_together(demo: Callable[..., Demo]) -> None:
    view = demo("answer=150")
    view.press("n")
    view.click(FIRST)
    view.click((300, 250))
    view.click((200, 200))
    assert view.page.locator(".dmw-row").count() == 1  # listed before it is answered
    assert {c[2] for c in view.clicks()} == {1}
    assert len(view.clicks()) == 3


def test_busy_kernel_is_told_and_nothing_is_lost(demo: Callable[..., Demo]) -> None:
    view = demo("scenario=two")
    view.kernel("pause()")
    view.click(THIRD)
    view.page.wait_for_timeout(100)
    assert view.alpha(THIRD) > 200  # the marker is there at once
    status = view.page.locator(".dmw-status-text")
    view.page.wait_for_function("document.body.innerText.includes('Kernel busy: 1 action')")
    view.click(SAND, button="right")
    view.kernel("resume()")
    assert [c[:2] for c in view.clicks()][-2:] == [THIRD, SAND]
    assert "busy" not in status.inner_text()


def test_refused_intent_disappears_with_words(demo: Callable[..., Demo]) -> None:
    view = demo("scenario=eight")
    view.page.locator(".dmw-row").nth(3).locator(".dmw-swatch").click()
    view.settled()
    count = len(view.clicks())
    view.click(SAND)
    view.page.wait_for_selector(".dmw-notice[role=alert]")
    assert "locked" in view.page.locator(".dmw-notice-text").inner_text()
    assert len(view.clicks()) == count
    assert view.alpha(SAND) == 0
    view.page.locator(".dmw-notice [aria-label=Dismiss]").click()
    assert view.page.locator(".dmw-notice").count() == 0


def test_views_of_one_model_stay_in_step(demo: Callable[..., Demo]) -> None:
    view = demo("views=2")
    view.click(FIRST)
    view.settled()
    view.page.wait_for_function(
        """() => new Set([...document.querySelectorAll('.dmw-root')]
          .map((root) => root.dataset.painted)).size === 1"""
    )
    assert view.page.locator(".dmw-row").count() == 2
    view.press("]", "o")  # the look belongs to one view alone
    pressed = view.page.locator("[data-command=outlines][aria-pressed=true]")
    assert pressed.count() == 1


def test_removed_views_leave_nothing_behind(demo: Callable[..., Demo]) -> None:
    view = demo("views=2&scenario=two")
    assert view.kernel("handlerCount") > 0
    view.page.evaluate("demo.close()")
    assert view.kernel("handlerCount") == 0
    sent = view.kernel("received.length")
    view.click(THIRD)
    view.page.wait_for_timeout(100)
    assert view.kernel("received.length") == sent


def test_saved_result_without_a_kernel(demo: Callable[..., Demo]) -> None:
    view = demo("scenario=snapshot", ready=False)
    view.page.wait_for_selector(".dmw-root[data-read-only='1']")
    assert view.alpha((250, 290)) > 80
    assert view.page.locator(".dmw-row").count() == 3
    sent = view.kernel("received.length")
    view.click(SAND)
    view.press("n", "Control+z")
    assert view.kernel("received.length") == sent
    # The kernel comes back after all.
    view.kernel("resume()")
    view.page.wait_for_selector(".dmw-root[data-ready='1'][data-read-only='0']")
    view.click((60, 740))  # another place: twice the same, quickly, would be a double click
    assert len(view.clicks()) == 4


def test_narrow_cells_put_the_list_below(demo: Callable[..., Demo]) -> None:
    view = demo("scenario=two", width=420)
    stage = view.page.locator(".dmw-stage").bounding_box()
    side = view.page.locator(".dmw-side").bounding_box()
    assert stage is not None
    assert side is not None
    assert side["y"] >= stage["y"] + stage["height"] - 1
    view.click(THIRD)
    (x, y, _) = view.clicks()[-1]
    assert abs(x - THIRD[0]) <= 2
    assert abs(y - THIRD[1]) <= 2


def test_buttons_have_names_and_tooltips(demo: Callable[..., Demo]) -> None:
    view = demo("scenario=two")
    unnamed = view.page.evaluate(
        """() => [...document.querySelectorAll('.dmw-root button')]
          .filter((b) => !b.getAttribute('aria-label') && !b.textContent.trim()).length"""
    )
    assert unnamed == 0
    assert view.page.locator(".dmw-toolbar [tabindex='0']").count() == 1
    assert "Ctrl+Z" in (view.page.locator("[data-command=undo]").get_attribute("title") or "")
    assert view.page.get_attribute(".dmw-root", "data-lm-suppress-shortcuts") == "true"
