"""While a cell runs nothing is lost, and the page says what is going on."""

from __future__ import annotations

import importlib.metadata
import time

from browser.lab import Lab

SUBSHELLS = int(importlib.metadata.version("ipykernel").split(".")[0]) >= 7
FIRST = (120, 90)
SECOND = (300, 200)
WIDGET = (
    "from dynamite_widget import DynaMITeWidget\nfrom stand_ins import Discs\n"
    "w = DynaMITeWidget('images/cat.jpg', predictor=Discs())\nw"
)
WAIT = "import time\nuntil = time.time() + {seconds}\nwhile time.time() < until: time.sleep(0.1)"


def test_clicks_while_a_cell_runs(bench: Lab) -> None:
    bench.replace_cells(WIDGET, "w.hover_preview\n" + WAIT.format(seconds=8))
    started = time.monotonic()
    bench.start_all()
    view = bench.view()
    view.click(*FIRST)
    view.click(*SECOND)
    if SUBSHELLS:
        view.wait_overlay(*FIRST, visible=True).wait_overlay(*SECOND, visible=True)
        view.wait_acknowledged()
        assert time.monotonic() - started < 8
        assert bench.kernel_status == "busy"
    bench.wait_idle()
    view.wait_acknowledged().wait_overlay(*SECOND, visible=True)
    found = bench.value("[(c['x'], c['y']) for c in w.clicks]")
    assert len(found) == 2
    assert abs(found[0][0] - FIRST[0]) <= 1


def test_blocked_kernel_says_so_and_catches_up(bench: Lab) -> None:
    """A native call that keeps the interpreter lock stops every thread of the kernel."""
    view = bench.show(WIDGET)
    hold = "import ctypes\nctypes.PyDLL(None).usleep(6_000_000)"
    bench.page.evaluate(
        """(code) => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel
          .requestExecute({code, store_history: false}); }""",
        hold,
    )
    bench.wait_busy()
    view.click(*FIRST)
    # The marker is there at once, long before the kernel knows of it.
    view.wait_for("root.dataset.seq !== root.dataset.acked")
    assert view.overlay(*FIRST).alpha > 40
    view.wait_text("busy")
    bench.wait_idle()
    view.wait_acknowledged().wait_overlay(FIRST[0] + 25, FIRST[1], visible=True)
    view.wait_for("!/busy/i.test(root.innerText)")
    assert len(bench.value("w.clicks")) == 1
