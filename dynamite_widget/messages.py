"""The wire protocol between front end and kernel, as data: what comes in, what goes out.

Nothing is sent or applied here. Fields are checked for their presence and type; whether they fit
the session is for `intents` to say.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import rle
from .answers import ProvisionalLabels, Result, Status
from .errors import SessionError
from .picture import Picture
from .session_state import SessionState

INTENT_FIELDS: dict[str, tuple[str, ...]] = {
    "click": ("x", "y", "instance"),
    "move_click": ("t", "x", "y"),
    "remove_click": ("t",),
    "new_instance": (),
    "remove_instance": ("instance",),
    "set_class": ("instance", "class_name"),
    "select": ("instance",),
    "lock": ("instance", "locked"),
    "set_visible": ("instance", "visible"),
    "paint": ("instance", "mode", "radius", "points"),
    "undo": (),
    "redo": (),
    "reset": (),
}
OPTIONAL_FIELDS: dict[str, tuple[str, ...]] = {
    "click": ("class_name",),
    "new_instance": ("class_name",),
}
REQUESTS = ("ready", "preview", "margin", "doubtful", "ping")
MAX_NAME = 200
MAX_SEQ = 2**53
_SCALAR = (str, int, float, bool, type(None))


def check_envelope(content: Any) -> tuple[str, str]:
    """Return (type, id) of a message of the front end; SessionError if it has none."""
    if not isinstance(content, Mapping):
        raise SessionError(f"a message is an object, got {type(content).__name__}")
    kind = content.get("type")
    if not isinstance(kind, str):
        raise SessionError(f"a message's type is a string, got {kind!r:.80}")
    if request_id(content) is None:
        raise SessionError(
            f"a message's id is a string of 1..{MAX_NAME} characters, got {content.get('id')!r:.80}"
        )
    known = (*INTENT_FIELDS, *REQUESTS)
    if kind not in known:
        near = difflib.get_close_matches(kind[:100], known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SessionError(f"unknown message type {kind!r:.80}{hint} Known: {', '.join(known)}")
    return kind, content["id"]


def request_id(content: Any) -> str | None:
    """Return the id of a message, None if it has no usable one."""
    value = content.get("id") if isinstance(content, Mapping) else None
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME else None


def check_order(content: Mapping[str, Any]) -> tuple[str, int]:
    """Return (view, seq) of an intent."""
    view, seq = content.get("view"), content.get("seq")
    if not isinstance(view, str) or not 0 < len(view) <= MAX_NAME:
        raise SessionError(f"a message's view is a string, got {view!r:.80}")
    if type(seq) is not int or not 1 <= seq <= MAX_SEQ:
        raise SessionError(f"seq counts the intents of a view from 1, got {seq!r:.80}")
    return view, seq


def intent_args(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an intent message; SessionError if one is missing."""
    args: dict[str, Any] = {}
    for name in INTENT_FIELDS[kind]:
        if name not in content:
            raise SessionError(f"{kind}: the field {name!r} is missing")
        args[name] = content[name]
    for name in OPTIONAL_FIELDS.get(kind, ()):
        args[name] = content.get(name)
    for name, value in args.items():
        if name != "points" and not isinstance(value, _SCALAR):
            raise SessionError(f"{kind}: {name} must not be a {type(value).__name__}")
    return args


def encode_labels(labels: NDArray[Any]) -> tuple[dict[str, Any], list[bytes]]:
    """Encode a label map as run lengths, or raw where that is smaller.

    Parameters
    ----------
    labels : (H, W) integer array
        Labels 0..65535.

    Returns
    -------
    fields : dict
        width, height, encoding ("rle" or "raw"), id_bytes (1 or 2).
    buffers : list of bytes
        [uint32 lengths, ids] or [raw ids]; all little-endian.
    """
    height, width = labels.shape
    lengths, ids = rle.encode(labels)
    id_bytes = ids.dtype.itemsize
    fields: dict[str, Any] = {"width": width, "height": height, "id_bytes": id_bytes}
    code = "<u1" if id_bytes == 1 else "<u2"
    if lengths.size * (4 + id_bytes) > labels.size * id_bytes:
        return {**fields, "encoding": "raw"}, [labels.astype(code).tobytes()]
    buffers = [lengths.astype("<u4").tobytes(), ids.astype(code).tobytes()]
    return {**fields, "encoding": "rle"}, buffers


def labels_message(result: Result) -> tuple[dict[str, Any], list[bytes]]:
    """Return the message that carries a prediction to all views."""
    fields, buffers = encode_labels(result.labels)
    return {
        "type": "labels",
        "revision": result.revision,
        "image_version": result.picture.version,
        "latency_ms": round(result.latency_ms, 1),
        **fields,
    }, buffers


def provisional_message(labels: ProvisionalLabels) -> tuple[dict[str, Any], list[bytes]]:
    """Return the message that carries coarse labels to all views.

    Half a revision less than the labels that follow: every view paints it over the state before,
    and what follows over it, whatever the order in which they come.
    """
    fields, buffers = encode_labels(labels.labels)
    return {
        "type": "labels",
        "revision": labels.revision - 0.5,
        "provisional": True,
        "image_version": labels.picture.version,
        "latency_ms": None,
        **fields,
    }, buffers


def heat_map(margin: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Turn a margin map (logits, >= 0) into doubt: 0 = certain, 255 = two labels are even.

    With two labels in the running the loser's probability is ``sigmoid(-margin)``, at most 1/2.
    """
    loser = 1.0 / (1.0 + np.exp(np.clip(margin, 0, 50).astype(np.float32)))
    return np.rint(510.0 * loser).astype(np.uint8)


def click_records(state: SessionState) -> list[dict[str, Any]]:
    """Return the trait ``clicks``."""
    return [{"t": c.t, "x": c.x, "y": c.y, "instance": c.instance} for c in state.clicks]


def instance_records(state: SessionState, result: Result | None) -> list[dict[str, Any]]:
    """Return the trait ``instances``; areas and scores are those of the newest prediction."""
    counts: dict[int, int] = {}
    for click in state.clicks:
        counts[click.instance] = counts.get(click.instance, 0) + 1
    areas = result.areas if result is not None else {}
    scores = result.scores if result is not None else {}
    return [
        {
            "id": i.id,
            "class_name": i.class_name,
            "colour": i.colour,
            "area": areas.get(i.id, 0),
            "score": round(scores.get(i.id, 0.0), 4),
            "visible": i.visible,
            "locked": i.locked,
            "clicks": counts.get(i.id, 0),
        }
        for i in state.instances
    ]


def status_record(status: Status) -> dict[str, Any]:
    """Return the trait ``status``."""
    return {
        "state": status.state,
        "message": status.message,
        "model": status.model,
        "device": status.device,
        "latency_ms": status.latency_ms,
    }


def image_record(picture: Picture) -> dict[str, Any]:
    """Return the trait ``image_info``."""
    return {
        "version": picture.version,
        "width": picture.width,
        "height": picture.height,
        "name": picture.name,
    }
