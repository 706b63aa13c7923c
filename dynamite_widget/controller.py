"""AnnotationController: one picture's session and the network that answers it. No Jupyter here.

Edits are applied at once, in the calling thread, under a lock; masks follow from the model thread
(`inference`), where the newest state wins. Events tell who is interested.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .answers import Job, Result, Status, Target
from .embedding_cache import EmbeddingCache, shared_cache
from .errors import DynaMITeError, SessionError
from .inference import Inference
from .intents import as_instance
from .network import checkpoint_hash, embedding_key, make_predictor, model_name
from .picture import Picture, load_picture
from .rle import RLE
from .segmentation import Segmentation
from .session import ClickSession
from .session_json import read_session
from .session_state import SessionState
from .worker import SerialThread

logger = logging.getLogger(__name__)

Event = Literal["changed", "prediction", "provisional", "error", "status"]
EVENTS: tuple[Event, ...] = ("changed", "prediction", "provisional", "error", "status")
Callback = Callable[[Any], object]


@dataclass(frozen=True)
class View:
    """One consistent look at a controller.

    `result` is the newest prediction of this picture; it may answer an older state (compare the
    revisions).
    """

    revision: int
    state: SessionState
    picture: Picture
    can_undo: bool
    can_redo: bool
    result: Result | None
    status: Status


class AnnotationController:
    """Session, network and worker thread of one picture at a time.

    Methods may be called from any thread. Edits take effect before they return; they never wait for
    the network, except for locking, which needs the present mask.

    Events, see `add_callback`:

    - ``changed(state)``: after every edit, in the thread that made it.
    - ``prediction(result)``, ``error(exception)``, ``status(status)``: on a thread of their own;
      callbacks may wait for predictions and edit the session.
    - ``provisional(labels)``: on that thread, coarse labels to show while a slow network is at the
      prediction of the present state, which follows.

    Parameters
    ----------
    image : object
        Whatever `load_image` takes.
    model, checkpoint, device :
        As for `load_model`; the network is loaded by the model thread and shared in the process.
    predictor : object, optional
        A `Predictor` to use in place of these.
    session : ClickSession, optional
        Clicks to start from; by default none.
    classes : iterable of str
        Class names of a new session.
    name : str, optional
        Name of the picture; by default its file name.
    cache : EmbeddingCache, optional
        By default the one that all controllers share.
    display_long_side_px : int
        Size of the label maps made for display.
    """

    def __init__(
        self,
        image: Any,
        *,
        model: str = "lite",
        checkpoint: str | os.PathLike[str] | None = None,
        device: str = "auto",
        predictor: Any = None,
        session: ClickSession | None = None,
        classes: Iterable[str] = (),
        name: str | None = None,
        cache: EmbeddingCache | None = None,
        display_long_side_px: int = 2048,
    ) -> None:
        self._lock = threading.RLock()
        self._callbacks: dict[Event, list[Callback]] = {event: [] for event in EVENTS}
        self._revision = 0
        self._closed = False
        # In the caller's thread: what is wrong with a picture is said where it is given, truncated
        # files included. Encoding it for display, the larger part, is the front end's thread's.
        self._picture = load_picture(image, name, 1)
        self._session = self._session_for(self._picture, session, classes, check_image=True)
        self._cache = shared_cache() if cache is None else cache
        self.events = SerialThread("dynamite-events")
        make = functools.partial(make_predictor, model, checkpoint, device)
        if predictor is not None:
            make = functools.partial(_identity, predictor)
        this = weakref.ref(self)
        self._inference = Inference(
            functools.partial(_note_checkpoint, this, make),
            model if predictor is None else model_name(predictor),
            self._cache,
            display_long_side_px,
            functools.partial(_announce, this, "status"),
            functools.partial(_announce, this, "prediction"),
            functools.partial(_announce, this, "error"),
            functools.partial(_announce, this, "provisional"),
        )
        self._submit()

    # -- reading ---------------------------------------------------------------------------------

    @property
    def session(self) -> ClickSession:
        """An independent copy of the session, history included."""
        with self._lock:
            return self._session.copy()

    @property
    def state(self) -> SessionState:
        """The present state; immutable."""
        with self._lock:
            return self._session.state

    @property
    def picture(self) -> Picture:
        """The present picture."""
        with self._lock:
            return self._picture

    @property
    def revision(self) -> int:
        """Counts the states; goes up with every edit, undo, redo and new picture."""
        with self._lock:
            return self._revision

    @property
    def status(self) -> Status:
        """What the model thread is at."""
        return self._inference.status

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def view(self) -> View:
        """Return one consistent look at everything."""
        with self._lock:
            result = self._inference.result
            if result is not None and result.picture.version != self._picture.version:
                result = None
            return View(
                self._revision,
                self._session.state,
                self._picture,
                self._session.can_undo,
                self._session.can_redo,
                result,
                self._inference.status,
            )

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the present state (or a later one) is predicted.

        Returns
        -------
        bool
            False if `timeout_s` passed first.

        Raises
        ------
        DynaMITeError
            If the prediction failed; the cause is chained. The clicks are kept.
        """
        return self._inference.wait(self.revision, timeout_s) is not None

    @property
    def settled(self) -> bool:
        """Whether the present state was answered, or failed."""
        with self._lock:
            return self._inference.settled >= self._revision

    @property
    def segmentation(self) -> Segmentation:
        """Segmentation of the present state; waits for it and raises as `wait` does."""
        result = self._inference.wait(self.revision)
        if result is None:  # pragma: no cover - only with a timeout
            raise DynaMITeError("there is no prediction")
        return result.segmentation

    # -- editing ---------------------------------------------------------------------------------

    def apply(self, name: str, **args: Any) -> SessionState:
        """Apply an intent (see `intents`) and return the new state.

        Locking takes the present mask when none is given, and waits for it.

        Raises
        ------
        SessionError
            If the intent does not fit; nothing has changed then.
        """
        if name == "lock" and args.get("locked") is True and args.get("mask") is None:
            return self._lock_present(args.get("instance"))
        with self._lock:
            state, changed = self._apply_locked(name, args)
        if changed:
            self._emit("changed", state)
        return state

    def undo(self) -> bool:
        """Take the last edit back; False if there is none."""
        return self._travel("undo")

    def redo(self) -> bool:
        """Bring the last undone edit back; False if there is none."""
        return self._travel("redo")

    def set_image(
        self,
        image: Any,
        *,
        session: ClickSession | None = None,
        name: str | None = None,
        classes: Iterable[str] | None = None,
    ) -> ClickSession:
        """Show another picture, with its session or a new one, and return the old session.

        No edit can come between what is returned and the new picture. `classes` defaults to those
        of the old session.
        """
        with self._lock:
            version = self._picture.version + 1
        picture = load_picture(image, name, version)
        with self._lock:
            self._check_open()
            names = self._session.state.classes if classes is None else classes
            new_session = self._session_for(picture, session, names, check_image=True)
            old = self._session
            # The network stays; one that was given with the session has made no mask here.
            new_session.checkpoint_hash = old.checkpoint_hash or new_session.checkpoint_hash
            self._picture, self._session = picture, new_session
            state = self._changed()
        self._emit("changed", state)
        return old

    def load_session(
        self,
        session: ClickSession | Mapping[str, Any] | str | bytes | os.PathLike[str],
        *,
        check_image: bool = True,
    ) -> None:
        """Replace the session by another of the same picture.

        Parameters
        ----------
        session : ClickSession, mapping, JSON text or path
            JSON text begins with a brace.
        check_image : bool
            Refuse a session whose picture has the same size but other pixels.

        Raises
        ------
        SessionError
            If the session is damaged or belongs to another picture.
        """
        loaded = read_session(session)
        with self._lock:
            self._check_open()
            checkpoint = self._session.checkpoint_hash
            self._session = self._session_for(self._picture, loaded, (), check_image)
            self._session.checkpoint_hash = checkpoint or self._session.checkpoint_hash
            state = self._changed()
        self._emit("changed", state)

    def prefetch(self, image: Any) -> None:
        """Embed a picture that will be shown next, as soon as there is nothing else to do."""
        picture = load_picture(image, None, 0)
        cache = self._cache

        def run(predictor: Any, _embedding: Any, _result: Result) -> None:
            key = embedding_key(picture, predictor)
            cache.prefetch(key, lambda: predictor.embed(picture.image))

        def failed(error: Exception) -> None:
            logger.warning("the next picture was not embedded ahead: %s", error)

        self.ask(Job(run, _nothing, failed, key="prefetch", ahead=picture))

    def ask(self, job: Job) -> None:
        """Compute something on the model thread when it is idle."""
        self._inference.ask(job)

    # -- events ----------------------------------------------------------------------------------

    def add_callback(self, event: Event, callback: Callback) -> None:
        """Call `callback` with the state, result, exception or status on every such event."""
        if event not in EVENTS:
            raise ValueError(f"unknown event {event!r}; events: {', '.join(EVENTS)}")
        with self._lock:
            self._callbacks[event].append(callback)

    def remove_callback(self, event: Event, callback: Callback) -> None:
        """Stop calling `callback`; nothing happens if it was not added."""
        with self._lock:
            if callback in self._callbacks.get(event, []):
                self._callbacks[event].remove(callback)

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """End the threads, free the embedding; the session stays readable."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for callbacks in self._callbacks.values():
                callbacks.clear()
        self._inference.close()
        self.events.close()

    def __enter__(self) -> AnnotationController:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- inside ----------------------------------------------------------------------------------

    def _apply_locked(self, name: str, args: Mapping[str, Any]) -> tuple[SessionState, bool]:
        self._check_open()
        before = self._session.state
        after = self._session.apply(name, **args)
        if after == before:
            return after, False
        return self._changed(), True

    def _travel(self, direction: Literal["undo", "redo"]) -> bool:
        with self._lock:
            self._check_open()
            moved: bool = getattr(self._session, direction)()
            state = self._changed() if moved else self._session.state
        if moved:
            self._emit("changed", state)
        return moved

    def _lock_present(self, instance: Any) -> SessionState:
        """Lock an instance on the mask of the state that is locked, whoever edits meanwhile."""
        while True:
            with self._lock:
                revision, state = self._revision, self._session.state
            target = as_instance(state, instance)
            if state.instance(target).locked:
                return state
            needs_network = state.clicks_of(target) or state.strokes
            if not needs_network:
                mask = state.instance(target).fixed_mask
            else:
                result = self._inference.wait(revision)
                if result is None or result.revision != revision:
                    continue
                mask = RLE.from_mask(result.segmentation.mask(target))
            with self._lock:
                if self._revision != revision:
                    continue
                args = {"instance": target, "locked": True, "mask": mask}
                state, changed = self._apply_locked("lock", args)
            if changed:
                self._emit("changed", state)
            return state

    def _session_for(
        self,
        picture: Picture,
        session: ClickSession | None,
        classes: Iterable[str],
        check_image: bool,
    ) -> ClickSession:
        if session is None:
            return ClickSession(
                picture.height,
                picture.width,
                classes,
                image_name=picture.name,
                image_hash=picture.hash,
            )
        state = session.state
        if (state.height, state.width) != (picture.height, picture.width):
            raise SessionError(
                f"the session is of a {state.width} x {state.height} picture, "
                f"this one is {picture.width} x {picture.height}"
            )
        if check_image and session.image_hash and session.image_hash != picture.hash:
            raise SessionError(
                f"the session belongs to another picture ({session.image_name or 'unnamed'}); "
                "load_session(..., check_image=False) takes it all the same"
            )
        copied = session.copy()
        copied.image_name = picture.name or copied.image_name
        copied.image_hash = picture.hash
        return copied

    def _changed(self) -> SessionState:
        self._revision += 1
        self._submit()
        return self._session.state

    def _submit(self) -> None:
        with self._lock:
            self._inference.submit(Target(self._revision, self._picture, self._session.state))

    def _check_open(self) -> None:
        if self._closed:
            raise DynaMITeError("the controller is closed")

    def _emit(self, event: Event, value: Any) -> None:
        with self._lock:
            callbacks = tuple(self._callbacks[event])
        for callback in callbacks:
            try:
                callback(value)
            except Exception:
                logger.exception("a callback of event %r failed", event)


def _note_checkpoint(this: weakref.ref[AnnotationController], make: Callable[[], Any]) -> Any:
    predictor = make()
    controller = this()
    if controller is not None:
        with controller._lock:
            controller._session.checkpoint_hash = checkpoint_hash(predictor)
    return predictor


def _announce(this: weakref.ref[AnnotationController], event: Event, value: Any) -> None:
    """Pass an event of the model thread on to the events thread."""
    controller = this()
    if controller is not None:
        controller.events.post(functools.partial(_deliver, this, event, value))


def _deliver(this: weakref.ref[AnnotationController], event: Event, value: Any) -> None:
    controller = this()
    if controller is not None:
        controller._emit(event, value)


def _identity(predictor: Any) -> Any:
    return predictor


def _nothing() -> None:
    return None
