"""Hover preview: a ghost of what a click would do, with the bundled model on a CPU."""

from __future__ import annotations

from browser.lab import Lab
from browser.view import View

CELL = """
from dynamite_widget import DynaMITeWidget
w = DynaMITeWidget("images/cat.jpg", hover_preview=True)
w.wait(120)
w
"""
CAT = (230, 165)
ALPHA = """(() => {
  const canvas = root.querySelector('.dmw-front');
  const [x, y] = argument.map((at) => Math.floor(at * canvas.width / canvas.clientWidth));
  return canvas.getContext('2d').getImageData(x, y, 1, 1).data[3];
})()"""


def test_a_ghost_of_what_a_click_would_do(bench: Lab) -> None:
    view: View = bench.show(CELL, picture_size=(451, 300))
    across, down = view.place(*CAT)
    view.hover(*CAT)
    # Nothing is clicked yet: whatever is drawn there is the ghost, a faint white.
    view.wait_for(ALPHA + " > 20", [across, down])
    ghost = view.overlay(*CAT)
    assert min(ghost.red, ghost.green, ghost.blue) > 200
    assert ghost.alpha < 100
    assert bench.value("len(w.clicks)") == 0
    assert bench.value("w.masks.shape[0]") == 0

    view.page.mouse.move(0, 0)
    view.wait_for(ALPHA + " === 0", [across, down])
