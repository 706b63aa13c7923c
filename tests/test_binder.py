"""The files of ``binder/`` keep to repo2docker's rules and to the package's requirements."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.metadata import metadata, requires
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[1]
BINDER = ROOT / "binder"
SCRIPTS = ("postBuild", "start", "links")
#: Where conda-forge calls a distribution otherwise.
CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "opencv-python-headless": "opencv",
    "torch": "pytorch-cpu",
}


def requirement(text: str) -> tuple[str, str]:
    """Split ``name>=1.0`` into name and version part."""
    found = re.fullmatch(r"([A-Za-z0-9_.-]+?)\s*((?:[<>=!~].*)?)", text)
    assert found is not None, text
    return found.group(1), found.group(2)


@pytest.fixture(scope="module")
def environment():
    return yaml.safe_load((BINDER / "environment.yml").read_text(encoding="utf-8"))


def test_environment_is_what_conda_reads(environment):
    assert set(environment) == {"name", "channels", "dependencies"}
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    names = [requirement(item)[0] for item in environment["dependencies"]]
    assert len(names) == len(set(names))
    assert {"python", "nodejs", "pip", "jupyterlab", "hatchling"} <= set(names)
    # The GPU build is several gigabytes.
    assert not {"pytorch", "pytorch-gpu", "cudatoolkit"} & set(names)


def test_environment_has_what_the_package_requires(environment):
    package = metadata("dynamite-widget")
    required = [item for item in requires("dynamite-widget") or () if "extra ==" not in item]
    conda = dict(requirement(item) for item in environment["dependencies"])
    assert required
    for item in required:
        name, version = requirement(item.split(";")[0].strip())
        assert conda.get(CONDA_NAMES.get(name, name)) == version, item
    low = package["Requires-Python"].removeprefix(">=").split(".")
    assert [int(part) for part in conda["python"].lstrip("=").split(".")] >= [int(p) for p in low]
    node = (ROOT / "js" / "package.json").read_text(encoding="utf-8")
    least = re.search(r'"node": ">=(\d+)', node)
    assert least is not None
    assert int(conda["nodejs"].lstrip("=")) >= int(least.group(1))


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_executable_bash(name):
    path = BINDER / name
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_pass_shellcheck(name):
    subprocess.run(["shellcheck", str(BINDER / name)], check=True)


def test_nothing_else_overrides_the_environment():
    """With a Dockerfile or another environment file, repo2docker would ignore this one."""
    found = {path.name for path in BINDER.iterdir()}
    assert found == {"environment.yml", *SCRIPTS}


def test_post_build_leaves_no_node_modules():
    text = (BINDER / "postBuild").read_text(encoding="utf-8")
    assert "--no-cache-dir" in text
    assert "--no-deps" in text
    assert re.search(r"rm -rf .*js/node_modules", text)
    assert "http" not in text


def test_start_hands_over_to_the_server():
    """repo2docker runs ``start SERVER ARGUMENTS``; what it exports must reach the server."""
    done = subprocess.run(
        [str(BINDER / "start"), "bash", "-c", "echo $OMP_NUM_THREADS"],
        env={key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


def test_links_lead_to_the_notebooks():
    done = subprocess.run(
        [str(BINDER / "links"), "someone/something"], capture_output=True, text=True, check=True
    )
    links = done.stdout.split()
    notebooks = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert len(links) == len(notebooks) > 0
    for link, notebook in zip(links, notebooks, strict=True):
        address = urlparse(link)
        assert address.netloc == "mybinder.org"
        assert address.path == "/v2/gh/someone/something/HEAD"
        assert parse_qs(address.query) == {"urlpath": [f"lab/tree/notebooks/{notebook}"]}


@pytest.mark.parametrize(
    "remote",
    ["https://github.com/someone/some.thing", "git@github.com:someone/some.thing.git"],
)
def test_links_know_the_remote(remote, tmp_path):
    (tmp_path / "binder").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01.ipynb").touch()
    shutil.copy2(BINDER / "links", tmp_path / "binder" / "links")
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    refused = subprocess.run([str(tmp_path / "binder" / "links")], capture_output=True, check=False)
    assert refused.returncode == 1
    assert b"OWNER/REPOSITORY" in refused.stderr
    subprocess.run([*git, "remote", "add", "origin", remote], check=True)
    done = subprocess.run(
        [str(tmp_path / "binder" / "links")], capture_output=True, text=True, check=True
    )
    assert "/gh/someone/some.thing/HEAD?" in done.stdout


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")))
def test_issue_templates_are_forms(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.name == "config.yml":
        assert form == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    for field in form["body"]:
        assert field["type"] in {"textarea", "dropdown", "input", "checkboxes"}
        assert field["attributes"]["label"]
