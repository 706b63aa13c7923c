"""The ablation: tiny networks trained for two steps, tables, and going on after a stop."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from training_pictures import write_data

from dynamite_widget import cli
from dynamite_widget.evaluation.ablation import (
    FULL,
    METRICS,
    TABLE_3,
    VARIANTS,
    Cell,
    choose_variants,
    summarise_cells,
)
from dynamite_widget.evaluation.ablation_report import format_ablation
from dynamite_widget.evaluation.published import PUBLISHED_ABLATION
from dynamite_widget.model.weights_file import read_checkpoint

NETWORK = {
    "hidden_dim": 32,
    "heads": 2,
    "pixel_decoder": "fpn",
    "encoder_layers": 3,
    "encoder_ffn": 32,
    "decoder_layers": 1,
    "decoder_ffn": 32,
    "short_side": "null",
    "max_long_side": 64,
}
RECIPE = {
    "crops": "[[0, 64]]",
    "precision": "no",
    "rounds": "[1]",
    "loss.sampling": "shared",
    "loss.points": 64,
    "augment.min_area_px": 10,
    "augment.min_visible_px": 10,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_data(tmp_path_factory.mktemp("data"), pictures=3, size=(64, 80))
    (folder / "val.json").write_bytes((folder / "train.json").read_bytes())
    return folder


def _command(folder: Path, out: Path, *more: str) -> list[str]:
    arguments = ["ablate", "--data", str(folder), "--out", str(out), "--quiet"]
    arguments += ["--preset", "segformer-b0", "--no-pretrained", "--workers", "0"]
    arguments += ["--samples", "4", "--batch-size", "2", "--limit", "2", "--budget", "2"]
    arguments += ["--threads", "1", "--device", "cpu"]
    for name, value in NETWORK.items():
        arguments += ["--set-model", f"{name}={value}"]
    for name, value in RECIPE.items():
        arguments += ["--set", f"{name}={value}"]
    return [*arguments, *more]


def test_trains_compares_and_goes_on(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    out = tmp_path / "ablation"
    some = ("--variants", "no-decoder", "no-position")
    assert cli.main(_command(folder, out, *some, "--repeats", "1")) == 0
    assert "| no transformer decoder | 1 |" in capsys.readouterr().out
    weights = sorted(out.glob("*/repeat-*/training/weights.safetensors"))
    assert [path.parts[-4] for path in weights] == [FULL, "no-decoder", "no-position"]
    assert not list(out.glob("**/checkpoint.pt"))
    for path in weights:
        config = read_checkpoint(path).config
        assert config is not None
        changes = VARIANTS[path.parts[-4]].changes
        assert {name: getattr(config, name) for name in changes} == dict(changes)
        assert config.hidden_dim == 32

    # one cell was lost after its training, one was stopped in the middle of its evaluation
    trained = {path: path.stat().st_mtime_ns for path in weights}
    before = json.loads((out / FULL / "repeat-1" / "result.json").read_text())
    for name in (FULL, "no-position"):
        (out / name / "repeat-1" / "result.json").unlink()
    records = out / "no-position" / "repeat-1" / "evaluation" / "records.jsonl"
    lines = records.read_text().splitlines(keepends=True)
    records.write_text(lines[0] + lines[1][:20])
    assert cli.main(_command(folder, out, *some, "--repeats", "2")) == 0
    assert {path: path.stat().st_mtime_ns for path in weights} == trained
    assert json.loads((out / FULL / "repeat-1" / "result.json").read_text()) == before
    assert len(list(out.glob("*/repeat-*/training/weights.safetensors"))) == 6

    content = json.loads((out / "ablation.json").read_text())
    assert [row["variant"] for row in content["rows"]] == [FULL, "no-decoder", "no-position"]
    for row in content["rows"]:
        assert row["repeats"] == 2
        for metric in METRICS:
            assert len(row["values"][metric]) == 2
            assert row["standard deviation"][metric] >= 0
    assert content["rows"][1]["parameters"] < content["rows"][0]["parameters"]
    assert content["rows"][1]["published"]["NCI"] == 2.87
    with (out / "ablation.csv").open() as file:
        assert [row["repeats"] for row in csv.DictReader(file)] == ["2", "2", "2"]
    page = (out / "index.html").read_text(encoding="utf-8")
    for text in ("no transformer decoder", "2.87", "Table 3", "±", "<svg"):
        assert text in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("https://www.w3.org", "")

    # other settings do not mix with these
    capsys.readouterr()
    assert cli.main([*_command(folder, out, *some), "--iou", "0.5"]) == 2
    assert "iou_threshold: 0.85 there, 0.5 now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--variants", "no-identity"], "changes nothing"),
        (["--set-model", "sizes=3"], "no field 'sizes'"),
        (["--set", "nothing=3"], "cannot set 'nothing=3'"),
        (["--preset", "huge"], "no recipe for 'huge'"),
        (["--data", "nowhere"], "no train.json"),
    ],
)
def test_errors_are_one_line(
    folder: Path,
    tmp_path: Path,
    more: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("accelerate")
    assert cli.main(_command(folder, tmp_path / "out", *more)) == 2
    message = capsys.readouterr().err.strip()
    assert words in message
    assert "\n" not in message
    assert not (tmp_path / "out").exists()


def test_data_has_to_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate")
    assert cli.main(["ablate", "--out", str(tmp_path)]) == 2
    assert "give --data DIR" in capsys.readouterr().err
    assert cli.main(["ablate", "--out", str(tmp_path), "--annotations", "a.json"]) == 2
    assert "--evaluate-on" in capsys.readouterr().err


def _cell(variant: str, repeat: int, nci: float) -> Cell:
    summary = {"NCI": nci, "NFO": 3, "NFI": 2, "IoU": 0.8}
    return Cell(variant, repeat, 7 + repeat, 1_500_000, 2.0, summary)


def test_summary_pairs_the_seeds() -> None:
    cells = [_cell(FULL, 0, 3.0), _cell("no-decoder", 0, 3.5), _cell(FULL, 1, 5.0)]
    full, other = summarise_cells(cells)
    assert (full.repeats, full.means["NCI"]) == (2, 4.0)
    assert full.deviations["NCI"] == pytest.approx(2**0.5)
    assert full.differences["NCI"] is None
    assert other.deviations["NCI"] is None
    assert (other.differences["NCI"], other.difference_deviations["NCI"]) == (0.5, None)
    _, other = summarise_cells([*cells, _cell("no-decoder", 1, 6.5)])
    assert other.differences["NCI"] == 1.0
    assert other.difference_deviations["NCI"] == pytest.approx(0.5 * 2**0.5)
    lines = format_ablation([full, other]).splitlines()
    assert "4.00 ± 1.41" in lines[2]
    assert "+1.00 ± 0.71" in lines[3]


def test_variants_are_those_of_the_paper() -> None:
    assert [v.title for v in TABLE_3] == [row.variant for row in PUBLISHED_ABLATION]
    assert [v.name for v in choose_variants(["no-spatial", FULL])] == [FULL, "no-spatial"]
    with pytest.raises(ValueError, match="no-temporal"):
        choose_variants(["none"])
