"""`Predictor`: coordinates, validation, legal odd states; with a stand-in and a real network."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dynamite_widget.errors import ImageError, SessionError
from dynamite_widget.model.clicks import check_clicks
from dynamite_widget.model.config import ModelConfig, get_config
from dynamite_widget.model.predictor import ImageEmbedding, Predictor
from dynamite_widget.model.structures import ClickTensors, Decoded, Prediction
from dynamite_widget.segmentation import Segmentation
from dynamite_widget.session_state import Click

CONFIG = get_config("lite").replace(name="fake", max_long_side=96)


@dataclass(frozen=True)
class FakeFeatures:
    padded_size: tuple[int, int]
    pixels: Tensor
    nbytes: int = 1000


class FakeNetwork(nn.Module):
    """Each click owns the pixels within 20 network pixels of it, up to the next click's."""

    def __init__(self, config: ModelConfig = CONFIG) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(3))
        self.seen: list[ClickTensors] = []

    def encode_image(self, pixels: Tensor) -> FakeFeatures:
        assert torch.is_inference_mode_enabled()
        return FakeFeatures((pixels.shape[2], pixels.shape[3]), pixels)

    def prepare(self, features: FakeFeatures) -> FakeFeatures:
        return features

    def decode_clicks(
        self, prepared: FakeFeatures, clicks: Sequence[ClickTensors], exact: bool = True
    ) -> Decoded:
        assert torch.is_inference_mode_enabled()
        (own,) = clicks
        self.seen.append(own)
        assert (own.instance > 0).any()
        height, width = (n // 4 for n in prepared.padded_size)
        y, x = torch.meshgrid(
            torch.arange(height) * 4 + 1.5, torch.arange(width) * 4 + 1.5, indexing="ij"
        )
        rows = [20 - torch.hypot(y - click[0], x - click[1]) for click in own.yx]
        logits = torch.stack([*rows, torch.zeros(height, width)])
        owner = torch.cat([own.instance, torch.zeros(1, dtype=torch.int64)])
        return Decoded(Prediction(logits[None], owner[None]))


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(FakeNetwork())


def picture(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- embed -------------------------------------------------------------------------------------


def test_embedding(predictor: Predictor) -> None:
    embedding = predictor.embed(picture())
    assert (embedding.height, embedding.width) == (48, 64)
    assert embedding.network_size == (72, 96)
    assert embedding.padded_size == (96, 96)
    assert embedding.nbytes >= 1000
    assert len(embedding.picture_hash) == len(embedding.key) == 64
    again = predictor.embed(picture())
    assert again.key == embedding.key
    other = predictor.embed(picture() // 2)
    assert other.key != embedding.key
    weights = FakeNetwork()
    with torch.no_grad():
        weights.weight.add_(1)
    assert Predictor(weights).embed(picture()).key != embedding.key
    assert "prepared" not in repr(embedding)


def test_embed_takes_files_and_refuses_rubbish(predictor: Predictor, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.fromarray(picture()).save(path)
    assert predictor.embed(path).picture_hash == predictor.embed(picture()).picture_hash
    with pytest.raises(ImageError, match="no such file"):
        predictor.embed(tmp_path / "none.png")
    with pytest.raises(ImageError, match="megapixels"):
        predictor.embed(picture(), max_megapixels=0.001)


def test_model_is_switched_to_evaluation() -> None:
    network = FakeNetwork().train()
    assert not Predictor(network).model.training
    with pytest.raises(ValueError, match="CUDA devices and CPUs"):
        Predictor(FakeNetwork().to("meta"), half=True)


def test_checkpoint_hash() -> None:
    network = FakeNetwork()
    assert len(Predictor(network).checkpoint_hash) == 64
    network.checkpoint_hash = "abc"  # type: ignore[assignment]
    assert Predictor(network).checkpoint_hash == "abc"
    assert Predictor(network).device == torch.device("cpu")
    assert "fake" in repr(Predictor(network))


# --- predict -----------------------------------------------------------------------------------


def test_clicks_reach_the_network_unrounded_and_in_time(predictor: Predictor) -> None:
    embedding = predictor.embed(picture(50, 70))  # network size 69 x 96
    assert embedding.network_size == (69, 96)
    clicks = [Click(33, 7, 2, t=40), Click(69, 49, 0), Click(1, 1, 1, t=3), Click(2, 30, 2)]
    predictor.predict(embedding, clicks)
    (seen,) = predictor.model.seen
    expected = np.array([[7, 33], [49, 69], [1, 1], [30, 2]]) * [69 / 50, 96 / 70]
    np.testing.assert_allclose(seen.yx.numpy(), expected, rtol=1e-6)
    assert seen.t.tolist() == [40, 41, 3, 42]
    assert seen.instance.tolist() == [2, 0, 1, 2]
    assert (seen.yx.dtype, seen.t.dtype) == (torch.float32, torch.int64)


def test_prediction(predictor: Predictor) -> None:
    embedding = predictor.embed(picture())
    segmentation = predictor.predict(embedding, [Click(10, 10, 1), Click(45, 30, 7)])
    assert isinstance(segmentation, Segmentation)
    assert segmentation.instances == (1, 7)
    assert segmentation.label_map.shape == (48, 64)
    assert segmentation.label_map[10, 10] == 1
    assert segmentation.label_map[30, 45] == 7
    assert segmentation.label_map[0, 60] == 0
    assert segmentation.areas.tolist() == [
        pytest.approx(np.pi * (20 / 1.5) ** 2, rel=0.15),
        pytest.approx(np.pi * (20 / 1.5) ** 2, rel=0.15),
    ]
    assert ((segmentation.scores > 0.5) & (segmentation.scores <= 1)).all()
    assert segmentation.margin.min() >= 0
    assert segmentation._repr_png_()[:4] == b"\x89PNG"
    again = predictor.predict(embedding, [Click(10, 10, 1), Click(45, 30, 7)])
    np.testing.assert_array_equal(again.label_map, segmentation.label_map)


def test_odd_states_are_legal(predictor: Predictor) -> None:
    embedding = predictor.embed(picture())
    for clicks in ([], [Click(3, 3, 0), Click(9, 9, 0)]):
        empty = predictor.predict(embedding, clicks)
        assert empty.instances == ()
        assert not empty.label_map.any()
        empty = predictor.predict(embedding, clicks, instances=[4, 2])
        assert empty.instances == (2, 4)
        assert empty.areas.tolist() == empty.scores.tolist() == [0, 0]
    assert not predictor.model.seen
    segmentation = predictor.predict(embedding, [Click(5, 5, 2)], instances=(1, 2, 3))
    assert segmentation.instances == (1, 2, 3)
    assert segmentation.areas[1] > 0
    assert segmentation.areas[[0, 2]].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("clicks", "message"),
    [
        ([Click(64, 0, 1)], r"x must be 0\.\.63, y 0\.\.47"),
        ([Click(0, -1, 1)], "outside the picture"),
        ([Click(0, 48, 0)], "outside the picture"),
        ([Click(1, 1, -2)], "instance -2"),
        ([Click(1.0, 1, 1)], "x must be an integer"),  # type: ignore[arg-type]
        ([Click(1, "1", 1)], "y must be an integer"),  # type: ignore[arg-type]
        ([Click(1, 1, True)], "instance must be an integer"),
        ([Click(1, 1, 1, t=0.5)], "t must be an integer"),  # type: ignore[arg-type]
        ([Click(1, 1, 1, t=-1)], "t=-1"),
        ([Click(1, 1, 1, t=5), Click(2, 2, 1, t=5)], "t=5 like click 0"),
        ([Click(1, 1, 1), Click(1, 1, 1)], "the same instance"),
        ([Click(1, 1, 0), Click(1, 1, 0)], "the same instance"),
        ([Click(1, 1, 1), Click(1, 1, 2)], "another instance"),
        ([(1, 1, 1)], "not a Click"),
    ],
)
def test_bad_clicks_are_named(predictor: Predictor, clicks: list[Any], message: str) -> None:
    embedding = predictor.embed(picture())
    with pytest.raises(SessionError, match=message):
        predictor.predict(embedding, clicks)
    assert not predictor.model.seen


def test_unknown_instances(predictor: Predictor) -> None:
    embedding = predictor.embed(picture())
    with pytest.raises(SessionError, match=r"unknown instance 3; instances: \[1, 2\]"):
        predictor.predict(embedding, [Click(1, 1, 3)], instances=[2, 1])
    with pytest.raises(SessionError, match=">= 1"):
        predictor.predict(embedding, [], instances=[0, 1])
    with pytest.raises(SessionError, match="instance id must be an integer"):
        predictor.predict(embedding, [], instances=["cat"])  # type: ignore[list-item]


def test_numpy_integers_are_integers() -> None:
    points, ids = check_clicks([Click(np.int64(3), np.uint8(4), np.int32(1))], 5, 5)  # type: ignore[arg-type]
    assert points.tolist() == [[4, 3, 1, 0]]
    assert ids == (1,)


def test_foreign_embeddings_are_refused(predictor: Predictor) -> None:
    other = Predictor(FakeNetwork(CONFIG.replace(name="other"))).embed(picture())
    with pytest.raises(ValueError, match="'other'"):
        predictor.predict(other, [Click(1, 1, 1)])
    with pytest.raises(TypeError, match="ndarray"):
        predictor.predict(picture(), [Click(1, 1, 1)])  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_extreme_pictures(predictor: Predictor, size: tuple[int, int]) -> None:
    embedding = predictor.embed(picture(*size))
    assert min(embedding.network_size) >= 1
    assert min(embedding.padded_size) >= 32
    segmentation = predictor.predict(embedding, [Click(0, 0, 1)])
    assert segmentation.label_map.shape == size
    if max(size) > 100:  # the corner of the one pixel of a tiny picture is far from its centre
        assert segmentation.label_map[0, 0] == 1


def test_threads(predictor: Predictor) -> None:
    embeddings = [predictor.embed(picture(40 + 3 * i, 50)) for i in range(3)]
    clicks = [Click(10, 10, 1), Click(40, 30, 2)]
    alone = [predictor.predict(e, clicks).label_map for e in embeddings]
    results: dict[int, NDArray[np.int32]] = {}

    def work(n: int, embedding: ImageEmbedding) -> None:
        results[n] = predictor.predict(embedding, clicks).label_map

    threads = [threading.Thread(target=work, args=(n, embeddings[n % 3])) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, labels in results.items():
        np.testing.assert_array_equal(labels, alone[n % 3])
    assert len(results) == 6


# --- the real network --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Predictor:
    from dynamite_widget.model.dynamite import build_model

    torch.manual_seed(0)
    config = get_config("lite").replace(
        name="small", hidden_dim=32, heads=4, encoder_layers=3, max_long_side=96
    )
    return Predictor(build_model(config))


def test_real_network(real: Predictor) -> None:
    embedding = real.embed(picture())
    assert embedding.nbytes > 10_000
    clicks = [Click(10, 10, 1), Click(45, 30, 7), Click(60, 2, 0)]
    segmentation = real.predict(embedding, clicks)
    assert segmentation.label_map.shape == (48, 64)
    assert set(np.unique(segmentation.label_map)) <= {0, 1, 7}
    # The order of the clicks does not matter once they carry their times.
    timed = [Click(c.x, c.y, c.instance, t) for t, c in enumerate(clicks)]
    turned = real.predict(embedding, timed[::-1])
    np.testing.assert_allclose(turned.margin, segmentation.margin, atol=1e-5)
    assert not any(p.requires_grad and p.grad is not None for p in real.model.parameters())


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_real_network_on_extreme_pictures(real: Predictor, size: tuple[int, int]) -> None:
    segmentation = real.predict(real.embed(picture(*size)), [Click(0, 0, 3)])
    assert segmentation.label_map.shape == size


def straightforward_order(repository: Path) -> Any:
    path = repository / "benchmarks" / "straightforward.py"
    specification = importlib.util.spec_from_file_location("straightforward", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_embedding_equals_the_straightforward_one(repository: Path) -> None:
    from dynamite_widget.model.dynamite import build_model

    straightforward = straightforward_order(repository)
    torch.manual_seed(1)
    model = build_model(get_config("swin-tiny").replace(pixel_decoder_layers=2)).eval()
    pixels = torch.randn(1, 3, 96, 128)
    with torch.inference_mode():
        ours, theirs = model.encode_image(pixels), straightforward.encode(model, pixels)
    for one, other in zip(
        (*ours.multi_scale, ours.mask_features),
        (*theirs.multi_scale, theirs.mask_features),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_shortcuts_equal_the_straightforward_order(repository: Path) -> None:
    from dynamite_widget.model.clicks import click_tensors
    from dynamite_widget.model.dynamite import build_model

    straightforward = straightforward_order(repository)
    torch.manual_seed(1)
    config = get_config("segformer-b0").replace(
        name="small",
        hidden_dim=32,
        heads=4,
        pixel_decoder_layers=1,
        encoder_layers=4,
        decoder_layers=2,
        short_side=64,
        max_long_side=96,
    )
    predictor = Predictor(build_model(config))
    embedding = predictor.embed(picture())
    clicks = [Click(10, 10, 1), Click(45, 30, 7), Click(60, 2, 0), Click(50, 30, 7)]
    points, _ = check_clicks(clicks, 48, 64)
    with torch.inference_mode():
        logits, owners = straightforward.mask_logits(
            predictor.model, embedding.prepared.features, click_tensors(points, embedding)
        )
        labels = straightforward.label_map(logits, owners, embedding.network_size, (48, 64))
    segmentation = predictor.predict(embedding, clicks)
    differ = segmentation.label_map != labels
    assert segmentation.margin[differ].max(initial=0) < 1e-3
    assert differ.mean() < 0.01
    lite = build_model(get_config("lite").replace(hidden_dim=32, heads=4, encoder_layers=1))
    with pytest.raises(ValueError, match="published"):
        straightforward.mask_logits(lite, embedding.prepared.features, None)


@pytest.mark.parametrize("name", ["segformer-b0", "lite"])
def test_many_pictures_at_once(name: str) -> None:
    from dynamite_widget.model.dynamite import build_model

    torch.manual_seed(0)
    config = get_config(name).replace(
        hidden_dim=32, heads=4, encoder_layers=3, short_side=None, max_long_side=96
    )
    predictor = Predictor(build_model(config), exact=True)  # else bfloat16 rounds coarsely
    pictures = [picture(48, 64), picture(64, 48), picture(46, 64) // 2, picture(47, 64), picture()]
    many = predictor.embed_many(pictures, batch_size=3)
    for image, embedding in zip(pictures, many, strict=True):
        alone = predictor.embed(image)
        assert embedding.key == alone.key
        assert (embedding.height, embedding.width) == image.shape[:2]
        assert embedding.network_size == alone.network_size
        assert embedding.nbytes == alone.nbytes  # nothing is shared with the others
        for one, other in zip(embedding.prepared.keys, alone.prepared.keys, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
        clicks = [Click(10, 10, 1), Click(40, 40, 2)]
        labels = predictor.predict(embedding, clicks).label_map
        assert (labels != predictor.predict(alone, clicks).label_map).mean() < 0.01
    assert predictor.embed_many([]) == []
    with pytest.raises(ValueError, match="batch_size"):
        predictor.embed_many(pictures, batch_size=0)


def test_pictures_of_one_size_share_a_pass() -> None:
    batches: list[tuple[int, ...]] = []

    class Noting(FakeNetwork):
        def encode_image(self, pixels: Tensor) -> Any:
            batches.append(tuple(pixels.shape))
            raise StopIteration

    noting = Predictor(Noting())
    assert noting.batch_size == 1  # on a CPU
    for batch_size, shape in ((None, (1, 3, 96, 96)), (2, (2, 3, 96, 96))):
        with pytest.raises(StopIteration):
            noting.embed_many([picture(), picture(20, 64), picture(50, 64)], None, batch_size)
        assert batches.pop() == shape
    with pytest.raises(ImageError, match="no such file"):
        noting.embed_many([picture(), "none.png"])
