"""What people come for: open the quickstart, click an object, see its mask, read it in Python."""

from __future__ import annotations

import pytest

from browser.lab import Lab

CAT = (230, 165)
BESIDE = (425, 60)


@pytest.mark.timeout(600)  # all of the notebook, with the network
def test_click_an_object_of_the_quickstart(lab: Lab) -> None:
    lab.open("01_quickstart.ipynb")
    lab.run_all()
    view = lab.view()
    lab.kernel("w.reset()\nw.wait(60)")
    view.wait_overlay(*CAT, visible=False)

    view.click(*CAT)

    view.wait_overlay(*CAT, visible=True)
    view.wait_acknowledged()
    assert view.overlay(*BESIDE).alpha < 40
    assert lab.value("w.masks.shape") == [1, 300, 451]
    assert lab.value(f"w.masks[0][{CAT[1]}, {CAT[0]}]")
    assert not lab.value(f"w.masks[0][{BESIDE[1]}, {BESIDE[0]}]")
    clicks = lab.value("[(c['x'], c['y'], c['instance']) for c in w.clicks]")
    assert len(clicks) == 1
    assert abs(clicks[0][0] - CAT[0]) <= 1
    assert abs(clicks[0][1] - CAT[1]) <= 1
