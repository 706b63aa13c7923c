"""Fingers: tap, long press, pinch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from browser.lab import Lab
from browser.view import View

FIRST = (120, 90)
SECOND = (300, 200)
Touch = Callable[..., None]


@pytest.fixture
def view(bench: Lab) -> View:
    return bench.show(
        "from stand_ins import Discs\nw = DynaMITeWidget('images/cat.jpg', predictor=Discs())\nw"
    )


@pytest.fixture
def touch(bench: Lab, view: View) -> Touch:
    """Put fingers on picture pixels, move or lift them: ``touch("touchStart", (x, y), …)``."""
    session = bench.context.new_cdp_session(bench.page)
    view.front.scroll_into_view_if_needed()
    box = view.front.bounding_box()
    assert box is not None

    def send(kind: str, *places: tuple[float, float]) -> None:
        points = []
        for number, place in enumerate(places):
            across, down = view.place(*place)
            points.append({"x": box["x"] + across, "y": box["y"] + down, "id": number})
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    return send


def test_tap_and_long_press(bench: Lab, view: View, touch: Touch) -> None:
    touch("touchStart", FIRST)
    touch("touchEnd")
    view.wait_overlay(FIRST[0] + 25, FIRST[1], visible=True).wait_acknowledged()

    touch("touchStart", SECOND)
    view.wait_for("Number(root.dataset.seq) === 2")  # while the finger rests
    touch("touchEnd")
    view.wait_acknowledged()
    assert bench.value("[c['instance'] for c in w.clicks]") == [1, 0]


def test_pinch_zooms_and_clicks_nothing(bench: Lab, view: View, touch: Touch) -> None:
    scale = float((view.data("view") or "0").split()[0])
    touch("touchStart", (200, 150))
    touch("touchStart", (200, 150), (240, 150))
    for spread in range(10, 110, 20):
        touch("touchMove", (200 - spread, 150), (240 + spread, 150))
    touch("touchEnd")
    view.wait_for("Number(root.dataset.view.split(' ')[0]) > 2 * argument", scale)
    assert bench.value("w.clicks") == []
