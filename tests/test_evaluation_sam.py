"""Segment-anything models as something to evaluate: tiny random ones, without network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_pictures import write_data

from dynamite_widget.errors import CheckpointError
from dynamite_widget.evaluation.baselines import make_baseline
from dynamite_widget.evaluation.multi import MultiInstanceAdapter
from dynamite_widget.evaluation.runner import RunSettings, run_evaluation
from dynamite_widget.evaluation.sam import SamPredictor
from dynamite_widget.session import Click

SIZE = 64


@pytest.fixture(scope="module", autouse=True)
def transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", exc_type=ImportError)


@pytest.fixture(scope="module")
def folder(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SAM with random weights, as ``save_pretrained`` writes it."""
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 16,
            "output_channels": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": SIZE,
            "patch_size": 8,
            "mlp_dim": 32,
            "window_size": 4,
            "num_pos_feats": 8,
            "global_attn_indexes": [0],
        },
        prompt_encoder_config={
            "hidden_size": 16,
            "image_size": SIZE,
            "patch_size": 8,
            "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    torch.manual_seed(0)
    processor = transformers.SamProcessor(
        transformers.SamImageProcessor(
            size={"longest_edge": SIZE}, pad_size={"height": SIZE, "width": SIZE}
        )
    )
    path = tmp_path_factory.mktemp("sam")
    transformers.SamModel(config).save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def sam(folder: Path) -> SamPredictor:
    return SamPredictor.from_pretrained(str(folder), "cpu")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (48, 96, 3)).astype(np.uint8)


CLICKS = (
    Click(x=10, y=10, instance=1, t=0),
    Click(x=60, y=30, instance=0, t=1),
    Click(x=20, y=40, instance=1, t=2),
)


def test_clicks_reach_the_model_in_its_own_pixels(
    sam: SamPredictor, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    forward = sam.model.forward

    def record(**inputs: Any) -> Any:
        asked.append(inputs)
        return forward(**inputs)

    monkeypatch.setattr(sam.model, "forward", record)
    embedding = sam.embed(image)
    for count in (1, 2, 3):
        labels = sam.predict(embedding, CLICKS[:count], (1,))
        assert labels.shape == image.shape[:2]
        assert set(np.unique(labels)) <= {0, 1}
    # 96 x 48 pixels become 64 x 32; only the last click of each list is computed
    assert [call["input_points"].shape[2] for call in asked] == [1, 2, 3]
    expected = [[c.x * 64 / 96, c.y * 32 / 48] for c in CLICKS]
    assert asked[-1]["input_points"][0, 0].tolist() == pytest.approx(np.array(expected))
    assert asked[-1]["input_labels"][0, 0].tolist() == [1, 0, 1]
    assert [call["multimask_output"] for call in asked] == [True, False, False]
    assert asked[0]["input_masks"] is None
    assert asked[1]["input_masks"].shape == (1, 1, 32, 32)


def test_the_best_of_several_masks_is_taken(sam: SamPredictor, image: np.ndarray) -> None:
    embedding = sam.embed(image)
    points = torch.tensor([[[[10 * 64 / 96, 10 * 64 / 96]]]])
    with torch.inference_mode():
        output = sam.model(
            image_embeddings=embedding.features,
            input_points=points,
            input_labels=torch.ones(1, 1, 1, dtype=torch.int64),
        )
    best = int(output.iou_scores[0, 0].argmax())
    masks = sam.processor.post_process_masks([output.pred_masks[0]], **embedding.sizes)[0]
    labels = sam.predict(embedding, CLICKS[:1], (1,))
    np.testing.assert_array_equal(labels == 1, np.asarray(masks[0, best]))


def test_a_pure_function_of_the_clicks(sam: SamPredictor, image: np.ndarray) -> None:
    first = sam.predict(sam.embed(image), CLICKS, (1,))
    embedding = sam.embed(image)
    for count in (3, 1, 2):
        sam.predict(embedding, CLICKS[:count], (1,))
    np.testing.assert_array_equal(sam.predict(embedding, CLICKS, (1,)), first)
    other = [Click(x=c.x, y=c.y, instance=7 * c.instance, t=c.t) for c in CLICKS]
    np.testing.assert_array_equal(sam.predict(embedding, other, (7,)), first * 7)
    assert not sam.predict(embedding, CLICKS[1:2], (1,)).any()
    with pytest.raises(ValueError, match="MultiInstanceAdapter"):
        sam.predict(embedding, CLICKS, (1, 2))


def test_sam2(transformers: Any, image: np.ndarray) -> None:
    config = transformers.Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 8,
                "image_size": [128, 128],
                "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 2, 2],
                "global_attention_blocks": [3],
            },
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 128, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    torch.manual_seed(0)
    size = {"height": 128, "width": 128}
    processor = transformers.Sam2Processor(transformers.Sam2ImageProcessor(size=size))
    sam2 = SamPredictor(transformers.Sam2Model(config), processor, "cpu")
    embedding = sam2.embed(image)
    assert embedding.scale == pytest.approx((128 / 96, 128 / 48))
    for count in (1, 3):
        labels = sam2.predict(embedding, CLICKS[:count], (1,))
        assert labels.shape == image.shape[:2]


def test_several_objects_by_name(folder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", pictures=1, size=(48, 64))
    settings = RunSettings(
        f"coco:{data / 'train.json'}",
        "mist",
        strategy="best",
        baseline=f"sam:{folder}",
        budget=2,
        device="cpu",
    )
    result = run_evaluation(settings, tmp_path / "out")
    assert result.summary["objects"] == 3
    assert 3 <= result.records[0]["n_clicks"] <= 6
    with pytest.raises(ValueError, match="sam:MODEL"):
        RunSettings("x", baseline="snake")


def test_names(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make_baseline(f"sam:{folder}", multi_instance=True, device="cpu")
    assert isinstance(adapter, MultiInstanceAdapter)
    with pytest.raises(ValueError, match="sam:MODEL"):
        make_baseline("sam:")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="'bert' model; expected one of sam, sam2"):
        make_baseline(f"sam:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        make_baseline(f"sam:{tmp_path}")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"dynamite-widget\[sam\]"):
        make_baseline(f"sam:{folder}")
