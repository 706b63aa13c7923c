"""The network gives the published numbers: golden vectors of all five presets, every stage."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "golden"))
import golden_rule
import parity

PRESETS = [
    pytest.param(name, marks=pytest.mark.slow) if name == "swin-large" else name
    for name in parity.PRESETS
]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("case", ["A", "B"])
def test_every_stage_of_every_round(preset, case, record_property, capsys):
    deviations = parity.measure(preset, case)
    worst = parity.largest(deviations)
    summary = ", ".join(f"{kind} {d.largest:.1e}" for kind, d in worst.items())
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
    for key, (shape, dtype, kind) in entries.items():
        value = exported[key]
        assert tuple(value.shape) == shape, key
        assert str(value.dtype) == f"torch.{dtype}", key
        trainable = {
            reference: model.get_parameter(ours).requires_grad
            for ours, reference in reference_keys(model).items()
            if reference == key and ours in dict(model.named_parameters())
        }
        assert trainable == ({} if kind == "buffer" else {key: kind == "param"}), key

    names = set(reference_keys(model))
    imported = from_reference(model, exported)
    assert set(imported) == names == set(model.state_dict())
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
    predictor = Predictor(model)
    embedding = predictor.embed(golden_rule.image(*golden_rule.CASES["A"][:2]))
    expected = parity.golden(parity.PRESETS["segformer-b0"])
    for number in range(parity.ROUNDS):
        clicks = [Click(*row) for row in parity.clicks_until("A", number)]
        labels = predictor.predict(embedding, clicks).label_map
        wrong = (labels != expected[f"A/round{number}/label_map"]).mean()
        assert wrong <= parity.LIMITS["A"]["labels"].largest
