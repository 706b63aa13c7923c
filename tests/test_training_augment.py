"""Crops: what every crop promises, whatever the picture and the chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training_pictures import open_data, write_data

from dynamite_widget.errors import DataError
from dynamite_widget.training.augment import (
    PADDING,
    PAPER_AUGMENTATION,
    AugmentConfig,
    make_crop,
)
from dynamite_widget.training.colour import ColourConfig, jitter

RELAXED = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PAPER = replace(PAPER_AUGMENTATION, min_visible_px=5, scale_range=(0.5, 2.0))
LITE = AugmentConfig(
    cut_out=0.3,
    colour=ColourConfig(
        tone=1.0, saturation=0.5, grey=0.3, blur=0.5, jpeg=0.5, noise=0.5, strength=1.0
    ),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_data(write_data(tmp_path_factory.mktemp("data")))


@RELAXED
@given(number=st.integers(0, 10**9), paper=st.booleans(), size=st.sampled_from([64, 96]))
def test_promises_of_every_crop(data, number, paper, size):
    config = PAPER if paper else LITE
    crop, _ = make_crop(data, config, size, 3, number)
    assert crop.pixels.shape == (size, size, 3)
    assert crop.pixels.dtype == np.uint8
    assert crop.label_map.shape == crop.valid.shape == (size, size)
    assert not crop.label_map[~crop.valid].any(), "no object on padding"
    assert (crop.pixels[~crop.valid] == PADDING).all()
    counts = np.bincount(crop.label_map.ravel())[1:]
    assert 1 <= len(counts) <= config.max_instances
    assert counts.min() > config.min_visible_px
    assert (np.diff(counts) <= 0).all(), "ids go by size"


@RELAXED
@given(number=st.integers(0, 10**6))
def test_a_sample_is_a_pure_function_of_its_number(data, number):
    one, rng_one = make_crop(data, LITE, 64, 11, number)
    make_crop(data, LITE, 64, 11, number + 1)
    two, rng_two = make_crop(data, LITE, 64, 11, number)
    np.testing.assert_array_equal(one.pixels, two.pixels)
    np.testing.assert_array_equal(one.label_map, two.label_map)
    assert rng_one.random() == rng_two.random()


def test_samples_differ(data):
    crops = [make_crop(data, LITE, 64, 0, i)[0].pixels.tobytes() for i in range(8)]
    assert len(set(crops)) == 8


def test_pasting_brings_more_objects(data):
    def mean(paste):
        config = replace(LITE, paste=paste, cut_out=0.0, colour=None)
        keep_all = [make_crop(data, config, 96, 1, i)[0].instances for i in range(60)]
        return np.mean(keep_all)

    assert mean(1.0) > mean(0.0) + 0.3


def test_masks_move_with_the_pixels(tmp_path):
    folder = write_data(tmp_path, 1)
    import cv2

    data = open_data(folder)
    truth = data.label_map(0)
    painted = np.where(truth[..., None] > 0, 250, 5).astype(np.uint8)
    painted = np.ascontiguousarray(np.broadcast_to(painted, (*truth.shape, 3)))
    cv2.imwrite(str(folder / "picture_01.png"), painted)
    config = replace(LITE, colour=None, paste=0.0, cut_out=0.0, keep="mixed", rotate=1.0)
    for number in range(12):
        crop, _ = make_crop(data, config, 96, 2, number)
        bright = (crop.pixels[..., 0] > 127) & crop.valid
        asked = crop.label_map > 0
        # unasked objects are bright too, so only one direction is exact up to the outline
        assert (asked & ~bright).sum() <= 0.12 * asked.sum() + 30


def test_the_paper_keeps_seventy_percent(data):
    config = replace(PAPER, scale_range=(1.0, 1.0), min_area_px=0, min_visible_px=0)
    for number in range(10):
        crop, _ = make_crop(data, config, 96, 2, number)
        assert crop.instances <= 2
        rows = crop.valid.any(axis=1)
        assert np.argmax(rows) == 0, "padding only at the right and bottom"


def test_pictures_without_usable_objects_end_in_a_clear_error(data):
    config = replace(LITE, min_visible_px=10**6)
    with pytest.raises(DataError, match="no usable crop in 50 attempts for sample 7"):
        make_crop(data, config, 64, 0, 7)


def test_jitter_leaves_its_input_alone():
    picture = np.full((16, 16, 3), 90, np.uint8)
    changed = jitter(picture, np.random.default_rng(0), ColourConfig(tone=1.0))
    assert (picture == 90).all()
    assert changed.shape == picture.shape
    assert not np.array_equal(changed, picture)
