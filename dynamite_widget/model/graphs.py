"""Clicks by recorded graphs: a CUDA device gets one order per click instead of a thousand.

A graph repeats the same operations on the same memory. So clicks are padded to the next of a few
numbers of queries (padding is hidden from all others and dropped afterwards), and a graph is
recorded per such number and size of the network image, over memory into which each click's table,
and each new picture's features, are copied. Only `CudaRecorder` needs a GPU.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..cancelling import uninterrupted
from .config import ModelConfig
from .precision import autocast_dtype
from .structures import ClickTensors, Decoded, Prediction, PreparedFeatures, StagedClicks

__all__ = ["CudaRecorder", "GraphedClicks", "Recorded", "Recorder", "can_record", "padded_queries"]

_log = logging.getLogger(__name__)

#: Numbers of queries that graphs are recorded for; beyond the last, multiples of the step. All are
#: multiples of 16: for others, attention kernels write out a padded copy of what is hidden.
_SIZES = (16, 32, 64, 128, 256)
_STEP = 128
#: Graphs kept; the one not used for longest goes first.
MOST_GRAPHS = 6
_WARM_UPS = 3
#: A new graph must repeat this share of the logits up to this part of the largest one.
_SHARE, _TOLERANCE = 0.99, 0.02


class Recorded(NamedTuple):
    """Operations that can be repeated, and the memory that their result is written to."""

    replay: Callable[[], object]
    output: Tensor


class Recorder(Protocol):
    """Records what a function does on a device."""

    def record(self, compute: Callable[[], Tensor]) -> Recorded:
        """Record the operations of `compute`, which reads memory that keeps its place."""

    def turn(self) -> AbstractContextManager[object]:
        """Enclose all that is done with the memory of recordings, one thread at a time."""


class CudaRecorder:
    """Records CUDA graphs, all in one memory pool, as only one runs at a time.

    Parameters
    ----------
    device : torch.device
        A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)
        self._done = torch.cuda.Event()

    def record(self, compute: Callable[[], Tensor]) -> Recorded:
        """Record a graph after a few runs beside it, in which libraries set themselves up."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                compute()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the device.
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            output = compute()
        return Recorded(graph.replay, output)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait, on the device, for the turn before: it may have been on another stream."""
        with torch.cuda.device(self._device):
            torch.cuda.current_stream().wait_event(self._done)
            try:
                yield
            finally:
                self._done.record()


def can_record(config: ModelConfig) -> bool:
    """Whether a click of a network is the same operations for all clicks.

    The refinement head is not: it looks at regions that depend on the masks.
    """
    return not config.refine_width


def padded_queries(queries: int) -> int:
    """Return the smallest number of queries, at least as many, that graphs are recorded for."""
    for size in _SIZES:
        if queries <= size:
            return size
    return -(-queries // _STEP) * _STEP


class GraphedClicks:
    """Decodes the clicks of one picture by recorded graphs; safe to use from several threads.

    The first clicks of a new size are also decoded the ordinary way, to check the new graph. If it
    cannot be recorded, or differs, all clicks are decoded the ordinary way from then on.

    Parameters
    ----------
    model : DynaMITe
        With `can_record`; its weights must keep their place in memory.
    recorder : Recorder
        Records on the model's device.
    most_graphs : int
        Graphs kept.

    Attributes
    ----------
    failed : bool
        Whether graphs were given up.
    """

    def __init__(self, model: Any, recorder: Recorder, most_graphs: int = MOST_GRAPHS) -> None:
        self._model, self._recorder, self._most = model, recorder, most_graphs
        self._graphs: OrderedDict[tuple[int, torch.dtype | None, object], _Graph] = OrderedDict()
        self._lock = threading.Lock()
        self._latest: tuple[weakref.ref[PreparedFeatures], tuple[object, ...]] | None = None
        self.failed = False

    def __len__(self) -> int:
        return len(self._graphs)

    @torch.inference_mode()
    def decode(self, prepared: PreparedFeatures, clicks: ClickTensors) -> Decoded:
        """Do as ``model.decode_clicks(prepared, [clicks])``, up to rounding.

        Parameters
        ----------
        prepared : PreparedFeatures
            Of one picture.
        clicks : ClickTensors
            At least one of an instance.
        """
        queries = self._model.transformer.queries
        count, static = len(clicks.t), queries.static_rows
        rows = padded_queries(count + static) - static
        staged = queries.stage([clicks], rows)
        # Nothing else may run on this thread in between: it might want the lock, too.
        with self._lock, uninterrupted():
            logits = None if self.failed else self._by_graph(prepared, clicks, staged)
        if logits is None:
            decoded: Decoded = self._model.decode_clicks(prepared, [clicks])
            return decoded
        owner = torch.cat([staged.owner[:, :count], staged.owner[:, rows:]], dim=1)
        return Decoded(Prediction(logits, owner))

    def _by_graph(
        self, prepared: PreparedFeatures, clicks: ClickTensors, staged: StagedClicks
    ) -> Tensor | None:
        """(1, Q, Hp / 4, Wp / 4) logits without padding; None, and never again, if it fails."""
        if self._latest is None or self._latest[0]() is not prepared:
            self._latest = weakref.ref(prepared), _layout(prepared)
        device, layout = prepared.features.mask_features.device, self._latest[1]
        key = (staged.rows.shape[1], autocast_dtype(device.type), layout)
        count = len(clicks.t)
        try:
            with self._recorder.turn():
                graph = self._graphs.get(key)
                if graph is not None:
                    self._graphs.move_to_end(key)
                    return graph.run(prepared, staged, count)
                graph = self._record(prepared, staged, layout)
                logits = graph.run(prepared, staged, count)
                expected = self._model.decode_clicks(prepared, [clicks]).final.logits
                if _agree(logits, expected):
                    self._graphs[key] = graph
                    while len(self._graphs) > self._most:
                        self._graphs.popitem(last=False)
                    return logits
                reason = "a graph did not repeat what it had recorded"
        except Exception as error:  # whatever it is, there is the ordinary way
            reason = f"{type(error).__name__}: {error}"
        self.failed = True
        self._graphs.clear()
        _log.warning("clicks are decoded without graphs from now on: %s", reason)
        return None

    def _record(self, prepared: PreparedFeatures, staged: StagedClicks, layout: object) -> _Graph:
        """Record a graph, over memory that holds neither these clicks nor, if new, this picture.

        So if anything of them became part of the graph by mistake, it would show at once.
        """
        shared = (g.picture for (_, _, of), g in self._graphs.items() if of == layout)
        picture = next(shared, None) or _PictureMemory(prepared)
        rows = torch.zeros_like(staged.rows, device=prepared.features.mask_features.device)
        inputs = replace(staged, rows=rows)

        def compute() -> Tensor:
            with _casts_not_kept():
                logits: Tensor = self._model.transformer.decode_staged(
                    picture.prepared, inputs
                ).final.logits
                return logits

        return _Graph(picture, rows, self._recorder.record(compute))


class _Graph(NamedTuple):
    """A recording and the memory that it reads."""

    picture: _PictureMemory
    rows: Tensor
    recorded: Recorded

    def run(self, prepared: PreparedFeatures, staged: StagedClicks, count: int) -> Tensor:
        """Decode `count` clicks (the rest is padding); the result has memory of its own."""
        self.picture.hold(prepared)
        self.rows.copy_(staged.to(self.rows.device).rows)
        self.recorded.replay()
        output = self.recorded.output
        return torch.cat([output[:, :count], output[:, self.rows.shape[1] :]], dim=1)


class _PictureMemory:
    """Memory for the features of one picture after the other, laid out like those of the first.

    Attributes
    ----------
    prepared : PreparedFeatures
        Whatever picture is held.
    """

    def __init__(self, like: PreparedFeatures) -> None:
        memory = {key: torch.zeros_like(whole) for key, whole in _memory(like).items()}
        self._memory = list(memory.values())
        self._held: weakref.ref[PreparedFeatures] | None = None
        self.prepared = like.map(
            lambda x: memory[_storage(x)].as_strided(x.shape, x.stride(), x.storage_offset())
        )

    def hold(self, prepared: PreparedFeatures) -> None:
        """Copy a picture's features, unless they are the ones held."""
        if self._held is not None and self._held() is prepared:
            return
        self._held = None
        for mine, theirs in zip(self._memory, _memory(prepared).values(), strict=True):
            mine.copy_(theirs)
        self._held = weakref.ref(prepared)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _memory(prepared: PreparedFeatures) -> dict[int, Tensor]:
    """All memory behind the tensors, each piece once and as a row; some tensors share theirs."""
    found: dict[int, Tensor] = {}
    for tensor in prepared.tensors():
        length = tensor.untyped_storage().nbytes() // tensor.element_size()
        found.setdefault(_storage(tensor), tensor.as_strided((length,), (1,), 0))
    return found


def _layout(prepared: PreparedFeatures) -> tuple[object, ...]:
    """Describe what two pictures must have in common to be held by the same memory."""
    memory = _memory(prepared)
    places = list(memory)
    return (
        prepared.padded_size,
        *(len(whole) for whole in memory.values()),
        *(
            (places.index(_storage(x)), x.dtype, x.shape, x.stride(), x.storage_offset())
            for x in prepared.tensors()
        ),
    )


@contextlib.contextmanager
def _casts_not_kept() -> Iterator[None]:
    """Let autocast convert weights anew each time: what it keeps is freed when it ends."""
    keeps = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(keeps)


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Whether logits are equal but for rounding, which may tip a few attention masks, too."""
    near = (found.float() - expected.float()).abs() <= _TOLERANCE * expected.abs().amax()
    return bool(near.float().mean() >= _SHARE)
