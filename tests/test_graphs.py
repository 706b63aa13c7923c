"""Clicks by recorded graphs, on the CPU, against the ordinary way.

If a recording answers other clicks and another picture as the network itself does, nothing of the
first ones is part of it.
"""

from __future__ import annotations

import functools
import gc
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from graph_fakes import SMALL, FxRecorder, Network, clicks
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynamite_widget.model.graphs import CudaRecorder, GraphedClicks, Recorded, padded_queries
from dynamite_widget.model.predictor import Predictor
from dynamite_widget.model.structures import (
    ClickTensors,
    Decoded,
    PreparedFeatures,
    StagedClicks,
)
from dynamite_widget.segmentation import Segmentation
from dynamite_widget.session_state import Click


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(SMALL.replace(encoder_layers=1, hidden_dim=16))


@pytest.fixture
def graphed(network: Network) -> GraphedClicks:
    return GraphedClicks(network, FxRecorder())


def same(found: Decoded, network: Network, picture: PreparedFeatures, own: ClickTensors) -> None:
    with torch.inference_mode():
        expected = network.decode_clicks(picture, [own]).final
    torch.testing.assert_close(found.final.logits, expected.logits, rtol=1e-3, atol=2e-4)
    assert torch.equal(found.final.channel_instance, expected.channel_instance)


# --- padding -------------------------------------------------------------------------------------

SWITCHES: list[dict[str, Any]] = [
    {},
    {"static_queries": 0, "positional": "none"},
    {"decoder_layers": 0, "positional": "temporal"},
    {"decoder_stride": 8, "identity_codes": 8, "relative_mask": True, "mask_padding_queries": True},
]


@functools.cache
def of_switches(switches: tuple[tuple[str, Any], ...]) -> Network:
    return Network(SMALL.replace(**dict(switches)))


def test_sizes_are_few() -> None:
    assert [padded_queries(n) for n in (1, 16, 17, 200, 256)] == [16, 16, 32, 256, 256]
    assert [padded_queries(n) for n in (257, 384, 385)] == [384, 384, 512]
    assert all(n <= padded_queries(n) < max(17, 2 * n) for n in range(1, 1000))


@pytest.mark.parametrize("switches", SWITCHES)
@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 40), more=st.integers(0, 30), seed=st.integers(0, 1000))
def test_padding_influences_nothing(
    switches: dict[str, Any], count: int, more: int, seed: int
) -> None:
    network = of_switches(tuple(switches.items()))
    picture, own = network.picture(1), clicks(count, seed)
    queries = network.transformer.queries
    with torch.inference_mode():
        expected = network.decode_clicks(picture, [own]).final
        staged = queries.stage([own], count + more)
        padded = network.transformer.decode_staged(picture, staged).final
        # Not even what the rows of padding say, but that they are padding.
        staged.rows[:, count:, :4] = 7.0
        again = network.transformer.decode_staged(picture, staged).final
    real = [*range(count), *range(count + more, count + more + queries.static_rows)]
    torch.testing.assert_close(padded.logits[:, real], expected.logits, rtol=1e-3, atol=2e-4)
    assert torch.equal(again.logits[:, real], padded.logits[:, real])
    assert torch.equal(padded.channel_instance[:, real], expected.channel_instance)
    assert (padded.channel_instance[:, count : count + more] == -1).all()


# --- recordings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("switches", SWITCHES)
def test_nothing_of_the_first_clicks_and_picture_is_recorded(switches: dict[str, Any]) -> None:
    network = of_switches(tuple(switches.items()))
    recorder = FxRecorder()
    graphed = GraphedClicks(network, recorder)
    room = 16 - network.transformer.queries.static_rows
    for seed, count in enumerate((3, room, 1, 5, 2)):
        picture, own = network.picture(seed // 2), clicks(count, seed)
        same(graphed.decode(picture, own), network, picture, own)
    assert recorder.recordings == len(graphed) == 1
    assert not graphed.failed


def test_the_stand_in_is_one() -> None:
    """A recording keeps what was read in Python, and reads tensors anew."""
    memory, number = torch.ones(2), [3.0]
    recorder = FxRecorder()
    with recorder.turn(), torch.inference_mode():
        recorded = recorder.record(lambda: memory * number[0] + torch.tensor([1.0, 2.0]))
        memory.fill_(5.0)
        number[0] = 100.0
        recorded.replay()
        assert recorded.output.tolist() == [16.0, 17.0]
        with pytest.raises(RuntimeError, match="tracing tensor"):
            recorder.record(lambda: memory * float((memory + 1).sum()))


@pytest.mark.parametrize("name", ["number", "row"])
def test_a_network_that_reads_clicks_in_python_is_found_out(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = Network(SMALL.replace(encoder_layers=1))
    decode = network.transformer.decode_staged
    seen: list[float] = []

    def reading(prepared: PreparedFeatures, staged: StagedClicks, *rest: Any) -> Decoded:
        # Python reads the first click: a recording would repeat that of another one.
        if name == "number":
            seen.append(float(staged.rows[0, 0, 0] + 1))
        rows = staged.rows + torch.from_numpy(staged.rows.numpy().copy())
        return decode(prepared, StagedClicks(rows, staged.owner, staged.hides_padding), *rest)

    with mock.patch.object(network.transformer, "decode_staged", reading):
        graphed = GraphedClicks(network, FxRecorder())
        picture, own = network.picture(1), clicks(4)
        same(graphed.decode(picture, own), network, picture, own)
    assert graphed.failed
    assert len(graphed) == 0
    assert [r.levelno for r in caplog.records if "graphs" in r.name] == [logging.WARNING]


class BrokenRecorder(FxRecorder):
    """Fails while recording, or records something else."""

    def __init__(self, lies: bool) -> None:
        super().__init__()
        self.lies = lies

    def record(self, compute: Callable[[], Tensor]) -> Recorded:
        self.recordings += 1
        if not self.lies:
            raise RuntimeError("operation not permitted when stream is capturing")
        return Recorded(lambda: None, compute().clone())


@pytest.mark.parametrize(
    ("lies", "reason"), [(False, "RuntimeError: operation not permitted"), (True, "did not repeat")]
)
def test_failures_are_told_once_and_cost_no_answer(
    network: Network, lies: bool, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = BrokenRecorder(lies)
    graphed = GraphedClicks(network, recorder)
    for seed in range(3):
        picture, own = network.picture(seed), clicks(4, seed)
        same(graphed.decode(picture, own), network, picture, own)
    assert recorder.recordings == 1
    assert graphed.failed
    assert len(graphed) == 0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert reason in record.getMessage()


def test_graphs_are_few_and_share_the_memory_of_pictures(network: Network) -> None:
    recorder = FxRecorder()
    graphed = GraphedClicks(network, recorder, most_graphs=2)
    large, wide = network.picture(1), network.picture(2, (64, 128))
    for picture, count, recordings in (
        (large, 3, 1),
        (large, 20, 2),
        (large, 4, 2),  # which makes 20 clicks the longest unused
        (wide, 4, 3),
        (large, 5, 3),
        (large, 21, 4),
    ):
        same(graphed.decode(picture, clicks(count)), network, picture, clicks(count))
        assert recorder.recordings == recordings
        assert len(graphed) <= 2
    first, second = graphed._graphs.values()
    assert first.picture is second.picture
    held = first.picture.prepared
    assert held.nbytes == large.nbytes
    assert held.decoder_tokens is not None
    assert held.decoder_tokens.data_ptr() == held.features.mask_features.data_ptr()


def test_layouts_differ(network: Network, graphed: GraphedClicks) -> None:
    """Pictures of a batch are laid out otherwise than single ones; both are answered."""
    single = network.picture(1)
    with torch.inference_mode():
        copy = network.transformer.prepare(single.features.pick(0))
    copy = copy.map(lambda x: x.clone(memory_format=torch.contiguous_format))
    for picture in (single, copy, single):
        same(graphed.decode(picture, clicks(3)), network, picture, clicks(3))
    assert len(graphed) == 2


def test_a_picture_is_copied_once(network: Network, graphed: GraphedClicks) -> None:
    picture, own = network.picture(1), clicks(3)
    before = graphed.decode(picture, own).final.logits
    (graph,) = graphed._graphs.values()
    with torch.inference_mode():
        for tensor in graph.picture.prepared.tensors():
            tensor.zero_()
    assert not torch.equal(graphed.decode(picture, own).final.logits, before)
    del picture
    gc.collect()  # nothing keeps a picture alive, and none is taken for another one
    assert graph.picture._held is not None
    assert graph.picture._held() is None
    again = network.picture(1)
    assert torch.equal(graphed.decode(again, own).final.logits, before)


def test_results_are_not_overwritten(network: Network, graphed: GraphedClicks) -> None:
    first = graphed.decode(network.picture(1), clicks(3)).final.logits
    kept = first.clone()
    graphed.decode(network.picture(2), clicks(5, 4))
    assert torch.equal(first, kept)


def test_threads_take_turns(network: Network, graphed: GraphedClicks) -> None:
    pictures = [network.picture(seed) for seed in range(4)]
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for step in range(5):
                picture, own = pictures[(seed + step) % 4], clicks(2 + seed, 10 * seed + step)
                same(graphed.decode(picture, own), network, picture, own)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(graphed) == 1


def test_nothing_else_runs_while_recording(network: Network, graphed: GraphedClicks) -> None:
    from dynamite_widget.cancelling import interruptible

    picture, own = network.picture(1), clicks(3)
    interrupted = []

    def click_meanwhile() -> None:
        interrupted.append(graphed.decode(picture, own))

    with interruptible(click_meanwhile):
        graphed.decode(picture, own)
    assert not interrupted


def test_converted_weights_are_not_kept(network: Network) -> None:
    """Autocast frees what it has converted: a recording has to convert weights itself."""

    class EagerRecorder(FxRecorder):
        def record(self, compute: Callable[[], Tensor]) -> Recorded:
            # Like a CUDA graph; `make_fx` would switch the cache off itself.
            output = compute().clone()
            return Recorded(lambda: output.copy_(compute()), output)

    decode, seen = network.transformer.decode_staged, []

    def noting(*arguments: Any) -> Decoded:
        seen.append(torch.is_autocast_cache_enabled())
        return decode(*arguments)

    graphed = GraphedClicks(network, EagerRecorder())
    picture, own = network.picture(1), clicks(3)
    with mock.patch.object(network.transformer, "decode_staged", noting):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            graphed.decode(picture, own)
            assert torch.is_autocast_cache_enabled()
        graphed.decode(picture, own)  # without autocast: another graph
    assert seen == [False, False, True] * 2, "recorded, replayed, decoded the ordinary way"
    assert not graphed.failed
    assert len(graphed) == 2


# --- CUDA ----------------------------------------------------------------------------------------


def test_order_of_a_real_recording() -> None:
    """Without a GPU: names and arguments exist, and steps come in the order they have to."""
    device, log = torch.device("cuda", 0), mock.MagicMock()
    patches = {
        name: mock.create_autospec(getattr(torch.cuda, name))
        for name in ("CUDAGraph", "Event", "Stream", "current_stream", "device", "graph", "stream")
    }
    for name, patch in patches.items():
        log.attach_mock(patch, name)
    compute = log.compute
    pool = mock.patch.object(torch.cuda, "graph_pool_handle", return_value=(0, 1))
    with mock.patch.multiple(torch.cuda, **patches), pool:
        recorder = CudaRecorder(device)
        with recorder.turn():
            recorded = recorder.record(compute)
    names = [name for name, _, _ in log.mock_calls]
    assert names.count("compute") == 4
    assert recorded.output is compute.return_value
    assert recorded.replay is patches["CUDAGraph"].return_value.replay
    entered = names.index("graph().__enter__")
    assert names.index("stream().__enter__") < names.index("compute") < entered
    assert names[entered + 1 : entered + 3] == ["compute", "graph().__exit__"]
    assert names.index("current_stream().wait_event") < names.index("compute")
    assert names[-2:] == ["Event().record", "device().__exit__"]
    _, options = patches["graph"].call_args
    assert options["pool"] == (0, 1)
    assert options["capture_error_mode"] == "thread_local"


# --- Predictor -----------------------------------------------------------------------------------


def test_predictor_answers_by_graphs(network: Network) -> None:
    predictor = Predictor(network, half=False, exact=True)
    plain = Predictor(network, half=False, exact=True)
    predictor._graphs = graphed = GraphedClicks(network, FxRecorder())
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in range(2)]
    embeddings = [predictor.embed(picture) for picture in pictures]
    own = [Click(3, 4, 5), Click(50, 30, 2), Click(20, 20, 0), Click(30, 5, 5)]
    for embedding, part in itertools.product(embeddings, (own[:1], own)):
        found, expected = predictor.predict(embedding, part), plain.predict(embedding, part)
        differ = found.label_map != expected.label_map
        assert expected.margin[differ].max(initial=0) < 1e-2
        assert found.instances == expected.instances
    assert len(graphed) == 1
    assert not graphed.failed

    # Nothing to compute, and a preview, need no graph.
    previews: list[Segmentation] = []
    with mock.patch.object(graphed, "decode", side_effect=AssertionError):
        assert not predictor.predict(embeddings[0], own[2:3]).label_map.any()
        predictor.predict(embeddings[0], own, on_preview=previews.append)
    assert len(previews) == 1
