"""The network gives the published numbers: golden vectors of all five presets, every stage."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "golden"))
import golden_rule
import parity

from dynamite_widget.model.deformable import deformable_attention
from dynamite_widget.model.position import sine_code_1d, sine_code_2d
from dynamite_widget.model.queries import sample_descriptors

PRESETS = [
    pytest.param(name, marks=pytest.mark.slow) if name == "swin-large" else name
    for name in parity.PRESETS
]
CASES = [
    pytest.param(
        name, case, marks=[pytest.mark.slow] if case == "B" or name == "swin-large" else []
    )
    for name in parity.PRESETS
    for case in ("A", "B")
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("preset", "case"), CASES)
def test_every_stage_of_every_round(preset, case, record_property, capsys):
    measured = parity.measure(preset, case)
    deviations = measured.deviations
    worst = parity.largest(deviations)
    summary = ", ".join(f"{kind} {d.largest:.1e}" for kind, d in worst.items())
    summary += f", {measured.tipped_bits} mask bits tipped"
    record_property("deviations", summary)
    with capsys.disabled():
        print(f"\n  {preset} {case}: {summary}", end=" ")
    expected = {
        name.removesuffix("/sub")
        for name in parity.golden(parity.PRESETS[preset])
        if name.startswith(f"{case}/")
        and name.endswith(("/sub", "_full", "_f16", "label_map", "quantiles"))
        and "net_image" not in name
    }
    assert set(deviations) == expected, "every stored array is compared"
    assert not parity.excesses(case, deviations)
    assert measured.tipped_bits <= 12, "of several million"


@pytest.mark.parametrize("preset", PRESETS)
def test_key_sets_in_both_directions(preset):
    from dynamite_widget.model.config import get_config
    from dynamite_widget.model.conversion import (
        fitting_presets,
        from_reference,
        reference_keys,
        to_reference,
    )
    from dynamite_widget.model.dynamite import build_model

    with torch.device("meta"):
        model = build_model(get_config(preset))
    entries = parity.reference_entries(parity.PRESETS[preset])
    exported = to_reference(model)
    assert set(exported) == set(entries)
    names = reference_keys(model)
    trainable = {names[ours]: p.requires_grad for ours, p in model.named_parameters()}
    for key, (shape, dtype, kind) in entries.items():
        assert tuple(exported[key].shape) == shape, key
        assert str(exported[key].dtype) == f"torch.{dtype}", key
        assert trainable.get(key) == {"param": True, "frozen_param": False, "buffer": None}[kind]

    imported = from_reference(model, exported)
    assert set(imported) == set(names) == set(model.state_dict())
    assert fitting_presets(exported) == [preset] == fitting_presets(model.state_dict())


def test_the_fill_is_the_golden_one():
    import zlib

    from dynamite_widget.model.conversion import to_reference

    state = to_reference(parity.filled_model("segformer-b0"))
    crc = 0
    for key in sorted(state):
        if state[key].is_floating_point():
            crc = zlib.crc32(state[key].numpy().tobytes(), crc)
    assert crc == parity.golden(parity.PRESETS["segformer-b0"])["meta/fill_crc32"]


def test_predictor_gives_the_golden_label_maps(monkeypatch):
    from dynamite_widget.model.predictor import Predictor
    from dynamite_widget.session import Click

    model = parity.filled_model("segformer-b0")
    monkeypatch.setattr(model, "config", parity.case_config(model.config, "A"))
    predictor = Predictor(model, exact=True)
    embedding = predictor.embed(golden_rule.image(*golden_rule.CASES["A"][:2]))
    expected = parity.golden(parity.PRESETS["segformer-b0"])
    for number in range(parity.ROUNDS):
        clicks = [Click(*row) for row in parity.clicks_until("A", number)]
        labels = predictor.predict(embedding, clicks).label_map
        wrong = (labels != expected[f"A/round{number}/label_map"]).mean()
        assert wrong <= parity.LIMITS["A"]["labels"].largest


# ---- unit vectors --------------------------------------------------------------------------------


def units():
    return parity.golden_train()


@pytest.mark.parametrize(("height", "width"), [(7, 11), (25, 36)])
def test_sine_code_of_cells(height, width):
    compare = parity.Comparison(units())
    compare.array(f"unit/pe2d_{height}x{width}", sine_code_2d(height, width, 256))
    assert compare.deviations.popitem()[1].largest < 1e-6


def test_sine_code_of_clicks():
    values = torch.from_numpy(units()["unit/st_in"])
    padding = values[..., :1] < 0
    found = torch.where(padding, 0.0, sine_code_1d(values).flatten(-2))
    torch.testing.assert_close(found, torch.from_numpy(units()["unit/st_out"]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("gradient", [False, True])
def test_deformable_attention(gradient):
    shapes = [(3, 4), (6, 8), (12, 16)]

    def tensor(name, *shape):
        return torch.from_numpy(golden_rule.unit(name, math.prod(shape)).reshape(shape))

    value = tensor("msda_value", 1, 252, 8, 32).float().requires_grad_(gradient)
    locations = (0.6 * tensor("msda_loc", 1, 252, 8, 3, 4, 2) / math.sqrt(3) + 0.5).float()
    weights = tensor("msda_w", 1, 252, 8, 12).softmax(-1).float().view(1, 252, 8, 3, 4)
    found = deformable_attention(value, shapes, locations, weights)[0, ::3].detach()
    expected = torch.from_numpy(units()["unit/msda_out"])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_click_descriptors():
    shapes = [(3, 4), (6, 8), (12, 16)]
    maps = [
        torch.from_numpy(golden_rule.unit(f"feat{i}", 256 * h * w)).float().view(1, 256, h, w)
        for i, (h, w) in enumerate(shapes)
    ]
    yx = torch.tensor([[[0, 0], [50.5, 20.25], [95, 127], [40, 0]]])
    found = sample_descriptors(maps, yx, (96, 128))[0]
    expected = torch.from_numpy(units()["unit/desc_out"])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
