"""Importing the package: light, lazy, and clear when the front end was not built."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dynamite_widget

PACKAGE = Path(dynamite_widget.__file__).parent


def run_python(code: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_import_needs_only_the_standard_library():
    # Stronger than a stop watch, and never flaky: whatever is slow to import is not imported.
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import dynamite_widget\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - {'dynamite_widget'}))\n"
    )
    done = run_python(code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_kernel_side_names_need_no_torch():
    done = run_python(
        "import sys\n"
        "from dynamite_widget import Click, ClickSession, Segmentation, load_image, errors\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", dynamite_widget.__all__)
def test_public_name(name):
    value = getattr(dynamite_widget, name)
    assert value is not None
    assert name in dir(dynamite_widget)
    if isinstance(value, type):
        assert value.__name__ == name
        assert value.__doc__


def test_names_are_kept_after_the_first_use():
    assert dynamite_widget.Click is dynamite_widget.Click
    assert "Click" in vars(dynamite_widget)


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'Detonator'"):
        dynamite_widget.Detonator  # noqa: B018
    with pytest.raises(ImportError):
        from dynamite_widget import Detonator  # noqa: F401


def test_missing_front_end_says_how_to_build_it(tmp_path):
    copy = tmp_path / "dynamite_widget"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("static", "weights", "*.pyc"))
    done = run_python(
        "import dynamite_widget; print(dynamite_widget.__file__)\n"
        "from dynamite_widget import DynaMITeWidget\n",
        cwd=tmp_path,  # the first entry of sys.path, before the installed package
    )
    assert str(tmp_path) in done.stdout
    assert done.returncode != 0
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError")
    assert "npm run build" in last_line


def test_python_side_works_without_the_front_end(tmp_path):
    copy = tmp_path / "dynamite_widget"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("static", "weights", "*.pyc"))
    done = run_python("from dynamite_widget import Predictor, load_model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_typed_marker():
    assert (PACKAGE / "py.typed").is_file()
