"""Several instances: a second one, background clicks, the list beside the picture."""

from __future__ import annotations

from browser.lab import Lab
from browser.view import View

LEFT_EYE = (168, 112)
RIGHT_EYE = (322, 135)
CAT = (235, 160)
WALL = (430, 80)


def test_second_instance_has_its_own_mask_and_colour(bench: Lab, cat: View) -> None:
    cat.click(*CAT).wait_overlay(*CAT, visible=True)
    cat.press("n").click(*WALL).wait_overlay(*WALL, visible=True)
    cat.wait_acknowledged()

    assert bench.value("[i['id'] for i in w.instances]") == [1, 2]
    assert bench.value(f"[int(w.label_map[y, x]) for x, y in ({CAT}, {WALL})]") == [1, 2]
    colours = bench.value("[i['colour'] for i in w.instances]")
    assert len(set(colours)) == 2
    assert cat.root.locator(".dmw-row").count() == 2


def test_background_click_takes_pixels_away(bench: Lab, cat: View) -> None:
    cat.click(*CAT).wait_overlay(*CAT, visible=True).wait_acknowledged()
    before = bench.value("int(w.masks.sum())")

    cat.click(*LEFT_EYE, button="right").wait_acknowledged()

    assert bench.value("w.wait(60) is not False and [c['instance'] for c in w.clicks]") == [1, 0]
    assert bench.value("int(w.label_map[112, 168])") == 0
    assert bench.value("int(w.masks.sum())") < before
    # Ctrl+click means the same.
    cat.click(*RIGHT_EYE, modifiers=("Control",)).wait_acknowledged()
    assert bench.value("[c['instance'] for c in w.clicks]") == [1, 0, 0]


def test_list_hides_locks_names_and_deletes(bench: Lab, cat: View) -> None:
    cat.click(*CAT).wait_overlay(*CAT, visible=True).wait_acknowledged()
    row = cat.root.locator(".dmw-row")

    row.locator(".dmw-eye").click()
    cat.wait_overlay(*(CAT[0] + 40, CAT[1]), visible=False)
    assert bench.value("w.instances[0]['visible']") is False
    assert bench.value("w.masks.any()")  # hidden from sight, not from the data
    row.locator(".dmw-eye").click()
    cat.wait_overlay(*(CAT[0] + 40, CAT[1]), visible=True)

    row.locator("select").select_option("cat")
    cat.wait_acknowledged()
    assert bench.value("w.instances[0]['class_name']") == "cat"

    row.locator(".dmw-lock").click()
    cat.wait_acknowledged()
    assert bench.value("w.instances[0]['locked']") is True
    row.locator(".dmw-lock").click()
    cat.wait_acknowledged()

    row.locator(".dmw-trash").click()
    cat.wait_overlay(*CAT, visible=False).wait_acknowledged()
    assert bench.value("(w.instances, w.clicks)") == [[], []]


def test_names_are_text_never_markup(bench: Lab) -> None:
    nasty = "<img src=x onerror=\"document.title='owned'\">"
    view = bench.show(
        f"w = DynaMITeWidget('images/cat.jpg', classes=[{nasty!r}], name={nasty!r})\n"
        f"w.click(230, 165)\nw.set_class(1, {nasty!r})\nw.wait(60)\nw"
    )
    view.wait_overlay(*CAT, visible=True)
    assert view.root.locator("img").count() == 0
    assert bench.page.title() != "owned"
    assert view.root.locator("option", has_text="<img").count() >= 1
