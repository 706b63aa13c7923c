"""Backbones and pixel decoder apart from the golden numbers: sizes, batches, gradients, names."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from dynamite_widget.model.backbones import BACKBONES, build_backbone
from dynamite_widget.model.backbones.base import DropPath
from dynamite_widget.model.config import PRESETS, ModelConfig
from dynamite_widget.model.deformable import deformable_attention
from dynamite_widget.model.pixel_decoder import DeformablePixelDecoder

NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name == "swin_large" else name
    for name in BACKBONES
]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_four_maps_at_any_size(name):
    backbone = build_backbone(ModelConfig("x", name)).eval()
    assert backbone.channels == BACKBONES[name].channels
    generator = torch.Generator().manual_seed(0)
    for height, width in ((64, 96), (32, 32), (224, 64), (64, 96)):
        pixels = torch.randn(2, 3, height, width, generator=generator)
        maps = backbone(pixels)
        assert [tuple(m.shape) for m in maps] == [
            (2, channels, height // stride, width // stride)
            for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
        ]
        single = backbone(pixels[1:])
        for level, alone in zip(maps, single, strict=True):
            # Untrained networks have maps of any magnitude.
            tolerance = 1e-5 * level.abs().max().item()
            torch.testing.assert_close(level[1:], alone, rtol=1e-4, atol=tolerance)


def test_every_preset_has_its_backbone():
    for config in PRESETS.values():
        spec = BACKBONES[config.backbone]
        assert len(spec.channels) == 4


def test_unknown_backbone_is_named():
    with pytest.raises(ValueError, match="unknown backbone 'vgg'"):
        build_backbone(ModelConfig("x", "vgg"))


def test_registry_imports_no_timm():
    code = "import sys, dynamite_widget.model.backbones; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_frozen_norms_stay_frozen_while_training():
    backbone = build_backbone(ModelConfig("x", "resnet50")).train()
    before = {k: v.clone() for k, v in backbone.named_buffers()}
    backbone(torch.randn(1, 3, 32, 32))[-1].sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in backbone.named_buffers())
    assert not any("bn" in name for name, _ in backbone.named_parameters())


@pytest.mark.parametrize("name", ["mit_b0", "swin_tiny"])
def test_gradients_and_stochastic_depth(name):
    torch.manual_seed(0)
    backbone = build_backbone(ModelConfig("x", name))
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        backbone.eval()(pixels)  # cached masks must serve training afterwards
    backbone.train()
    sum(level.square().mean() for level in backbone(pixels)).backward()
    with_gradient = {n for n, p in backbone.named_parameters() if p.grad is not None}
    trainable = {n for n, p in backbone.named_parameters() if p.requires_grad}
    # A block that stochastic depth dropped has a gradient of zeros, not none.
    assert with_gradient == trainable
    assert all(
        n.startswith(("patch_embed1", "block1", "norm1"))
        for n in {n for n, _ in backbone.named_parameters()} - trainable
    )
    assert not torch.equal(backbone(pixels)[3], backbone(pixels)[3])


def test_drop_path_keeps_the_expectation():
    torch.manual_seed(0)
    drop = DropPath(0.25)
    ones = torch.ones(4000, 2, 1)
    dropped = drop(ones)
    assert set(dropped[:, 0, 0].tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)}
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert drop.eval()(ones) is ones


# ---- pixel decoder -------------------------------------------------------------------------------


def attention_inputs(batch: int = 2, dtype: torch.dtype = torch.float32):
    shapes = [(2, 3), (4, 6), (8, 12)]
    total = sum(h * w for h, w in shapes)
    generator = torch.Generator().manual_seed(5)
    value = torch.randn(batch, total, 4, 8, generator=generator, dtype=dtype)
    # Some points fall far outside the maps.
    locations = torch.rand(batch, 50, 4, 3, 2, 2, generator=generator, dtype=dtype) * 2 - 0.5
    weights = torch.rand(batch, 50, 4, 3, 2, generator=generator, dtype=dtype)
    return value, shapes, locations, weights


def test_both_ways_of_deformable_attention_agree(monkeypatch):
    from dynamite_widget.model import deformable

    value, shapes, locations, weights = attention_inputs()
    whole = deformable_attention(value, shapes, locations, weights)
    monkeypatch.setattr(deformable, "_CHUNK", 16)
    chunked = deformable_attention(value, shapes, locations, weights)
    with_gradient = deformable_attention(value.requires_grad_(), shapes, locations, weights)
    assert with_gradient.requires_grad
    assert whole.shape == (2, 50, 32)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=0)
    torch.testing.assert_close(with_gradient.detach(), whole, rtol=1e-5, atol=1e-5)


def test_points_at_and_far_beyond_the_edges():
    value, shapes, locations, weights = attention_inputs()
    edges = torch.tensor([0.0, 1.0, -1e-7, 1 + 1e-7, 0.5, 1e6, -1e6])
    chosen = torch.randint(
        0, len(edges), locations.shape, generator=torch.Generator().manual_seed(0)
    )
    found = deformable_attention(value, shapes, edges[chosen], weights)
    sampled = deformable_attention(value.requires_grad_(), shapes, edges[chosen], weights)
    torch.testing.assert_close(found, sampled.detach(), rtol=1e-5, atol=1e-5)


def test_deformable_attention_of_one_sample_is_bilinear():
    value = torch.arange(6.0).reshape(1, 6, 1, 1)
    # Centre of cell (1, 2), between (0, 0) and (0, 1), and outside.
    points = torch.tensor([[2.5 / 3, 1.5 / 2], [1 / 3, 0.5 / 2], [5.0, 5.0]])
    locations = points.view(1, 3, 1, 1, 1, 2)
    found = deformable_attention(value, [(2, 3)], locations, torch.ones(1, 3, 1, 1, 1))
    torch.testing.assert_close(found.flatten(), torch.tensor([5.0, 0.5, 0.0]))


def small_decoder(fpn_levels: int = 1) -> DeformablePixelDecoder:
    torch.manual_seed(0)
    config = ModelConfig(
        "x",
        "none",
        hidden_dim=32,
        heads=4,
        pixel_decoder_layers=2,
        pixel_decoder_ffn=16,
        fpn_levels=fpn_levels,
    )
    return DeformablePixelDecoder(config, (4, 8, 16, 24)).eval()


def backbone_maps(batch: int, height: int = 64, width: int = 96) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [
        torch.randn(batch, c, height // s, width // s, generator=generator)
        for c, s in zip((4, 8, 16, 24), (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("fpn_levels", [1, 2])
@torch.no_grad()
def test_pixel_decoder_shapes_and_batches(fpn_levels):
    decoder, maps = small_decoder(fpn_levels), backbone_maps(2)
    multi_scale, mask_features = decoder(maps)
    assert [tuple(m.shape) for m in multi_scale] == [(2, 32, 2, 3), (2, 32, 4, 6), (2, 32, 8, 12)]
    assert mask_features.shape == (2, 32, 16, 24)
    alone, alone_features = decoder([m[1:] for m in maps])
    torch.testing.assert_close(mask_features[1:], alone_features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(multi_scale[2][1:], alone[2], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_hrnet_refinement_ignores_stride_32():
    decoder, maps = small_decoder(2), backbone_maps(1)
    read = []
    for conv in decoder.refine:
        conv.register_forward_pre_hook(lambda _m, args: read.append(tuple(args[0].shape[-2:])))
    decoder(maps)
    assert read == [(8, 12), (8, 12), (4, 6)]


def test_pixel_decoder_trains_in_float32_under_autocast():
    decoder, maps = small_decoder(), backbone_maps(1)
    expected = decoder([m.bfloat16().float() for m in maps])[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = decoder([m.bfloat16() for m in maps])[1]
        with torch.no_grad():
            predicted = decoder([m.bfloat16() for m in maps])[1]
    assert found.dtype == predicted.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    # Predicting, products (not sums) are in bfloat16.
    assert 0 < (predicted - expected).abs().mean() < 0.01 * expected.abs().mean()


def test_pixel_decoder_trains():
    decoder = small_decoder().train()
    multi_scale, mask_features = decoder(backbone_maps(1))
    (mask_features.square().mean() + sum(m.square().mean() for m in multi_scale)).backward()
    assert all(p.grad is not None for p in decoder.parameters())


def test_fpn_levels_are_checked():
    with pytest.raises(ValueError, match="fpn_levels must be 1 or 2, got 3"):
        small_decoder(3)
