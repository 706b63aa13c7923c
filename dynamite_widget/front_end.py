"""The kernel's end of the wire: takes messages of all views, applies them in order, answers each.

Every message is answered exactly once; a message that comes twice is applied once. Traits are not
handled here, see `widget`.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from . import intents
from .answers import Job, ProvisionalLabels, Result, describe
from .controller import AnnotationController
from .doubt import DoubtfulRegion, doubtful_regions
from .errors import DynaMITeError
from .images import EncodedImage, encoded_bytes
from .messages import (
    INTENT_FIELDS,
    check_envelope,
    check_order,
    encode_labels,
    heat_map,
    intent_args,
    labels_message,
    provisional_message,
    request_id,
)
from .ordering import Answer, IntentOrder, Release
from .session_state import as_integer
from .worker import SerialThread

logger = logging.getLogger(__name__)

GAP_TIMEOUT_S = 2.0
MARGIN_LONG_SIDE_PX = 1024
DOUBT_LONG_SIDE_PX = 512
Send = Callable[[dict[str, Any], list[bytes]], None]


class FrontEnd:
    """All views of one widget.

    Messages are worked on by the controller's events thread; `receive` may be called from any.

    Parameters
    ----------
    controller : AnnotationController
        Whom the intents are for.
    send : callable
        Takes (content, buffers) and sends them to all views; may be called from any thread.
    display_long_side_px : int
        Size of the copy of the picture that is sent.
    gap_timeout_s : float
        How long a missing intent is waited for.
    """

    def __init__(
        self,
        controller: AnnotationController,
        send: Send,
        display_long_side_px: int = 2048,
        gap_timeout_s: float = GAP_TIMEOUT_S,
    ) -> None:
        self.controller = controller
        self.connected = False
        self._send = send
        self._long_side_px = display_long_side_px
        self._gap_timeout_s = gap_timeout_s
        self._order = IntentOrder()
        self._pictures = SerialThread("dynamite-pictures")
        self._encoded: tuple[int, EncodedImage] | None = None
        self._labels: tuple[int, int, dict[str, Any], list[bytes]] | None = None
        self._regions: tuple[int, tuple[DoubtfulRegion, ...]] | None = None
        self._lock = threading.Lock()

    # -- from the front end ----------------------------------------------------------------------

    def receive(self, content: Any) -> None:
        """Take a message; the answer follows on another thread."""
        if not self.controller.events.post(functools.partial(self._receive, content)):
            self._refuse(content, DynaMITeError("the widget is closed"))

    def _receive(self, content: Any) -> None:
        try:
            kind, name = check_envelope(content)
            if kind in INTENT_FIELDS:
                self._receive_intent(content)
            else:
                getattr(self, f"_{kind}")(name, content)
        except Exception as error:
            self._refuse(content, error)

    def _receive_intent(self, content: dict[str, Any]) -> None:
        view, seq = check_order(content)
        for release in self._order.offer(view, seq, content):
            self._deal_with(view, release)
        self._watch_gap(view)

    def _watch_gap(self, view: str) -> None:
        gap = self._order.gap(view)
        if gap is not None:
            skip = functools.partial(self._skip_gap, view, gap)
            self.controller.events.post(skip, self._gap_timeout_s, key=("gap", view, gap))

    def _skip_gap(self, view: str, seq: int) -> None:
        released = self._order.skip(view, seq)
        if released:
            logger.warning("view %s: intent %d did not come in time; going on", view, seq)
        for release in released:
            self._deal_with(view, release)
        if released:
            self._watch_gap(view)

    def _deal_with(self, view: str, release: Release) -> None:
        message = release.message
        if release.how == "refuse":
            self._refuse(message, DynaMITeError("too many messages wait for an earlier one"))
            return
        if release.how == "repeat":
            answer = release.answer or self._order.answer(view, release.seq)
            if answer is None:
                answer = {"type": "ok", "revision": self.controller.revision}
            self._send({**answer, "id": message["id"], "duplicate": True}, [])
            return
        if release.how == "late" and message["type"] in ("undo", "redo", "reset"):
            text = f"{message['type']} came too late and was left out"
            answer = {"type": "error", "message": text}
        else:
            answer = self._apply(message)
        self._order.remember(view, release.seq, answer)
        self._send({**answer, "id": message["id"]}, [])

    def _apply(self, message: Mapping[str, Any]) -> Answer:
        kind = message["type"]
        answer: Answer = {"type": "ok"}
        try:
            version = message.get("image_version")
            if version is not None and version != self.controller.picture.version:
                raise DynaMITeError(f"{kind} was meant for another picture and was left out")
            args = intent_args(kind, message)
            if kind == "undo":
                answer["changed"] = self.controller.undo()
            elif kind == "redo":
                answer["changed"] = self.controller.redo()
            else:
                state = self.controller.apply(kind, **args)
                if kind == "click":
                    answer["t"] = state.clicks[-1].t
                    answer["instance"] = state.clicks[-1].instance
                elif kind == "new_instance":
                    answer["instance"] = state.active_instance
        except Exception as error:
            return {"type": "error", "message": _in_words(error)}
        return {**answer, "revision": self.controller.revision}

    # -- requests --------------------------------------------------------------------------------

    def _ping(self, name: str, _content: Mapping[str, Any]) -> None:
        self._send({"type": "ok", "id": name, "revision": self.controller.revision}, [])

    def _ready(self, name: str, content: Mapping[str, Any]) -> None:
        self.connected = True
        # Encoding a large picture takes a second; clicks of other views shall not wait for it.
        if not self._pictures.post(functools.partial(self._encode_for, name, content)):
            raise DynaMITeError("the widget is closed")

    def _encode_for(self, name: str, content: Mapping[str, Any]) -> None:
        try:
            fields, data = self.image_message()
        except Exception as error:
            self._refuse(content, error)
            return

        def answer() -> None:
            if fields["version"] != self.controller.picture.version:
                self._ready(name, content)  # another picture came meanwhile
                return
            self._send({**fields, "id": name}, [data])
            self.send_labels()

        if not self.controller.events.post(answer):
            self._refuse(content, DynaMITeError("the widget is closed"))

    def image_message(self) -> tuple[dict[str, Any], bytes]:
        """Return the answer to ``ready``, without its id, and the encoded picture."""
        picture = self.controller.picture
        with self._lock:
            if self._encoded is None or self._encoded[0] != picture.version:
                image = encoded_bytes(picture.source, picture.image, self._long_side_px)
                self._encoded = (picture.version, image)
            encoded = self._encoded[1]
        return {
            "type": "image",
            "version": picture.version,
            "mime": encoded.mime,
            "width": encoded.width,
            "height": encoded.height,
            "full_width": picture.width,
            "full_height": picture.height,
        }, encoded.data

    def _preview(self, name: str, content: Mapping[str, Any]) -> None:
        view = self.controller.view()
        for field in ("x", "y", "instance"):
            if field not in content:
                raise DynaMITeError(f"preview: the field {field!r} is missing")
        # Not stored, but checked like a click.
        state = intents.click(view.state, content["x"], content["y"], content["instance"])
        target = state.clicks[-1].instance

        def run(predictor: Any, embedding: Any, result: Result) -> None:
            if result.picture is not view.picture or self.controller.revision != view.revision:
                self._post(functools.partial(self._skip, name))
                return
            raw = predictor.predict(embedding, state.clicks, instances=state.instance_ids)
            height, width = result.labels.shape
            mask = raw.with_edits(state).label_map_at(height, width) == target
            fields, buffers = encode_labels(mask.astype(np.uint8))
            answer = {"type": "preview", "id": name, "instance": target, **fields}
            self._post(functools.partial(self._send, answer, buffers))

        self._ask("preview", name, content, run)

    def _margin(self, name: str, content: Mapping[str, Any]) -> None:
        def run(_predictor: Any, _embedding: Any, result: Result) -> None:
            height, width = result.picture.size_within(MARGIN_LONG_SIDE_PX)
            heat = heat_map(result.segmentation.margin_at(height, width))
            answer = {
                "type": "margin",
                "id": name,
                "revision": result.revision,
                "width": width,
                "height": height,
            }
            self._post(functools.partial(self._send, answer, [heat.tobytes()]))

        self._ask("margin", name, content, run)

    def _doubtful(self, name: str, content: Mapping[str, Any]) -> None:
        index = as_integer(content.get("index", 0), "index", -(2**31), 2**31)

        def run(_predictor: Any, _embedding: Any, result: Result) -> None:
            regions = self._regions_of(result)
            answer: Answer = {"type": "doubtful", "id": name, "found": bool(regions)}
            if regions:
                region = regions[index % len(regions)]
                answer |= {"x": region.x, "y": region.y, "radius": region.radius}
                answer |= {"index": index % len(regions), "count": len(regions)}
            else:
                answer |= {"x": 0, "y": 0, "radius": 0, "index": 0, "count": 0}
            self._post(functools.partial(self._send, answer, []))

        self._ask("doubtful", name, content, run)

    def _regions_of(self, result: Result) -> tuple[DoubtfulRegion, ...]:
        if self._regions is None or self._regions[0] != result.revision:
            height, width = result.picture.size_within(DOUBT_LONG_SIDE_PX)
            margin = result.segmentation.margin_at(height, width)
            regions = doubtful_regions(margin, result.picture.height, result.picture.width)
            self._regions = (result.revision, regions)
        return self._regions[1]

    def _ask(
        self,
        key: str,
        name: str,
        content: Mapping[str, Any],
        run: Callable[[Any, Any, Result], None],
    ) -> None:
        self.controller.ask(
            Job(
                run,
                lambda: self._post(functools.partial(self._skip, name)),
                lambda error: self._post(functools.partial(self._refuse, content, error)),
                key=key if key == "preview" else None,
            )
        )

    def _post(self, function: Callable[[], Any]) -> None:
        """Send on the events thread, so that messages leave in order; at once if it has ended."""
        if not self.controller.events.post(function):
            function()

    def _skip(self, name: str) -> None:
        revision = self.controller.revision
        self._send({"type": "ok", "id": name, "revision": revision, "skipped": True}, [])

    def _refuse(self, content: Any, error: Exception) -> None:
        self._send({"type": "error", "id": request_id(content), "message": _in_words(error)}, [])

    # -- to the front end ------------------------------------------------------------------------

    def announce(self, result: Result) -> bool:
        """Send the labels of a new prediction; False if it is older than what was sent."""
        if result.picture.version != self.controller.picture.version:
            return False
        if self.announced(result):
            return False
        self._labels = (result.revision, result.picture.version, *labels_message(result))
        self.send_labels()
        return True

    def show(self, labels: ProvisionalLabels) -> bool:
        """Send coarse labels until those of the prediction come; False if they are too late."""
        if labels.picture.version != self.controller.picture.version:
            return False
        sent = -1 if self._labels is None else self._labels[0]
        if not sent < labels.revision == self.controller.revision:
            return False
        self._send(*provisional_message(labels))
        return True

    def announced(self, result: Result) -> bool:
        """Tell whether the labels of a prediction, or newer ones, were sent."""
        labels = self._labels
        return labels is not None and labels[0] >= result.revision

    def send_labels(self) -> None:
        """Send the newest labels again, if they are of the present picture."""
        labels = self.labels()
        if labels is not None:
            self._send(*labels)

    def report(self, message: str) -> None:
        """Show an error that no request caused."""
        self._send({"type": "error", "id": None, "message": message}, [])

    def labels(self) -> tuple[dict[str, Any], list[bytes]] | None:
        """Return the newest labels message if it is of the present picture."""
        labels = self._labels
        if labels is None or labels[1] != self.controller.picture.version:
            return None
        return labels[2:]

    def close(self) -> None:
        """End the picture thread and forget what was encoded."""
        self._pictures.close()
        self._encoded = self._labels = self._regions = None


def _in_words(error: Exception) -> str:
    if not isinstance(error, DynaMITeError):
        logger.error("a message could not be handled", exc_info=error)
    return describe(error)
