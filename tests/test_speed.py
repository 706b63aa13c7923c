"""Shortcuts on CPUs: what they leave out, and that it does not show."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynamite_widget.model import interactive, precision
from dynamite_widget.model.adaptive import adaptive_logits, fuse_spans, group_spans
from dynamite_widget.model.config import ModelConfig, get_config
from dynamite_widget.model.deformable import (
    LevelMaps,
    deformable_attention,
    deformable_attention_at,
)
from dynamite_widget.model.dynamite import build_model
from dynamite_widget.model.interactive import Decoder, InteractiveTransformer
from dynamite_widget.model.pointwise import PointwiseDecoder
from dynamite_widget.model.position import sine_code_2d
from dynamite_widget.model.predictor import Predictor
from dynamite_widget.model.refine import RefineHead
from dynamite_widget.model.refine_near import _HOPELESS, refine_near
from dynamite_widget.model.structures import ClickTensors, ImageFeatures, fuse

SMALL = ModelConfig(
    "small",
    "efficientnet_lite0",
    hidden_dim=32,
    heads=4,
    encoder_layers=3,
    encoder_ffn=48,
    decoder_layers=2,
    decoder_ffn=48,
    static_queries=3,
)


def maps(height: int = 64, width: int = 96) -> ImageFeatures:
    """Smooth random features of a network image of four times this size."""
    generator = torch.Generator().manual_seed(3)

    def smooth(h: int, w: int) -> torch.Tensor:
        coarse = torch.randn(1, 32, 4, 6, generator=generator)
        return torch.nn.functional.interpolate(coarse, (h, w), mode="bicubic")

    levels = tuple(smooth(height // s, width // s) for s in (8, 4, 2))
    return ImageFeatures(levels, smooth(height, width), None, (4 * height, 4 * width))


def some_clicks(count: int, instances: int) -> ClickTensors:
    generator = torch.Generator().manual_seed(count)
    yx = torch.rand(count, 2, generator=generator) * torch.tensor([255.0, 383.0])
    return ClickTensors(yx, torch.arange(count), torch.arange(count) % (instances + 1))


# ---- pixel by pixel ------------------------------------------------------------------------------


@pytest.mark.parametrize("queries", [5, 60])
def test_pixels_one_by_one_equal_layer_by_layer(queries: int) -> None:
    torch.manual_seed(0)
    decoder = Decoder(SMALL)
    tokens, content = torch.randn(1, 6 * 8, 32), torch.randn(1, queries, 32)
    position = torch.randn(1, queries, 32)
    y, code = tokens, sine_code_2d(6, 8, 32).flatten(1).T
    with torch.inference_mode():
        for cross, ffn in decoder.layers():
            attn = cross.multihead_attn
            key, value = attn.project_key(content + position), attn.project_value(content)
            y = ffn(cross(y, attn.project_query(y + code), key, value))
        pixels = PointwiseDecoder(decoder, tokens[0], (6, 8), content[0], (content + position)[0])
        some = torch.tensor([47, 0, 13])
        torch.testing.assert_close(pixels(some), y[0, some], rtol=1e-4, atol=1e-5)


# ---- where labels change -------------------------------------------------------------------------


def disc_logits(size: tuple[int, int], discs: list[tuple[float, float, float]]) -> torch.Tensor:
    rows, columns = torch.meshgrid(*(torch.arange(n).float() for n in size), indexing="ij")
    inside = [r - torch.hypot(rows - y, columns - x) for y, x, r in discs]
    return torch.stack([*inside, torch.zeros(size)]).flatten(1)


def test_labels_are_those_of_every_pixel() -> None:
    size = (48, 64)
    discs = [(20.0, 20.0, 9.0), (25.0, 31.0, 7.5), (40.0, 52.0, 5.0)]
    truth = disc_logits(size, discs)
    asked: list[torch.Tensor] = []

    def evaluate(index: torch.Tensor) -> torch.Tensor:
        asked.append(index)
        return truth[:, index]

    spans = group_spans([1, 2, 3, 0])[1]
    found = adaptive_logits(evaluate, spans, size, torch.tensor([[20.0, 20.0]]))
    assert torch.equal(found.argmax(dim=0).flatten(), truth.argmax(dim=0))
    evaluated = torch.cat(asked)
    assert len(evaluated) == len(evaluated.unique()), "no pixel twice"
    assert len(evaluated) < 0.6 * truth.shape[1]
    torch.testing.assert_close(found.flatten(1)[:, evaluated], truth[:, evaluated])


def test_a_clicked_pixel_between_grid_points_is_not_lost() -> None:
    size = (32, 32)
    truth = torch.stack([torch.full(size, -5.0), torch.zeros(size)])
    truth[0, 9, 18] = 5.0  # no neighbour hints at it
    truth = truth.flatten(1)
    spans = group_spans([1, 0])[1]
    labels = {}
    for name, click in {"on it": [9.2, 17.8], "elsewhere": [30.0, 3.0]}.items():
        found = adaptive_logits(lambda i: truth[:, i], spans, size, torch.tensor([click]))
        labels[name] = (found.argmax(dim=0) == 0).nonzero().tolist()
    assert labels == {"on it": [[9, 18]], "elsewhere": []}


def test_groups_of_channels() -> None:
    ids, spans = group_spans([1, 1, 4, 0])
    assert ids == [1, 4, 0]
    logits = torch.tensor([[1.0, 5.0], [3.0, 2.0], [0.0, 9.0], [7.0, 7.0]])
    assert fuse_spans(logits, spans).tolist() == [[3.0, 5.0], [0.0, 9.0], [7.0, 7.0]]
    with pytest.raises(ValueError, match="side by side"):
        group_spans([1, 2, 1])


@pytest.mark.parametrize("count", [6, 45])
def test_fast_and_exact_masks_agree(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactive, "_FEWEST_PIXELS", 0)
    monkeypatch.setattr(interactive, "_MOST_CHANNELS", 32)
    torch.manual_seed(0)
    module = InteractiveTransformer(SMALL, 24).eval()
    clicks = some_clicks(count, 3)
    with torch.inference_mode():
        prepared = module.prepare(maps())
        exact = fuse(module.decode(prepared, [clicks], False, exact=True).final)
        layers = fuse(module.decode(prepared, [clicks], True, exact=True).final)
        fast = fuse(module.decode(prepared, [clicks], False, exact=False).final)
        back = ClickTensors(clicks.yx.flip(0), clicks.t.flip(0), clicks.instance.flip(0))
        again = fuse(module.decode(prepared, [back], False, exact=False).final)
    assert exact[1] == fast[1] == [1, 2, 3]
    torch.testing.assert_close(exact[0], layers[0], rtol=1e-4, atol=1e-4)
    assert (exact[0].argmax(dim=0) == fast[0].argmax(dim=0)).float().mean() > 0.99
    assert torch.equal(fast[0], again[0]), "the order in which clicks are listed does not matter"


def test_training_does_not_go_by_pixels() -> None:
    module = InteractiveTransformer(SMALL, 24)
    prepared = module.prepare(maps(16, 24))
    logits = module.decode(prepared, [some_clicks(4, 2)], False, exact=False).final.logits
    logits.sum().backward()
    assert module.decoder is not None
    assert all(p.grad is not None for p in module.decoder.parameters())


# ---- embeddings ----------------------------------------------------------------------------------


def test_sampling_around_a_reference_equals_sampling_at_places() -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = [(2, 3), (4, 6)]
    value = torch.randn(2, 30, 4, 8, generator=generator)
    reference = torch.rand(7, 2, generator=generator)
    offsets = torch.randn(2, 7, 4, 2, 3, 2, generator=generator) * 2
    weights = torch.rand(2, 7, 4, 2, 3, generator=generator)
    sizes = torch.tensor([(width, height) for height, width in shapes])
    places = reference[:, None, None, None] + offsets / sizes[:, None]
    torch.testing.assert_close(
        deformable_attention_at(LevelMaps.of(value, shapes), reference, offsets, weights),
        deformable_attention(value, shapes, places, weights),
        rtol=1e-4,
        atol=1e-5,
    )


def test_shared_memory_counts_once() -> None:
    module = InteractiveTransformer(SMALL, 24).eval()
    with torch.inference_mode():
        prepared = module.prepare(maps())
    tokens, features = prepared.decoder_tokens, prepared.features.mask_features
    assert tokens is not None
    assert tokens.data_ptr() == features.data_ptr()
    tensors = [*prepared.keys, *prepared.values, *prepared.level_mask_features, features]
    tensors += prepared.features.multi_scale
    assert prepared.nbytes == sum(4 * t.numel() for t in tensors)


def test_precision_of_a_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    from dynamite_widget.network import embedding_key

    class Network(torch.nn.Module):
        checkpoint_hash = "0"

        def __init__(self, preset: str) -> None:
            super().__init__()
            self.config, self.weight = get_config(preset), torch.nn.Parameter(torch.zeros(1))

    class Picture:
        hash = "1"

    for native, half, expected in (
        (True, None, "bfloat16"),
        (True, True, "bfloat16"),
        (True, False, "float32"),
        (False, None, "float32"),
        (False, True, "float32"),
    ):
        monkeypatch.setattr(precision, "has_native_bfloat16", lambda native=native: native)
        assert Predictor(Network("swin-tiny"), half=half).precision == expected
        assert Predictor(Network("swin-tiny"), half=half, exact=True).precision == "float32"
        assert Predictor(Network("lite"), half=half).precision == "float32", "it gains nothing"
    monkeypatch.setattr(precision, "has_native_bfloat16", lambda: True)
    keys = {
        embedding_key(Picture(), Predictor(Network("swin-tiny"), half=half))  # type: ignore[arg-type]
        for half in (True, None, False)
    }
    assert len(keys) == 2, "a cache never mixes precisions"


def test_what_of_an_embedding_is_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_native_bfloat16", lambda: True)
    model = build_model(get_config("swin-tiny").replace(pixel_decoder_layers=1)).eval()
    seen: dict[str, torch.dtype | None] = {}
    for name, part in (("backbone", model.backbone), ("pixel decoder", model.pixel_decoder)):
        part.register_forward_pre_hook(
            lambda *_, name=name: seen.update({name: precision.autocast_dtype("cpu")})
        )
    picture = np.zeros((40, 40, 3), np.uint8)
    lowered = {}
    for half in (None, True, False):
        embedding = Predictor(model, half=half).embed(picture)
        assert embedding.prepared.features.mask_features.dtype == torch.float32
        lowered[half] = [part for part, dtype in seen.items() if dtype == torch.bfloat16]
    both = ["backbone", "pixel decoder"]
    assert lowered == {None: both, True: both, False: []}


def test_evaluation_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    from dynamite_widget.evaluation.predictors import load_predictor
    from dynamite_widget.model import checkpoints

    monkeypatch.setattr(checkpoints, "load_model", lambda *_a, **_k: torch.nn.Linear(1, 1))
    predictor = load_predictor("lite")
    assert isinstance(predictor, Predictor)
    assert predictor.exact


# ---- refinement ----------------------------------------------------------------------------------


@torch.inference_mode()
def test_refinement_near_an_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_native_bfloat16", lambda: False)
    torch.manual_seed(0)
    head = RefineHead(8, 16, 24)
    torch.nn.init.normal_(head.out.weight, std=0.1)
    fused = disc_logits((96, 96), [(20.0, 24.0, 9.0)]).view(2, 96, 96)
    context = head.prepare(torch.randn(1, 16, 96, 96), torch.randn(1, 24, 96, 96))
    clicks = [(torch.tensor([[80.0, 96.0]]), torch.zeros(0, 2))]
    (whole,) = head([fused], [(0, 0)], clicks, context, (384, 384))
    own = clicks[0][0], torch.tensor([0])
    near = refine_near(head, fused, *own, context, (384, 384))
    inside = fused[0] > -_HOPELESS
    difference = (near - whole)[0].abs()
    assert difference[inside].max() < 0.1 * (whole - fused)[0].abs().max()
    assert torch.equal(near[0, 60:], fused[0, 60:]), "far away nothing is computed"
    assert torch.equal(near[1], fused[1])
    nobody = torch.stack([fused[0] - 100, fused[1]])
    assert torch.equal(refine_near(head, nobody, *own, context, (384, 384)), nobody)
