"""Errors are told where the person looks, in words, and cost no click."""

from __future__ import annotations

from browser.lab import Lab

PLACE = (120, 90)


def test_failed_prediction_is_told_and_survived(bench: Lab) -> None:
    view = bench.show(
        "from stand_ins import Discs\n"
        "predictor = Discs()\n"
        "w = DynaMITeWidget('images/cat.jpg', predictor=predictor)\nw"
    )
    bench.kernel("predictor.failures.append(RuntimeError('the disc machine is jammed'))")
    view.click(*PLACE).wait_text("the disc machine is jammed")
    view.wait_acknowledged()
    assert len(bench.value("w.clicks")) == 1

    view.click(300, 200)
    view.wait_overlay(PLACE[0] + 25, PLACE[1], visible=True)
    view.wait_overlay(300 + 25, 200, visible=True).wait_acknowledged()
    assert len(bench.value("w.clicks")) == 2
    assert bench.value("w.status['state']") == "ready"


def test_refused_intent_is_told(bench: Lab) -> None:
    view = bench.show(
        "from stand_ins import Discs\n"
        "w = DynaMITeWidget('images/cat.jpg', predictor=Discs())\n"
        "w.click(120, 90)\nw.wait(60)\nw"
    )
    view.wait_overlay(*PLACE, visible=True)
    bench.kernel("w.lock(1)\nw.wait(60)")
    clicks = len(bench.value("w.clicks"))
    view.click(300, 200)
    view.wait_text("lock")
    view.wait_acknowledged()
    assert len(bench.value("w.clicks")) == clicks


def test_missing_model_is_told_in_the_widget(bench: Lab) -> None:
    bench.replace_cells("w = DynaMITeWidget('images/cat.jpg', checkpoint='nowhere.pth')\nw")
    bench.run_all()
    view = bench.view()
    view.wait_text("nowhere.pth")
