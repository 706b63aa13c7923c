"""DynaMITeWidget: click objects in a notebook, get a mask for each.

Traits and Python API around one `AnnotationController`; messages are in `front_end`. The kernel
owns every trait the front end shows.
"""

from __future__ import annotations

import asyncio
import contextvars
import difflib
import functools
import inspect
import logging
import math
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import anywidget
import traitlets as t

from . import embed_html, messages, snapshot
from .answers import Result, Status, describe
from .controller import AnnotationController, View
from .embedding_cache import EmbeddingCache
from .errors import DynaMITeError, SessionError
from .front_end import FrontEnd
from .results import ResultsAPI
from .session_json import read_session, write_atomically

logger = logging.getLogger(__name__)

_STATIC = Path(__file__).parent / "static"
_SCRIPT, _STYLE = _STATIC / "widget.js", _STATIC / "widget.css"
for _file in (_SCRIPT, _STYLE):
    if not _file.is_file():
        raise ImportError(
            f"the front end is not built: {_file.name} is missing in {_STATIC}. In a clone of the "
            "repository run `cd js && npm ci && npm run build` (needs Node.js), or install the "
            "package from its wheel: `pip install dynamite-widget`."
        )

SNAPSHOT_DELAY_S = 1.0
_KERNEL_OWNED = frozenset(
    {
        "clicks",
        "instances",
        "classes",
        "status",
        "image_info",
        "history",
        "label_version",
        "snapshot",
    }
)
_FRONT_END_MAY_SET = frozenset({"active_instance", "hover_preview", "painted"})


class DynaMITeWidget(ResultsAPI, anywidget.AnyWidget):
    """Interactive segmentation of one picture.

    Edits from Python and from the front end take effect at once; masks follow from a worker thread,
    and everything that returns masks waits for it.

    Parameters
    ----------
    image : object
        Path, bytes of a picture file, PIL image, numpy array or torch tensor; see `load_image`.
    classes : iterable of str
        Class names, in the order of the digit keys.
    model : str
        Preset of the network, ``"lite"`` (bundled) by default.
    checkpoint : str or path, optional
        Weights for `model`.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` …
    predictor : Predictor, optional
        Used in place of `model`, `checkpoint` and `device`.
    session : ClickSession, mapping, JSON text or path, optional
        Clicks to go on from.
    name : str, optional
        Name of the picture; by default its file name.
    hover_preview : bool, optional
        Show what a click would do under the pointer; by default only on an accelerator.
    display_long_side_px : int
        Larger pictures are displayed from a reduced copy; clicks keep full-resolution coordinates.
    cache : EmbeddingCache, optional
        Where embeddings are kept; by default one cache for all widgets.
    layout : ipywidgets.Layout or dict, optional
        As for every widget.

    Attributes
    ----------
    clicks : list of dict
        ``t, x, y, instance`` of each click.
    instances : list of dict
        ``id, class_name, colour, area, score, visible, locked, clicks`` of each instance. Area and
        score are those of the newest prediction; the area is an estimate for reduced pictures.
    active_instance : int
        Where a plain click goes; may be set, 0 for none.
    classes, status, image_info, history, label_version, snapshot
        Read only; for observing and linking.

    Raises
    ------
    TypeError
        For an unknown argument; the message names the nearest valid one.
    ImageError, SessionError
        If the picture or the session cannot be used.
    """

    # As text: for paths, anywidget keeps every widget alive to tell it of changes of the file. The
    # line break says that it is no path.
    _esm = _SCRIPT.read_text(encoding="utf-8") + "\n"
    _css = _STYLE.read_text(encoding="utf-8") + "\n"

    clicks = t.List(t.Dict(), read_only=True).tag(sync=True)
    instances = t.List(t.Dict(), read_only=True).tag(sync=True)
    active_instance = t.Int(0).tag(sync=True)
    classes = t.List(t.Unicode(), read_only=True).tag(sync=True)
    status = t.Dict(read_only=True).tag(sync=True)
    image_info = t.Dict(read_only=True).tag(sync=True)
    history = t.Dict(read_only=True).tag(sync=True)
    label_version = t.Int(0, read_only=True).tag(sync=True)
    hover_preview = t.Bool(False).tag(sync=True)
    snapshot = t.Dict(read_only=True).tag(sync=True)
    painted = t.Int(0).tag(sync=True)

    def __init__(
        self,
        image: Any,
        *,
        classes: Iterable[str] = (),
        model: str = "lite",
        checkpoint: str | os.PathLike[str] | None = None,
        device: str = "auto",
        predictor: Any = None,
        session: Any = None,
        name: str | None = None,
        hover_preview: bool | None = None,
        display_long_side_px: int = 2048,
        cache: EmbeddingCache | None = None,
        layout: Any = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise TypeError(_unknown_argument(next(iter(unknown))))
        self._publish_lock = threading.RLock()
        self._publishing = threading.local()
        self._publish_serial = 0
        self._context: contextvars.Context | None = None
        self._change_callbacks: list[Callable[[DynaMITeWidget], object]] = []
        self._hover_preview_wanted = hover_preview
        self._thumbnail: tuple[int, Any] | None = None
        self._snapshot_revision = -1
        self._controller: AnnotationController | None = None
        self._front_end: FrontEnd | None = None
        controller = AnnotationController(
            image,
            model=model,
            checkpoint=checkpoint,
            device=device,
            predictor=predictor,
            session=None if session is None else read_session(session),
            classes=classes,
            name=name,
            cache=cache,
            display_long_side_px=display_long_side_px,
        )
        self._controller = controller
        self._front_end = FrontEnd(controller, self._send_custom, display_long_side_px)
        try:
            super().__init__(**({} if layout is None else {"layout": layout}))
            if hover_preview is not None:
                self.hover_preview = hover_preview
        except BaseException:
            controller.close()
            raise
        self.on_msg(self._on_message)
        controller.add_callback("changed", self._on_state)
        controller.add_callback("prediction", self._on_prediction)
        controller.add_callback("provisional", self._front_end.show)
        controller.add_callback("status", self._on_status)
        controller.add_callback("error", self._on_error)
        # A prediction may have come, or failed, before the callbacks were there.
        controller.events.post(self._catch_up)

    # -- results ---------------------------------------------------------------------------------

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the masks of the present clicks.

        Returns
        -------
        bool
            False if `timeout_s` passed first.

        Raises
        ------
        DynaMITeError
            If the prediction failed; the clicks are kept.
        """
        done = self.controller.wait(timeout_s)
        self._publish()
        if done and self._front_end is not None and not self._front_end.connected:
            # No page to slow down, and the notebook may end with this cell.
            self._update_snapshot()
        return done

    async def updated(self) -> None:
        """Wait for the masks of the present clicks without blocking the event loop."""
        await asyncio.get_running_loop().run_in_executor(None, self.wait)

    @property
    def controller(self) -> AnnotationController:
        """The controller behind the widget."""
        if self._controller is None:
            raise DynaMITeError("the widget is closed")
        return self._controller

    def on_change(self, callback: Callable[[DynaMITeWidget], object], remove: bool = False) -> None:
        """Call ``callback(widget)`` whenever new masks are there, or stop calling it.

        It is called on a thread of its own, and may wait for masks and edit.
        """
        with self._publish_lock:
            if not remove:
                self._change_callbacks.append(callback)
            elif callback in self._change_callbacks:
                self._change_callbacks.remove(callback)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a page with picture, overlay and clicks that opens without kernel or network."""
        self.wait()
        assert self._front_end is not None
        self.controller.events.drain()
        view = self.controller.view()
        image, data = self._front_end.image_message()
        labels, buffers = None, list[bytes]()
        if view.result is not None:
            labels, buffers = messages.labels_message(view.result)
        traits = {name: getattr(self, name) for name in (*_KERNEL_OWNED, *_FRONT_END_MAY_SET)}
        self._update_snapshot()
        traits["snapshot"] = self.snapshot
        traits["hover_preview"] = False
        traits["status"] = {**self.status, "state": "ready", "message": "saved page (read only)"}
        text = embed_html.page(
            title=view.picture.name or "DynaMITe",
            script=_SCRIPT.read_text(encoding="utf-8"),
            style=_STYLE.read_text(encoding="utf-8"),
            traits=traits,
            image=image,
            image_bytes=data,
            labels=labels,
            label_buffers=buffers,
            thumbnail=f"data:image/jpeg;base64,{self.snapshot['thumbnail']}",
            writable=sorted(_FRONT_END_MAY_SET),
        )
        write_atomically(Path(path), text.encode())

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Add a small picture for viewers without widgets: GitHub, nbconvert."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None or self._controller is None:
            return bundle
        data, metadata = bundle
        try:
            view = self.controller.view()
            data["image/png"] = snapshot.overlay_png(
                self._small(view.picture), view.state, view.result
            )
        except Exception:
            logger.exception("the fallback picture could not be drawn")
        return data, metadata

    def close(self) -> None:
        """Remove the widget from the page and free what it holds."""
        controller = getattr(self, "_controller", None)
        if controller is not None:
            controller.close()
            if self._front_end is not None:
                self._front_end.close()
            self._thumbnail = None
        super().close()

    # -- the front end ---------------------------------------------------------------------------

    def open(self) -> None:
        """Open the comm; called by ipywidgets."""
        self._publish()  # so that the comm opens with values, not with defaults
        super().open()
        self._unpin()

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take trait values from the front end; those that the kernel owns are sent back."""
        refused = {k for k in sync_data if k in _KERNEL_OWNED or k in ("_esm", "_css")}
        allowed = {k: v for k, v in sync_data.items() if k not in refused}
        wanted = allowed.pop("active_instance", None)
        painted = allowed.get("painted")
        if isinstance(painted, float) and math.isfinite(painted):
            allowed["painted"] = math.floor(painted)  # provisional labels are no whole revision
        with self._publish_lock:
            try:
                if wanted is not None:
                    self.controller.apply("select", instance=wanted)
                if allowed:
                    super().set_state(allowed)
            except (t.TraitError, DynaMITeError) as error:
                refused |= set(sync_data) & _FRONT_END_MAY_SET
                if self._front_end is not None:
                    self._front_end.report(str(error))
        if refused:
            self.send_state(sorted(refused & set(self.keys)))

    def _on_message(self, _widget: Any, content: Any, _buffers: Any) -> None:
        # Answers sent in this context reach the page while a cell runs: it names the subshell.
        self._context = contextvars.copy_context()
        if self._front_end is not None:
            self._front_end.receive(content)

    def _send_custom(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        self.send(content, buffers or None)

    def _send(self, msg: Any, buffers: Any = None) -> None:
        context = getattr(self, "_context", None)
        send = functools.partial(super()._send, msg, buffers=buffers)
        try:
            if context is None:
                send()
            else:
                context.copy().run(send)  # a context cannot be entered twice
        except Exception:
            # A page or kernel that is going away; the state is safe, the next `ready` gets it.
            logger.exception("a message could not be sent")
        self._unpin()

    def _unpin(self) -> None:
        """Let the front end choose the thread of its next message.

        ipykernel >= 7.4 sends it to the shell that published last on this comm: the main shell
        after any cell, which then is dead to the page until the cell ends. The names are private;
        where they do not exist this does nothing.
        """
        fields = getattr(self.comm, "__dict__", None)
        if fields:
            fields.pop("_reply_subshell_id", None)
            per_request = fields.get("_reply_subshell_ids")
            if isinstance(per_request, dict):
                per_request.clear()

    # -- publishing ------------------------------------------------------------------------------

    def _on_state(self, _state: Any) -> None:
        self._publish()
        self._schedule_snapshot()

    def _on_status(self, status: Status) -> None:
        if self._hover_preview_wanted is None and status.state == "ready" and status.device:
            self._hover_preview_wanted = not status.device.startswith("cpu")
            if self._hover_preview_wanted:
                self.hover_preview = True
        result = self.controller.view().result
        if result is None or self._front_end is None or self._front_end.announced(result):
            self._publish()
        # Else its labels go first, and the event that sends them publishes everything.

    def _on_prediction(self, result: Result) -> None:
        front_end = self._front_end
        if front_end is None or not front_end.announce(result):
            return
        self._publish(label_version=result.revision)
        self._schedule_snapshot()
        for callback in tuple(self._change_callbacks):
            try:
                callback(self)
            except Exception as error:
                logger.exception("an on_change callback failed")
                front_end.report(f"an on_change callback failed: {describe(error)}")

    def _on_error(self, error: Exception) -> None:
        if self._front_end is not None:
            self._front_end.report(describe(error))

    def _catch_up(self) -> None:
        if self._controller is None:
            return  # closed meanwhile
        result = self._controller.view().result
        if result is not None:
            self._on_prediction(result)
        self._publish()

    def _publish(self, **changes: Any) -> None:
        """Bring the traits up to the newest state, in one message."""
        controller = self._controller
        if controller is None or controller.closed:
            return
        with self._publish_lock:
            view = controller.view()
            values = {
                **changes,
                "clicks": messages.click_records(view.state),
                "instances": messages.instance_records(view.state, view.result),
                "active_instance": view.state.active_instance,
                "classes": list(view.state.classes),
                "status": _status_of(view),
                "image_info": messages.image_record(view.picture),
                "history": {"can_undo": view.can_undo, "can_redo": view.can_redo},
            }
            self._publish_serial = serial = self._publish_serial + 1
            with self.hold_sync():
                for name, value in values.items():
                    if self._publish_serial != serial:
                        break  # an observer edited the session, and newer values are out already
                    if getattr(self, name) != value:
                        self._publishing.value = value
                        self.set_trait(name, value)

    @t.validate("active_instance")
    def _validate_active_instance(self, proposal: Any) -> int:
        """Select when the trait is set, but not when it is published."""
        value = proposal["value"]
        if value != getattr(self._publishing, "value", None) and self._controller is not None:
            try:
                self._controller.apply("select", instance=value)
            except SessionError as error:
                raise t.TraitError(str(error)) from error
        return int(value)

    def _schedule_snapshot(self) -> None:
        self.controller.events.post(self._update_snapshot, SNAPSHOT_DELAY_S, key="snapshot")

    def _update_snapshot(self) -> None:
        view = self.controller.view()
        if view.revision == self._snapshot_revision or not self.controller.settled:
            return
        small = self._small(view.picture)
        value = snapshot.make_snapshot(small, view.picture, view.state, view.result)
        with self._publish_lock:
            if view.revision > self._snapshot_revision:
                self._snapshot_revision = view.revision
                self.set_trait("snapshot", value)

    def _small(self, picture: Any) -> Any:
        if self._thumbnail is None or self._thumbnail[0] != picture.version:
            self._thumbnail = (picture.version, snapshot.thumbnail(picture))
        return self._thumbnail[1]


def _status_of(view: View) -> dict[str, Any]:
    """Return the trait ``status``; an edit says "predicting" itself, which saves a message."""
    record = messages.status_record(view.status)
    answered = view.result is not None and view.result.revision >= view.revision
    if record["state"] == "ready" and not answered:
        record["state"] = "predicting"
    return record


def _unknown_argument(name: str) -> str:
    parameters = inspect.signature(DynaMITeWidget.__init__).parameters
    valid = [p for p in parameters if p not in ("self", "unknown")]
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"DynaMITeWidget got an unknown argument {name!r}; {hint}Valid: {', '.join(valid)}"
