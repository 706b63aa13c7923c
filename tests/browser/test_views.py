"""Several views of one widget, several widgets, and what a reload of the page leaves."""

from __future__ import annotations

from browser.lab import Lab

CELL = "w = DynaMITeWidget('images/cat.jpg')\nw"
CAT = (235, 160)
LOW = (120, 230)


def test_two_views_in_step(bench: Lab) -> None:
    first = bench.show(CELL, "w")
    second = bench.view(1)

    first.click(*CAT).wait_overlay(*CAT, visible=True)
    second.wait_overlay(*CAT, visible=True)
    assert second.root.locator(".dmw-row").count() == 1

    second.press("Control+z").wait_overlay(*CAT, visible=False)
    first.wait_overlay(*CAT, visible=False)
    assert bench.value("w.clicks") == []

    # Zooming is a matter of one view alone.
    across, down = second.place(*CAT)
    first.press("PageUp", "PageUp")
    assert second.place(*CAT) == (across, down)


def test_two_widgets_are_strangers(bench: Lab) -> None:
    first = bench.show(CELL, "v = DynaMITeWidget('images/cat.jpg')\nv")
    second = bench.view(1)
    first.click(*CAT).wait_overlay(*CAT, visible=True).wait_acknowledged()
    assert second.overlay(*CAT).alpha == 0
    assert bench.value("(len(w.clicks), len(v.clicks))") == [1, 0]
    bench.kernel("v.close()")


def test_reload_keeps_the_state(lab: Lab) -> None:
    lab.write("reload.ipynb", ["from dynamite_widget import DynaMITeWidget\n" + CELL])
    lab.open("reload.ipynb")
    lab.run_all()
    view = lab.view()
    view.click(*CAT).wait_overlay(*CAT, visible=True).wait_acknowledged()
    lab.command("docmanager:save")

    lab.page.reload()
    lab.wait_ready()

    view = lab.view()
    view.wait_overlay(*CAT, visible=True)
    view.press("n").click(*LOW).wait_acknowledged()
    assert lab.value("[c['instance'] for c in w.clicks]") == [1, 2]
    view.wait_overlay(*LOW, visible=True)


def test_new_picture_replaces_the_old_one(bench: Lab) -> None:
    view = bench.show(CELL)
    view.click(*CAT).wait_overlay(*CAT, visible=True).wait_acknowledged()
    version = view.data("image-version")
    bench.kernel("w.set_image('images/coffee.jpg')")
    view.wait_for("root.dataset.imageVersion !== argument", version).wait_ready()
    view.picture_size = (600, 400)
    view.wait_overlay(300, 300, visible=False)
    view.click(300, 120).wait_overlay(300, 120, visible=True).wait_acknowledged()
    assert bench.value("w.masks.shape") == [1, 400, 600]


def test_restarted_kernel_is_told(lab: Lab) -> None:
    lab.write("restart.ipynb", ["from dynamite_widget import DynaMITeWidget\n" + CELL])
    lab.open("restart.ipynb")
    lab.run_all()
    view = lab.view()
    view.click(*CAT).wait_overlay(*CAT, visible=True).wait_acknowledged()

    lab.restart_kernel()

    view.wait_text("The kernel is gone. Run the cell")
    sent = view.data("seq")
    view.click(*LOW)
    assert view.data("seq") == sent, "a click that nobody will ever receive is not taken"
    assert view.overlay(*CAT).alpha > 40  # what was there stays to be seen

    lab.run_all()
    lab.view().click(*LOW).wait_overlay(*LOW, visible=True)
