"""A session step by step with the masks of each step: what replay and story show.

The masks are computed once with a network; kept in the session file, they are replayed without
one. No widgets and no torch here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DynaMITeError, SessionError
from ..images import load_image, picture_hash
from ..segmentation import Segmentation
from ..session import ClickSession, Intent
from ..session_json import read_session
from ..session_masks import masks_key
from . import runs

if TYPE_CHECKING:
    from ..session_state import SessionState

#: Where a session's `meta` keeps a recording.
META_KEY = "recording"
VERSION = 1
LONG_SIDE_PX = 1024
_PICTURE_QUALITY = 82


@dataclass(frozen=True)
class Step:
    """One step of a recording.

    Parameters
    ----------
    index : int
        0 is the beginning, before any edit.
    state : SessionState
        Clicks, instances and strokes after this step.
    intent : Intent or None
        The edit that led here; None for the beginning.
    """

    index: int
    state: SessionState
    intent: Intent | None

    @property
    def click(self) -> int | None:
        """Time index of the click that was added or moved; None for other edits."""
        if self.intent is None:
            return None
        if self.intent.name == "click":
            return self.state.clicks[-1].t
        return int(self.intent.args["t"]) if self.intent.name == "move_click" else None


@dataclass(frozen=True)
class Recording:
    """The steps of a session and the label map of each, at display resolution.

    Parameters
    ----------
    session : ClickSession
        Whose history it is.
    height, width : int
        Of the label maps; the long side is at most what was asked for.
    packed : bytes
        Label maps of the known steps, see `runs.pack`.
    known : tuple of bool
        Per step, whether its masks are there.
    picture : (h, w, 3) uint8 array or None
        The picture at the size of the label maps.
    """

    session: ClickSession = field(repr=False)
    height: int
    width: int
    packed: bytes = field(repr=False)
    known: tuple[bool, ...]
    picture: NDArray[np.uint8] | None = field(default=None, repr=False)
    _cache: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.known)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, the beginning first."""
        return tuple(_steps(self.session))

    @property
    def complete(self) -> bool:
        """Whether every step has its masks."""
        return all(self.known)

    def label_map(self, index: int) -> NDArray[np.int32]:
        """Return the (height, width) label map after a step (negative: from the end).

        A step without masks shows those of the last known one before it.

        Raises
        ------
        IndexError
            If there is no such step.
        """
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"step {index} does not exist; there are 0..{count - 1}")
        wanted = sum(self.known[: index % count + 1])
        if "diffs" not in self._cache:
            self._cache["diffs"] = runs.unpack(
                self.packed, self.height, self.width, sum(self.known)
            )
        diffs = self._cache["diffs"]
        done, labels = self._cache.get("labels", (0, None))
        if labels is None or done > wanted:
            done, labels = 0, np.zeros((self.height, self.width), np.int32)
        for diff in diffs[done:wanted]:
            labels = runs.apply(labels, diff)
        self._cache["labels"] = (wanted, labels)
        shown = labels.view()
        shown.flags.writeable = False
        return shown

    def save(self, path: str | os.PathLike[str], *, picture: bool = True) -> None:
        """Write the session with this recording to one JSON file, whole or not at all.

        It opens wherever a session file does; `ClickReplay` plays it without a network.

        Parameters
        ----------
        path : path
        picture : bool
            Keep a JPEG of the picture at the size of the masks, so that the file is enough.
        """
        session = self.session.copy()
        session.meta[META_KEY] = self.to_json(picture)
        session.save(Path(path))

    def to_json(self, picture: bool = True) -> dict[str, Any]:
        """Return plain data for `from_session`."""
        fields: dict[str, Any] = {
            "version": VERSION,
            "size": [self.height, self.width],
            "states": [_fingerprint(step.state) for step in self.steps],
            "known": [bool(known) for known in self.known],
            "runs": base64.b64encode(self.packed).decode("ascii"),
        }
        if picture and self.picture is not None:
            fields["picture"] = base64.b64encode(jpeg(self.picture, _PICTURE_QUALITY)).decode()
        return fields

    @classmethod
    def from_session(cls, session: ClickSession, image: Any = None) -> Recording:
        """Read what a session carries: a recording, or else the masks of its present state.

        Steps that were added after the recording have no masks of their own. Needs no network.

        Parameters
        ----------
        session : ClickSession
        image : object, optional
            The picture, in place of the one in the file; see `load_image`.

        Raises
        ------
        SessionError
            If the stored recording is damaged, or the picture is not that of the session.
        """
        steps = list(_steps(session))
        fields = session.meta.get(META_KEY)
        if fields is not None:
            recording = _from_json(fields, session, steps)
        else:
            saved = session.saved_masks
            size = _size_within(session.state.height, session.state.width, LONG_SIDE_PX)
            known = [False] * len(steps)
            maps = []
            if saved is not None:
                known[-1] = True
                maps = [saved.segmentation().label_map_at(*size)]
            recording = cls(session, *size, runs.pack(maps), tuple(known))
        if image is None:
            return recording
        picture = _reduced(check_picture(image, session), recording.height, recording.width)
        return cls(
            session, recording.height, recording.width, recording.packed, recording.known, picture
        )


def record(
    source: Any,
    image: Any = None,
    predictor: Any = None,
    *,
    long_side_px: int = LONG_SIDE_PX,
) -> Recording:
    """Compute the masks after every edit of a session.

    Parameters
    ----------
    source : DynaMITeWidget, ClickSession, mapping, JSON text or path
        Whose history is recorded; a widget brings picture and network along.
    image : object, optional
        The picture, for anything but a widget.
    predictor : Predictor, optional
        The network, for anything but a widget.
    long_side_px : int
        Of the recorded masks and picture; they are never larger than the picture itself.

    Returns
    -------
    Recording

    Raises
    ------
    SessionError
        If the picture is not the session's.
    ValueError
        If picture or network are missing.
    """
    if long_side_px < 1:
        raise ValueError(f"long_side_px must be >= 1, got {long_side_px}")
    if is_widget(source):
        source.wait()
        session, picture, predict = source.session, source.image, source._predict_now
        if (session.state.height, session.state.width) != picture.shape[:2]:
            raise DynaMITeError("the picture was changed meanwhile; try again")
    else:
        if image is None or predictor is None:
            raise ValueError(
                "recording a session needs image=… and predictor=… (a widget brings both along)"
            )
        session = read_session(source)
        picture = check_picture(image, session)
        embedding = predictor.embed(picture)

        def predict(clicks: Any, instances: Any) -> Segmentation:
            result: Segmentation = predictor.predict(embedding, clicks, instances=instances)
            return result

    state = session.state
    height, width = _size_within(state.height, state.width, long_side_px)
    packed = runs.pack(_label_maps(session, predict, height, width))
    small = _reduced(picture, height, width)
    session.meta.pop(META_KEY, None)
    return Recording(session, height, width, packed, (True,) * len(session.states()), small)


def is_widget(source: Any) -> bool:
    """Tell whether `source` has a controller, without importing the widget."""
    return hasattr(source, "_predict_now") and hasattr(source, "controller")


def check_picture(image: Any, session: ClickSession) -> NDArray[np.uint8]:
    """Load a picture; SessionError if it is not that of the session."""
    picture = load_image(image)
    expected = (session.state.height, session.state.width)
    if picture.shape[:2] != expected:
        raise SessionError(
            f"the session is of a {expected[1]} x {expected[0]} picture, this one has "
            f"{picture.shape[1]} x {picture.shape[0]} pixels"
        )
    if session.image_hash and picture_hash(picture) != session.image_hash:
        raise SessionError("this is another picture than the session's (their hashes differ)")
    return picture


def jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """Encode an RGB picture as JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
    return buffer.getvalue()


def _steps(session: ClickSession) -> Iterable[Step]:
    for index, state in enumerate(session.states()):
        yield Step(index, state, session.history[index - 1] if index else None)


def _label_maps(
    session: ClickSession, predict: Any, height: int, width: int
) -> Iterable[NDArray[np.int32]]:
    clicks: Any = None
    base = Segmentation.empty(session.state.height, session.state.width)
    for state in session.states():
        ids = state.instance_ids
        if (state.clicks, ids) != clicks:
            clicks = (state.clicks, ids)
            if any(click.instance for click in state.clicks):
                base = predict(state.clicks, ids)
            else:
                base = Segmentation.empty(state.height, state.width, ids)
        yield base.with_edits(state).label_map_at(height, width)


def _from_json(fields: Any, session: ClickSession, steps: list[Step]) -> Recording:
    if not isinstance(fields, Mapping) or fields.get("version") != VERSION:
        version = fields.get("version") if isinstance(fields, Mapping) else fields
        raise SessionError(f"the recording has version {version!r:.40}, this reads {VERSION}")
    try:
        height, width = (int(side) for side in fields["size"])
        states, known = list(fields["states"]), [bool(flag) for flag in fields["known"]]
        packed = base64.b64decode(fields["runs"], validate=True)
        picture = fields.get("picture")
        stored = None if picture is None else load_image(base64.b64decode(picture, validate=True))
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise SessionError(f"the recording is damaged: {type(error).__name__}: {error}") from error
    if not (0 < height <= session.state.height and 0 < width <= session.state.width):
        raise SessionError(f"the recording has the impossible size {height} x {width}")
    if len(states) != len(known):
        raise SessionError(f"the recording has {len(states)} states and {len(known)} flags")
    if stored is not None and stored.shape[:2] != (height, width):
        raise SessionError("the recording's picture has another size than its masks")
    diffs = runs.unpack(packed, height, width, sum(known))
    same = 0
    while same < min(len(steps), len(states)) and _fingerprint(steps[same].state) == states[same]:
        same += 1
    if same < len(states):
        # Edited since: what does not belong to the present history is left out.
        kept, labels = [], np.zeros((height, width), np.int32)
        for diff in diffs[: sum(known[:same])]:
            labels = runs.apply(labels, diff)
            kept.append(labels)
        packed = runs.pack(kept)
    flags = (*known[:same], *(False for _ in steps[same:]))
    return Recording(session, height, width, packed, flags, stored)


def _fingerprint(state: SessionState) -> str:
    """Hash of what the masks of a state depend on."""
    height, width, clicks, strokes, instances = masks_key(state)
    parts = (
        height,
        width,
        [(c.x, c.y, c.instance, c.t) for c in clicks],
        [(s.instance, s.mode, s.radius, s.points, s.t) for s in strokes],
        [(i, locked, None if m is None else m.counts.hex()) for i, locked, m in instances],
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _size_within(height: int, width: int, long_side_px: int) -> tuple[int, int]:
    scale = min(1.0, long_side_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _reduced(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if picture.shape[:2] == (height, width):
        return picture
    from PIL import Image

    small = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
    return np.array(small)
