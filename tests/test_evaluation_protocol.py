"""The robot annotator and both protocols against the published click traces."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dynamite_widget.evaluation import (
    CallablePredictor,
    HumanLikeAnnotator,
    RobotAnnotator,
    Sample,
    evaluate_mist,
    evaluate_noc,
    instance_ious,
    iou,
    make_sample,
    number_of_clicks,
    paint_by_area,
    run_mist,
    run_noc,
)
from dynamite_widget.evaluation.metrics import summarise_mist, summarise_noc
from dynamite_widget.evaluation.robot import distance_to_background
from dynamite_widget.evaluation.strategies import make_chooser, reference_random

GOLDEN = Path(__file__).parent / "golden"


def _load_rule() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_rule", GOLDEN / "golden_rule.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rule = _load_rule()
golden = json.loads((GOLDEN / "golden_protocol.json").read_text())
MULTI = [case for case in golden["cases"] if case["protocol"] == "multi"]
SINGLE = next(case for case in golden["cases"] if case["protocol"] == "single")


def _fake(image: np.ndarray, clicks: Any) -> np.ndarray:
    """Order the clicks object by object, background last, and ask the stand-in network."""
    ordered = sorted(clicks, key=lambda c: (c.instance == 0, c.instance, c.t))
    height, width = image.shape[:2]
    result: np.ndarray = rule.fake_predict(height, width, [(c.y, c.x, c.instance) for c in ordered])
    return result


def _scene(index: int) -> Sample:
    height, width, masks = rule.scene(index)
    return make_sample(f"scene-{index}", np.zeros((height, width, 3), np.uint8), list(masks))


def _robot(sample: Sample, reference: bool = True) -> RobotAnnotator:
    return RobotAnnotator(sample.label_map, len(sample.objects), reference=reference)


@pytest.mark.parametrize("index", range(4))
def test_ground_truth_of_the_scenes(index: int) -> None:
    import zlib

    expected = golden["scenes"][index]
    sample = _scene(index)
    areas = [int((sample.label_map == o.number).sum()) for o in sample.objects]
    assert areas == expected["ordered_mask_areas"]
    assert (
        zlib.crc32(sample.label_map.astype(np.uint8).tobytes())
        == (expected["semantic_map_crc32_uint8"])
    )
    clicks = _robot(sample).first_clicks()
    assert [[c.t, c.instance, c.y, c.x] for c in clicks] == expected["first_clicks_t_label_y_x"]


@pytest.mark.parametrize(
    "case", MULTI, ids=lambda c: f"{c['strategy']}-{c['seed_id']}-{c['iou_threshold']}"
)
def test_multi_instance_traces(case: dict[str, Any]) -> None:
    rng = reference_random(case["seed_id"])
    predictor = CallablePredictor(_fake)
    records = []
    for expected in case["images"]:
        sample = _scene(expected["scene"])
        run = run_mist(
            predictor,
            predictor.embed(sample.image),
            _robot(sample),
            strategy=case["strategy"],
            iou_threshold=case["iou_threshold"],
            clicks_per_object=case["clicks_per_object_budget"],
            rng=rng,
        )
        assert run["clicks"] == expected["clicks_t_label_y_x"]
        assert run["n_clicks"] == expected["n_clicks"]
        assert run["final_ious"] == pytest.approx(expected["final_iou"], abs=2e-6)
        records.append(run)
    summary = summarise_mist(records, case["iou_threshold"])
    assert summary["NCI"] == pytest.approx(case["NCI"], abs=1e-6)
    assert (summary["NFO"], summary["NFI"]) == (case["NFO"], case["NFI"])
    assert summary["IoU"] == pytest.approx(case["mean_image_IoU"], abs=1e-6)


def test_evaluate_mist_in_reference_mode_is_the_published_run() -> None:
    case = next(c for c in MULTI if c["strategy"] == "random" and c["seed_id"] == 1)
    summary, records = evaluate_mist(
        CallablePredictor(_fake),
        [_scene(e["scene"]) for e in case["images"]],
        strategy="random",
        iou_threshold=case["iou_threshold"],
        seed=1,
        reference=True,
    )
    assert [r["clicks"] for r in records] == [e["clicks_t_label_y_x"] for e in case["images"]]
    assert summary["NCI"] == pytest.approx(case["NCI"], abs=1e-6)


def test_single_instance_traces() -> None:
    predictor = CallablePredictor(_fake)
    records = []
    for item in SINGLE["items"]:
        height, width, masks = rule.scene(item["scene"])  # in file order, overlaps not resolved
        target = masks[item["object"]].astype(bool)
        ignore = None
        if item["ignore_columns_multiple_of_11"]:
            ignore = np.zeros(target.shape, bool)
            ignore[:, ::11] = True
        run = run_noc(
            predictor,
            np.zeros((height, width, 3), np.uint8),
            target,
            ignore,
            iou_threshold=SINGLE["iou_threshold"],
            budget=SINGLE["max_clicks"],
            reference=True,
        )
        assert run["clicks"] == item["clicks_t_label_y_x"]
        assert run["ious"] == pytest.approx(item["iou_after_each_click"], abs=2e-6)
        records.append(run)
    summary = summarise_noc(records, SINGLE["iou_threshold"], SINGLE["max_clicks"])
    for threshold, expected in SINGLE["summary"].items():
        name = threshold[2:]
        assert summary[f"NoC@{name}"] == pytest.approx(expected["NoC"])
        assert summary[f"NFO@{name}"] == expected["NFO"]


def test_default_mode_stops_where_the_reference_clicks_the_corner() -> None:
    sample = _scene(0)
    predictor = CallablePredictor(_fake)
    run = run_mist(predictor, sample.image, _robot(sample, reference=False), strategy="best")
    assert [0, 0] not in [click[2:] for click in run["clicks"]]
    assert run["stopped"] == "budget"  # other objects took over the clicks
    single = run_noc(
        CallablePredictor(lambda image, clicks: np.zeros(image.shape[:2], int)),
        np.zeros((9, 9, 3), np.uint8),
        np.pad(np.ones((3, 3), bool), 3),
    )
    assert single["stopped"] == "no error left"
    assert single["ious"] == [0.0]
    assert len(single["clicks"]) == 1


def test_all_objects_without_clickable_error_end_the_run() -> None:
    masks = [np.zeros((9, 24), bool), np.zeros((9, 24), bool)]
    masks[0][3:6, 3:6] = True
    masks[1][3:6, 18:21] = True
    sample = make_sample("tiny", np.zeros((9, 24, 3), np.uint8), masks)
    nothing = CallablePredictor(lambda image, clicks: np.zeros(image.shape[:2], int))
    for strategy in ("best", "worst", "random", "wlb", "round_robin", "max_dt"):
        run = run_mist(nothing, sample.image, _robot(sample, reference=False), strategy=strategy)
        assert (run["stopped"], run["n_clicks"]) == ("no error left", 2)


def test_hidden_object_is_dropped_or_kept_as_published() -> None:
    big = np.ones((40, 40), bool)
    hidden = np.zeros((40, 40), bool)
    hidden[10:20, 10:20] = True
    above = hidden.copy()  # same area, painted later: hides the one before
    sample = make_sample("hidden", np.zeros((40, 40, 3), np.uint8), [big, hidden, above])
    assert [o.number for o in sample.objects] == [1, 2, 3]
    assert len(sample.without_hidden().objects) == 2
    predictor = CallablePredictor(_fake)
    summary, _ = evaluate_mist(predictor, [sample], strategy="best", clicks_per_object=2)
    assert summary["objects"] == 2
    summary, records = evaluate_mist(
        predictor, [sample], strategy="best", clicks_per_object=2, reference=True
    )
    assert summary["objects"] == 3
    assert records[0]["clicks"][1] == [1, 2, 0, 0]
    summary, records = evaluate_noc(predictor, [sample])
    assert summary["samples"] == 3  # alone, the hidden object is as good as any other


def test_random_strategy_does_not_depend_on_the_order_of_pictures() -> None:
    predictor = CallablePredictor(_fake)
    scenes = [_scene(i) for i in range(4)]
    options: dict[str, Any] = {"strategy": "random", "seed": 5}
    forward = evaluate_mist(predictor, scenes, **options)[1]
    backward = evaluate_mist(predictor, scenes[::-1], **options)[1]
    assert [r["clicks"] for r in forward] == [r["clicks"] for r in backward[::-1]]


def test_min_clicks_goes_on_after_success() -> None:
    target = np.zeros((40, 40), bool)
    target[5:35, 5:35] = True

    def perfect_but_a_corner(image: np.ndarray, clicks: Any) -> np.ndarray:
        prediction = target.astype(int)
        prediction[5:15, 5:15] = 0
        return prediction

    run = run_noc(
        CallablePredictor(perfect_but_a_corner),
        np.zeros((40, 40, 3), np.uint8),
        target,
        iou_threshold=0.85,
        min_clicks=3,
    )
    assert len(run["ious"]) == 3
    assert run["stopped"] == "reached"


def test_distance_transform_sees_the_border_and_equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((13, 17)) > 0.3
    mask[:, :4] = True
    framed = np.pad(mask, 1)
    zeros = np.argwhere(~framed)
    expected = np.zeros(mask.shape)
    for y, x in np.argwhere(mask):
        expected[y, x] = np.sqrt(((zeros - (y + 1, x + 1)) ** 2).sum(1).min())
    assert distance_to_background(mask) == pytest.approx(expected, abs=1e-5)
    assert not distance_to_background(np.zeros((3, 4), bool)).any()


def test_metrics() -> None:
    a = np.array([[1, 1, 0, 2]])
    b = np.array([[1, 0, 0, 7]])
    assert instance_ious(a, b, 2) == {1: 0.5, 2: 0.0}
    assert instance_ious(a, b, 3)[3] == 1.0
    assert math.isnan(instance_ious(a, b, 3, empty=math.nan)[3])
    ignore = np.array([[False, True, False, False]])
    assert instance_ious(a, b, 2, ignore)[1] == 1.0
    assert iou(a == 1, b == 1, ignore) == 1.0
    assert iou(a == 5, b == 5) == 1.0
    with pytest.raises(ValueError, match="shape"):
        iou(a == 1, np.zeros((2, 2), bool))
    assert number_of_clicks([0.1, 0.9, 0.8], 0.85) == 2
    assert number_of_clicks([0.1, 0.2], 0.85, budget=20) == 20
    empty = summarise_noc([], 0.9)
    assert empty["samples"] == 0
    assert math.isnan(empty["NoC@90"])


def test_unknown_strategy_lists_the_known() -> None:
    with pytest.raises(ValueError, match="round_robin"):
        make_chooser("fastest", 2, 10, reference_random())


def test_predictions_are_checked() -> None:
    target = np.ones((8, 8), bool)
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="shape"):
        run_noc(CallablePredictor(lambda i, c: np.zeros((4, 4), int)), image, target)
    with pytest.raises(TypeError, match="float64"):
        run_noc(CallablePredictor(lambda i, c: np.zeros((8, 8))), image, target)


def test_human_like_annotator() -> None:
    sample = _scene(0)
    count = len(sample.objects)

    def clicks(seed: int, noise: float = 0.5) -> list[tuple[int, int, int]]:
        robot = HumanLikeAnnotator(
            sample.label_map, count, noise=noise, second_error_probability=0.5, seed=seed
        )
        robot.first_clicks()
        nothing = np.zeros(sample.label_map.shape, int)
        for _ in range(5):
            robot.next_click(nothing, 1)
        return [(c.x, c.y, c.instance) for c in robot.clicks]

    assert clicks(1) == clicks(1)
    assert clicks(1) != clicks(2)
    for x, y, instance in clicks(3):
        assert sample.label_map[y, x] == instance
    exact = HumanLikeAnnotator(sample.label_map, count, noise=0, second_error_probability=0, seed=0)
    assert exact.first_clicks() == _robot(sample).first_clicks()


def test_paint_by_area_puts_small_objects_on_top() -> None:
    small = np.zeros((10, 10), np.uint8)
    small[2:4, 2:4] = 1
    label_map, order = paint_by_area([small, np.ones((10, 10), np.uint8)])
    assert order == [1, 0]
    assert (label_map == 2).sum() == 4
    assert (label_map == 1).sum() == 96


def test_small_objects_can_be_left_out() -> None:
    small = np.zeros((10, 10), bool)
    small[2:4, 2:4] = True
    image = np.zeros((10, 10, 3), np.uint8)
    sample = make_sample("a", image, [small, ~small], min_area_fraction=0.05)
    assert len(sample.objects) == 1
    assert (sample.label_map == 0).sum() == 4
