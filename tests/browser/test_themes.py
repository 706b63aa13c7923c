"""Light and dark, wide and narrow: legible, nothing cut off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from browser.lab import Lab
from browser.view import View

CONTRASTS = """root => {
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((v) => {
      const c = v / 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      const alpha = colour.startsWith('rgba') ? Number(colour.match(/[\\d.]+/g)[3]) : 1;
      if (alpha === 1) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = {};
  for (const selector of ['.dmw-button', '.dmw-status-text', '.dmw-meta', '.dmw-side-title']) {
    const node = root.querySelector(selector);
    const [a, b] = [luminance(getComputedStyle(node).color), luminance(behind(node))];
    found[selector] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }
  return found;
}"""


@pytest.fixture
def theme(bench: Lab) -> Iterator[Lab]:
    yield bench
    bench.command("apputils:change-theme", theme="JupyterLab Light")


def shown(bench: Lab) -> View:
    view = bench.show(
        "from stand_ins import Discs\n"
        "w = DynaMITeWidget('images/cat.jpg', predictor=Discs(), classes=['cat'])\n"
        "w.click(120, 90)\nw.click(300, 200, instance='new')\nw.wait(60)\nw"
    )
    return view.wait_overlay(300, 200, visible=True)


@pytest.mark.parametrize("name", ["JupyterLab Light", "JupyterLab Dark"])
def test_text_is_legible(theme: Lab, name: str) -> None:
    view = shown(theme)
    theme.command("apputils:change-theme", theme=name)
    wanted = "dark" if "Dark" in name else "light"
    view.wait_for("root.dataset.theme === argument", wanted)
    contrasts = view.root.evaluate(CONTRASTS)
    assert min(contrasts.values()) >= 4.5, contrasts


def test_nothing_is_cut_off_in_a_narrow_cell(bench: Lab) -> None:
    view = shown(bench)
    bench.page.set_viewport_size({"width": 760, "height": 900})
    try:
        view.wait_for("root.clientWidth < 420")
        view.wait_for("root.querySelector('.dmw-front').clientWidth <= root.clientWidth")
        view.wait_overlay(120, 90, visible=True).wait_overlay(300, 200, visible=True)
        cut = view.root.evaluate(
            """root => Array.from(root.querySelectorAll('button, select, .dmw-row')).filter((n) => {
              const box = n.getBoundingClientRect(), edge = root.getBoundingClientRect();
              return box.width && (box.right > edge.right + 0.5 || box.left < edge.left - 0.5);
            }).map((n) => n.outerHTML.slice(0, 80))"""
        )
        assert cut == []
    finally:
        bench.page.set_viewport_size({"width": 1280, "height": 900})


def test_picture_stays_where_it_is_when_instances_come(bench: Lab) -> None:
    view = bench.show(
        "from stand_ins import Discs\nw = DynaMITeWidget('images/cat.jpg', predictor=Discs())\nw"
    )
    before = view.size()
    view.click(120, 90).wait_overlay(145, 90, visible=True).wait_acknowledged()
    view.press("n").click(300, 200).wait_overlay(325, 200, visible=True).wait_acknowledged()
    bench.kernel("w.set_class(1, 'a class name of extraordinary length, longer than its place')")
    view.wait_for("root.querySelector('.dmw-row').innerHTML.includes('extraordinary')")
    assert view.size() == before
