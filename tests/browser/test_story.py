"""A story opened from a file path: stepped through, without network and without complaints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from kernel_fakes import FakePredictor

from dynamite_widget.session import ClickSession
from dynamite_widget.teaching import ClickReplay

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

NASTY = "</script><img src=x onerror=\"document.title='owned'\">"
HEIGHT, WIDTH = 120, 200
STEP = "() => document.documentElement.dataset.step"
PIXEL = """([x, y]) => Array.from(document.querySelectorAll('#picture canvas')[1]
  .getContext('2d').getImageData(x, y, 1, 1).data)"""


@pytest.fixture(scope="module")
def replay() -> ClickReplay:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([rows, columns, rows + columns // 2], axis=2).astype(np.uint8)
    session = ClickSession(HEIGHT, WIDTH, classes=["left"], image_name=NASTY)
    session.click(40, 60, "new")
    session.click(160, 60, "new", NASTY)
    session.click_background(100, 10)
    session.move_click(0, 50, 60)
    return ClickReplay(session, picture, predictor=FakePredictor())


@pytest.fixture
def page(
    replay: ClickReplay, new_context: Callable[..., BrowserContext], tmp_path: Path
) -> Iterator[Page]:
    """The page, opened from disk in a browser without network."""
    path = tmp_path / "a story.html"
    replay.to_html(path)
    context = new_context(offline=True)
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on(
        "console",
        lambda message: problems.append(message.text) if message.type == "error" else None,
    )
    opened.on(
        "request",
        lambda request: None if request.url == path.as_uri() else problems.append(request.url),
    )
    opened.goto(path.as_uri())
    opened.wait_for_selector("html[data-ready='1']")
    yield opened
    context.close()
    # The picture is inside, as a data: address.
    assert [p for p in problems if not p.startswith("data:image/jpeg;")] == []


def test_every_step_shows_its_masks(page: Page, replay: ClickReplay) -> None:
    recording = replay.recording
    colours = {1: (230, 159, 0), 2: (86, 180, 233)}
    for step in range(len(recording)):
        assert page.evaluate(STEP) == str(step)
        labels = recording.label_map(step)
        for x, y in ((20, 90), (180, 90), (140, 100), (100, 2)):
            red, green, blue, alpha = page.evaluate(PIXEL, [x, y])
            label = int(labels[y, x])
            if label == 0:
                assert alpha in (0, 255), (step, x, y)  # nothing, or an outline of what changed
            elif alpha < 255:
                expected = np.array(colours[label])
                assert np.abs(np.array((red, green, blue)) - expected).max() <= 3, (step, x, y)
        assert page.inner_text("#count") == f"{step} / {len(recording) - 1}"
        if step + 1 < len(recording):
            page.click("#next")
    assert page.is_disabled("#next")
    # Back again: masks are rebuilt from the beginning.
    page.click("#back")
    page.click("#back")
    page.click("#back")
    assert page.evaluate(STEP) == "1"
    red, green, blue, _ = page.evaluate(PIXEL, [180, 90])
    assert max(abs(red - 230), abs(green - 159), blue) <= 3
    page.click("#first")
    assert page.evaluate(PIXEL, [180, 90])[3] == 0


def test_keys_slider_and_switches(page: Page) -> None:
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(STEP) == "2"
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(STEP) == "1"
    page.fill("#step", "2")
    assert page.evaluate(STEP) == "2"
    assert "went from 1 to 2" in page.inner_text("#changes")
    before = page.evaluate(PIXEL, [180, 90])[3]
    page.fill("#opacity", "90")
    assert page.evaluate(PIXEL, [180, 90])[3] > before
    edge = [199, 90]  # of what changed hands in this step
    assert page.evaluate(PIXEL, edge) == [255, 255, 255, 255]
    page.uncheck("#changed")
    assert page.evaluate(PIXEL, edge)[:3] != [255, 255, 255]


def test_play_runs_to_the_end_and_stops(page: Page) -> None:
    page.click("#play")
    page.wait_for_selector("html[data-step='4']")
    page.wait_for_selector("#play[aria-label='play']")
    page.click("#play")
    page.wait_for_selector("html:not([data-step='4'])")
    page.click("#play")
    assert page.get_attribute("#play", "aria-label") == "play"


def test_texts_stay_texts(page: Page) -> None:
    assert page.title() == NASTY
    assert page.inner_text("h1") == NASTY
    page.fill("#step", "2")
    assert NASTY in page.inner_text("#instances")
    assert NASTY in page.inner_text("#caption")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
