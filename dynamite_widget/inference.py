"""The thread that turns session states into segmentations; the newest state wins.

It loads the network, embeds the picture and predicts, one thing at a time, for whatever state was
submitted last: states that were overtaken meanwhile are skipped, and what is computed for a picture
ends when another one is to be shown. Side jobs (previews, embedding the next picture) run when
there is nothing else to do. Knows no session history and no notebook.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import sys
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .answers import Job, ProvisionalLabels, Result, Status, Target, describe
from .cancelling import Cancelled, interruptible
from .embedding_cache import EmbeddingCache, Key
from .errors import DynaMITeError
from .network import embedding_key, takes_argument
from .picture import Picture
from .segmentation import Segmentation
from .session_state import Click

logger = logging.getLogger(__name__)

_KEPT_PIXELS = 8_000_000
_KEPT_PREDICTIONS = 8
_EXIT_PATIENCE_S = 60.0
SLOW_PREDICTION_MS = 400.0
"""Where the last two predictions of the network both took longer, coarse masks are shown first."""

_living: weakref.WeakSet[Inference] = weakref.WeakSet()


class Inference:
    """Owner of the model thread of one controller.

    Parameters
    ----------
    make_predictor : callable
        Returns a `Predictor`; called on the thread, again after a failure.
    model_name : str
        For the status.
    cache : EmbeddingCache
        Where embeddings are kept.
    display_long_side_px : int
        Size of `Result.labels`.
    on_status, on_result, on_error : callable
        Called on the thread with a `Status`, a `Result`, an exception. Must not block.
    on_provisional : callable
        Called on the thread with `ProvisionalLabels` while a slow prediction goes on.
    """

    def __init__(
        self,
        make_predictor: Callable[[], Any],
        model_name: str,
        cache: EmbeddingCache,
        display_long_side_px: int,
        on_status: Callable[[Status], None],
        on_result: Callable[[Result], None],
        on_error: Callable[[Exception], None],
        on_provisional: Callable[[ProvisionalLabels], None],
    ) -> None:
        self._make_predictor = make_predictor
        self._cache = cache
        self._long_side_px = display_long_side_px
        self._on_status, self._on_result, self._on_error = on_status, on_result, on_error
        self._on_provisional = on_provisional
        self._condition = threading.Condition()
        # Under the condition's lock:
        self._target: Target | None = None
        self._settled = -1
        self._result: Result | None = None
        self._failure: Exception | None = None
        self._jobs: deque[Job] = deque()
        self._closed = False
        self._status = Status(model=model_name)
        # Touched by the thread only:
        self._predictor: Any = None
        self._embedding: Any = None
        self._embedded: tuple[int, Key] | None = None
        self._predictions: OrderedDict[tuple[Click, ...], Segmentation] = OrderedDict()
        # Two, as the first prediction of a network takes longer than those after it.
        self._latencies_ms: deque[float] = deque(maxlen=2)
        self._thread = threading.Thread(target=self._run, name="dynamite-model", daemon=True)
        _living.add(self)
        self._thread.start()

    # -- from any thread -------------------------------------------------------------------------

    def submit(self, target: Target) -> None:
        """Ask for a state; one that was asked for before and not begun yet is forgotten."""
        with self._condition:
            self._target = target
            self._condition.notify_all()

    def ask(self, job: Job) -> None:
        """Queue a job; a waiting one with the same key is skipped."""
        old: list[Job] = []
        with self._condition:
            closed = self._closed
            if not closed:
                if job.key is not None:
                    old = [other for other in self._jobs if other.key == job.key]
                    self._jobs = deque(other for other in self._jobs if other.key != job.key)
                self._jobs.append(job)
                self._condition.notify_all()
        for other in old:
            other.skipped()
        if closed:
            job.failed(DynaMITeError("the widget is closed"))

    def wait(self, revision: int, timeout_s: float | None = None) -> Result | None:
        """Wait for the result of a revision or a later one; None on timeout.

        Raises
        ------
        DynaMITeError
            If the prediction failed (the cause is chained), or the controller is closed.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("waiting on the model thread for the model thread would never end")
        with self._condition:
            if not self._condition.wait_for(
                lambda: self._closed or self._settled >= revision, timeout_s
            ):
                return None
            if self._settled < revision:
                raise DynaMITeError("the controller is closed")
            if self._failure is not None:
                raise DynaMITeError(describe(self._failure)) from self._failure
            return self._result

    @property
    def result(self) -> Result | None:
        """The newest result, of whatever revision."""
        with self._condition:
            return self._result

    @property
    def status(self) -> Status:
        """The present status."""
        with self._condition:
            return self._status

    @property
    def settled(self) -> int:
        """Revision of the newest state that was answered, or failed."""
        with self._condition:
            return self._settled

    def close(self, timeout_s: float | None = 10.0) -> None:
        """End the thread and release what it holds."""
        with self._condition:
            self._closed = True
            jobs, self._jobs = list(self._jobs), deque()
            self._condition.notify_all()
        for job in jobs:
            job.failed(DynaMITeError("the widget is closed"))
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    # -- on the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                with self._condition:
                    target, job = self._next()
                    while target is None and job is None and not self._closed:
                        self._condition.wait()
                        target, job = self._next()
                    closed = self._closed
                if closed:
                    if job is not None:
                        job.failed(DynaMITeError("the widget is closed"))
                    return
                if target is not None:
                    self._settle(target)
                elif job is not None:
                    self._run_job(job)
        finally:
            self._leave_picture(drop=True)
            self._predictor = None

    def _next(self, ahead: bool = True) -> tuple[Target | None, Job | None]:
        """Take the next thing to do: a state, else a job if there was a state; lock is held."""
        target = self._target
        if target is not None and target.revision > self._settled:
            return target, None
        for job in self._jobs if target is not None else ():
            if ahead or job.ahead is None:
                self._jobs.remove(job)
                return None, job
        return None, None

    def _settle(self, target: Target) -> None:
        try:
            self._prepare(target.picture)
            with self._condition:
                if self._target is not None and self._target is not target:
                    target = self._target  # overtaken while the picture was embedded
                if self._closed or self._embedded is None:
                    return
                if target.picture.version != self._embedded[0]:
                    return
            with interruptible(functools.partial(self._go_on_with, target.picture)):
                result = self._predict(target)
        except Cancelled:
            return  # for another picture, which comes next
        except Exception as error:
            if not isinstance(error, DynaMITeError):
                logger.exception("revision %d could not be predicted", target.revision)
            with self._condition:
                self._settled, self._failure = target.revision, error
                self._status = replace(self._status, state="error", message=describe(error))
                status = self._status
                self._condition.notify_all()
            self._on_status(status)
            self._on_error(error)
            return
        with self._condition:
            self._settled, self._failure, self._result = target.revision, None, result
            latency_ms = round(result.latency_ms, 1)
            if self._target is None or self._target.revision == target.revision:
                self._status = replace(
                    self._status, state="ready", message="", latency_ms=latency_ms
                )
            status = self._status
            self._condition.notify_all()
        self._on_result(result)
        self._on_status(status)

    def _prepare(self, picture: Picture) -> None:
        if self._predictor is None:
            self._set_status(state="starting", message="loading the network")
            self._predictor = self._make_predictor()
            self._set_status(device=str(getattr(self._predictor, "device", "")))
        if self._embedded is None or self._embedded[0] != picture.version:
            self._leave_picture()
            self._set_status(state="embedding", message="")
            key = embedding_key(picture, self._predictor)
            predictor = self._predictor
            with interruptible(functools.partial(self._go_on_with, picture)):
                self._embedding = self._with_room(
                    lambda: self._cache.acquire(key, lambda: predictor.embed(picture.image))
                )
            self._embedded = (picture.version, key)

    def _go_on_with(self, picture: Picture) -> None:
        """End what is being computed for a picture when another one is to be shown."""
        with self._condition:
            wanted = None if self._target is None else self._target.picture
            if self._closed or (wanted is not None and wanted.hash != picture.hash):
                raise Cancelled

    def _meanwhile(self, ahead: Picture) -> None:
        """Do what came up while a picture is embedded ahead of time; end that if it is no use."""
        while True:
            with self._condition:
                if self._closed:
                    raise Cancelled
                target, job = self._next(ahead=False)
            if job is not None:
                self._run_job(job)
            elif target is None:
                return
            elif self._embedded is not None and target.picture.version == self._embedded[0]:
                self._settle(target)
            elif target.picture.hash == ahead.hash:
                self._set_status(state="embedding", message="")
                return
            else:
                raise Cancelled

    def _leave_picture(self, drop: bool = False) -> None:
        if self._embedded is not None:
            self._cache.release(self._embedded[1], drop=drop)
        self._embedding = self._embedded = None
        self._predictions.clear()
        if drop:
            with self._condition:
                self._result = None

    def _predict(self, target: Target) -> Result:
        started = time.perf_counter()
        state = target.state
        base = self._predictions.get(state.clicks)
        if base is None:
            self._set_status(state="predicting", message="")
            base = self._segment(target)
            self._keep(state.clicks, base)
        segmentation = base.with_edits(state)
        height, width = target.picture.size_within(self._long_side_px)
        labels = self._with_room(lambda: segmentation.label_map_at(height, width))
        counts = np.bincount(labels.reshape(-1), minlength=state.next_id)
        scale = state.height * state.width / (height * width)
        ids = segmentation.instances
        return Result(
            target.revision,
            state,
            target.picture,
            segmentation,
            labels,
            {i: round(float(counts[i]) * scale) for i in ids},
            {i: float(score) for i, score in zip(ids, segmentation.scores, strict=True)},
            (time.perf_counter() - started) * 1000,
        )

    def _segment(self, target: Target) -> Segmentation:
        state, predict = target.state, self._predictor.predict
        slow = len(self._latencies_ms) == 2 and min(self._latencies_ms) > SLOW_PREDICTION_MS
        # Asked for once: the second attempt of `_with_room` does without.
        previews = [functools.partial(self._show, target)] if slow else []
        if slow and not takes_argument(predict, "on_preview"):
            previews.clear()

        def compute() -> Segmentation:
            options = {"on_preview": previews.pop()} if previews else {}
            found: Segmentation = predict(
                self._embedding, state.clicks, instances=state.instance_ids, **options
            )
            return found

        started = time.perf_counter()
        segmentation: Segmentation = self._with_room(compute)
        if any(click.instance for click in state.clicks):  # otherwise no network has run
            self._latencies_ms.append((time.perf_counter() - started) * 1000)
        return segmentation

    def _show(self, target: Target, coarse: Segmentation) -> None:
        """Pass coarse masks on, unless a newer state waits; what goes wrong costs no answer."""
        try:
            with self._condition:
                if self._closed or self._target is not target:
                    return
            height, width = target.picture.size_within(self._long_side_px)
            labels = coarse.with_edits(target.state).label_map_at(height, width)
            self._on_provisional(ProvisionalLabels(target.revision, target.picture, labels))
        except Exception:
            logger.exception("the coarse masks of revision %d are not shown", target.revision)

    def _keep(self, clicks: tuple[Click, ...], base: Segmentation) -> None:
        """Remember a few predictions, so that undo, redo and renaming cost nothing."""
        self._predictions[clicks] = base
        pixels = max(1, base.height * base.width)
        limit = max(1, min(_KEPT_PREDICTIONS, _KEPT_PIXELS // pixels))
        while len(self._predictions) > limit:
            self._predictions.popitem(last=False)

    def _run_job(self, job: Job) -> None:
        with self._condition:
            failure, result = self._failure, self._result
        try:
            if failure is not None:
                raise failure
            if result is None:
                raise DynaMITeError("there is no prediction yet")
            with self._interruptions_of(job):
                job.run(self._predictor, self._embedding, result)
        except Cancelled:
            job.skipped()
        except Exception as error:
            job.failed(error)

    def _interruptions_of(self, job: Job) -> contextlib.AbstractContextManager[None]:
        if job.ahead is None:
            return contextlib.nullcontext()
        return interruptible(functools.partial(self._meanwhile, job.ahead))

    def _with_room(self, compute: Callable[[], Any]) -> Any:
        """Compute; if memory runs out, drop what is kept for convenience and try once more."""
        try:
            return compute()
        except Exception as error:
            if not isinstance(error, MemoryError) and "OutOfMemory" not in type(error).__name__:
                raise
            logger.warning("out of memory; dropping cached embeddings and trying again")
        self._predictions.clear()
        self._cache.clear()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return compute()

    def _set_status(self, **changes: Any) -> None:
        with self._condition:
            status = replace(self._status, **changes)
            if status == self._status:
                return
            self._status = status
        self._on_status(status)


@atexit.register
def _close_all() -> None:
    """End all threads: one inside torch while the interpreter goes down aborts the process."""
    for inference in list(_living):
        inference.close(_EXIT_PATIENCE_S)
