"""The file form of a session: versioned JSON, checked field by field, written atomically.

The present state stands in plain sight for other readers; the history is stored as the first state
and the list of edits, and replayed on loading, so that a file grows with the number of edits only.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import SessionError
from .intents import INTENTS
from .rle import MAX_ID, RLE
from .session_masks import SavedMasks
from .session_state import (
    Click,
    Instance,
    SessionState,
    Stroke,
    as_class_name,
    as_flag,
    as_integer,
    as_radius,
    check_state,
    empty_state,
)

if TYPE_CHECKING:
    from .session import ClickSession

FORMAT = "dynamite-session"
VERSION = 1
_LARGE = 2**53


def to_dict(session: ClickSession) -> dict[str, Any]:
    """Return a session as plain data; `from_dict` rebuilds it, history included."""
    masks = session.saved_masks
    return {
        "format": FORMAT,
        "version": VERSION,
        "image": {
            "width": session.state.width,
            "height": session.state.height,
            "name": session.image_name,
            "hash": session.image_hash,
        },
        "checkpoint": {"hash": session.checkpoint_hash},
        "elapsed_s": round(session.elapsed_s, 3),
        "seconds_spent": {str(k): v for k, v in sorted(session.seconds_spent.items())},
        "state": state_to_dict(session.state),
        "history": {
            "base": state_to_dict(session._base),
            "done": [
                {"active": step.before.active_instance, **_intent_to_dict(step.intent)}
                for step in session._past
            ],
            "undone": [_intent_to_dict(intent) for intent in session._future],
        },
        "meta": session.meta,
        # Left out when the masks are not known: readers compute them, or say what is missing.
        **({} if masks is None else {"masks": masks.to_json()}),
    }


def to_json(session: ClickSession) -> str:
    """Return a session as JSON text."""
    try:
        # ASCII only: file names may hold bytes that are no Unicode.
        return json.dumps(to_dict(session), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SessionError(f"the session's meta does not fit JSON: {error}") from error


def from_json(text: str | bytes) -> ClickSession:
    """Rebuild a session from JSON text; SessionError if it is damaged."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SessionError(f"this is not a session file: {error}") from error
    return from_dict(fields)


def from_dict(fields: Any) -> ClickSession:
    """Rebuild a session from `to_dict`.

    Raises
    ------
    SessionError
        If the data is no session, damaged, or of a newer version.
    """
    from .session import ClickSession

    if not isinstance(fields, Mapping) or fields.get("format") != FORMAT:
        raise SessionError(f"this is not a session: the field 'format' must be {FORMAT!r}")
    version = fields.get("version")
    if type(version) is not int or version < 1:
        raise SessionError(f"a session's version is a whole number from 1, got {version!r:.80}")
    if version > VERSION:
        raise SessionError(
            f"this session has version {version}, written by a newer dynamite-widget; this one "
            f"reads versions up to {VERSION}. Update the package to open it."
        )
    try:
        image, state = _mapping(fields, "image"), state_from_dict(_mapping(fields, "state"))
        session = ClickSession(
            as_integer(image.get("height"), "image height", 1, _LARGE),
            as_integer(image.get("width"), "image width", 1, _LARGE),
            image_name=_text(image, "name"),
            image_hash=_text(image, "hash"),
            checkpoint_hash=_text(_mapping(fields, "checkpoint"), "hash"),
            meta=_mapping(fields, "meta"),
        )
        if (state.height, state.width) != (session.state.height, session.state.width):
            raise SessionError("the state's picture size is not the picture's")
        history = _mapping(fields, "history")
        done = [
            (as_integer(_get(entry, "active"), "active", 0, MAX_ID), _intent_from_dict(entry))
            for entry in _list(history, "done")
        ]
        undone = [_intent_from_dict(entry) for entry in _list(history, "undone")]
        session._restore(state_from_dict(_mapping(history, "base")), done, undone)
        # Selecting is no step, so the stored state may differ from the replayed one in that alone.
        session.select(state.active_instance)
        if session.state != state:
            raise SessionError("the history does not lead to the stored state")
        session.seconds_spent = {
            as_integer(int(k), "instance", 1, MAX_ID): _seconds(v, "seconds_spent") or 0.0
            for k, v in _mapping(fields, "seconds_spent").items()
        }
        if fields.get("masks") is not None:
            session._masks = (session.state, SavedMasks.from_json(fields["masks"], session.state))
        session._resume_clock(_seconds(fields.get("elapsed_s"), "elapsed_s") or 0.0)
    except SessionError as error:
        raise SessionError(f"damaged session: {error}") from error
    except (TypeError, ValueError, KeyError, OverflowError, RecursionError) as error:
        raise SessionError(f"damaged session: {type(error).__name__}: {error}") from error
    return session


def state_to_dict(state: SessionState) -> dict[str, Any]:
    """Return one state as plain data."""
    return {
        "width": state.width,
        "height": state.height,
        "clicks": [_plain(click) for click in state.clicks],
        "instances": [_plain(instance) for instance in state.instances],
        "strokes": [_plain(stroke) for stroke in state.strokes],
        "active_instance": state.active_instance,
        "next_id": state.next_id,
        "next_t": state.next_t,
        "classes": list(state.classes),
    }


def state_from_dict(fields: Mapping[str, Any]) -> SessionState:
    """Rebuild and check one state; SessionError if it is not consistent."""
    first = empty_state(fields.get("height"), fields.get("width"), _list(fields, "classes"))
    clicks = tuple(
        Click(
            as_integer(_get(item, "x"), "x", 0, first.width - 1),
            as_integer(_get(item, "y"), "y", 0, first.height - 1),
            as_integer(_get(item, "instance"), "instance", 0, MAX_ID),
            as_integer(_get(item, "t"), "t", 0, _LARGE),
            _seconds(item.get("seconds"), "seconds"),
        )
        for item in _list(fields, "clicks")
    )
    instances = tuple(
        Instance(
            as_integer(_get(item, "id"), "id", 1, MAX_ID),
            as_class_name(_get(item, "class_name")),
            _get(item, "colour"),
            as_flag(item.get("visible"), "visible"),
            as_flag(item.get("locked"), "locked"),
            None if item.get("fixed_mask") is None else RLE.from_json(item["fixed_mask"]),
        )
        for item in _list(fields, "instances")
    )
    strokes = tuple(
        Stroke(
            as_integer(_get(item, "instance"), "instance", 1, MAX_ID),
            _get(item, "mode"),
            as_radius(_get(item, "radius")),
            tuple(
                (
                    as_integer(x, "x", 0, first.width - 1),
                    as_integer(y, "y", 0, first.height - 1),
                )
                for x, y in _list(item, "points")
            ),
            as_integer(_get(item, "t"), "t", 0, _LARGE),
            _seconds(item.get("seconds"), "seconds"),
        )
        for item in _list(fields, "strokes")
    )
    return check_state(
        SessionState(
            first.height,
            first.width,
            clicks,
            instances,
            strokes,
            as_integer(fields.get("active_instance"), "active_instance", 0, MAX_ID),
            as_integer(fields.get("next_id"), "next_id", 1, MAX_ID + 1),
            as_integer(fields.get("next_t"), "next_t", 0, _LARGE),
            first.classes,
        )
    )


def save(session: ClickSession, path: Path) -> None:
    """Write a session file; the old one stays whole if anything fails."""
    write_atomically(path, to_json(session).encode())


def load(path: Path) -> ClickSession:
    """Read a session file; errors name it."""
    try:
        return from_json(path.read_bytes())
    except SessionError as error:
        raise SessionError(f"{path}: {error}") from error


def read_session(
    source: ClickSession | Mapping[str, Any] | str | bytes | os.PathLike[str],
) -> ClickSession:
    """Return a session from a session, its dict, its JSON text or the path of its file."""
    from .session import ClickSession

    if isinstance(source, ClickSession):
        return source
    if isinstance(source, Mapping):
        return from_dict(source)
    if isinstance(source, bytes):
        return from_json(source)
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return from_json(source)
    if isinstance(source, (str, os.PathLike)):
        return load(Path(source))
    raise SessionError(
        "a session is a ClickSession, its dict, its JSON text or a path; "
        f"got {type(source).__name__}"
    )


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`: temporary file beside it, fsync, rename."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; give this one the mode an ordinary new file would have.
        mask = os.umask(0)
        os.umask(mask)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _plain(item: Click | Instance | Stroke) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field in dataclass_fields(item):
        value = getattr(item, field.name)
        out[field.name] = _plain_value(value)
    return out


def _plain_value(value: Any) -> Any:
    if isinstance(value, RLE):
        return value.to_json()
    if isinstance(value, (list, tuple)):
        return [_plain_value(part) for part in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        return value.item()  # numpy scalars given as arguments
    return value


def _intent_to_dict(intent: Any) -> dict[str, Any]:
    args = {name: _plain_value(value) for name, value in intent.args.items()}
    return {"intent": intent.name, "args": args, "seconds": intent.seconds}


def _intent_from_dict(entry: Any) -> Any:
    from .session import Intent

    name, args = _get(entry, "intent"), dict(_mapping(entry, "args"))
    if name not in INTENTS or name == "select":
        raise SessionError(f"unknown edit {name!r:.80} in the history")
    if args.get("mask") is not None:
        args["mask"] = RLE.from_json(args["mask"])
    return Intent(name, args, _seconds(entry.get("seconds"), "seconds") or 0.0)


def _get(item: Any, name: str) -> Any:
    if not isinstance(item, Mapping) or name not in item:
        raise SessionError(f"{name!r} is missing in {item!r:.80}")
    return item[name]


def _mapping(item: Any, name: str) -> Mapping[str, Any]:
    value = _get(item, name)
    if not isinstance(value, Mapping):
        raise SessionError(f"{name!r} must be an object, got {value!r:.80}")
    return value


def _list(item: Any, name: str) -> list[Any]:
    value = _get(item, name)
    if not isinstance(value, list):
        raise SessionError(f"{name!r} must be a list, got {value!r:.80}")
    return value


def _text(item: Any, name: str) -> str:
    value = _get(item, name)
    if not isinstance(value, str):
        raise SessionError(f"{name!r} must be a string, got {value!r:.80}")
    return value


def _seconds(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise SessionError(f"{name} must be a number of seconds >= 0, got {value!r:.80}")
    return float(value)
