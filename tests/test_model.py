"""The network itself: batches against single pictures, ablation switches, lite's extensions."""

from __future__ import annotations

import pytest
import torch

from dynamite_widget.model.config import PRESETS, ModelConfig, get_config
from dynamite_widget.model.dynamite import DynaMITe
from dynamite_widget.model.interactive import InteractiveTransformer
from dynamite_widget.model.queries import sample_descriptors
from dynamite_widget.model.refine import RefineHead, RelativeTerm
from dynamite_widget.model.structures import ClickTensors, ImageFeatures, Prediction, fuse

SMALL = ModelConfig(
    "small",
    "efficientnet_lite0",
    hidden_dim=32,
    heads=4,
    encoder_layers=4,
    encoder_ffn=48,
    decoder_layers=2,
    decoder_ffn=48,
    static_queries=3,
)
SMALL_LITE = SMALL.replace(
    decoder_stride=8,
    identity_codes=8,
    relative_mask=True,
    refine_width=8,
    mask_padding_queries=True,
)


def clicks(*rows: tuple[float, float, int]) -> ClickTensors:
    """Clicks (y, x, instance) in order of time."""
    return ClickTensors(
        torch.tensor([row[:2] for row in rows], dtype=torch.float32).reshape(-1, 2),
        torch.arange(len(rows)),
        torch.tensor([row[2] for row in rows], dtype=torch.int64),
    )


def features(
    config: ModelConfig, batch: int = 1, size: tuple[int, int] = (64, 96)
) -> ImageFeatures:
    generator = torch.Generator().manual_seed(3)
    d, (h, w) = config.hidden_dim, size
    maps = tuple(torch.randn(batch, d, h // s, w // s, generator=generator) for s in (32, 16, 8))
    return ImageFeatures(
        maps,
        torch.randn(batch, d, h // 4, w // 4, generator=generator),
        torch.randn(batch, 24, h // 4, w // 4, generator=generator),
        size,
    )


def transformer(config: ModelConfig) -> InteractiveTransformer:
    torch.manual_seed(0)
    module = InteractiveTransformer(config, 24).eval()
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.2)
    return module


def pick(source: ImageFeatures, i: int) -> ImageFeatures:
    assert source.detail is not None
    return ImageFeatures(
        tuple(m[i : i + 1] for m in source.multi_scale),
        source.mask_features[i : i + 1],
        source.detail[i : i + 1],
        source.padded_size,
    )


FEW = clicks((10, 12, 1), (40, 60, 2))
MANY = clicks((10, 12, 1), (40, 60, 2), (50, 8, 3), (30, 30, 0), (12, 20, 1))


@torch.inference_mode()
def test_order_of_arrival_of_the_rows_does_not_matter() -> None:
    module = transformer(SMALL)
    prepared = module.prepare(features(SMALL))
    shuffled = torch.tensor([4, 2, 0, 3, 1])
    other = ClickTensors(MANY.yx[shuffled], MANY.t[shuffled], MANY.instance[shuffled])
    a = module.decode(prepared, [MANY], False).final
    b = module.decode(prepared, [other], False).final
    assert torch.equal(a.channel_instance, b.channel_instance)
    assert torch.equal(a.logits, b.logits)
    assert a.channel_instance[0].tolist() == [1, 1, 2, 3, 0, 0, 0, 0]


@torch.inference_mode()
def test_padded_batch_equals_single_pictures_where_padding_is_hidden() -> None:
    module = transformer(SMALL_LITE)
    both = features(SMALL_LITE, batch=2)
    batched = module.decode(module.prepare(both), [FEW, MANY], True)
    for i, one in enumerate((FEW, MANY)):
        single = module.decode(module.prepare(pick(both, i)), [one], True)
        expected, instances = fuse(single.final)
        actual, same = fuse(batched.final, i)
        assert instances == same
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_padding_takes_part_as_background_in_the_published_batches() -> None:
    module = transformer(SMALL)
    both = features(SMALL, batch=2)
    decoded = module.decode(module.prepare(both), [FEW, MANY], True)
    assert decoded.final.channel_instance[0].tolist() == [1, 2, 0, 0, 0, 0, 0, 0]
    # One prediction before each of the four encoder layers; the last layer's own gets no loss.
    assert len(decoded.auxiliary) == 4


@pytest.mark.parametrize("config", [SMALL, SMALL_LITE], ids=["published", "lite"])
@torch.inference_mode()
def test_every_instance_and_one_background_come_out(config: ModelConfig) -> None:
    module = transformer(config)
    fused, instances = fuse(module.decode(module.prepare(features(config)), [MANY], False).final)
    assert instances == [1, 2, 3]
    assert fused.shape == (4, 16, 24)
    assert torch.isfinite(fused).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder_layers": 0},
        {"static_queries": 0},
        {"positional": "temporal"},
        {"positional": "spatial"},
        {"positional": "none"},
    ],
    ids=str,
)
@torch.inference_mode()
def test_ablation_switches_change_the_network(changes: dict[str, object]) -> None:
    config = SMALL.replace(**changes)
    module = transformer(config)
    names = {name for name, _ in module.named_parameters()}
    assert any(n.startswith("decoder.") for n in names) == (config.decoder_layers > 0)
    assert ("queries.static_bg_query" in names) == (config.static_queries > 0)
    assert ("queries.ca_qpos_sine_proj.weight" in names) == (config.positional != "none")
    decoded = module.decode(module.prepare(features(config)), [MANY], False)
    background = max(config.static_queries, 1) + 1
    assert decoded.final.channel_instance[0].tolist() == [1, 1, 2, 3] + [0] * background
    assert torch.isfinite(decoded.final.logits).all()


@torch.inference_mode()
def test_time_moves_the_result_only_with_a_temporal_code() -> None:
    late = ClickTensors(MANY.yx, MANY.t * 70, MANY.instance)
    for positional, matters in (("spatio_temporal", True), ("temporal", True), ("spatial", False)):
        module = transformer(SMALL.replace(positional=positional))
        prepared = module.prepare(features(SMALL))
        a = module.decode(prepared, [MANY], False).final.logits
        b = module.decode(prepared, [late], False).final.logits
        assert torch.equal(a, b) != matters, positional


@torch.inference_mode()
def test_preparing_ahead_equals_masks_from_full_resolution_logits() -> None:
    """Resizing mask features and resizing logits commute, so the attention masks agree."""
    module = transformer(SMALL)
    source = features(SMALL)
    prepared = module.prepare(source)
    queries = module.queries(source, [MANY])
    for level, feature in enumerate(source.multi_scale):
        logits = module._full_logits(queries.content, queries, prepared)
        resized = torch.nn.functional.interpolate(
            logits, feature.shape[-2:], mode="bilinear", align_corners=False
        ).flatten(2)
        allowed = module._attention_mask(queries.content, queries, prepared, level)
        clear = resized.abs() > 1e-4
        expected = (resized >= 0) | ~(resized >= 0).any(-1, keepdim=True)
        assert torch.equal(allowed[clear], expected[clear])


@torch.no_grad()
def test_a_query_that_may_look_nowhere_looks_everywhere() -> None:
    module = transformer(SMALL)
    source = features(SMALL)
    queries = module.queries(source, [FEW])
    # Constant negative embeddings on positive mask features: every logit of every query is < 0.
    last = module.mask_embed.layers[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, -1.0)
    prepared = module.prepare(
        ImageFeatures(source.multi_scale, source.mask_features.abs(), None, source.padded_size)
    )
    allowed = module._attention_mask(queries.content, queries, prepared, 0)
    assert allowed.all()


def test_descriptor_of_a_click_on_a_cell_centre_is_that_cell() -> None:
    level = torch.arange(12.0).reshape(1, 1, 3, 4)
    # With a stride of 8 the centre of cell (1, 2) lies at (12, 20): clicks carry no half pixel.
    assert sample_descriptors([level], torch.tensor([[[12.0, 20.0]]]), (24, 32)).item() == 6.0


def test_relative_term_prefers_the_surroundings_of_its_click() -> None:
    torch.manual_seed(0)
    term = RelativeTerm(8)
    logits = term(torch.zeros(1, 1, 8), torch.tensor([[[33.5, 17.5]]]), (64, 64), (16, 16))
    assert logits.shape == (1, 1, 16, 16)
    assert divmod(int(logits.argmax()), 16) == (8, 4)


def test_refinement_starts_as_the_identity_and_leaves_the_background_alone() -> None:
    torch.manual_seed(0)
    head = RefineHead(8, 32, 24)
    source = features(SMALL)
    context = head.prepare(source.mask_features, source.detail)
    fused = torch.randn(3, 16, 24)
    own, others = FEW.yx[:1], FEW.yx[1:]
    rows, row_clicks = [(0, 0), (0, 1)], [(own, others), (others, own)]
    with torch.no_grad():
        (same,) = head([fused], rows, row_clicks, context, (64, 96))
        assert torch.equal(same, fused)
        torch.nn.init.normal_(head.out.weight)
        (changed,) = head([fused], rows, row_clicks, context, (64, 96))
    assert torch.equal(changed[-1], fused[-1])
    assert not torch.equal(changed[0], fused[0])


def test_fuse_takes_the_maximum_over_each_owner_and_skips_padding() -> None:
    logits = torch.tensor([1.0, 5.0, 3.0, 2.0, 9.0]).reshape(1, 5, 1, 1)
    owners = torch.tensor([[2, 2, 7, 0, -1]])
    fused, instances = fuse(Prediction(logits, owners))
    assert instances == [2, 7]
    assert fused.flatten().tolist() == [5.0, 3.0, 2.0]


def test_identities_are_permuted_in_training_only() -> None:
    module = transformer(SMALL_LITE)
    source = features(SMALL_LITE)
    assert torch.equal(
        module.queries(source, [MANY]).content, module.queries(source, [MANY]).content
    )
    module.train()
    torch.manual_seed(1)
    first, second = (module.queries(source, [MANY]).content for _ in range(2))
    assert not torch.equal(first, second)


def test_network_refuses_wrong_pixels_and_missing_clicks() -> None:
    model = DynaMITe(SMALL_LITE.replace(pixel_decoder="fpn", pixel_decoder_layers=1)).eval()
    with pytest.raises(ValueError, match="multiples of 32"):
        model.encode_image(torch.zeros(1, 3, 64, 50))
    with torch.inference_mode():
        prepared = model.prepare(model.encode_image(torch.zeros(1, 3, 64, 64)))
        with pytest.raises(ValueError, match="clicks of 1 pictures, got 2"):
            model.decode_clicks(prepared, [FEW, FEW])
        with pytest.raises(ValueError, match="at least one instance"):
            model.decode_clicks(prepared, [clicks((3, 4, 0))])
        decoded = model.decode_clicks(prepared, [FEW])
    assert decoded.final.logits.shape == (1, 3, 16, 16)
    assert prepared.nbytes > 0
    assert model.device == torch.device("cpu")


def test_gradients_reach_every_trainable_parameter() -> None:
    model = DynaMITe(SMALL_LITE.replace(pixel_decoder="fpn", pixel_decoder_layers=1)).train()
    torch.nn.init.normal_(model.transformer.refine.out.weight)  # type: ignore[union-attr]
    decoded = model(torch.randn(1, 3, 64, 64), [MANY])
    loss = sum(p.logits.square().mean() for p in (decoded.final, *decoded.auxiliary))
    loss.backward()  # type: ignore[union-attr]
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert missing == []


def test_presets_are_named_and_survive_a_round_trip() -> None:
    assert set(PRESETS) == {
        "swin-tiny",
        "swin-large",
        "segformer-b0",
        "hrnet32",
        "resnet50",
        "lite",
    }
    for config in PRESETS.values():
        assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="Did you mean 'swin-tiny'"):
        get_config("swin-tinny")
    with pytest.raises(ValueError, match="hidden_dim"):
        SMALL.replace(hidden_dim=30)
    with pytest.raises(ValueError, match="encoder_layers"):
        SMALL.replace(encoder_layers=0)
