"""Simulated clicks: where they may fall, and to whom they belong."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dynamite_widget.training.clicks import (
    ClickConfig,
    Clicks,
    corrective_clicks,
    depth,
    initial_clicks,
    object_ious,
    robot_click,
)

HUMAN = ClickConfig(careless=0.5, exact=0.3, single=0.5, shuffle=True)
RELAXED = settings(max_examples=60, deadline=None)


@st.composite
def scenes(draw):
    """A label map of at least one object without gaps in the ids, valid pixels, and a guess."""
    size = draw(st.tuples(st.integers(3, 24), st.integers(3, 24)))
    raw = draw(hnp.arrays(np.uint8, size, elements=st.integers(0, 3)))
    blocky = np.kron(raw, np.ones((2, 2), np.uint8))
    ids = [k for k in np.unique(blocky) if k]
    label_map = np.zeros_like(blocky)
    for new, old in enumerate(ids, 1):
        label_map[blocky == old] = new
    if not ids:
        label_map[1:3, 1:3] = 1
    valid = np.ones(label_map.shape, bool)
    border = draw(st.integers(0, 4))
    if border and not label_map[:, -border:].any():
        valid[:, -border:] = False
    guess = draw(hnp.arrays(np.uint8, size, elements=st.integers(0, 3)))
    return label_map, valid, np.kron(guess, np.ones((2, 2), np.uint8))


def _under(clicks, label_map):
    return label_map[clicks.yx[:, 0].astype(int), clicks.yx[:, 1].astype(int)]


@RELAXED
@given(scene=scenes(), seed=st.integers(0, 2**32 - 1), human=st.booleans())
def test_initial_clicks(scene, seed, human):
    label_map, valid, _ = scene
    config = HUMAN if human else ClickConfig()
    clicks = initial_clicks(label_map, valid, np.random.default_rng(seed), config)
    np.testing.assert_array_equal(clicks.t, np.arange(len(clicks)))
    np.testing.assert_array_equal(_under(clicks, label_map), clicks.instance)
    assert set(range(1, label_map.max() + 1)) <= set(clicks.instance.tolist())
    on_valid = valid[clicks.yx[:, 0].astype(int), clicks.yx[:, 1].astype(int)]
    assert on_valid.all()
    counts = np.bincount(clicks.instance)
    assert counts[0] <= config.background_extra
    assert counts[1:].max() <= config.extra + 1


@RELAXED
@given(scene=scenes(), seed=st.integers(0, 2**32 - 1), human=st.booleans())
def test_corrective_clicks(scene, seed, human):
    label_map, valid, guess = scene
    rng = np.random.default_rng(seed)
    config = HUMAN if human else ClickConfig()
    before = initial_clicks(label_map, valid, rng, config)
    after = corrective_clicks(guess, label_map, valid, before, rng, config)
    n = len(before)
    assert len(after) >= n
    np.testing.assert_array_equal(after.yx[:n], before.yx)
    np.testing.assert_array_equal(after.t, np.arange(len(after)))
    new = Clicks(after.yx[n:], after.t[n:], after.instance[n:])
    np.testing.assert_array_equal(_under(new, label_map), new.instance)
    assert (_under(new, guess) != new.instance).all(), "only where the guess is wrong"
    assert _under(new, valid).all()
    worst = (object_ious(guess, label_map, valid) < config.good_iou).sum()
    assert len(new) <= 2 * worst
    positions = {tuple(p) for p in new.yx.tolist()}
    assert len(positions) == len(new)


@RELAXED
@given(scene=scenes(), seed=st.integers(0, 2**32 - 1))
def test_nothing_to_correct(scene, seed):
    label_map, valid, _ = scene
    rng = np.random.default_rng(seed)
    before = initial_clicks(label_map, valid, rng)
    assert corrective_clicks(label_map, label_map, valid, before, rng) is before


@RELAXED
@given(scene=scenes())
def test_ious_are_those_of_the_definition(scene):
    label_map, valid, guess = scene
    expected = []
    for k in range(1, label_map.max() + 1):
        truth, found = (label_map == k) & valid, (guess == k) & valid
        expected.append((truth & found).sum() / (truth | found).sum())
    np.testing.assert_allclose(object_ious(guess, label_map, valid), expected)


def test_depth_counts_the_border_of_the_picture_as_outside():
    distance, top, left = depth(np.ones((5, 7), bool))
    assert (top, left) == (0, 0)
    assert distance.max() == 3
    assert distance[0, 0] == 1
    mask = np.zeros((9, 9), bool)
    mask[3:6, 4:7] = True
    distance, top, left = depth(mask)
    assert (top, left, distance.shape) == (3, 4, (3, 3))
    assert distance[1, 1] == 2
    assert depth(np.zeros((4, 4), bool))[0].max() == 0


def test_first_clicks_are_near_the_middle():
    label_map = np.zeros((64, 64), np.uint8)
    label_map[10:41, 10:41] = 1
    config = ClickConfig(extra=0, no_background=1.0)
    points = np.concatenate(
        [
            initial_clicks(label_map, np.ones((64, 64), bool), np.random.default_rng(i), config).yx
            for i in range(50)
        ]
    )
    # distance transform above 16 / 1.7
    assert np.abs(points - 25).max() <= 6


def test_a_correction_lands_in_the_larger_error():
    truth = np.zeros((40, 40), np.uint8)
    truth[5:35, 5:20] = 1
    guess = np.zeros_like(truth)
    guess[5:15, 5:20] = 1  # misses 20 rows
    guess[2:4, 30:32] = 1  # and adds a speck
    before = Clicks.build([(10, 10, 1)])
    everywhere = np.ones(truth.shape, bool)
    config = ClickConfig(two=0.0, exact=1.0)
    after = corrective_clicks(guess, truth, everywhere, before, np.random.default_rng(0), config)
    assert after.instance.tolist() == [1, 1]
    assert 15 <= after.yx[1, 0] < 35
    assert robot_click(guess, truth == 1, before) is not None
    assert robot_click(truth, truth == 1, before) is None
