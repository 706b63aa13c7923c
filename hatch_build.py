"""Build hook: bundles the front end in ``js/`` into ``dynamite_widget/static/``.

Runs for wheels, source distributions and editable installs. It uses a bundle that is there and up
to date (a source distribution carries one, so Node is not needed to install from it); otherwise
npm builds it. Set ``DYNAMITE_SKIP_BUNDLE=1`` to work on the Python side alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OUTPUTS = ("widget.js", "widget.css")
INPUTS_BESIDE_SOURCES = ("package.json", "package-lock.json", "tsconfig.json")


class FrontEndBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Makes sure that the bundle exists before hatchling collects files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        if os.environ.get("DYNAMITE_SKIP_BUNDLE") == "1":
            say("DYNAMITE_SKIP_BUNDLE=1: the front end is left as it is")
            return
        build_front_end(root)


def build_front_end(root: Path) -> None:
    """Bring ``dynamite_widget/static`` up to date, or raise with what to do about it."""
    static = root / "dynamite_widget" / "static"
    present = all((static / name).is_file() for name in OUTPUTS)
    if present and not is_stale(root, static):
        return
    npm = shutil.which("npm")
    if npm is None:
        if present:
            say("warning: the front end is older than its sources in js/ and npm was not found")
            return
        raise RuntimeError(
            "The front end (dynamite_widget/static/widget.js) is missing and npm was not found. "
            "Install Node.js >= 20 (https://nodejs.org) and try again, or install a released "
            "wheel, which contains the front end."
        )
    js = root / "js"
    if not (js / "package.json").is_file():
        raise RuntimeError(f"The sources of the front end are missing: no {js / 'package.json'}.")
    installed = js / "node_modules" / ".package-lock.json"
    lock = js / "package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < lock.stat().st_mtime:
        run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], js)
    run([npm, "run", "build"], js)
    missing = [name for name in OUTPUTS if not (static / name).is_file()]
    if missing:
        raise RuntimeError(
            f"`npm run build` in js/ did not write {', '.join(missing)} to {static}."
        )


def is_stale(root: Path, static: Path) -> bool:
    """Whether a source is newer than the bundle; only a git checkout has sources that change."""
    if not (root / ".git").exists():
        return False
    built = min((static / name).stat().st_mtime for name in OUTPUTS)
    return any(path.stat().st_mtime > built for path in source_files(root / "js"))


def source_files(js: Path) -> Iterator[Path]:
    """Every file that the bundle is made of."""
    yield from (path for path in (js / "src").rglob("*") if path.is_file())
    yield from (js / name for name in INPUTS_BESIDE_SOURCES if (js / name).is_file())
    yield from js.glob("*.mjs")


def run(command: list[str], folder: Path) -> None:
    say(f"running {' '.join(['npm', *command[1:]])} in {folder.name}/")
    try:
        subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(
            f"Building the front end failed: `{' '.join(['npm', *command[1:]])}` in {folder} ended "
            f"with code {error.returncode}; its messages are above."
        ) from error


def say(message: str) -> None:
    print(f"dynamite-widget: {message}", file=sys.stderr)
