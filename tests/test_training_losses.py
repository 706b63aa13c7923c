"""Losses and gradients: the golden training step, and properties of the pieces."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "golden"))
import golden_rule
import parity

from dynamite_widget.model.structures import ClickTensors, Decoded, Prediction
from dynamite_widget.training.initialise import freeze, training_mode
from dynamite_widget.training.losses import (
    LossConfig,
    Targets,
    fuse_by_instance,
    sample_at,
    segmentation_loss,
)
from dynamite_widget.training.recipes import get_recipe

TRAIN = Path(__file__).resolve().parent / "golden" / "golden_train_mitb0.npz"


def _generators(count):
    return [torch.Generator().manual_seed(i) for i in range(count)]


def _golden_targets():
    y, x = np.mgrid[0:192, 0:256]
    label_map = np.zeros((2, 192, 256), np.uint8)
    label_map[0][(y - 58) ** 2 + (x - 64) ** 2 <= 38**2] = 1
    label_map[0][(y - 115) ** 2 + (x - 153) ** 2 <= 48**2] = 2
    label_map[1][(y > 40) & (y < 120) & (x > 30) & (x < 200)] = 1
    valid = np.ones((2, 192, 256), bool)
    valid[1, :, -16:] = False
    return Targets(
        torch.from_numpy(label_map), torch.from_numpy(valid), [2, 1], None, _generators(2)
    )


def _clicks(rows):
    table = torch.tensor(rows)
    return ClickTensors(table[:, :2].float(), table[:, 2], table[:, 3])


@pytest.fixture(scope="module")
def golden_step():
    from dynamite_widget.model.conversion import reference_keys

    stored = np.load(TRAIN)
    model = parity.filled_model("segformer-b0")
    recipe = get_recipe("segformer-b0")
    training_mode(model, recipe.optimiser)
    model.backbone.eval()  # no stochastic depth
    freeze(model, recipe.optimiser)
    first = golden_rule.image(192, 256)
    pictures = np.stack([first, first[::-1, ::-1]])
    config = model.config
    mean, std = torch.tensor(config.pixel_mean), torch.tensor(config.pixel_std)
    pixels = ((torch.from_numpy(pictures.copy()).float() - mean) / std).permute(0, 3, 1, 2)
    clicks = [
        _clicks([[58, 64, 0, 1], [70, 50, 1, 1], [115, 153, 2, 2], [180, 20, 3, 0]]),
        _clicks([[80, 110, 0, 1]]),
    ]
    prepared = model.prepare(model.encode_image(pixels))
    decoded = model.decode_clicks(prepared, clicks, all_predictions=True)
    drawn = golden_rule.unit("points", 5 * 12544 * 2).reshape(5, 12544, 2)
    points = torch.from_numpy((drawn / golden_rule.SQRT3 + 1) / 2).float()
    total, terms = segmentation_loss(decoded, _golden_targets(), recipe.loss, fixed_points=points)
    total.backward()
    gradients = {
        reference: model.get_parameter(ours).grad
        for ours, reference in reference_keys(model).items()
        if ours in dict(model.named_parameters())
    }
    return stored, float(total.detach()), terms, gradients


def test_golden_loss_terms(golden_step):
    stored, total, terms, _ = golden_step
    expected = {
        key.removeprefix("loss/loss_"): float(stored[key])
        for key in stored.files
        if key.startswith("loss/loss_")
    }
    assert {k: float(v) for k, v in terms.items()} == pytest.approx(expected, rel=1e-4)
    assert total == pytest.approx(float(stored["loss/total"]), rel=1e-4)


def test_golden_gradients(golden_step):
    stored, _, _, gradients = golden_step
    names = sorted(
        {
            key[5:].rsplit("/", 1)[0]
            for key in stored.files
            if key.endswith("/sub") and key.startswith("grad/")
        }
    )
    assert len(names) == 13
    for name in names:
        expected = stored[f"grad/{name}/sub"]
        gradient = gradients[name].reshape(-1).numpy()
        found = gradient[golden_rule.sub_idx(gradient.size, len(expected))]
        assert np.abs(found - expected).max() <= 2e-3 * np.abs(expected).max(), name
    norm = torch.stack([g.norm() for g in gradients.values() if g is not None]).norm()
    assert float(norm) == pytest.approx(float(stored["grad/total_norm"]), rel=1e-3)


def test_golden_parameters_without_gradient(golden_step):
    stored, _, _, gradients = golden_step
    without = {name for name, g in gradients.items() if g is None or not bool(g.any())}
    assert set(stored["grad/none_keys"].tolist()) <= without


def test_fusing_takes_the_maximum_and_its_gradient_arrives_once():
    logits = torch.randn(2, 4, 5, 6, requires_grad=True)
    owners = torch.tensor([[1, 1, 2, 0], [1, 0, 0, -1]])
    fused, present = fuse_by_instance(Prediction(logits, owners), [2, 1])
    assert present.tolist() == [[True, True, True], [True, False, True]]
    torch.testing.assert_close(fused[0, 0], logits[0, :2].amax(dim=0))
    torch.testing.assert_close(fused[1, 2], logits[1, 1:3].amax(dim=0))
    fused[0, 1].sum().backward()  # instance 2 of the first picture owns one channel
    assert logits.grad is not None
    assert float(logits.grad[0, 2].sum()) == pytest.approx(30.0)
    assert float(logits.grad.sum()) == pytest.approx(30.0)


def test_samples_at_pixel_centres_are_the_pixels():
    maps = torch.arange(12.0).view(1, 1, 3, 4)
    points = torch.tensor([[[0.125, 1 / 6], [0.875, 5 / 6]]])
    torch.testing.assert_close(sample_at(maps, points)[0, 0], torch.tensor([0.0, 11.0]))


SHARED = LossConfig(
    sampling="shared",
    points=256,
    importance=0.5,
    boundary_points=0,
    click_points=32,
    auxiliary_points=128,
    mask=1.0,
    dice=1.0,
    softmax=1.0,
    click_weight=2.0,
)


def _perfect(label_map, sign=1.0):
    """Logits (1, C, h, w) that say what a label map says, at its own size."""
    count = int(label_map.max())
    ids = [*range(1, count + 1), 0]
    maps = torch.stack([(label_map == k).float() * 20 - 10 for k in ids])
    return Prediction(maps[None] * sign, torch.tensor([ids]))


def _square_targets(valid=None):
    label_map = torch.zeros(1, 32, 32, dtype=torch.uint8)
    label_map[:, 4:16, 4:16] = 1
    label_map[:, 18:30, 10:30] = 2
    valid = torch.ones(1, 32, 32, dtype=torch.bool) if valid is None else valid
    points = torch.rand(1, 256, 2, generator=torch.Generator().manual_seed(3))
    return Targets(label_map, valid, [2], points, _generators(1))


@pytest.mark.parametrize("config", [SHARED, LossConfig(points=256)], ids=["shared", "paper"])
def test_the_right_answer_costs_next_to_nothing(config):
    targets = _square_targets()
    clicks = [torch.tensor([[8.0, 8.0], [20.0, 20.0]])]
    right = Decoded(_perfect(targets.label_map[0]), (_perfect(targets.label_map[0]),))
    wrong = Decoded(_perfect(targets.label_map[0], -1.0))
    low, terms = segmentation_loss(right, targets, config, clicks=clicks)
    high, _ = segmentation_loss(wrong, _square_targets(), config, clicks=clicks)
    # bilinear samples at outlines keep it from zero
    assert float(low) < 0.15 * float(high)
    assert "mask_0" in terms


def test_shared_points_on_padding_do_not_count():
    valid = torch.ones(1, 32, 32, dtype=torch.bool)
    valid[:, :, 24:] = False
    targets = _square_targets(valid)
    clicks = [torch.tensor([[8.0, 8.0], [20.0, 14.0]])]
    prediction = _perfect(targets.label_map[0])
    noisy = prediction.logits.clone()
    noisy[..., 26:] = 50.0 * torch.randn(1, 3, 32, 6, generator=torch.Generator().manual_seed(1))
    config = LossConfig(**{**SHARED.__dict__, "importance": 0.0, "click_points": 0})
    with_noise = Decoded(Prediction(noisy, prediction.channel_instance))
    clean, _ = segmentation_loss(Decoded(prediction), targets, config, clicks=clicks)
    dirty, _ = segmentation_loss(with_noise, targets, config, clicks=clicks)
    assert float(dirty) == pytest.approx(float(clean), abs=1e-4)


def test_only_every_other_earlier_prediction():
    targets = _square_targets()
    one = _perfect(targets.label_map[0])
    config = LossConfig(points=64, auxiliary_every=2)
    _, terms = segmentation_loss(Decoded(one, (one,) * 5), targets, config)
    assert {k for k in terms if k.startswith("mask")} == {"mask", "mask_0", "mask_2", "mask_4"}
