"""Guards over the repository itself: what must not be in it, and what has to agree."""

from __future__ import annotations

import json
import re
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest

import dynamite_widget

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 4_000_000
LARGE_FILES_ALLOWED = ("dynamite_widget/weights/", "tests/golden/")
THIS_FILE = "tests/test_repository.py"

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")


@lru_cache(maxsize=1)
def tracked_files() -> tuple[str, ...]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return tuple(n for n in done.stdout.split("\0") if n and (ROOT / n).is_file())


@lru_cache(maxsize=1)
def texts() -> dict[str, str]:
    """Every tracked text file but this one, which names what it looks for."""
    found = {}
    for name in tracked_files():
        data = (ROOT / name).read_bytes()
        if name != THIS_FILE and b"\0" not in data[:8000]:
            found[name] = data.decode("utf-8")
    return found


def lines_matching(pattern: str) -> list[str]:
    expression = re.compile(pattern, re.MULTILINE)
    return [
        f"{name}:{text.count(chr(10), 0, hit.start()) + 1}: {hit.group().strip()}"
        for name, text in texts().items()
        for hit in expression.finditer(text)
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(
            r"(?<![A-Za-z0-9_.~/<>\-])/(?:tmp|root|home|opt|mnt|work|Users)/[a-z]\w*",
            id="absolute paths of a machine",
        ),
        pytest.param(r"\.\./shared\b", id="paths beside the checkout"),
        pytest.param(
            r"https?://(?:pypi\.org/simple|files\.pythonhosted\.org|registry\.npmjs\.org)\S*",
            id="a package index",
        ),
        pytest.param(r"^(?:<{7} |>{7} )", id="conflict markers"),
    ],
)
def test_no_file_contains(pattern):
    assert lines_matching(pattern) == []


def test_no_large_files():
    large = {
        name: (ROOT / name).stat().st_size
        for name in tracked_files()
        if not name.startswith(LARGE_FILES_ALLOWED) and (ROOT / name).stat().st_size > MAX_BYTES
    }
    assert large == {}


def test_built_files_are_not_tracked():
    built = [n for n in tracked_files() if n.startswith("dynamite_widget/static/widget.")]
    assert built == []
    assert [n for n in tracked_files() if "node_modules/" in n or n.endswith(".pyc")] == []


def test_notebooks_are_stripped():
    dirty = []
    for name in tracked_files():
        if name.endswith(".ipynb"):
            notebook = json.loads(texts()[name])
            code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
            if any(cell["outputs"] or cell["execution_count"] is not None for cell in code):
                dirty.append(name)
            if "widgets" in notebook["metadata"]:
                dirty.append(f"{name} (widget state)")
    assert dirty == []


def test_text_files_end_well():
    bad = [
        name
        for name, text in texts().items()
        if "\r\n" in text or (text and not text.endswith("\n") and not name.endswith(".svg"))
    ]
    assert bad == []


def test_versions_agree():
    version = dynamite_widget.__version__
    citation = re.search(r"^version: (\S+)", texts()["CITATION.cff"], re.MULTILINE)
    changelog = re.search(r"^## (\d\S*)", texts()["CHANGELOG.md"], re.MULTILINE)
    front_end = json.loads(texts()["js/package.json"])["version"]
    lock = json.loads(texts()["js/package-lock.json"])["version"]
    assert citation is not None
    assert changelog is not None
    assert {citation.group(1), changelog.group(1), front_end, lock} == {version}


def test_readme_names_files_that_exist():
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", texts()["README.md"])
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_ci_script_is_executable():
    listing = subprocess.run(
        ["git", "ls-files", "--stage", ".ci"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(line.startswith("100755") for line in listing.splitlines())
