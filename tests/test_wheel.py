"""The wheel: built from the source distribution, inspected, installed without node, imported.

Nothing is downloaded: the build uses the hatchling of this environment, and the clean environment
gets the wheel alone. A ``.pth`` file lets it see this environment's libraries (torch and so on);
``.pth`` files found there are not followed, so the editable install stays invisible to it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(command: list[str], **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    # Without --wheel, build makes the sdist and then the wheel from the sdist.
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(repository)])
    assert len(list(folder.glob("*.tar.gz"))) == 1
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def clean_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps"]
    run([*command, "--python", str(python), str(wheel)])
    site = Path(run([str(python), "-c", "import site; print(site.getsitepackages()[0])"]).strip())
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "libraries.pth").write_text("\n".join(sorted(libraries)) + "\n")
    return folder


def run_in(environment: Path, *command: str) -> str:
    """Run a program of the clean environment, with nothing else on PATH (so without node)."""
    programs = environment / "bin"
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    return run(
        [str(programs / command[0]), *command[1:]],
        cwd=environment,
        env={**variables, "PATH": str(programs)},
    )


@pytest.mark.parametrize(
    "name", ["__init__.py", "py.typed", "static/widget.js", "static/widget.css", "model/config.py"]
)
def test_wheel_contains(names, name):
    assert f"dynamite_widget/{name}" in names


def test_wheel_contains_the_weights(names, repository):
    folder = repository / "dynamite_widget" / "weights"
    expected = {f"dynamite_widget/weights/{path.name}" for path in folder.glob("*.safetensors")}
    assert expected <= names


def test_wheel_contains_nothing_else(names):
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "dynamite_widget",
    }
    unwanted = ("tests/", "js/", "node_modules", ".pyc", ".ts", ".map", ".pth")
    assert [name for name in names if any(part in name for part in unwanted)] == []


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {n.split("/")[0] for n in archive.namelist() if ".dist-info/" in n}
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        assert f"{info}/licenses/LICENSE" in archive.namelist()
    assert "Requires-Python: >=3.10" in metadata
    assert "dynamite = dynamite_widget.cli:main" in entry_points


def test_import_without_node(clean_environment):
    code = (
        "import shutil, dynamite_widget\n"
        "from dynamite_widget import Predictor, load_model\n"
        "from dynamite_widget import DynaMITeWidget\n"
        "assert shutil.which('node') is None and shutil.which('npm') is None\n"
        "print(dynamite_widget.__file__)\n"
    )
    where = run_in(clean_environment, "python", "-c", code).strip()
    assert Path(where).is_relative_to(clean_environment)


def test_command_line(clean_environment):
    assert "dynamite-widget" in run_in(clean_environment, "dynamite", "--version")
    assert "widget.js" in run_in(clean_environment, "dynamite", "info")
