"""Times the way from a click in the browser to the mask on the screen, and weighs the bundle.

A real Chromium clicks in a real JupyterLab; the parts are taken apart by what the widget reports
with every painted label map::

    python benchmarks/roundtrip.py                  # bundled model, 2 megapixels, 20 instances
    python benchmarks/roundtrip.py --model none     # masks of discs: only the way, no network
    python benchmarks/roundtrip.py --hover          # from pointing somewhere to the hover preview
    python benchmarks/roundtrip.py --json
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser.lab import Lab  # noqa: E402
from browser.standalone import notebook_page  # noqa: E402
from browser.view import View  # noqa: E402

TARGET_MS = 50.0
STATIC = ROOT / "dynamite_widget" / "static"
# Name in the results -> what it is.
PARTS = {
    "total": "from releasing the button to the mask on the canvas",
    "model": "network and label map, in the kernel",
    "decode": "run lengths to outlines, in the page",
    "paint": "drawing the canvas",
    "way": "the rest: events, two messages, encoding, waiting for the next frame",
    "without model": "total less model",
}
CELL = """
import numpy as np
from PIL import Image
from dynamite_widget import DynaMITeWidget
from stand_ins import Discs

picture = np.asarray(Image.open("images/astronaut.jpg").resize(({width}, {height})))
w = DynaMITeWidget(picture{predictor})
places = {places}
for x, y in places:
    w.click(x, y, instance="new")
w.wait(300)
w
"""
# Notes when the button went up, and keeps what the widget says about the next painted mask of the
# whole network (coarse ones have fractions for revisions). Reading a pixel back makes the browser
# draw what it has only taken note of.
WATCH = """() => {
  window.times = [];
  let released = null;
  const root = document.querySelector('.dmw-root');
  root.addEventListener('pointerup', () => { released = performance.now(); }, {capture: true});
  root.addEventListener('dmw-painted', (event) => {
    if (released === null || !Number.isInteger(event.detail.revision)) return;
    const painted = performance.now();
    root.querySelector('.dmw-front').getContext('2d').getImageData(0, 0, 1, 1);
    const drawn = performance.now();
    const times = {raster_ms: drawn - painted, total_ms: drawn - released};
    window.times.push({...event.detail, ...times});
    released = null;
  });
}"""


# Notes when the pointer moved, and looks at every frame whether the ghost covers its place.
WATCH_HOVER = """() => {
  window.times = [];
  let moved = null;
  const canvas = document.querySelector('.dmw-root .dmw-front');
  canvas.addEventListener('pointermove', (event) => {
    moved = {at: performance.now(), x: event.offsetX, y: event.offsetY};
  }, {capture: true});
  const look = () => {
    if (moved) {
      const ratio = canvas.width / canvas.clientWidth;
      const [x, y] = [Math.floor(moved.x * ratio), Math.floor(moved.y * ratio)];
      const {data} = canvas.getContext('2d').getImageData(x, y, 1, 1);
      if (data[3] > 20) {
        window.times.push(performance.now() - moved.at);
        moved = null;
      }
    }
    requestAnimationFrame(look);
  };
  look();
}"""


def grid(count: int, width: int, height: int) -> list[tuple[int, int]]:
    """Return `count` places spread over a picture."""
    columns = math.ceil(math.sqrt(count * width / height))
    rows = math.ceil(count / columns)
    return [
        (round((n % columns + 0.5) * width / columns), round((n // columns + 0.5) * height / rows))
        for n in range(count)
    ]


def measure(
    lab: Lab, model: str, megapixels: float, instances: int, clicks: int
) -> list[dict[str, float]]:
    """Click and return the times of each click in milliseconds, by part."""
    width = round(math.sqrt(megapixels * 1e6 * 4 / 3))
    height = round(width * 3 / 4)
    radius = round(0.35 * math.sqrt(width * height / instances))
    predictor = f", predictor=Discs({radius})" if model == "none" else f", model={model!r}"
    places = grid(instances, width, height)
    cell = CELL.format(width=width, height=height, predictor=predictor, places=places)
    view = lab.show(cell, picture_size=(width, height))
    view.wait_painted(instances)
    lab.page.evaluate(WATCH)
    for number in range(clicks):
        x, y = places[number % len(places)]
        # Beside the marker that is there already; further out each time around.
        offset = 30 + 40 * (number // len(places))
        click_and_wait(view, x + offset, y + offset // 2, number + 1)
    return [split(detail) for detail in lab.page.evaluate("() => window.times")]


def measure_hover(lab: Lab, model: str, megapixels: float, places: int) -> list[float]:
    """Point at places of a picture without clicks; return milliseconds until each ghost is seen."""
    width = round(math.sqrt(megapixels * 1e6 * 4 / 3))
    height = round(width * 3 / 4)
    options = f", model={model!r}, hover_preview=True"
    cell = CELL.format(width=width, height=height, predictor=options, places=[])
    view = lab.show(cell, picture_size=(width, height))
    lab.page.evaluate(WATCH_HOVER)
    for number, (x, y) in enumerate(grid(places, width, height)):
        view.hover(x, y)
        lab.page.wait_for_function("(number) => window.times.length > number", arg=number)
        lab.page.mouse.move(0, 0)  # takes the ghost away
        lab.page.wait_for_timeout(200)
    return [float(value) for value in lab.page.evaluate("() => window.times")]


def report_hover(times: list[float], options: argparse.Namespace) -> None:
    values = sorted(times[3:])  # the first ones warm up
    median, p90 = statistics.median(values), values[int(0.9 * len(values))]
    print(
        f"{options.megapixels:g} megapixels, model {options.model}: from pointing at a place to "
        f"its preview {median:.0f} ms (median of {len(values)}, min {values[0]:.0f}, p90 {p90:.0f})"
    )
    if options.json:
        result = {"median_ms": round(median, 1), "p90_ms": round(p90, 1), "places": len(values)}
        print(json.dumps({"hover": result}))


def click_and_wait(view: View, x: float, y: float, number: int) -> None:
    view.click(x, y)
    view.page.wait_for_function("(number) => window.times.length >= number", arg=number)
    view.wait_acknowledged()


def split(detail: dict[str, Any]) -> dict[str, float]:
    total = float(detail["total_ms"])
    model = float(detail["model_ms"] or 0.0)
    decode, paint = float(detail["decode_ms"]), float(detail["paint_ms"] + detail["raster_ms"])
    return {
        "total": total,
        "model": model,
        "decode": decode,
        "paint": paint,
        "way": total - model - decode - paint,
        "without model": total - model,
    }


def bundle_sizes() -> dict[str, dict[str, int]]:
    """Bytes of the built front end, as they are and compressed."""
    sizes = {}
    for name in ("widget.js", "widget.css"):
        data = (STATIC / name).read_bytes()
        sizes[name] = {"bytes": len(data), "gzip_bytes": len(gzip.compress(data, 9))}
    return sizes


def summarise(times: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    summary = {}
    for part in PARTS:
        values = sorted(row[part] for row in times)
        summary[part] = {
            "median_ms": round(statistics.median(values), 1),
            "min_ms": round(values[0], 1),
            "p90_ms": round(values[min(len(values) - 1, int(0.9 * len(values)))], 1),
        }
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lite", help="a preset, or none (default: lite)")
    parser.add_argument("--megapixels", type=float, default=2.0)
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--clicks", type=int, default=40)
    parser.add_argument("--hover", action="store_true", help="time the hover preview instead")
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    options = parser.parse_args()
    if options.hover:
        if options.model == "none":
            parser.error("--hover needs a network: leave --model none out")
        with notebook_page(1600, 1000) as lab:
            report_hover(
                measure_hover(lab, options.model, options.megapixels, options.clicks), options
            )
        return
    with notebook_page(1600, 1000) as lab:
        times = measure(lab, options.model, options.megapixels, options.instances, options.clicks)
    summary = summarise(times[min(3, len(times) - 1) :])  # the first ones warm up
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    results = {
        "model": options.model,
        "megapixels": options.megapixels,
        "instances": options.instances,
        "clicks": len(times),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": load,
        "times": summary,
        "target_ms": TARGET_MS,
        "bundle": bundle_sizes(),
    }
    print(
        f"{options.megapixels:g} megapixels, {options.instances} instances, "
        f"model {options.model}, {len(times)} clicks, {results['machine']}, load {load}"
    )
    print(f"\n{'ms':14}{'median':>8}{'min':>8}{'p90':>8}")
    for part, values in summary.items():
        row = "".join(f"{values[key]:8.1f}" for key in ("median_ms", "min_ms", "p90_ms"))
        print(f"{part:14}{row}   {PARTS[part]}")
    reached = summary["without model"]["median_ms"] <= TARGET_MS
    print(f"\ntarget: without model <= {TARGET_MS:g} ms: {'reached' if reached else 'missed'}")
    for name, size in bundle_sizes().items():
        print(f"{name}: {size['bytes']:,} bytes, {size['gzip_bytes']:,} compressed (gzip)")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
