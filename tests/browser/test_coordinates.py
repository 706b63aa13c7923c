"""The pixel under the pointer is the pixel of the click: whole, zoomed, and in large pictures."""

from __future__ import annotations

import pytest

from browser.lab import Lab
from browser.view import View

CHART = """
import numpy as np
from stand_ins import Discs, coordinate_chart
w = DynaMITeWidget(coordinate_chart({height}, {width}), predictor=Discs({radius}))
w
"""


def show_chart(bench: Lab, width: int, height: int, radius: int = 5) -> View:
    cell = CHART.format(width=width, height=height, radius=radius)
    return bench.show(cell, picture_size=(width, height))


def last_click(bench: Lab) -> tuple[int, int]:
    x, y = bench.value("[w.clicks[-1]['x'], w.clicks[-1]['y']]")
    return x, y


@pytest.mark.parametrize("place", [(10.0, 10.0), (255.5, 31.25), (400.0, 300.0)])
def test_whole_picture(bench: Lab, place: tuple[float, float]) -> None:
    view = show_chart(bench, 512, 384)
    x, y = place
    view.click(x, y).wait_acknowledged()
    found = last_click(bench)
    assert max(abs(found[0] - x), abs(found[1] - y)) <= 1


def test_zoomed_in_then_clicked(bench: Lab) -> None:
    view = show_chart(bench, 512, 384)
    across, down = view.place(130, 77)
    view.front.hover(position={"x": across, "y": down})
    bench.page.keyboard.down("Control")
    for _ in range(8):
        bench.page.mouse.wheel(0, -120)
    bench.page.keyboard.up("Control")
    # Zoomed at the pointer: the same pixel is still under it, and large.
    view.wait_for(
        """(() => {
          const canvas = root.querySelector('.dmw-picture');
          const ratio = canvas.width / canvas.clientWidth;
          const at = (dx) => Array.from(canvas.getContext('2d').getImageData(
            Math.floor((argument[0] + dx) * ratio), Math.floor(argument[1] * ratio), 1, 1).data);
          return at(0).join() === at(3).join() && at(0)[3] === 255;
        })()""",
        [across - 1.5, down],
    )
    for dx, dy in ((0.0, 0.0), (57.0, 33.0), (-71.0, 20.0)):
        colour = view.picture(across + dx, down + dy)
        x = colour.red * 4 + (colour.blue % 64) // 16
        y = colour.green * 4 + colour.blue // 64
        view.click_canvas(across + dx, down + dy)
        view.wait_acknowledged()
        found = last_click(bench)
        assert max(abs(found[0] - x), abs(found[1] - y)) <= 1, (found, (x, y))
    assert max(abs(a - b) for a, b in zip(last_click(bench), (130, 77), strict=True)) < 60

    view.press("0")
    for x, y in bench.value("[(c['x'], c['y']) for c in w.clicks]"):
        view.wait_overlay(x, y, visible=True)


def test_large_picture_is_shown_reduced_and_clicked_in_full_resolution(bench: Lab) -> None:
    view = show_chart(bench, 5000, 3000, radius=300)
    view.click(4000, 1500).wait_overlay(4000, 1500, visible=True).wait_acknowledged()
    scale = 5000 / view.size()[0]
    x, y = last_click(bench)
    assert max(abs(x - 4000), abs(y - 1500)) <= scale
    assert bench.value("w.masks.shape") == [1, 3000, 5000]
    view.wait_overlay(4000 + 200, 1500, visible=True)
    view.wait_overlay(4000 + 420, 1500, visible=False)
