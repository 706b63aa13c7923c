"""challenge: scores, matching, the robot's turns and the curves."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_fakes import FakePredictor
from PIL import Image

from dynamite_widget.evaluation.robot import RobotAnnotator
from dynamite_widget.rle import RLE
from dynamite_widget.teaching import challenge
from dynamite_widget.teaching.contest import Challenge
from dynamite_widget.teaching.contest_robot import Robot
from dynamite_widget.teaching.contest_scores import Curve, matched_ious, plot_curves, read_truth


def scene() -> tuple[np.ndarray, np.ndarray]:
    truth = np.zeros((40, 60), np.int32)
    truth[5:15, 5:20] = 4
    truth[18:38, 25:55] = 9
    return np.full((40, 60, 3), 90, np.uint8), truth


def test_truth_is_ordered_by_area(tmp_path):
    _, truth = scene()
    read = read_truth(truth, (40, 60))
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read == 1, truth == 9)
    np.testing.assert_array_equal(read == 2, truth == 4)
    Image.fromarray(truth.astype(np.uint8)).save(tmp_path / "truth.png")
    np.testing.assert_array_equal(read_truth(tmp_path / "truth.png", (40, 60)), read)
    masks = [truth == 4, truth == 9]
    np.testing.assert_array_equal(read_truth(masks, (40, 60)), read)
    runs = [RLE.from_mask(mask) for mask in masks]
    np.testing.assert_array_equal(read_truth(runs, (40, 60)), read)


def test_hidden_objects_are_left_out():
    _, truth = scene()
    below, above = truth == 4, np.zeros_like(truth, bool)
    below[6:10, 6:10] = True
    above[5:15, 5:20] = True
    assert read_truth([below, above, np.zeros_like(above)], (40, 60)).max() == 1


@pytest.mark.parametrize(
    ("truth", "complaint"),
    [
        (np.zeros((40, 60), int), "no object"),
        (np.zeros((4, 6), int), "size"),
        (np.zeros((40, 60)), "integers"),
        (np.zeros((2, 4, 6), bool), "size"),
    ],
)
def test_bad_truth_is_refused(truth, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_truth(truth, (40, 60))


def test_instances_are_matched_as_agrees_best():
    truth = read_truth(scene()[1], (40, 60))
    labels = np.zeros_like(truth)
    labels[truth == 1] = 70
    labels[truth == 2] = 3
    labels[5:15, 5:10] = 8
    found = matched_ious(truth, labels, 2)
    assert found[1] == 1.0
    assert found[2] == pytest.approx(2 / 3)
    assert matched_ious(truth, np.zeros_like(truth), 2) == {1: 0.0, 2: 0.0}
    # One instance on two objects counts for one of them.
    assert sum(value > 0 for value in matched_ious(truth, (truth > 0) * 1, 2).values()) == 1
    with pytest.raises(ValueError, match="differ"):
        matched_ious(truth, labels[1:], 2)


def test_the_robot_clicks_by_the_rules_of_the_evaluation():
    picture, truth = scene()
    truth = read_truth(truth, (40, 60))
    robot = Robot(FakePredictor(), picture, truth, 0.9)
    curve = robot.play(8)
    reference = RobotAnnotator(truth)
    first = reference.first_clicks()
    assert robot.annotator.clicks[:2] == first
    assert curve.ious.shape == (robot.made + 1, 2)
    assert (curve.ious[0] == 0).all()
    assert curve.mean[-1] > curve.mean[1]
    assert len({(c.x, c.y) for c in robot.annotator.clicks}) == len(robot.annotator.clicks)
    np.testing.assert_array_equal(robot.after(1), curve.ious[1])
    assert robot.picture(1) != robot.picture(3)


def test_the_robot_stops_when_all_is_good():
    picture, truth = scene()
    robot = Robot(FakePredictor(), picture, read_truth(truth, (40, 60)), 0.01)
    robot.play(20)
    assert robot.made == 2
    np.testing.assert_array_equal(robot.after(20), robot.after(2))


@pytest.fixture
def contest():
    picture, truth = scene()
    made = challenge(picture, truth, predictor=FakePredictor(), classes=["box"], budget=6)
    yield made
    made.close()


def test_scores_follow_the_clicks(contest: Challenge):
    assert (contest.clicks, contest.robot_clicks) == (0, ())
    assert set(contest.ious.values()) == {0.0}
    contest.widget.click(12, 10, "new")
    contest.widget.click(40, 28, "new")
    assert contest.clicks == 2
    mine, theirs = contest.ious, contest.robot_ious
    assert all(0.1 < value < 1 for value in mine.values())
    assert len(contest.robot_clicks) == 2
    assert all(0.1 < value < 1 for value in theirs.values())
    contest._update()
    assert "you, 2 clicks" in contest._table.value
    assert "robot, 2 clicks" in contest._table.value
    assert bytes(contest._robot_view.value).startswith(b"\x89PNG")


def test_finish_compares_click_by_click(contest: Challenge):
    contest.widget.click(12, 10, "new")
    contest.widget.click(2, 2, "new")
    contest.widget.undo()
    contest.widget.set_class(1, "other")
    contest.widget.click(40, 28, "new")
    curves = contest.finish()
    assert curves["you"].ious.shape == (3, 2)
    assert curves["robot"].ious.shape == (7, 2)
    assert curves["you"].mean[-1] == pytest.approx(np.mean(list(contest.ious.values())))
    assert bytes(contest._result.value).startswith(b"\x89PNG")
    assert contest._result.layout.display == ""
    assert "NoC@85" in contest._note.value
    assert not contest._finish.disabled


def test_noc_of_a_curve():
    curve = Curve("you", np.asarray([[0, 0], [0.7, 0.9], [0.9, 0.9]]))
    assert curve.noc(0.8, 20) == (1, True)
    assert curve.noc(0.9, 20) == (2, True)
    assert curve.noc(0.95, 20) == (20, False)
    plot_curves({"you": curve, "robot": curve}, 20)


def test_budget_must_be_positive():
    picture, truth = scene()
    with pytest.raises(ValueError, match="budget"):
        challenge(picture, truth, predictor=FakePredictor(), budget=0)
