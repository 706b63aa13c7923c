"""Everything without a mouse."""

from __future__ import annotations

from browser.lab import Lab
from browser.view import View


def test_click_classify_and_undo_by_keyboard(bench: Lab, cat: View) -> None:
    cat.press("ArrowRight", "Enter").wait_acknowledged()
    assert bench.value("[c['instance'] for c in w.clicks]") == [1]
    first = bench.value("(w.clicks[0]['x'], w.clicks[0]['y'])")

    cat.press("2").wait_acknowledged()
    assert bench.value("w.instances[0]['class_name']") == "eye"

    cat.press("Shift+ArrowDown", "Shift+Enter").wait_acknowledged()
    assert bench.value("[c['instance'] for c in w.clicks]") == [1, 0]
    second = bench.value("(w.clicks[1]['x'], w.clicks[1]['y'])")
    assert second[1] > first[1]

    cat.press("n", "Shift+ArrowLeft", "Enter").wait_acknowledged()
    assert bench.value("[c['instance'] for c in w.clicks]") == [1, 0, 2]

    cat.press("Control+z", "Control+z").wait_acknowledged()
    assert bench.value("[c['instance'] for c in w.clicks]") == [1]
    cat.wait_overlay(first[0], first[1], visible=True)


def test_notebook_shortcuts_do_not_fire(bench: Lab, cat: View) -> None:
    cells = "() => window.jupyterapp.shell.currentWidget.content.model.cells.length"
    before = bench.page.evaluate(cells)
    # In command mode of the notebook: a cell above, below, cut, delete, to Markdown.
    cat.press("a", "b", "x", "d", "d", "m", "m", "Escape")
    cat.press("n", "h", "h", "o", "o", "?", "Escape")
    cat.press("ArrowLeft", "Enter").wait_acknowledged()
    for control in ("[data-command='undo']", ".dmw-row select", ".dmw-row .dmw-lock"):
        cat.root.locator(control).first.focus()
        for key in ("a", "b", "x"):
            bench.page.keyboard.press(key)
    assert bench.page.evaluate(cells) == before
    assert cat.root.is_visible()


def test_tab_can_leave_the_picture(bench: Lab, cat: View) -> None:
    inside = """root.contains(document.activeElement)
      && !document.activeElement.classList.contains('dmw-front')"""
    cat.press("Escape", "Escape", "Tab")
    cat.wait_for(f"({inside}) || !root.contains(document.activeElement)")
    bench.page.keyboard.press("Shift+Tab")
    cat.wait_for("root.contains(document.activeElement)")


def test_help_lists_the_keys(cat: View) -> None:
    cat.press("?").wait_text("New instance")
    cat.wait_text("Undo")
    cat.press("Escape")
    cat.wait_for("!root.innerText.includes('Move the crosshair')")
