"""While a cell runs nothing is lost, and the page says what is going on."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from browser.lab import Lab

# Since version 7 messages of widgets are handled while a cell runs.
SUBSHELLS = int(importlib.metadata.version("ipykernel").split(".")[0]) >= 7
FIRST = (120, 90)
SECOND = (300, 200)
WIDGET = (
    "from dynamite_widget import DynaMITeWidget\nfrom stand_ins import Discs\n"
    "w = DynaMITeWidget('images/cat.jpg', predictor=Discs())\nw"
)
WAIT = (
    "import pathlib, time\n"
    "until = time.monotonic() + 50\n"
    "while not pathlib.Path('go-on').exists() and time.monotonic() < until: time.sleep(0.05)"
)


@pytest.mark.parametrize("before", ["", "w.click(40, 250)\nw.set_class(1, 'cat')\n"])
def test_clicks_while_a_cell_runs(bench: Lab, served: Path, before: str) -> None:
    """Also after the running cell itself has published something."""
    gate = served / "go-on"
    gate.unlink(missing_ok=True)
    bench.replace_cells(WIDGET, before + WAIT)
    bench.start_all()
    view = bench.view()
    if before:
        view.wait_painted(2)
    view.click(*FIRST).click(*SECOND)
    if SUBSHELLS:
        view.wait_overlay(FIRST[0] + 25, FIRST[1], visible=True)
        view.wait_overlay(SECOND[0] + 25, SECOND[1], visible=True)
        view.wait_acknowledged()
    gate.touch()
    bench.wait_started()
    view.wait_acknowledged().wait_overlay(SECOND[0] + 25, SECOND[1], visible=True)
    found = bench.value("[(c['x'], c['y']) for c in w.clicks][-2:]")
    for (x, y), place in zip(found, (FIRST, SECOND), strict=True):
        assert max(abs(x - place[0]), abs(y - place[1])) <= 1


def test_blocked_kernel_says_so_and_catches_up(bench: Lab) -> None:
    """A native call that keeps the interpreter lock stops every thread of the kernel."""
    view = bench.show(WIDGET)
    hold = "import ctypes, time\nsleep = ctypes.PyDLL(None).usleep\nsleep(7_000_000)"
    bench.start(hold)
    view.click(*FIRST)
    # The marker is there at once, long before the kernel knows of it.
    assert view.overlay(*FIRST).alpha > 40
    assert view.data("acked") != view.data("seq")
    view.wait_text("Kernel busy")
    view.wait_acknowledged().wait_overlay(FIRST[0] + 25, FIRST[1], visible=True)
    view.wait_for("!/busy/i.test(root.innerText)")
    assert len(bench.value("w.clicks")) == 1


def test_coarse_masks_are_shown_while_a_slow_network_goes_on(bench: Lab) -> None:
    view = bench.show(WIDGET.replace("Discs()", "Discs(delay_s=2)"))
    view.click(60, 60).wait_painted(1)
    bench.kernel("w.click(60, 120); w.wait()")
    view.wait_painted(2).click(*SECOND)
    view.wait_for("Number(root.dataset.painted) === 2.5")
    assert view.data("busy") == "1"
    view.wait_overlay(SECOND[0] + 15, SECOND[1], visible=True)
    assert view.overlay(SECOND[0] + 30, SECOND[1]).alpha < 40
    view.wait_painted(3).wait_overlay(SECOND[0] + 30, SECOND[1], visible=True)
    assert bench.value("w.painted") in (2, 3)
    assert bench.value("w.label_version") == 3
