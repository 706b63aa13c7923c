"""A notebook page outside of pytest, for scripts that measure and take pictures."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from browser import servers
from browser.chromium import OPTIONS
from browser.lab import Lab

ROOT = Path(__file__).resolve().parents[2]


def find_browser() -> str:
    """Return the path of a Chromium, as the tests find it."""
    answer = subprocess.run(
        ["bash", str(ROOT / ".ci" / "find-browser")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
        check=False,
    )
    if answer.returncode:
        raise SystemExit("no Chromium was found (`make browser` installs one)")
    return answer.stdout.strip()


@contextlib.contextmanager
def notebook_page(width: int = 1280, height: int = 900, scale: float = 1.0) -> Iterator[Lab]:
    """Give a notebook, with the pictures of the notebooks beside it, in a JupyterLab of its own.

    Parameters
    ----------
    width, height : int
        Of the window, in CSS pixels.
    scale : float
        Screen pixels per CSS pixel.
    """
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "served"
        shutil.copytree(ROOT / "notebooks" / "images", served / "images")
        with (
            servers.jupyter(served, Path(folder) / "scratch", threads=None) as url,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=find_browser(), args=OPTIONS)
            context = browser.new_context(
                viewport={"width": width, "height": height}, device_scale_factor=scale
            )
            lab = Lab(context, url, served)
            lab.write("notebook.ipynb", ["pass"])
            lab.open("notebook.ipynb")
            yield lab
            lab.close()
            browser.close()


def picture_options(description: str) -> tuple[Path, str]:
    """Read the command line of a script that takes pictures with a model of choice.

    Returns
    -------
    output : Path
        Folder of the pictures; it exists.
    model : str
        What chooses the model, to be put behind a widget's other arguments.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--model", default="lite", help="a preset, or none (default: lite)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    model = ", predictor=Discs(24)" if options.model == "none" else ""
    if options.model not in ("lite", "none"):
        model = f", model={options.model!r}"
    return options.output, model


def check_size(path: Path, max_bytes: int = 300_000) -> None:
    """Print the size of a picture; end the script if it is too large."""
    size = path.stat().st_size
    if size > max_bytes:
        raise SystemExit(f"{path} has {size:,} bytes; at most {max_bytes:,} are wanted")
    print(f"{path}  {size:,} bytes")
