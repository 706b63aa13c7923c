"""Clicks are data: drag, delete, undo and redo them."""

from __future__ import annotations

from browser.lab import Lab
from browser.view import View

FIRST = (120, 90)
SECOND = (300, 200)
RADIUS = 40
CLICKS = "[(c['t'], c['x'], c['y'], c['instance']) for c in w.clicks]"


def discs(bench: Lab) -> View:
    """A widget whose masks are discs of known place and size."""
    return bench.show(
        "from stand_ins import Discs\n"
        f"w = DynaMITeWidget('images/cat.jpg', predictor=Discs({RADIUS}))\nw"
    )


def test_drag_a_marker(bench: Lab) -> None:
    view = discs(bench)
    view.click(*FIRST).wait_overlay(FIRST[0] + 20, FIRST[1], visible=True).wait_acknowledged()
    ((time, *_),) = bench.value(CLICKS)

    view.drag(FIRST, SECOND)

    view.wait_overlay(SECOND[0] + 20, SECOND[1], visible=True)
    view.wait_overlay(FIRST[0] + 20, FIRST[1], visible=False)
    view.wait_acknowledged()
    ((same_time, x, y, instance),) = bench.value(CLICKS)
    assert (same_time, instance) == (time, 1), "dragging keeps the identity of the click"
    assert max(abs(x - SECOND[0]), abs(y - SECOND[1])) <= 1


def test_remove_a_click_two_ways(bench: Lab) -> None:
    view = discs(bench)
    view.click(*FIRST).click(*SECOND).wait_acknowledged()
    assert len(bench.value(CLICKS)) == 2

    view.hover(*SECOND).press("Delete")
    view.wait_overlay(*SECOND, visible=False).wait_acknowledged()
    assert len(bench.value(CLICKS)) == 1

    view.click(*FIRST, modifiers=("Shift",))
    view.wait_overlay(*FIRST, visible=False).wait_acknowledged()
    assert bench.value(CLICKS) == []


def test_undo_and_redo(bench: Lab) -> None:
    view = discs(bench)
    view.click(*FIRST).wait_overlay(*FIRST, visible=True)
    view.click(*SECOND).wait_overlay(*SECOND, visible=True).wait_acknowledged()
    both = bench.value(CLICKS)

    view.press("Control+z").wait_overlay(*SECOND, visible=False)
    view.press("Control+z").wait_overlay(*FIRST, visible=False).wait_acknowledged()
    assert bench.value(CLICKS) == []

    view.press("Control+Shift+z").wait_overlay(*FIRST, visible=True)
    view.command("redo").wait_overlay(*SECOND, visible=True).wait_acknowledged()
    assert bench.value(CLICKS) == both


def test_ten_quick_clicks_are_all_kept_in_order(bench: Lab) -> None:
    view = bench.show(
        "from stand_ins import Discs\n"
        "w = DynaMITeWidget('images/cat.jpg', predictor=Discs(15, delay_s=0.3))\nw"
    )
    places = [(40 + 40 * n, 60 + 20 * (n % 3)) for n in range(10)]
    for place in places:
        view.click(*place)
    view.wait_acknowledged()
    for place in places:
        view.wait_overlay(*place, visible=True)
    found = bench.value("[(c['x'], c['y']) for c in w.clicks]")
    assert len(found) == 10
    for (x, y), place in zip(found, places, strict=True):
        assert max(abs(x - place[0]), abs(y - place[1])) <= 1
    bench.kernel("w.wait(60)")
    view.wait_overlay(places[-1][0] + 8, places[-1][1], visible=True)
