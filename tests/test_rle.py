"""Run lengths: exact for every label map, clear about what is not one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dynamite_widget.errors import SessionError
from dynamite_widget.rle import RLE, as_rle, decode, encode

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)


@given(hnp.arrays(np.int32, shapes, elements=st.integers(0, 65535) | st.integers(0, 2)))
def test_label_maps_round_trip(labels):
    lengths, ids = encode(labels)
    assert lengths.dtype == np.uint32
    assert ids.dtype == (np.uint8 if labels.max() < 256 else np.uint16)
    assert lengths.sum() == labels.size
    assert (ids[1:] != ids[:-1]).all()
    assert np.array_equal(decode(lengths, ids, *labels.shape), labels)


@given(hnp.arrays(bool, shapes))
def test_masks_round_trip(mask):
    rle = RLE.from_mask(mask)
    assert np.array_equal(rle.decode(), mask)
    assert rle.area == mask.sum()
    again = RLE.from_json(json.loads(json.dumps(rle.to_json())))
    assert again == rle
    assert hash(again) == hash(rle)


def test_runs_go_on_over_row_ends():
    lengths, ids = encode([[1, 1], [1, 0]])
    assert lengths.tolist() == [3, 1]
    assert ids.tolist() == [1, 0]


def test_empty_maps():
    lengths, ids = encode(np.zeros((0, 4), np.int32))
    assert lengths.size == ids.size == 0
    assert decode(lengths, ids, 0, 4).shape == (0, 4)


def test_non_contiguous_maps():
    labels = np.arange(24).reshape(4, 6)[::2, ::3]
    assert np.array_equal(decode(*encode(labels), *labels.shape), labels)


@pytest.mark.parametrize(
    "bad", [np.zeros(3, int), np.zeros((2, 2)), np.full((1, 1), -1), np.full((1, 1), 65536)]
)
def test_what_is_no_label_map(bad):
    with pytest.raises(ValueError, match=r"label"):
        encode(bad)


def test_runs_that_do_not_fit():
    with pytest.raises(ValueError, match="hold 3 pixels"):
        decode([3], [1], 2, 2)
    with pytest.raises(ValueError, match="as many"):
        decode([3, 1], [1], 2, 2)


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        {"size": [2, 2]},
        {"size": [2], "counts": [4]},
        {"size": [2, True], "counts": [2]},
        {"size": [2, 2], "counts": [3]},
        {"size": [2, 2], "counts": [-1, 5]},
        {"size": [2, 2], "counts": [4.0]},
        {"size": [2, 2], "counts": "4"},
        {"size": [2, 2], "counts": [2**32]},
    ],
)
def test_damaged_masks(damaged):
    with pytest.raises(SessionError):
        RLE.from_json(damaged)


def test_as_rle():
    rle = RLE.from_mask(np.eye(3))
    assert as_rle(rle) is rle
    assert as_rle(None) is None
    assert as_rle(np.eye(3)) == rle
    with pytest.raises(ValueError, match="two dimensions"):
        as_rle(np.zeros((1, 2, 2)))
