"""Embeddings on disk: exact, within the budget, of no harm when damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotator_sets import annotate, make_pictures

from dynamite_widget.annotator import EmbeddingStore, precompute
from dynamite_widget.annotator.embeddings import DiskBackedCache, cache_for
from dynamite_widget.model.checkpoints import load_model
from dynamite_widget.model.predictor import Predictor
from dynamite_widget.network import embedding_key
from dynamite_widget.picture import load_picture
from dynamite_widget.session import Click


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(load_model("lite", device="cpu"))


@pytest.fixture(scope="module")
def embedding(predictor: Predictor) -> Any:
    return predictor.embed(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))


KEY = ("picture", "weights|cpu|torch.float32")


def test_comes_back_exactly(tmp_path: Path, predictor: Predictor, embedding: Any) -> None:
    store = EmbeddingStore(tmp_path / "new")
    assert store.get(KEY) is None
    assert store.put(KEY, embedding)
    assert KEY in store
    again: Any = store.get(KEY)
    assert again.config == embedding.config
    assert again.nbytes == embedding.nbytes
    clicks = [Click(10, 10, 1), Click(50, 30, 2), Click(5, 35, 0)]
    first, second = (predictor.predict(e, clicks) for e in (embedding, again))
    assert np.array_equal(first.label_map, second.label_map)
    assert torch.equal(again.prepared.keys[0], embedding.prepared.keys[0])
    assert store.get(("picture", "other weights|cpu|torch.float32")) is None


def test_budget_drops_what_was_not_used_for_longest(tmp_path: Path, embedding: Any) -> None:
    probe = EmbeddingStore(tmp_path / "probe")
    probe.put(KEY, embedding)
    size = probe.size_bytes
    store = EmbeddingStore(tmp_path / "store", budget_bytes=int(2.5 * size))
    keys = [(f"picture {n}", KEY[1]) for n in range(3)]
    for number, key in enumerate(keys[:2]):
        assert store.put(key, embedding)
        os.utime(store.path(key), (number, number))
    (tmp_path / "store" / "mine.txt").touch()
    assert store.get(keys[0]) is not None  # used last
    assert store.put(keys[2], embedding)
    assert [key in store for key in keys] == [True, False, True]
    assert store.size_bytes <= store.budget_bytes
    store.clear()
    assert len(store) == 0
    assert (tmp_path / "store" / "mine.txt").exists()
    assert not EmbeddingStore(tmp_path / "small", budget_bytes=10).put(KEY, embedding)
    with pytest.raises(ValueError, match="budget"):
        EmbeddingStore(tmp_path, budget_bytes=-1)


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\x00" * 200])
def test_damaged_file_is_computed_again(tmp_path: Path, embedding: Any, damage: bytes) -> None:
    store = EmbeddingStore(tmp_path)
    store.put(KEY, embedding)
    store.path(KEY).write_bytes(damage)
    cache = DiskBackedCache(store)
    assert cache.acquire(KEY, lambda: "computed") == "computed"


def test_precompute_then_annotate_without_embedding(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = make_pictures(tmp_path / "pictures", "a.png b.png c.png")
    (pictures / "bad.png").touch()
    folder = tmp_path / "out" / "embeddings"
    done = precompute(pictures, folder, predictor=predictor)
    assert (done.computed, done.known, list(done.unreadable)) == (3, 0, ["bad.png"])
    assert precompute(pictures, folder, predictor=predictor).known == 3
    small = precompute(
        pictures, tmp_path / "less", predictor=predictor, budget_bytes=done.size_bytes // 2
    )
    assert (small.computed, small.left_out) == (1, 2)

    def embed(*_: Any) -> Any:
        raise AssertionError("it is on the disk")

    monkeypatch.setattr(predictor, "embed", embed)
    with annotate(tmp_path, predictor=predictor) as annotator:
        item = annotator.open("b.png")
        item.click(3, 3)
        assert item.label_map.shape == (20, 30)
    picture = load_picture(pictures / "a.png")
    assert embedding_key(picture, predictor) in cache_for(folder).store


def test_precompute_in_batches(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on accelerators; what does not fit into the budget ends it, within a batch too."""
    pictures = make_pictures(tmp_path / "pictures", "a.png b.png c.png d.png e.png")
    one = precompute(pictures, tmp_path / "one", predictor=predictor)
    batches: list[int] = []
    many = Predictor.embed_many

    def noting(self: Predictor, images: Any) -> Any:
        batches.append(len(images))
        return many(self, images)

    monkeypatch.setattr(Predictor, "batch_size", 2)
    monkeypatch.setattr(Predictor, "embed_many", noting)
    done = precompute(pictures, tmp_path / "two", predictor=predictor)
    assert (done.computed, done.size_bytes) == (5, one.size_bytes)
    assert batches == [2, 2]
    budget = int(one.size_bytes * 3.5 / 5)
    small = precompute(pictures, tmp_path / "less", predictor=predictor, budget_bytes=budget)
    assert (small.computed, small.left_out) == (3, 2)
