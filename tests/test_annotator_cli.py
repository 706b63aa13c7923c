"""``dynamite annotate`` and ``dynamite precompute``, short of starting a server."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from annotator_sets import make_pictures

from dynamite_widget.annotator import cli
from dynamite_widget.annotator.cli_precompute import read_size
from dynamite_widget.cli import main
from dynamite_widget.errors import DataError


def cell(path: Path) -> str:
    return "".join(json.loads(path.read_text())["cells"][0]["source"])


def test_writes_a_notebook_that_shows_the_annotator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = make_pictures(tmp_path / "pic's")
    command = ["annotate", str(pictures), "--notebook-only"]
    assert main([*command, "--classes", "cat, dog,", "--propose", str(tmp_path / "x.json")]) == 0
    assert "4 pictures" in capsys.readouterr().out
    notebook = tmp_path / "pic's-annotations" / "annotate.ipynb"
    text = cell(notebook)
    assert "classes=['cat', 'dog']" in text
    assert "annotator.propose(" in text
    compile(text, "cell", "exec")
    # Ours is replaced; one that a person has worked on is kept.
    assert main([*command, "--classes", "owl"]) == 0
    assert "owl" in cell(notebook)
    content = json.loads(notebook.read_text())
    content["cells"].append({**content["cells"][0], "id": "mine", "source": ["annotator.report()"]})
    notebook.write_text(json.dumps(content))
    assert main([*command, "--classes", "cat"]) == 0
    assert "owl" in cell(notebook)
    assert "changed by hand" in capsys.readouterr().out


def test_nothing_to_annotate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate", str(tmp_path), "--notebook-only"]) == 2
    assert "no pictures" in capsys.readouterr().err
    assert main(["annotate", str(tmp_path / "none"), "--notebook-only"]) == 2


@pytest.mark.parametrize(
    ("installed", "voila", "module"),
    [
        ({"jupyterlab", "voila"}, False, "jupyterlab"),
        ({"jupyterlab", "voila"}, True, "voila"),
        ({"voila"}, False, "voila"),
        ({"jupyterlab"}, True, None),
        (set(), False, None),
    ],
)
def test_server(
    installed: set[str], voila: bool, module: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str) -> Any:
        return object() if name in installed else None

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    args = argparse.Namespace(voila=voila, no_browser=True, port=8899)
    if module is None:
        with pytest.raises(DataError, match="not installed"):
            cli.server_command(args, Path("n.ipynb"))
        return
    command = cli.server_command(args, Path("n.ipynb"))
    assert command[1:4] == ["-m", module, "n.ipynb"]
    assert "--no-browser" in command
    assert command[-1].endswith("port=8899")


def test_output_is_beside_the_pictures(tmp_path: Path) -> None:
    def output(source: str) -> Path:
        return cli.output_folder(argparse.Namespace(source=source, out=None))

    assert output(f"{tmp_path}/birds/") == tmp_path / "birds-annotations"
    assert output(f"{tmp_path}/birds/*/*.jpg") == tmp_path / "birds-annotations"
    assert output(f"{tmp_path}/old.json.gz") == tmp_path / "old-annotations"


def test_precompute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = make_pictures(tmp_path / "pictures", "a.png b.png")
    assert main(["precompute", str(pictures), "--budget", "1G", "--device", "cpu"]) == 0
    assert len(list((tmp_path / "pictures-annotations" / "embeddings").iterdir())) == 2
    assert main(["precompute", str(pictures), "--budget", "lots"]) == 2


def test_sizes() -> None:
    assert [read_size(text) for text in ("500", "2K", "1.5 GB", "3MiB")] == [
        *(500, 2048, 3 << 29, 3 << 20)
    ]
