"""The build hook: when it calls npm, and what it says when it cannot."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).resolve().parent.parent
NPM = """#!/bin/sh
echo "$1 $2" >> "{log}"
[ "$1" = ci ] && mkdir -p node_modules && touch node_modules/.package-lock.json
[ "$1" = run ] && {build}
exit 0
"""
WRITE_BUNDLE = "touch ../dynamite_widget/static/widget.js ../dynamite_widget/static/widget.css"


@pytest.fixture(scope="module")
def hook():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Checkout:
    """A copy of the layout, and an npm that notes how it is called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.static = root / "dynamite_widget" / "static"
        self.static.mkdir(parents=True)
        self.source = root / "js" / "src" / "index.ts"
        self.source.parent.mkdir(parents=True)
        for path in (self.source, root / "js" / "package.json", root / "js" / "package-lock.json"):
            path.touch()
            os.utime(path, (1000, 1000))
        (root / ".git").mkdir()
        self.programs = root / "bin"
        self.programs.mkdir()
        self.log = root / "npm.log"

    def add_npm(self, build: str = WRITE_BUNDLE) -> None:
        npm = self.programs / "npm"
        npm.write_text(NPM.format(log=self.log, build=build))
        npm.chmod(0o755)

    def add_bundle(self, time: float) -> None:
        for name in ("widget.js", "widget.css"):
            (self.static / name).touch()
            os.utime(self.static / name, (time, time))

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().split("\n")[:-1] if self.log.exists() else []


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    made = Checkout(tmp_path)
    monkeypatch.setenv("PATH", f"{made.programs}{os.pathsep}/usr/bin{os.pathsep}/bin")
    real = made.programs / "npm"
    # Only this npm counts, wherever the machine has another.
    monkeypatch.setattr("shutil.which", lambda name: str(real) if real.exists() else None)
    return made


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")


def test_installs_and_builds_when_nothing_is_there(hook, checkout):
    checkout.add_npm()
    hook.build_front_end(checkout.root)
    assert checkout.calls == ["ci --ignore-scripts", "run build"]
    assert (checkout.static / "widget.js").exists()


def test_does_nothing_when_up_to_date(hook, checkout):
    checkout.add_npm()
    checkout.add_bundle(time=2000)
    hook.build_front_end(checkout.root)
    assert checkout.calls == []


def test_rebuilds_when_a_source_is_newer(hook, checkout):
    checkout.add_npm()
    checkout.add_bundle(time=500)
    hook.build_front_end(checkout.root)
    assert "run build" in checkout.calls


def test_source_distribution_needs_no_npm(hook, checkout):
    (checkout.root / ".git").rmdir()
    checkout.add_bundle(time=500)
    hook.build_front_end(checkout.root)


def test_stale_bundle_without_npm_is_a_warning(hook, checkout, capsys):
    checkout.add_bundle(time=500)
    hook.build_front_end(checkout.root)
    assert "older than its sources" in capsys.readouterr().err


def test_no_bundle_and_no_npm(hook, checkout):
    with pytest.raises(RuntimeError, match=r"npm was not found.*Node\.js >= 20"):
        hook.build_front_end(checkout.root)


def test_failing_build(hook, checkout):
    checkout.add_npm(build="exit 7")
    with pytest.raises(RuntimeError, match=r"npm run build.*code 7"):
        hook.build_front_end(checkout.root)


def test_build_that_writes_nothing(hook, checkout):
    checkout.add_npm(build=":")
    with pytest.raises(RuntimeError, match=r"did not write widget\.js, widget\.css"):
        hook.build_front_end(checkout.root)


def test_missing_sources(hook, checkout):
    checkout.add_npm()
    (checkout.root / "js" / "package.json").unlink()
    with pytest.raises(RuntimeError, match="sources of the front end are missing"):
        hook.build_front_end(checkout.root)


def test_skipped_on_request(hook, checkout, monkeypatch):
    monkeypatch.setenv("DYNAMITE_SKIP_BUNDLE", "1")
    build = hook.FrontEndBuildHook(
        str(checkout.root), {}, None, None, str(checkout.root), "wheel", None
    )
    build.initialize("standard", {})
    assert checkout.calls == []
