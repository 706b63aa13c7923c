"""The picture in hand: opens pictures in one widget, one after the other, and keeps them safe.

Every edit is handed to the autosave thread; masks are drawn on a thread of their own once a person
pauses, so that neither waits for the other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from ..answers import Result
from ..doubt import doubtful_regions
from ..errors import DynaMITeError, ImageError, SessionError
from ..picture import Picture, load_picture
from ..session import ClickSession
from ..session_masks import masks_key
from ..worker import SerialThread
from .autosave import Autosave
from .sources import Source
from .store import META, AnnotationStore
from .timing import StopWatch

logger = logging.getLogger(__name__)

PAUSE_S = 1.0
"""Without an edit for so long, masks of large pictures are drawn for saving."""
QUICK_PIXELS = 2_000_000
"""Masks of pictures up to this size are saved with every click."""
_DOUBT_LONG_SIDE_PX = 256


class Desk:
    """One widget and the picture it shows. The annotator's lock is held by those who open.

    Parameters
    ----------
    source : Source
    store : AnnotationStore
    autosave : Autosave or None
        None: nothing is saved.
    make_widget : callable
        From a picture, a session (or None) and a name to a `DynaMITeWidget`.
    classes : tuple of str
        Of new sessions.
    on_edit : callable
        Called, without arguments, after an edit, in the thread that made it.
    """

    def __init__(
        self,
        source: Source,
        store: AnnotationStore,
        autosave: Autosave | None,
        make_widget: Callable[[Any, ClickSession | None, str], Any],
        classes: tuple[str, ...],
        on_edit: Callable[[], object],
    ) -> None:
        self._source, self._store, self._autosave = source, store, autosave
        self._make_widget, self._classes = make_widget, classes
        self._on_edit = on_edit
        self._lock = threading.RLock()
        self._masks = SerialThread("dynamite-masks")
        self._ahead_thread = SerialThread("dynamite-ahead")
        self._ahead: tuple[str, Picture] | None = None
        self._drawn: Any = None
        self._watch = StopWatch()
        self.widget: Any = None
        self.key = ""
        self._version = 0
        self.warning = ""

    # -- opening ---------------------------------------------------------------------------------

    def open(self, key: str) -> None:
        """Show a picture with its session; the one before is saved behind.

        Raises
        ------
        ImageError
            If the picture cannot be read; the one before stays open.
        """
        self.warning = ""
        picture = self._picture(key)
        session = self._session(key, picture)
        if self.widget is None:
            self.widget = self._make_widget(picture, session, key)
            controller = self.widget.controller
            with self._lock:
                self.key, self._version = key, controller.picture.version
            controller.add_callback("changed", self._changed)
            controller.add_callback("prediction", self._predicted)
        else:
            controller = self.widget.controller
            result, left = controller.view().result, self.key
            spent = self._watch.tick()
            with self._lock:
                self.key = ""  # edits from here on are in the session that is returned
            try:
                old = controller.set_image(
                    picture, session=session, name=key, classes=self._classes
                )
            except BaseException:
                with self._lock:
                    self.key = left
                raise
            with self._lock:
                self.key, self._version = key, controller.picture.version
            if left:
                self._leave(left, old, result, spent)
        self._watch = StopWatch(self._store.record(key).seconds)
        self._drawn = None
        if self._autosave is not None:
            self._autosave.note_current(key)
        if controller.session.history != (() if session is None else session.history):
            self._changed(None)  # an edit that came before this was ready for it
        result = controller.view().result
        if result is not None:
            self._predicted(result)

    def look_ahead(self, key: str) -> None:
        """Read a picture that will be opened next, and let the network embed it when idle."""
        self._ahead_thread.post(lambda: self._read_ahead(key), key="ahead")

    def _read_ahead(self, key: str) -> None:
        ahead, widget = self._ahead, self.widget
        if widget is None or widget.controller.closed:
            return
        if ahead is None or ahead[0] != key:
            try:
                ahead = (key, load_picture(self._source.image(key), key))
            except (ImageError, OSError, MemoryError) as error:
                logger.debug("%s cannot be read ahead: %s", key, error)
                return  # whoever opens it is told
            self._ahead = ahead
        widget.controller.prefetch(ahead[1])

    def _picture(self, key: str) -> Picture:
        ahead = self._ahead
        if ahead is not None and ahead[0] == key:
            self._ahead = None
            return ahead[1]
        try:
            return load_picture(self._source.image(key), key)
        except OSError as error:
            raise ImageError(f"cannot read {key!r}: {error}") from error

    def _session(self, key: str, picture: Picture) -> ClickSession | None:
        """Return the session to go on from: the saved one, else that of the source."""
        if self._autosave is not None and self._autosave.has(key):
            self._autosave.flush(30.0)
        try:
            session = self._store.load_session(key)
            if session is not None:
                size = (session.state.height, session.state.width)
                if size != (picture.height, picture.width) or (
                    session.image_hash and session.image_hash != picture.hash
                ):
                    raise SessionError("it was made for another picture of this name")
                return session
        except SessionError as error:
            if self._store.read_only:
                self.warning = f"The saved session of {key} cannot be used ({error})."
            else:
                aside = self._store.set_aside(key)
                self.warning = (
                    f"The saved session of {key} cannot be used ({error}). It is kept as "
                    f"{aside.name}."
                )
            logger.warning("%s", self.warning)
        try:
            session = self._source.session(key)
        except DynaMITeError as error:
            self.warning = f"The annotations of {key} cannot be read: {error}"
            logger.warning("%s", self.warning)
            return None
        if session is None:
            return None
        size = (session.state.height, session.state.width)
        if size != (picture.height, picture.width):
            self.warning = (
                f"The annotations of {key} are of a {size[1]} x {size[0]} picture; it is "
                f"{picture.width} x {picture.height} now. They are left out."
            )
            logger.warning("%s", self.warning)
            return None
        return session

    # -- saving ----------------------------------------------------------------------------------

    def save(self) -> None:
        """Have the present state saved, whether it changed or not."""
        with self._lock:
            key, version = self.key, self._version
        if self._autosave is not None and key:
            self._autosave.touch(key, lambda: self._snapshot(key, version))

    def tick(self) -> float:
        """Count the time up to now for the picture, and return its sum in seconds."""
        spent = self._watch.tick()
        if self.key:
            self._store.update(self.key, seconds=round(spent, 3))
        return spent

    def count(self) -> None:
        """Bring the record up to the present state, without waiting for the next save."""
        if self.key and self.widget is not None:
            self.tick()
            self._note(self.key, self.widget.controller.session)

    def draw_masks(self) -> None:
        """Draw the masks of the present state now, for saving; waits for the network."""
        if self.widget is not None:
            self.widget.wait()
            result = self.widget.controller.view().result
            if result is not None:
                self._draw(self.key, result)

    def _changed(self, _state: Any) -> None:
        if not self.key:
            return
        self.tick()
        self.save()
        self._on_edit()

    def _predicted(self, result: Result) -> None:
        key = self.key
        if key and result.state.instances:
            delay_s = 0.0 if _is_quick(result) else PAUSE_S
            self._masks.post(lambda: self._draw(key, result), delay_s, key="masks")

    def _draw(self, key: str, result: Result) -> None:
        """Draw the masks of a prediction, unless a newer one has come."""
        widget = self.widget
        if widget is None or widget.controller.closed:
            return
        if widget.controller.view().result is not result or self.key != key:
            return
        _ = result.segmentation.label_map, result.segmentation.scores
        doubt = _doubt(result)
        with self._lock:
            if self.key != key:
                return
            self._drawn = result.segmentation
        saved = self._store.record(key)
        if saved.doubt != doubt:
            self._store.update(key, doubt=doubt)
        self.save()

    def _snapshot(self, key: str, version: int) -> ClickSession | None:
        """Return the present session with its masks, if those are drawn; None after leaving."""
        controller = self.widget.controller
        session = controller.session
        view = controller.view()
        if view.picture.version != version:
            return None  # it was left meanwhile, and whoever left it has seen to saving it
        result = view.result
        if result is not None and (_is_quick(result) or result.segmentation is self._drawn):
            _keep_masks(session, result)
        self._note(key, session)
        return session

    def _leave(self, key: str, session: ClickSession, result: Result | None, spent: float) -> None:
        self._store.update(key, seconds=round(spent, 3))
        if self._autosave is None:
            return
        if not session.history and not self._store.session_path(key).exists():
            if self._store.record(key).status != "todo" or self._store.record(key).seconds >= 1:
                self._autosave.touch(key)
            return

        def snapshot() -> ClickSession:
            if result is not None:
                _keep_masks(session, result)
            self._note(key, session)
            return session

        self._autosave.touch(key, snapshot)

    def _note(self, key: str, session: ClickSession) -> None:
        """Bring the record of a picture up to a session."""
        state = session.state
        masks = session.saved_masks
        scores = () if masks is None else [score for _, score in masks.scores]
        known = self._store.record(key)
        values = {
            "instances": len(state.instances),
            "clicks": len(state.clicks),
            "classes": tuple(dict.fromkeys(i.class_name for i in state.instances)),
        }
        if masks is not None:
            values["score"] = round(min(scores), 4) if scores else None
        if any(getattr(known, name) != value for name, value in values.items()):
            self._store.update(key, at=round(time.time(), 3), **values)
        meta = session.meta.get(META)
        session.meta[META] = dict(meta) if isinstance(meta, dict) else {}

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Save, end the threads and close the widget."""
        self._ahead_thread.close()
        if self.widget is None:
            return
        if self.key and not self.widget.controller.closed:
            self.tick()
            view = self.widget.controller.view()
            if self._autosave is not None and self.widget.controller.session.history:
                if view.result is not None:
                    self._draw(self.key, view.result)
                self.save()
        self._masks.close()
        if self._autosave is not None:
            self._autosave.flush(30.0)
        with self._lock:
            self.key = ""
        self.widget.close()


def _is_quick(result: Result) -> bool:
    return result.state.height * result.state.width <= QUICK_PIXELS


def _keep_masks(session: ClickSession, result: Result) -> None:
    """Let a session carry the masks of a prediction, if they are those of its state."""
    if masks_key(result.state) == masks_key(session.state):
        try:
            session.keep_masks(result.segmentation)
        except Exception:
            # The clicks must reach the disk whatever happens to the masks.
            logger.exception("the masks of %s are not saved", session.image_name)


def _doubt(result: Result) -> float:
    """Return which part of the picture lies in regions where the network hesitates, 0..1."""
    state = result.state
    height, width = result.picture.size_within(_DOUBT_LONG_SIDE_PX)
    regions = doubtful_regions(
        result.segmentation.margin_at(height, width), state.height, state.width
    )
    area = sum(3.14159 * region.radius**2 for region in regions)
    return round(min(1.0, area / (state.height * state.width)), 4)
