"""What runs on a CUDA device, checked without one: tensors that have a device but no content.

`FakeTensorMode` runs every operation on shapes, types and devices only, with CUDA's rules of
autocast, and refuses operations whose result depends on contents: there a GPU's program would have
to wait. `Watch` sees the copies between devices.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from graph_fakes import SMALL, Network, clicks
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dynamite_widget.model import graphs, precision, predictor, render, structures
from dynamite_widget.model.config import ModelConfig, get_config
from dynamite_widget.model.dynamite import build_model
from dynamite_widget.model.graphs import GraphedClicks, Recorded
from dynamite_widget.model.pixel_decoder import DeformablePixelDecoder
from dynamite_widget.model.predictor import Predictor
from dynamite_widget.model.pyramid import PyramidPixelDecoder
from dynamite_widget.model.render import LogitsRenderer, MaskLogits
from dynamite_widget.model.structures import Decoded, ImageFeatures, Prediction
from dynamite_widget.model.transfers import download, id_dtype, upload

CUDA = torch.device("cuda")
NOTHING = torch.zeros(0)
WAITS = (DataDependentOutputException, DynamicOutputShapeException)


class Watch(TorchDispatchMode):
    """Notes the types of every operation's tensors, and operations across devices."""

    def __init__(self) -> None:
        super().__init__()
        self.types: dict[str, set[torch.dtype]] = {}
        self.counts: Counter[str] = Counter()
        self.transfers: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        if len({x.device.type for x in tensors}) > 1:
            self.transfers.append(str(func))
        floats = {x.dtype for x in tensors if x.is_floating_point()}
        self.types.setdefault(func.overloadpacket.__name__, set()).update(floats)
        self.counts[func.overloadpacket.__name__] += 1
        return result


@contextlib.contextmanager
def fake_cuda(half: bool = False) -> Iterator[FakeTensorMode]:
    """Tensors without content, on a device that is not there; optionally in half precision."""
    identity = mock.patch.object(Tensor, "pin_memory", lambda self: self)
    # Composite operations are seen in their parts where gradients might be needed.
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, identity, torch.no_grad():
        torch.set_autocast_enabled("cuda", half)
        torch.set_autocast_dtype("cuda", torch.float16)
        try:
            yield mode
        finally:
            torch.set_autocast_enabled("cuda", False)


def fake_features(config: ModelConfig, size: tuple[int, int] = (64, 96)) -> ImageFeatures:
    shapes = [(1, config.hidden_dim, size[0] // s, size[1] // s) for s in (32, 16, 8, 4)]
    *levels, finest = (torch.zeros(shape, device=CUDA) for shape in shapes)
    return ImageFeatures(tuple(levels), finest, None, size)


# --- the watch sees what it is for ---------------------------------------------------------------


@pytest.mark.parametrize(
    "transfer",
    [
        lambda x: x.new_tensor([1.0, 2.0]),
        lambda x: x[[0, 1]],
        lambda x: x[torch.arange(2)],
        lambda x: x + torch.ones(4).to(CUDA),
        lambda x: x.cpu(),
    ],
)
def test_transfers_are_seen(transfer: Callable[[Tensor], object]) -> None:
    with fake_cuda(), Watch() as watch:
        transfer(torch.zeros(3, 4, device=CUDA))
    assert len(watch.transfers) == 1


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x[x > 0],
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).any()),
        lambda x: x.nonzero(),
        lambda x: x.long().flatten().bincount(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.unique(),
    ],
)
def test_waiting_is_refused(wait: Callable[[Tensor], object]) -> None:
    with fake_cuda(), pytest.raises(WAITS):
        wait(torch.zeros(3, 4, device=CUDA))


# --- clicks --------------------------------------------------------------------------------------

SWITCHES: list[dict[str, Any]] = [
    {},
    {"static_queries": 0, "positional": "none"},
    {"positional": "temporal", "decoder_layers": 0},
    {"identity_codes": 8, "relative_mask": True, "decoder_stride": 8},
]


@pytest.mark.parametrize("rows", [None, 23])
@pytest.mark.parametrize("switches", SWITCHES)
def test_a_click_goes_to_the_device_once_and_waits_for_nothing(
    switches: dict[str, Any], rows: int | None
) -> None:
    config = SMALL.replace(**switches)
    with torch.no_grad():
        staged = Network(config).transformer.queries.stage([clicks(5)], rows)
    with fake_cuda(half=True) as mode:
        with CUDA:
            transformer = Network(config).transformer
        prepared = transformer.prepare(fake_features(config))
        on_cpu = replace(staged, rows=mode.from_tensor(staged.rows))
        with Watch() as watch:
            logits = transformer.decode_staged(prepared, on_cpu.to(CUDA)).final.logits
            renderer = LogitsRenderer(MaskLogits(logits[0], (1,) * logits.shape[1], (60, 90)))
    assert watch.transfers == ["aten._to_copy.default"]
    assert logits.device.type == renderer._logits.device.type == "cuda"
    assert logits.shape == (1, (rows or 5) + (config.static_queries or 1), 16, 24)


def test_a_click_by_graph_is_one_copy_and_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    class Recorder:
        turn = staticmethod(contextlib.nullcontext)
        replays = 0

        def record(self, compute: Callable[[], Tensor]) -> Recorded:
            return Recorded(self.replay, compute())

        def replay(self) -> None:
            self.replays += 1

    # The check of a new graph waits, once.
    monkeypatch.setattr(graphs, "_agree", lambda *_: True)
    monkeypatch.setattr(Network, "decode_clicks", lambda *_: Decoded(Prediction(NOTHING, NOTHING)))
    staged = Network().transformer.queries.stage([clicks(5)], 7)
    recorder = Recorder()
    with fake_cuda(half=True) as mode:
        with CUDA:
            network = Network()
        graphed = GraphedClicks(network, recorder)
        monkeypatch.setattr(network.transformer.queries, "stage", lambda *_: staged)
        monkeypatch.setattr(structures, "upload", lambda x, to: mode.from_tensor(x).to(to))
        first, second = (network.prepare(fake_features(SMALL)) for _ in range(2))
        graphed.decode(first, clicks(5))
        for picture, copies in ((first, 2), (second, None), (second, 2)):
            with Watch() as watch:
                logits = graphed.decode(picture, clicks(5)).final.logits
            assert logits.shape == (1, 5 + 9, 16, 24)
            assert len(watch.transfers) == 1
            # Beside the table's two (to the device, to its place) only a new picture's features.
            found = sum(watch.counts[name] for name in ("to", "copy_"))
            assert found == copies if copies else found > 10
            assert not watch.counts["linear"] + watch.counts["matmul"]
    assert recorder.replays == 4
    assert not graphed.failed


def test_only_the_label_map_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "WORKING_SET_BYTES", 100_000)
    came: list[tuple[torch.dtype, tuple[int, ...]]] = []

    def arrive(tensor: Tensor) -> np.ndarray[Any, Any]:
        came.append((tensor.dtype, tuple(tensor.shape)))
        return np.zeros(tensor.shape)

    monkeypatch.setattr(render, "download", arrive)
    monkeypatch.setattr(
        render,
        "upload",
        lambda tensor, device: torch.zeros(tensor.shape, dtype=tensor.dtype, device=device),
    )
    with fake_cuda():
        logits = torch.zeros(4, 16, 24, device=CUDA)
        renderer = LogitsRenderer(MaskLogits(logits, (3, 7, 7, 0), (61, 90)))
        with Watch() as watch:
            renderer.label_map(200, 301)
            renderer.margin(200, 301)
    assert watch.transfers == []
    assert came == [(torch.uint8, (200, 301)), (torch.float32, (200, 301))]


# --- precision -----------------------------------------------------------------------------------

FLOAT32 = {torch.float32}


def half_maps() -> list[torch.Tensor]:
    """Output of a backbone under autocast, within `fake_cuda`."""
    return [
        torch.zeros(1, 8 * (i + 1), 64 >> i, 96 >> i, device=CUDA, dtype=torch.float16)
        for i in range(4)
    ]


def test_what_stays_float32_in_the_deformable_pixel_decoder() -> None:
    config = SMALL.replace(pixel_decoder_layers=1, pixel_decoder_ffn=48)
    with fake_cuda(half=True):
        with CUDA:
            decoder = DeformablePixelDecoder(config, (8, 16, 24, 32))
        maps = half_maps()
        with Watch() as watch:
            multi_scale, mask_features = decoder(maps)
    # Only the conversion of the backbone's maps sees half precision.
    halves = {name for name, types in watch.types.items() if torch.float16 in types}
    assert halves == {"_to_copy"}
    for name in ("grid_sampler_2d", "_softmax", "native_layer_norm", "native_group_norm", "addmm"):
        assert watch.types[name] == FLOAT32
    assert {x.dtype for x in (*multi_scale, mask_features)} == FLOAT32
    assert len(watch.transfers) == config.pixel_decoder_layers, "the sizes of the levels"


@pytest.mark.parametrize("preset", ["swin-tiny", "lite"])
def test_an_embedding_waits_for_nothing(preset: str) -> None:
    config = get_config(preset).replace(pixel_decoder_layers=1, encoder_layers=3)
    model = build_model(config).eval()
    with fake_cuda(half=True) as mode:
        for module in model.modules():
            held: list[dict[str, Any]] = [module._parameters, module._buffers]
            for tensors in held:
                for name, tensor in tensors.items():
                    if tensor is not None:
                        tensors[name] = mode.from_tensor(tensor).to(CUDA)
        with Watch() as watch:
            prepared = model.prepare(model.encode_image(torch.zeros(1, 3, 64, 96, device=CUDA)))
    sizes_of_levels = int(config.pixel_decoder == "deformable")
    assert len(watch.transfers) == sizes_of_levels
    assert torch.float16 in watch.types["convolution"]
    assert prepared.features.mask_features.dtype == torch.float32


def test_the_pyramid_stays_float32_while_predicting() -> None:
    config = SMALL.replace(pixel_decoder="fpn", pixel_decoder_layers=1, pixel_decoder_ffn=48)
    with fake_cuda(half=True):
        with CUDA:
            decoder = PyramidPixelDecoder(config, (8, 16, 24, 32))
        multi_scale, mask_features = decoder(half_maps())
    assert {x.dtype for x in (*multi_scale, mask_features)} == FLOAT32


def test_attention_masks_of_clicks_are_thresholded_in_float32() -> None:
    staged = Network().transformer.queries.stage([clicks(5)])
    with fake_cuda(half=True) as mode:
        with CUDA:
            transformer = Network().transformer
        prepared = transformer.prepare(fake_features(SMALL))
        assert {x.dtype for x in prepared.level_mask_features} == FLOAT32
        assert {x.dtype for x in (*prepared.keys, *prepared.values)} == {torch.float16}
        with Watch() as watch:
            decoded = transformer.decode_staged(
                prepared, replace(staged, rows=mode.from_tensor(staged.rows)).to(CUDA)
            )
    assert watch.types["ge"] == FLOAT32
    assert watch.types["native_layer_norm"] == FLOAT32
    assert watch.types["grid_sampler_2d"] == FLOAT32
    assert torch.float16 in watch.types["addmm"], "the large products are lowered"
    assert decoded.final.logits.dtype == torch.float16


def test_float32_where_asked_for_on_accelerators_only() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), precision.in_float32(torch.device("cpu")):
        assert precision.autocast_dtype("cpu") == torch.bfloat16
    with fake_cuda(half=True):
        with precision.in_float32(CUDA):
            assert precision.autocast_dtype("cuda") is None
        assert precision.autocast_dtype("cuda") == torch.float16


# --- transfers -----------------------------------------------------------------------------------


def test_uploads_are_pinned_and_not_waited_for() -> None:
    tensor = mock.Mock()
    pinned = tensor.pin_memory.return_value
    assert upload(tensor, CUDA) is pinned.to.return_value
    pinned.to.assert_called_once_with(CUDA, non_blocking=True)
    mps = mock.Mock()
    assert upload(mps, torch.device("mps")) is mps.to.return_value
    mps.to.assert_called_once_with(torch.device("mps"))
    here = torch.zeros(3)
    assert upload(here, torch.device("cpu")) is here
    np.testing.assert_array_equal(download(torch.arange(5)), np.arange(5))


def test_smallest_types_of_ids() -> None:
    assert [id_dtype(n) for n in (0, 255, 256, 32767, 32768)] == [
        torch.uint8,
        torch.uint8,
        torch.int16,
        torch.int16,
        torch.int32,
    ]


@pytest.mark.parametrize("ids", [(1, 255), (2, 256), (7, 32_767), (40_000, 2_000_000_000)])
def test_label_maps_of_devices_equal_those_of_bands(
    ids: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(1, 4, 5, 6, generator=generator)
    logits = F.interpolate(coarse, (16, 24), mode="bilinear", align_corners=False)[0] * 5
    renderer = LogitsRenderer(MaskLogits(logits, (ids[0], ids[1], ids[0], 0), (61, 90)))
    monkeypatch.setattr(render, "WORKING_SET_BYTES", 100_000)
    labels, margin = np.empty((200, 301), np.int32), np.empty((200, 301), np.float32)
    bands = 0
    for rows, best, second, index in renderer._bands(200, 301):
        labels[rows] = renderer._groups[index.numpy()]
        margin[rows] = (best - second).numpy()
        bands += 1
    assert bands > 3
    found = renderer._label_bands(200, 301)
    assert found.dtype == np.int32
    assert set(np.unique(found)) == {0, *ids}
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_array_equal(renderer._margin_bands(200, 301), margin)


# --- Predictor -----------------------------------------------------------------------------------


def on_cuda(preset: str) -> Any:
    """Pass for a network with float32 weights on a CUDA device."""
    parameter = SimpleNamespace(device=CUDA, dtype=torch.float32)
    return SimpleNamespace(
        training=False, config=get_config(preset), parameters=lambda: iter([parameter])
    )


def test_graphs_are_opt_in_and_for_networks_without_refinement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = mock.Mock()
    monkeypatch.setattr(predictor, "CudaRecorder", recorder)
    assert Predictor(on_cuda("swin-tiny"))._graphs is None
    assert Predictor(on_cuda("lite"), graphs=True)._graphs is None
    recorder.assert_not_called()
    assert isinstance(Predictor(on_cuda("swin-tiny"), graphs=True)._graphs, GraphedClicks)
    recorder.assert_called_once_with(CUDA)
    assert Predictor(on_cuda("swin-tiny")).precision == "float16"
    assert Predictor(on_cuda("swin-tiny"), half=False).precision == "float32"
    with pytest.raises(ValueError, match="graphs are for CUDA devices; the model is on cpu"):
        Predictor(Network(), graphs=True)
