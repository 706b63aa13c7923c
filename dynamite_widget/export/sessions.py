"""What an export needs to know about a session: its masks, the work spent, where it is stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ExportError, SessionError
from ..rle import RLE
from ..segmentation import Segmentation
from ..session import ClickSession
from ..session_json import load, read_session
from ..session_state import SessionState


def masks_of_session(session: ClickSession) -> Segmentation:
    """Return the masks of a session's state, as far as they are known without a network.

    Raises
    ------
    ExportError
        If clicks decide about masks and the session does not carry them.
    """
    saved = session.saved_masks
    if saved is not None:
        return saved.segmentation()
    state = session.state
    waiting = [i.id for i in state.instances if i.fixed_mask is None and state.clicks_of(i.id)]
    if waiting:
        raise ExportError(
            f"the session of {session.image_name or 'an unnamed picture'!r} does not carry the "
            f"masks of instances {waiting[:5]}: save it again from the widget (`w.save(path)`), or "
            "let the network compute them (`dynamite export --predict --images FOLDER`)"
        )
    return Segmentation.empty(state.height, state.width, state.instance_ids).with_edits(state)


def edits_per_instance(session: ClickSession) -> dict[int, int]:
    """Count the undoable steps of the history that were about each instance."""
    states = session.states()
    counts: dict[int, int] = {}
    for intent, before, after in zip(session.history, states, states[1:], strict=False):
        named = intent.args.get("instance")
        if intent.name in ("move_click", "remove_click"):
            target = before.click(int(intent.args["t"])).instance
        elif isinstance(named, (int, np.integer)):
            target = int(named)
        else:
            target = after.active_instance
        if target:
            counts[target] = counts.get(target, 0) + 1
    return counts


def whole_masks(state: SessionState, label_map: NDArray[np.int32]) -> dict[int, RLE]:
    """Return the masks that overlapping imports hide in part: the label map cannot show them.

    What strokes gave to somebody else is gone; what a fixed mask on top covers is not.
    """
    fixed = {i.id: i.fixed_mask for i in state.instances if i.fixed_mask is not None}
    out: dict[int, RLE] = {}
    if len(fixed) < 2:
        return out
    areas = np.bincount(label_map.reshape(-1), minlength=max(fixed) + 1)
    if all(mask.area == areas[i] for i, mask in fixed.items()):
        return out
    painted: NDArray[np.bool_] | None = None
    if state.strokes:
        bare = Segmentation.empty(state.height, state.width, state.instance_ids)
        unpainted = bare.with_edits(replace(state, strokes=())).label_map
        painted = bare.with_edits(state).label_map != unpainted
    for i, mask in fixed.items():
        if mask.area != areas[i]:
            whole = mask.decode()
            if painted is not None:
                whole = np.where(painted, label_map == i, whole)
            if int(np.count_nonzero(whole)) != areas[i]:
                out[i] = RLE.from_mask(whole)
    return out


def read_sessions(source: Any) -> Iterator[tuple[Path | None, ClickSession]]:
    """Yield (path or None, session) of a session, its dict or JSON, its file, or a folder of files.

    Raises
    ------
    ExportError
        Naming the file that cannot be read.
    """
    if isinstance(source, os.PathLike) or (
        isinstance(source, str) and not source.lstrip().startswith("{")
    ):
        path = Path(source)
        try:
            files = sorted(path.glob("*.json")) if path.is_dir() else [path]
            if not files:
                raise ExportError(f"no session files (*.json) in {str(path)!r}")
            for file in files:
                yield file, load(file)
        except (SessionError, OSError) as error:
            raise ExportError(f"cannot read sessions from {str(path)!r}: {error}") from error
    else:
        yield None, read_session(source)
