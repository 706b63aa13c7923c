"""Baselines, resumable runs with workers, the command and its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dynamite_widget import cli
from dynamite_widget.errors import DataError
from dynamite_widget.evaluation import estimate_cost, figures, open_evaluation_dataset
from dynamite_widget.evaluation.baselines import (
    BASELINES,
    GrabCut,
    RandomWalker,
    Watershed,
    make_baseline,
)
from dynamite_widget.evaluation.multi import MultiInstanceAdapter
from dynamite_widget.evaluation.published import (
    PUBLISHED_ABLATION,
    PUBLISHED_MIST,
    PUBLISHED_NOC,
)
from dynamite_widget.evaluation.records import RecordFile, check_identity, read_lines
from dynamite_widget.evaluation.report import write_report
from dynamite_widget.evaluation.runner import RunSettings, run_evaluation
from dynamite_widget.evaluation.runtime import measure_runtime
from dynamite_widget.session import Click

HEIGHT, WIDTH = 48, 64


def _scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[8:40, 6:28] = 1
    labels[12 + seed : 36, 38:58] = 2
    colours = np.array([[60, 60, 60], [220, 60, 40], [40, 90, 230]])
    image = colours[labels] + rng.integers(-12, 13, (HEIGHT, WIDTH, 3))
    return image.clip(0, 255).astype(np.uint8), labels


@pytest.fixture
def data(tmp_path: Path) -> str:
    images, annotations = [], []
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        image, labels = _scene(number)
        Image.fromarray(image).save(tmp_path / "pictures" / f"{number}.png")
        images.append(
            {
                "id": number,
                "file_name": f"{number}.png",
                "height": HEIGHT,
                "width": WIDTH,
                "source": f"source <{number % 2}>",
            }
        )
        for k in (1, 2):
            rows, columns = np.nonzero(labels == k)
            x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            polygon = [int(v) for v in (x0, y0, x1, y0, x1, y1, x0, y1)]
            annotations.append(
                {
                    "id": 10 * number + k,
                    "image_id": number,
                    "category_id": k,
                    "segmentation": [polygon],
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "<b>red</b>"}, {"id": 2, "name": "blue"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return f"coco:{tmp_path / 'instances.json'}:{tmp_path / 'pictures'}"


def _without_seconds(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if "seconds" not in k} for r in records]


CLICKS = (Click(x=16, y=24, instance=1, t=0), Click(x=48, y=24, instance=2, t=1))


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_segment_two_coloured_boxes(name: str) -> None:
    if name == "random-walker":
        pytest.importorskip("skimage")
    image, labels = _scene()
    predictor = make_baseline(name, multi_instance=True)
    embedding = predictor.embed(image)
    clicks = (*CLICKS, Click(x=33, y=4, instance=0, t=2))
    prediction = np.asarray(predictor.predict(embedding, clicks, instances=(1, 2)))
    assert prediction.shape == labels.shape
    for click in clicks:
        assert prediction[click.y, click.x] == click.instance
    if name != "disc":
        assert (prediction == labels).mean() > 0.9
    again = np.asarray(predictor.predict(predictor.embed(image), clicks, instances=(1, 2)))
    assert (again == prediction).all()


@pytest.mark.parametrize("make", [GrabCut, Watershed, RandomWalker])
def test_baselines_in_degenerate_cases(make: Any) -> None:
    if make is RandomWalker:
        pytest.importorskip("skimage")
    for height, width in ((1, 1), (3, 40), (24, 24)):
        predictor = make(radius_px=30.0)  # the disc covers everything
        image = np.full((height, width, 3), 128, np.uint8)
        click = Click(x=width // 2, y=height // 2, instance=1, t=0)
        prediction = predictor.predict(predictor.embed(image), (click,), instances=(1,))
        assert prediction.shape == (height, width)
        assert prediction[click.y, click.x] == 1
        background = Click(x=0, y=0, instance=0, t=0)
        nothing = predictor.predict(predictor.embed(image), (background,), instances=(1,))
        assert not nothing.any()


def test_reduced_working_size() -> None:
    image, labels = _scene()
    large = np.kron(image, np.ones((4, 4, 1), np.uint8))
    clicks = (Click(x=64, y=96, instance=1, t=0), Click(x=130, y=8, instance=0, t=1))
    predictor = Watershed(long_side_px=64)
    prediction = predictor.predict(predictor.embed(large), clicks, instances=(1,))
    assert prediction.shape == large.shape[:2]
    truth = np.kron(labels == 1, np.ones((4, 4), bool))
    assert (prediction.astype(bool) == truth).mean() > 0.9


def test_unknown_baseline_and_too_many_instances() -> None:
    with pytest.raises(ValueError, match="grabcut"):
        make_baseline("snake")
    image, _ = _scene()
    predictor = GrabCut()
    with pytest.raises(ValueError, match="MultiInstanceAdapter"):
        predictor.predict(predictor.embed(image), CLICKS, instances=(1, 2))


class _Counting:
    """Single-instance stand-in: half planes left or right of the foreground clicks."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[int, int], ...]] = []

    def embed(self, image: np.ndarray) -> np.ndarray:
        return image

    def predict(self, embedding: np.ndarray, clicks: Any, instances: Any) -> np.ndarray:
        self.calls.append(tuple((c.x, c.instance) for c in clicks))
        mask = np.zeros(embedding.shape[:2], int)
        for click in clicks:
            if click.instance:
                mask[:, max(click.x - 20, 0) : click.x + 20] = 1
        return mask


def test_multi_instance_adapter_asks_only_for_what_a_click_concerns() -> None:
    inner = _Counting()
    adapter = MultiInstanceAdapter(inner)
    embedding = adapter.embed(np.zeros((10, 100, 3), np.uint8))
    first = (Click(x=20, y=5, instance=1, t=0), Click(x=75, y=5, instance=2, t=1))
    labels = adapter.predict(embedding, first, (1, 2))
    assert labels[0, 20] == 1
    assert labels[0, 75] == 2
    assert inner.calls == [((20, 1),), ((75, 1),)]
    # lies on the mask of 1 and belongs to 2: background for 1, foreground for 2
    clicks = (*first, Click(x=35, y=5, instance=2, t=2))
    labels = adapter.predict(embedding, clicks, (1, 2))
    assert inner.calls[2:] == [((20, 1), (35, 0)), ((75, 1), (35, 1))]
    assert labels[5, 35] == 2
    # background beside all masks concerns nobody; known lists are not predicted again
    more = (*clicks, Click(x=99, y=5, instance=0, t=3))
    adapter.predict(embedding, more, (1, 2))
    adapter.predict(embedding, first, (1, 2))
    assert len(inner.calls) == 4
    fresh = adapter.predict(adapter.embed(np.zeros((10, 100, 3), np.uint8)), more, (1, 2))
    assert (fresh == adapter.predict(embedding, more, (1, 2))).all()


@pytest.mark.parametrize("protocol", ["noc", "mist"])
def test_a_run_resumes_and_equals_an_uninterrupted_one(
    tmp_path: Path, data: str, protocol: str
) -> None:
    settings = RunSettings(data, protocol, baseline="watershed", budget=4)
    whole = run_evaluation(settings, tmp_path / "whole")
    assert whole.pictures == 4
    run_evaluation(settings, tmp_path / "parts")
    path = tmp_path / "parts" / "records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[2:3]) + lines[0][: len(lines[0]) // 2])  # killed while writing
    resumed = run_evaluation(settings, tmp_path / "parts")
    assert _without_seconds(resumed.records) == _without_seconds(whole.records)
    assert len(path.read_text().splitlines()) == 4
    with pytest.raises(DataError, match="seed: 0 there, 1 now"):
        run_evaluation(
            RunSettings(data, protocol, baseline="watershed", budget=4, seed=1), path.parent
        )


def test_shards_and_workers_change_nothing(tmp_path: Path, data: str) -> None:
    settings = RunSettings(data, "mist", baseline="disc", strategy="random", budget=3)
    alone = run_evaluation(settings, tmp_path / "alone")
    run_evaluation(settings, tmp_path / "shards", shard=(1, 2))
    shards = run_evaluation(settings, tmp_path / "shards", shard=(0, 2))
    workers = run_evaluation(settings, tmp_path / "workers", workers=2)
    assert _without_seconds(shards.records) == _without_seconds(alone.records)
    assert _without_seconds(workers.records) == _without_seconds(alone.records)


def test_a_damaged_picture_is_reported_and_tried_again(tmp_path: Path, data: str) -> None:
    picture = tmp_path / "pictures" / "1.png"
    content = picture.read_bytes()
    picture.write_bytes(b"no picture")
    settings = RunSettings(data, baseline="disc", budget=2)
    result = run_evaluation(settings, tmp_path / "run")
    assert list(result.errors) == ["1.png"]
    assert result.pictures == 3
    assert "no picture" not in write_report(result, tmp_path / "run").read_text()
    picture.write_bytes(content)
    result = run_evaluation(settings, tmp_path / "run")
    assert not result.errors
    assert result.pictures == 4


def test_human_annotator_and_reference_runs(tmp_path: Path, data: str) -> None:
    human = RunSettings(data, "mist", baseline="disc", annotator="human", budget=3)
    a = run_evaluation(human, tmp_path / "a")
    b = run_evaluation(human, tmp_path / "b")
    assert _without_seconds(a.records) == _without_seconds(b.records)
    reference = RunSettings(data, "mist", baseline="disc", reference=True, budget=3)
    with pytest.raises(ValueError, match="one worker"):
        run_evaluation(reference, tmp_path / "c", workers=2)
    c = run_evaluation(reference, tmp_path / "c")
    again = run_evaluation(reference, tmp_path / "c")
    assert _without_seconds(c.records) == _without_seconds(again.records)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="protocol must be one of noc, mist"):
        RunSettings("x", "nose")
    with pytest.raises(ValueError, match="iou_threshold"):
        RunSettings("x", iou_threshold=85)
    with pytest.raises(ValueError, match="budget"):
        RunSettings("x", budget=0)
    with pytest.raises(DataError, match="cannot be read"):
        RunSettings("x", checkpoint="nowhere.safetensors").identity()


@pytest.mark.parametrize("protocol", ["noc", "mist"])
def test_command_writes_a_self_contained_report(
    tmp_path: Path, data: str, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["evaluate", "--data", data, "--protocol", protocol, "--iou", "85", "--quiet"]
    first = [*common, "--baseline", "disc", "--out", str(tmp_path / "disc"), "--budget", "3"]
    assert cli.main(first) == 0
    second = [*common, "--baseline", "watershed", "--out", str(tmp_path / "w"), "--budget", "3"]
    assert cli.main([*second, "--compare", str(tmp_path / "disc"), "--runtime"]) == 0
    shown = capsys.readouterr().out
    assert ("NoC@85" if protocol == "noc" else "NCI") in shown
    page = (tmp_path / "w" / "index.html").read_text(encoding="utf-8")
    for text in ("Worst and best", "disc", "published", "source &lt;1&gt;", "mean over sources"):
        assert text in page
    assert "<b>red</b>" not in page
    for reference in ('src="http', 'href="http', "<script", "<link"):
        assert reference not in page
    report = json.loads((tmp_path / "w" / "report.json").read_text())
    assert report["summary"]["sources"].keys() == {"source <0>", "source <1>"}
    assert len(report["runtime"]) == 8
    rows = (tmp_path / "w" / "samples.csv").read_text().splitlines()
    assert len(rows) == (9 if protocol == "noc" else 5)
    assert cli.main([*second, "--overwrite"]) == 0


def test_command_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "o")
    assert cli.main(["evaluate", "--data", "sbd:nowhere", "--out", out, "--baseline", "disc"]) == 2
    assert "benchmark.tgz" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--data", "x", "--out", out, "--iou", "0"])


def test_records_survive_damage(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"picture": "a", "records": []}\n{"pict')
    with RecordFile(path) as file:
        file.append({"picture": "b", "records": []})
        file.append({"picture": "c", "error": "damaged"})
    assert list(read_lines([path])) == ["a", "b"]
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        check_identity(tmp_path / "run.json", {})


def test_runtime_rows_grow_with_clicks() -> None:
    image, _ = _scene()
    rows = measure_runtime(make_baseline("disc"), image, (1, 4), repeats=1)
    assert [row.clicks for row in rows] == [1, 4]
    assert all(row.seconds > 0 for row in rows)
    if sys.platform == "linux":
        assert all(row.memory_bytes > 1e7 for row in rows)


@pytest.mark.parametrize(
    ("protocol", "name", "there", "elsewhere"),
    [("noc", "GrabCut", "1.46 / 1.56", "4.11 / 5.34"), ("mist", "SBD", "2.74", "5.70 / 11958")],
)
def test_published_rows_of_the_same_set_stand_beside_the_measured_one(
    tmp_path: Path, data: str, protocol: str, name: str, there: str, elsewhere: str
) -> None:
    result = run_evaluation(
        RunSettings(data, protocol, baseline="disc", budget=2, iou_threshold=0.9), tmp_path / "run"
    )
    page = write_report(replace(result, dataset=name), tmp_path / "known", pictures=0).read_text()
    assert there in page
    assert elsewhere not in page
    assert "disc (measured)" in page
    page = write_report(result, tmp_path / "other", pictures=0).read_text()
    assert there in page
    assert elsewhere in page
    assert "not a comparison" in page


def test_drawn_part_holds_object_and_clicks() -> None:
    truth = np.zeros((300, 400), np.int32)
    truth[20:30, 350:370] = 1
    clicks = [Click(x=399, y=40, instance=0, t=0)]
    window = figures._window(truth, clicks)
    assert window is not None
    x0, y0, x1, y1 = window
    assert -0.5 <= x0 <= 350
    assert 399 < x1 <= 399.5
    assert -0.5 <= y0 <= 20
    assert 40 < y1 <= 299.5
    assert (x1 - x0) / (y1 - y0) == pytest.approx(400 / 300)
    truth[:] = 1
    assert figures._window(truth, clicks) is None


def test_published_tables_are_complete() -> None:
    assert len(PUBLISHED_NOC) == 9 * 5 - 2 + 5 * 6  # two methods have no COCO-MVal
    assert len(PUBLISHED_MIST) == (4 + 7) * 3
    assert len(PUBLISHED_ABLATION) == 6
    swin = [r for r in PUBLISHED_MIST if r.backbone == "Swin-L" and r.dataset == "COCO val2017"]
    assert [r.nci for r in swin] == [5.74, 5.80, 5.70, 5.66]
    ritm = {r.dataset: r.noc90 for r in PUBLISHED_NOC if r.method == "RITM"}
    assert ritm == {"GrabCut": 1.56, "Berkeley": 2.10, "SBD": 5.71, "DAVIS": 5.34}


def test_cost_of_a_set_from_a_sample_of_it(data: str) -> None:
    dataset = open_evaluation_dataset(data)
    estimate = estimate_cost(
        dataset,
        1000,
        predictor=make_baseline("watershed"),
        sample_size=3,
        clicks_per_object=3,
        seconds_per_click=2,
        seconds_per_picture=0,
    )
    assert (estimate.pictures, estimate.sampled) == (1000, 3)
    assert estimate.clicks == 1000 * estimate.clicks_per_picture
    low, high = estimate.clicks_interval
    assert 2000 <= low <= estimate.clicks <= high <= 6000
    assert estimate.seconds >= 2 * estimate.clicks
    assert "1000 pictures: about" in str(estimate)
    with pytest.raises(ValueError, match="predictor"):
        estimate_cost(dataset)
    with pytest.raises(ValueError, match="no picture"):
        estimate_cost([])


def test_cost_of_a_set_from_sessions() -> None:
    def session(seconds: list[float | None]) -> SimpleNamespace:
        clicks = [Click(x=0, y=0, instance=1, t=t, seconds=s) for t, s in enumerate(seconds)]
        return SimpleNamespace(clicks=clicks)

    timed = session([10.0, 12.0, 16.0])
    estimate = estimate_cost([timed], 10, seconds_per_picture=1)
    assert (estimate.clicks, estimate.seconds) == (30, 100)
    untimed = session([None, None])
    estimate = estimate_cost([untimed], seconds_per_picture=1, seconds_per_click=2)
    assert (estimate.clicks, estimate.seconds) == (2, 5)


@pytest.mark.slow
def test_two_launched_processes_give_the_same_records(tmp_path: Path, data: str) -> None:
    pytest.importorskip("accelerate")
    settings = RunSettings(data, "mist", baseline="disc", budget=3)
    alone = run_evaluation(settings, tmp_path / "alone")
    # what `accelerate launch` starts on CPUs as well, without its need for MPI
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--standalone", "-m", "dynamite_widget.cli"]
    command += ["evaluate", "--data", data, "--protocol", "mist", "--baseline", "disc"]
    command += ["--budget", "3", "--out", str(tmp_path / "two"), "--quiet"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "two").glob("records-*-of-00002.jsonl"))) == 2
    together = run_evaluation(settings, tmp_path / "two")
    assert _without_seconds(together.records) == _without_seconds(alone.records)
