"""`dynamite_widget.model.render` and `resize`: equal to the plain order of operations."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from dynamite_widget.model import render
from dynamite_widget.model.config import get_config
from dynamite_widget.model.render import LogitsRenderer, MaskLogits, axis_taps
from dynamite_widget.model.resize import network_size, network_size_for, padded_size, preprocess


def blobs(channels: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Logits with regions and rough borders, as networks make them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, channels, height // 8 + 2, width // 8 + 2, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)[0]
    return smooth * 8 + 0.3 * torch.randn(channels, height, width, generator=generator)


def plain(
    mask_logits: MaskLogits, height: int, width: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Architecture section 5, one step after the other, at full size."""
    owners = mask_logits.channel_instance
    h, w = mask_logits.network_size
    x = mask_logits.logits[None].float()
    x = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)[:, :, :h, :w]
    x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)[0]
    ids = sorted({o for o in owners if o > 0}) + ([0] if 0 in owners else [])
    fused = torch.stack([x[[c for c, o in enumerate(owners) if o == i]].amax(0) for i in ids])
    top = fused.topk(2, dim=0).values
    labels = np.asarray(ids, np.int32)[fused.argmax(0).numpy()]
    return labels, (top[0] - top[1]).numpy()


def both_ways(
    renderer: LogitsRenderer, height: int, width: int
) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Tiles (what the CPU uses) and row bands (what GPUs use), both on the CPU."""
    labels = np.empty((height, width), np.int32)
    margin = np.empty((height, width), np.float32)
    for rows, first, second, index in renderer._bands(height, width):
        labels[rows] = renderer._groups[index.numpy()]
        margin[rows] = (first - second).numpy()
    tiles = (renderer.label_map(height, width), renderer.margin(height, width))
    return [tiles, (labels, margin)]


CASES = [
    # coarse size, network size, target size
    ((16, 24), (61, 90), (61, 90)),
    ((16, 24), (61, 90), (200, 301)),
    ((16, 24), (64, 96), (17, 11)),
    ((40, 56), (157, 221), (480, 333)),
    ((8, 96), (1, 380), (1, 700)),
    ((96, 8), (380, 1), (900, 1)),
    ((16, 16), (64, 64), (1, 1)),
    ((8, 8), (30, 30), (500, 3)),
]


@pytest.mark.parametrize(("coarse", "network", "target"), CASES)
@pytest.mark.parametrize("owners", [(0, 3, 1, 1, 7, 3, 0, 0), (2, 5, 5, 2), (1, 0, -1)])
def test_equals_the_plain_order(
    coarse: tuple[int, int],
    network: tuple[int, int],
    target: tuple[int, int],
    owners: tuple[int, ...],
) -> None:
    mask_logits = MaskLogits(blobs(len(owners), *coarse), owners, network)
    labels, margin = plain(mask_logits, *target)
    for got_labels, got_margin in both_ways(LogitsRenderer(mask_logits), *target):
        assert got_labels.dtype == np.int32
        assert got_margin.dtype == np.float32
        assert (got_margin >= 0).all()
        np.testing.assert_allclose(got_margin, margin, atol=1e-4)
        # Only where two groups are equal up to rounding may the label differ.
        assert margin[got_labels != labels].max(initial=0) < 1e-4
        assert (got_labels != labels).mean() < 1e-3


def test_small_working_sets_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    mask_logits = MaskLogits(blobs(5, 20, 24), (1, 2, 0, 0, 2), (75, 96))
    before = both_ways(LogitsRenderer(mask_logits), 300, 410)
    monkeypatch.setattr(render, "WORKING_SET_BYTES", 10_000)
    for (labels, margin), (again, margin_again) in zip(
        before, both_ways(LogitsRenderer(mask_logits), 300, 410), strict=True
    ):
        np.testing.assert_array_equal(labels, again)
        np.testing.assert_allclose(margin, margin_again, atol=1e-5)


def test_first_of_equals_wins_objects_before_background() -> None:
    logits = torch.zeros(4, 8, 8)
    for owners, winner in (((0, 5, 2, 2), 2), ((0, 5, 9, 0), 5), ((0, 0, 0, 0), 0)):
        renderer = LogitsRenderer(MaskLogits(logits, owners, (32, 32)))
        assert np.unique(renderer.label_map(40, 50)).tolist() == [winner]
    alone = LogitsRenderer(MaskLogits(logits, (5, 5, 5, 5), (32, 32)))
    assert (alone.margin(3, 3) > 1e30).all()  # nothing competes with a single group


def test_maximum_comes_after_resizing() -> None:
    # Two clicks of one object take turns: maximum first would fill the gap between them.
    logits = torch.full((3, 8, 8), -4.0)
    logits[0, :, ::2] = 4.0
    logits[1, :, 1::2] = 4.0
    logits[2] = 2.0
    mask_logits = MaskLogits(logits, (1, 1, 0), (32, 32))
    labels, _ = plain(mask_logits, 32, 32)
    assert 0 in labels[:, 4:-4]
    assert 1 in labels[:, 4:-4]
    np.testing.assert_array_equal(LogitsRenderer(mask_logits).label_map(32, 32), labels)


def test_half_precision_logits() -> None:
    logits = blobs(3, 16, 16).half()
    mask_logits = MaskLogits(logits, (1, 2, 0), (64, 64))
    labels, _ = plain(mask_logits, 64, 64)
    np.testing.assert_array_equal(LogitsRenderer(mask_logits).label_map(64, 64), labels)


def test_scores() -> None:
    logits = torch.full((4, 8, 8), -2.0)
    logits[0, :, :4] = 3.0  # instance 4 by its first click, 5 above the background
    logits[3, :4, 4:] = -2.0 + 1.5  # instance 9
    logits[1, :, 4:] = -2.0
    mask_logits = MaskLogits(logits, (4, 0, 4, 9), (32, 32))
    scores = LogitsRenderer(mask_logits).scores()
    sigmoid = 1 / (1 + np.exp(-np.asarray([5.0, 1.5])))
    # In the lower right quarter instance 4 ties with the background and wins: score 0.5 there.
    assert scores[4] == pytest.approx((32 * sigmoid[0] + 16 * 0.5) / 48, abs=1e-6)
    assert scores[9] == pytest.approx(sigmoid[1], abs=1e-6)
    # Padding does not count: only the left half is picture.
    scores = LogitsRenderer(MaskLogits(logits, (4, 0, 4, 9), (32, 16))).scores()
    assert scores[4] == pytest.approx(sigmoid[0], abs=1e-6)
    assert scores[9] == 0.0


def test_bad_logits_are_refused() -> None:
    with pytest.raises(ValueError, match="2 channels"):
        MaskLogits(torch.zeros(3, 8, 8), (1, 0), (32, 32))
    with pytest.raises(ValueError, match="exceeds"):
        MaskLogits(torch.zeros(2, 8, 8), (1, 0), (33, 32))
    with pytest.raises(ValueError, match="no channel"):
        LogitsRenderer(MaskLogits(torch.zeros(1, 8, 8), (-1,), (32, 32)))


def test_taps_are_the_two_resizings() -> None:
    for coarse, network, target in itertools.product((8, 40), (1, 29, 32), (1, 5, 32, 333)):
        basis = torch.eye(coarse)[:, None]
        fine = F.interpolate(basis, scale_factor=4, mode="linear", align_corners=False)
        fine = fine[..., :network]
        expected = F.interpolate(fine, size=target, mode="linear", align_corners=False)[:, 0].T
        first, weights = axis_taps(coarse, network, target)
        dense = np.zeros((target, coarse + 2))
        for tap in range(3):
            dense[np.arange(target), first + tap] += weights[:, tap]
        assert not dense[:, coarse:].any()
        np.testing.assert_allclose(dense[:, :coarse], expected.numpy(), atol=1e-5)


# --- resize rule -----------------------------------------------------------------------------

RESIZE_TABLE = [  # (h, w), (h', w') of the published test-time rule
    ((480, 640), (800, 1067)),
    ((640, 480), (1067, 800)),
    ((320, 448), (800, 1120)),
    ((318, 446), (800, 1122)),
    ((260, 500), (693, 1333)),
    ((500, 333), (1201, 800)),
    ((1080, 1920), (750, 1333)),
    ((1920, 1080), (1333, 750)),
    ((3000, 2000), (1200, 800)),
    ((600, 600), (800, 800)),
    ((333, 500), (800, 1201)),
    ((427, 640), (800, 1199)),
    ((1, 1000), (1, 1333)),
    ((799, 1334), (798, 1333)),
    ((801, 1333), (800, 1331)),
]


@pytest.mark.parametrize(("size", "expected"), RESIZE_TABLE)
def test_resize_table(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert network_size(*size) == expected


def test_resize_table_is_the_golden_one() -> None:
    path = Path(__file__).parent / "golden" / "golden_protocol.json"
    if not path.exists():
        pytest.skip("the golden protocol file is not there")
    table = json.loads(path.read_text())["resize_table_hw_to_hw"]
    assert [tuple(map(tuple, row)) for row in table] == RESIZE_TABLE


def test_extreme_sizes() -> None:
    assert network_size(1, 5000) == (1, 1333)
    assert network_size(5000, 1) == (1333, 1)
    assert network_size(1, 1) == (800, 800)
    assert network_size(3000, 4000, None, 512) == (384, 512)
    assert network_size_for(get_config("swin-tiny"), 318, 446) == (800, 1122)
    assert padded_size(1, 33) == (32, 64)
    assert padded_size(800, 1122) == (800, 1152)
    with pytest.raises(ValueError, match="0 x 5"):
        network_size(0, 5)


def test_preprocess() -> None:
    config = get_config("swin-tiny").replace(short_side=40, max_long_side=60)
    image = np.random.default_rng(0).integers(0, 256, (90, 110, 3), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels, size = preprocess(image, config)
    assert size == (40, 49)
    assert pixels.shape == (3, 64, 64)
    assert pixels.dtype == np.float32
    assert not pixels[:, 40:].any()
    assert not pixels[:, :, 49:].any()
    resized = np.asarray(Image.fromarray(image).resize((49, 40), Image.Resampling.BILINEAR))
    expected = (resized - np.asarray(config.pixel_mean)) / np.asarray(config.pixel_std)
    np.testing.assert_allclose(pixels[:, :40, :49], expected.transpose(2, 0, 1), atol=1e-5)


def test_preprocess_keeps_pixels_when_the_size_fits() -> None:
    config = get_config("swin-tiny").replace(short_side=None, max_long_side=33)
    image = np.full((5, 33, 3), 200, np.uint8)
    pixels, size = preprocess(image, config)
    assert size == (5, 33)
    assert pixels.shape == (3, 32, 64)
    np.testing.assert_allclose(pixels[0, :5, :33], (200 - 123.675) / 58.395, rtol=1e-6)
