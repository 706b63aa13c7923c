"""What README.md says is done here: its Python runs, its commands exist, its lists are complete."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dynamite_widget
from dynamite_widget import cli
from dynamite_widget.export.registry import FORMATS
from dynamite_widget.model.config import PRESETS
from dynamite_widget.model.download import PUBLISHED

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
#: Needs the authors' files, which are not here.
NEEDS_DOWNLOAD = 'load_model("swin-tiny")'
MAX_PICTURE_BYTES = 1_500_000


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL
    )
    assert found is not None, title
    return found.group(1)


def commands() -> Iterator[list[str]]:
    """Every command line of the README, as words without its comment."""
    for block in blocks("bash"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def test_python_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """All Python of the README and of docs/teach.md, as a reader would paste it."""
    monkeypatch.chdir(tmp_path)
    rows, columns = np.mgrid[:300, :600]
    picture = np.stack([rows, columns // 3, (rows + columns) // 5], axis=2).astype(np.uint8)
    picture[180:260, 260:360] = (240, 200, 40)
    Image.fromarray(picture).save("photo.jpg")
    truth = np.zeros((300, 600), np.uint8)
    truth[180:260, 260:360] = 1
    names: dict[str, Any] = {"truth": truth}
    teach = blocks("python", (ROOT / "docs" / "teach.md").read_text(encoding="utf-8"))
    try:
        for block in [*blocks("python"), *teach]:
            if NEEDS_DOWNLOAD in block:
                continue
            exec(compile(block, "README.md", "exec"), names)
            if "widget" in names and not names["widget"].clicks:
                names["widget"].click(310, 220)
                for number in range(7):  # teach.md names the last of seven steps
                    names["widget"].click_background(20 + 40 * number, 30)
        assert names["result"].masks.shape == (2, 300, 600)
        assert names["curves"]["robot"].mean.max() > 0
        for name in ("lesson.json", "lesson.html", "clicks.gif", "clicks.png", "clicks.html"):
            assert (tmp_path / name).stat().st_size > 1000
        assert (tmp_path / "lesson.html").stat().st_size < 300_000
    finally:
        names["widget"].close()


@pytest.mark.parametrize("words", [w for w in commands() if w[0] == "make"], ids=" ".join)
def test_make_targets_exist(words):
    assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE)
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", words[1]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_BROWSER": "1"},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [w for w in commands() if w[0] == "pip"], ids=" ".join)
def test_extras_exist(words):
    assert words[1] == "install"
    extras = re.findall(r"\[(.*?)\]", words[2])
    provided = re.search(r"^\[project.optional-dependencies\]\n(.*?)^\[", *pyproject())
    assert provided is not None
    for extra in extras:
        assert re.search(rf"^{extra} = \[", provided.group(1), re.MULTILINE), extra


def pyproject() -> tuple[str, int]:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL


def test_command_table_is_complete():
    listed = re.findall(r"^\| `dynamite (\w+)` \|", section("Command line"), re.MULTILINE)
    assert sorted(listed) == sorted(cli.COMMANDS)


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: dynamite {name}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [w for w in commands() if w[0] == "dynamite"], ids=" ".join)
def test_command_lines_are_understood(words):
    """Their options exist; what they would do is tested elsewhere."""
    arguments = cli.build_parser(words[1]).parse_args(words[1:])
    assert arguments.command == words[1]


def test_every_command_line_is_of_a_kind_that_is_tested():
    assert {words[0] for words in commands()} == {"make", "pip", "dynamite"}


def test_presets_are_all_there():
    rows = re.findall(
        r"^\| `([\w-]+)` \| .*? \| (.*?) \|$", section("Presets and checkpoints"), re.MULTILINE
    )
    assert {name for name, _ in rows} == set(PRESETS)
    assert {name for name, source in rows if "published" in source} == set(PUBLISHED)


def test_number_of_formats_is_true():
    words = {12: "Twelve", 13: "Thirteen", 14: "Fourteen", 15: "Fifteen", 16: "Sixteen"}
    assert f"{words[len(FORMATS)]} file formats" in " ".join(README.split())


def test_notebooks_are_all_there():
    listed = re.findall(r"\]\(notebooks/(\d\d_\w+\.ipynb)\)", section("What is in it"))
    assert listed == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_pictures_are_small_and_described():
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", README)
    assert len(pictures) >= 5
    assert all(text for text, _ in pictures)
    assert len({target for _, target in pictures}) == len(pictures)
    assert sum((ROOT / target).stat().st_size for _, target in pictures) < MAX_PICTURE_BYTES


def test_links_inside_documents_lead_somewhere():
    for path in [*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        targets = re.findall(
            r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text(encoding="utf-8")
        )
        missing = [target for target in targets if not (path.parent / target).exists()]
        assert missing == [], path.name


def test_citation_is_that_of_the_citation_file():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    titles = re.findall(r"^  title += \{(.*?)\},?$", section("Citing"), re.MULTILINE)
    assert len(titles) == 2
    for title in titles:
        assert title.replace("{", "").replace("}", "") in citation
    assert dynamite_widget.__version__ in citation
