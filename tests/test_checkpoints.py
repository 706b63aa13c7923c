"""Weights from files: safety, strictness, round trips, sharing; no network, tiny models."""

from __future__ import annotations

import json
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from dynamite_widget.errors import CheckpointError
from dynamite_widget.model import checkpoints, config, conversion, download
from dynamite_widget.model.checkpoints import (
    clear_model_cache,
    load_model,
    model_hash,
    read_checkpoint,
    save_checkpoint,
)
from dynamite_widget.model.config import ModelConfig
from dynamite_widget.model.conversion import from_reference, load_strictly, to_reference
from dynamite_widget.model.dynamite import build_model
from dynamite_widget.model.structures import ClickTensors

TINY = ModelConfig(
    "tiny",
    "mit_b0",
    hidden_dim=32,
    heads=4,
    pixel_decoder_layers=1,
    pixel_decoder_ffn=16,
    pixel_decoder_points=2,
    encoder_layers=3,
    encoder_ffn=16,
    decoder_layers=1,
    decoder_ffn=16,
    static_queries=2,
)
OTHER = TINY.replace(name="other", encoder_layers=2)


@pytest.fixture(autouse=True)
def _presets(monkeypatch, tmp_path):
    presets = {"tiny": TINY, "other": OTHER, "lite": config.PRESETS["lite"]}
    monkeypatch.setattr(config, "PRESETS", presets)
    monkeypatch.setattr(conversion, "PRESETS", {"tiny": TINY, "other": OTHER})
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "cache"))
    clear_model_cache()
    yield
    clear_model_cache()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return build_model(TINY).eval()


@pytest.fixture
def authors_file(model, tmp_path):
    path = tmp_path / "authors.pth"
    torch.save({"model": to_reference(model), "trainer": {"iteration": 7}, "iteration": 7}, path)
    return path


def same_weights(a, b) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# ---- files ---------------------------------------------------------------------------------------


def test_our_own_file_brings_its_configuration(model, tmp_path):
    ablated = build_model(TINY.replace(decoder_layers=0, static_queries=0, positional="temporal"))
    path = save_checkpoint(ablated, tmp_path / "new" / "a.safetensors", {"step": 3, "by": "me"})
    content = read_checkpoint(path)
    assert content.config == ablated.config
    assert content.metadata == {"format": "dynamite-widget", "step": 3, "by": "me"}
    loaded = load_model(checkpoint=path, device="cpu")
    assert loaded.config == ablated.config
    assert same_weights(loaded, ablated)
    assert not loaded.training
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"], "no temporary file left"


def test_half_precision_file_is_smaller_and_keeps_vectors(model, tmp_path):
    full = save_checkpoint(model, tmp_path / "full.safetensors")
    half = save_checkpoint(model, tmp_path / "half.safetensors", half=True)
    assert half.stat().st_size < 0.6 * full.stat().st_size
    loaded = load_model("tiny", half, "cpu")
    for key, value in model.state_dict().items():
        found = loaded.state_dict()[key]
        assert found.dtype == torch.float32
        expected = value.half().float() if value.ndim > 1 else value
        assert torch.equal(found, expected), key


def test_a_failed_save_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = save_checkpoint(model, tmp_path / "a.safetensors", {"n": 1})

    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(model, path, {"n": 2})
    assert read_checkpoint(path).metadata["n"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_configuration_of_the_future_is_named(model, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    fields = json.dumps({**TINY.to_dict(), "quantum_layers": 3})
    save_file(model.state_dict(), path, {"config": fields})
    with pytest.raises(CheckpointError, match=r"quantum_layers.*newer dynamite-widget"):
        read_checkpoint(path)


def test_authors_checkpoint(model, authors_file):
    assert same_weights(load_model("tiny", authors_file, "cpu"), model)


def test_detectron2_pickle_of_arrays(model, tmp_path):
    arrays = {key: value.numpy() for key, value in to_reference(model).items()}
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "someone"}, protocol=2))
    assert same_weights(load_model("tiny", path, "cpu"), model)
    path.write_bytes(pickle.dumps({"model": arrays}, protocol=4))
    with pytest.raises(CheckpointError, match=r"refused.*\(Unsupported operand"):
        read_checkpoint(path)


def test_checkpoint_with_numpy_numbers_in_its_trainer(model, tmp_path):
    path = tmp_path / "a.pth"
    trainer = {"loss": np.float64(1.5), "history": np.arange(3)}
    torch.save({"model": to_reference(model), "trainer": trainer}, path)
    assert same_weights(load_model("tiny", path, "cpu"), model)


@pytest.mark.parametrize("legacy", [False, True])
def test_our_names_in_a_torch_file(model, tmp_path, legacy):
    path = tmp_path / "a.pt"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    assert same_weights(load_model("tiny", path, "cpu"), model)


# ---- safety --------------------------------------------------------------------------------------


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "pickle protocol 0"])
def test_a_malicious_pickle_executes_nothing(model, tmp_path, kind):
    target, path = tmp_path / "owned", tmp_path / "evil.pth"
    state, evil = to_reference(model), Malicious(target)
    if kind.startswith("pickle"):
        arrays = {key: value.numpy() for key, value in state.items()}
        protocol = 0 if kind.endswith("0") else 4
        path.write_bytes(pickle.dumps({"model": arrays, "trainer": evil}, protocol=protocol))
    else:
        content = {"model": state, "trainer": evil}
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    reason = r"refused.*(mkdir|Unsupported operand)"
    with pytest.raises(CheckpointError, match=reason):
        load_model("tiny", path, "cpu")
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 not a zip", b"<html>sign in</html>", b"\x80\x04garbage", b"12345678{broken"],
)
def test_damaged_files_are_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged|refused"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], {"model": {"a": "text"}}, {}, {"a": 1}])
def test_files_without_weights_are_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"state dict|no weights"):
        read_checkpoint(path)


def test_truncated_file(authors_file):
    authors_file.write_bytes(authors_file.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(authors_file)


# ---- strictness ----------------------------------------------------------------------------------


def test_missing_unexpected_and_misshapen_entries_are_named(model):
    state = {key: value.clone() for key, value in to_reference(model).items()}
    head = "sem_seg_head.interactive_transformer"
    del state[f"{head}.query_embed"], state["backbone.norm1.bias"]
    state["backbone.head.weight"] = torch.zeros(3)
    state[f"{head}.static_bg_pe"] = torch.zeros(9, 32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_strictly(model, state, "x.pth")
    text = str(caught.value)
    assert "x.pth does not fit preset 'tiny'" in text
    assert "2 missing: backbone.norm1.bias" in text
    assert f"{head}.query_embed" in text
    assert "1 unexpected: backbone.head.weight" in text
    assert f"1 of another shape: {head}.static_bg_pe is 9x32, expected 2x32" in text
    assert "No preset has exactly these entries" in text
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before), "nothing was copied"


def test_the_fitting_preset_is_named(authors_file):
    with pytest.raises(CheckpointError, match="fits preset 'tiny'"):
        load_model("other", authors_file, "cpu")


def test_our_file_of_another_preset_is_refused(model, tmp_path):
    path = save_checkpoint(model, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="holds preset 'tiny', not 'other'"):
        load_model("other", path, "cpu")


def test_a_wrong_index_table_is_noticed(model, monkeypatch):
    constants = {"index": torch.arange(4)}
    monkeypatch.setattr(model.backbone, "reference_constants", lambda: constants)
    state = to_reference(model)
    assert "backbone.index" in state
    assert set(from_reference(model, state)) == set(model.state_dict())
    state["backbone.index"] = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(CheckpointError, match=r"backbone\.index"):
        from_reference(model, state)


# ---- finding weights -----------------------------------------------------------------------------


def test_lite_without_bundled_weights_says_so(monkeypatch):
    monkeypatch.setattr(checkpoints, "bundled_weights", lambda name: None)
    with pytest.raises(CheckpointError, match=r"not bundled in this build.*dynamite train"):
        load_model("lite", device="cpu")


def test_published_preset_without_file_explains_the_download(tmp_path, monkeypatch):
    monkeypatch.setitem(config.PRESETS, "swin-tiny", TINY)
    with pytest.raises(CheckpointError, match="dynamite download swin-tiny") as caught:
        load_model("swin-tiny")
    assert str(tmp_path / "cache") in str(caught.value)
    assert "dynamite_swin_tiny_bs32_ep50.pth" in str(caught.value)


def test_a_published_file_in_the_cache_is_used(model, authors_file, monkeypatch):
    monkeypatch.setitem(config.PRESETS, "swin-tiny", TINY.replace(name="swin-tiny"))
    folder = download.cache_dir()
    folder.mkdir()
    authors_file.rename(folder / "dynamite_swin_tiny_bs32_ep50.pth")
    assert same_weights(load_model("swin-tiny", device="cpu"), model)


def test_bundled_weights_are_found_by_name(tmp_path, monkeypatch):
    package = tmp_path / "package"
    monkeypatch.setattr(checkpoints, "__file__", str(package / "model" / "checkpoints.py"))
    assert checkpoints.bundled_weights("lite") is None
    (package / "weights").mkdir(parents=True)
    (package / "weights" / "lite.safetensors").touch()
    found = checkpoints.bundled_weights("lite")
    assert found == (package / "weights" / "lite.safetensors").resolve()


def test_wrong_arguments(authors_file, tmp_path):
    with pytest.raises(ValueError, match="unknown preset 'tyni'"):
        load_model("tyni")
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        load_model("tiny", tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        load_model("tiny", authors_file, device="gpu")
    with pytest.raises(ValueError, match="dtype must be one of float32"):
        load_model("tiny", authors_file, dtype="float8")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"not available here; there is: .*cpu"):
            load_model("tiny", authors_file, device="cuda")


# ---- sharing -------------------------------------------------------------------------------------


def test_one_network_for_all_who_ask(authors_file, monkeypatch):
    loads = []
    original = checkpoints._load

    def counted(*arguments):
        loads.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(checkpoints, "_load", counted)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(load_model("tiny", authors_file, "cpu")))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len(found) == 10
    assert len({id(network) for network in found}) == 1


def test_a_changed_file_is_loaded_again_and_the_old_network_forgotten(model, tmp_path):
    path = save_checkpoint(model, tmp_path / "a.safetensors")
    first = load_model("tiny", path, "cpu")
    changed = build_model(TINY)
    save_checkpoint(changed, path, {"longer": "so that the size differs too"})
    second = load_model("tiny", path, "cpu")
    assert second is not first
    assert same_weights(second, changed)
    assert len(checkpoints._models) == 1


def test_device_and_dtype_are_separate_networks(authors_file):
    single = load_model("tiny", authors_file, "cpu")
    half = load_model("tiny", authors_file, "cpu", dtype="bfloat16")
    assert load_model("tiny", authors_file, "cpu", dtype=torch.float32) is single
    assert half is not single
    assert next(half.backbone.parameters()).dtype == torch.bfloat16
    assert {p.dtype for p in half.transformer.parameters()} == {torch.float32}
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    clicks = [ClickTensors(torch.tensor([[30.0, 40.0]]), torch.tensor([0]), torch.tensor([1]))]
    with torch.inference_mode():
        expected = single(pixels, clicks).final.logits
        found = half(pixels.bfloat16(), clicks).final.logits
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.2 * expected.abs().mean()


def test_hash_depends_on_the_weights_alone(model, authors_file, tmp_path):
    path = save_checkpoint(model, tmp_path / "a.safetensors", {"step": 1})
    first, second = load_model("tiny", path, "cpu"), load_model("tiny", authors_file, "cpu")
    assert len(str(first.checkpoint_hash)) == 64
    assert first.checkpoint_hash == second.checkpoint_hash == model_hash(model)
    other = build_model(TINY)
    assert model_hash(other) != first.checkpoint_hash
