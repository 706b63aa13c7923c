"""ClickSession: the clicks, instances and edits of one picture, with undo, redo and a JSON form.

A session is a list of immutable states; it knows no network and no notebook. The public data
classes (`Click`, `Instance`, `Stroke`, `SessionState`) are re-exported from here.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import intents, session_json
from .errors import SessionError
from .intents import INTENTS, NEW
from .rle import RLE
from .session_masks import SavedMasks, masks_key
from .session_state import (
    Click,
    Instance,
    SessionState,
    Stroke,
    check_state,
    empty_state,
)

if TYPE_CHECKING:
    from .segmentation import Segmentation

__all__ = ["Click", "ClickSession", "Instance", "Intent", "SessionState", "Stroke"]

IDLE_CAP_S = 60.0
"""Time between two edits beyond which the person counts as away."""


@dataclass(frozen=True)
class Intent:
    """One edit: the name of a function of `intents`, its arguments, and when it happened.

    `seconds` is session time: it runs while a session is open and goes on after loading.
    """

    name: str
    args: Mapping[str, Any]
    seconds: float = 0.0

    def apply(self, state: SessionState) -> SessionState:
        """Return the state after this edit; SessionError if it does not fit."""
        timed = {"seconds": self.seconds} if self.name in ("click", "paint") else {}
        return INTENTS[self.name](state, **self.args, **timed)


@dataclass(frozen=True)
class _Step:
    before: SessionState
    intent: Intent


class ClickSession:
    """Editable session of one picture. Not thread-safe: one owner at a time.

    Parameters
    ----------
    height, width : int
        Size of the picture in pixels.
    classes : iterable of str
        Known class names, in the order of the digit keys.
    image_name, image_hash, checkpoint_hash : str
        What the clicks belong to; stored in the JSON, checked by those who load it.
    meta : mapping
        Anything JSON can hold; carried along untouched.
    clock : callable
        Monotonic seconds; for tests.
    """

    def __init__(
        self,
        height: int,
        width: int,
        classes: Iterable[str] = (),
        *,
        image_name: str = "",
        image_hash: str = "",
        checkpoint_hash: str = "",
        meta: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base = empty_state(height, width, classes)
        self._state = self._base
        self._past: list[_Step] = []
        self._future: list[Intent] = []
        self._masks: tuple[SessionState, SavedMasks] | None = None
        self._clock = clock
        self._started = clock()
        self._last_edit = 0.0
        self.seconds_spent: dict[int, float] = {}
        self.image_name = image_name
        self.image_hash = image_hash
        self.checkpoint_hash = checkpoint_hash
        self.meta: dict[str, Any] = dict(meta or {})

    @classmethod
    def from_state(cls, state: SessionState, **fields: Any) -> ClickSession:
        """Return a session that starts at `state`, without history; `fields` as for the class."""
        session = cls(state.height, state.width, state.classes, **fields)
        session._base = session._state = check_state(state)
        return session

    # -- reading ---------------------------------------------------------------------------------

    @property
    def state(self) -> SessionState:
        """The present state; immutable."""
        return self._state

    @property
    def clicks(self) -> tuple[Click, ...]:
        """Clicks of the present state."""
        return self._state.clicks

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Instances of the present state."""
        return self._state.instances

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to bring back."""
        return bool(self._future)

    @property
    def elapsed_s(self) -> float:
        """Session time in seconds."""
        return max(0.0, self._clock() - self._started)

    @property
    def history(self) -> tuple[Intent, ...]:
        """Edits that led here, oldest first (undone ones are not among them)."""
        return tuple(step.intent for step in self._past)

    def states(self) -> tuple[SessionState, ...]:
        """All states from the first to the present one, for replay."""
        return (*(step.before for step in self._past), self._state)

    @property
    def saved_masks(self) -> SavedMasks | None:
        """Masks of the present state if they were kept; None after an edit that may change them."""
        if self._masks is None or masks_key(self._masks[0]) != masks_key(self._state):
            return None
        return self._masks[1]

    def keep_masks(self, segmentation: Segmentation | None) -> None:
        """Let the session carry the masks of its present state into files; None drops them.

        Raises
        ------
        SessionError
            If the segmentation is of another size or of other instances.
        """
        if segmentation is None:
            self._masks = None
            return
        size = (segmentation.height, segmentation.width)
        if size != (self._state.height, self._state.width):
            raise SessionError(
                f"masks of size {size} do not fit a picture of "
                f"{(self._state.height, self._state.width)}"
            )
        if segmentation.instances != self._state.instance_ids:
            raise SessionError(
                f"the masks are of instances {list(segmentation.instances)}, the session has "
                f"{list(self._state.instance_ids)}"
            )
        self._masks = (self._state, SavedMasks.from_segmentation(segmentation))

    # -- editing ---------------------------------------------------------------------------------

    def apply(self, name: str, **args: Any) -> SessionState:
        """Apply the intent called `name` as one undoable step and return the new state.

        An intent that changes nothing leaves the history alone; selecting is not a step.

        Raises
        ------
        SessionError
            If the intent is unknown or does not fit; the session is unchanged then.
        """
        if name not in INTENTS:
            raise SessionError(f"unknown intent {name!r:.80}; intents: {', '.join(INTENTS)}")
        if name == "click" and not isinstance(args.get("instance"), str):
            args.pop("class_name", None)
        if "class_name" in args and args["class_name"] is None and name != "set_class":
            # Written out, so that a redo after another selection gives the same instance.
            args["class_name"] = intents.default_class(self._state)
        if name == "paint":
            args["points"] = copy.deepcopy(args.get("points"))
        intent = Intent(name, args, round(self.elapsed_s, 3))
        try:
            after = intent.apply(self._state)
        except TypeError as error:
            raise SessionError(f"{name}: wrong arguments {sorted(args)}: {error}") from error
        if name == "select":
            self._state = after
            return after
        if after != self._state:
            self._past.append(_Step(self._state, intent))
            self._future.clear()
            self._account(intent, after)
            self._state = after
        return after

    def click(
        self,
        x: int,
        y: int,
        instance: int | Literal["new"] | None = None,
        class_name: str | None = None,
    ) -> Click:
        """Add a click and return it.

        Parameters
        ----------
        x, y : int
            Pixel column and row of the picture.
        instance : int, "new" or None
            Instance id, 0 for the background, ``"new"`` for a new instance; None is the active
            instance, or a new one when none is active.
        class_name : str, optional
            Class of a new instance.

        Raises
        ------
        SessionError
            Outside the picture, unknown or locked instance, or a pixel that has a click already.
        """
        target = (self._state.active_instance or NEW) if instance is None else instance
        return self.apply("click", x=x, y=y, instance=target, class_name=class_name).clicks[-1]

    def click_background(self, x: int, y: int) -> Click:
        """Add a click that belongs to no instance and return it."""
        return self.click(x, y, 0)

    def move_click(self, t: int, x: int, y: int) -> Click:
        """Move the click with time index `t`; it keeps t and its instance."""
        return self.apply("move_click", t=t, x=x, y=y).click(t)

    def remove_click(self, t: int) -> None:
        """Remove the click with time index `t`."""
        self.apply("remove_click", t=t)

    def new_instance(self, class_name: str | None = None, mask: RLE | None = None) -> int:
        """Add an instance, make it active and return its id; `mask` is an imported mask."""
        return self.apply("new_instance", class_name=class_name, mask=mask).active_instance

    def remove_instance(self, instance: int) -> None:
        """Remove an instance with its clicks and strokes."""
        self.apply("remove_instance", instance=instance)

    def set_class(self, instance: int, class_name: str) -> None:
        """Name what an instance is."""
        self.apply("set_class", instance=instance, class_name=class_name)

    def select(self, instance: int) -> None:
        """Make an instance active (0: none). Not an undoable step."""
        self.apply("select", instance=instance)

    def lock(self, instance: int, locked: bool = True, mask: RLE | None = None) -> None:
        """Lock an instance on `mask` (full resolution), or unlock it."""
        self.apply("lock", instance=instance, locked=locked, mask=mask)

    def set_visible(self, instance: int, visible: bool) -> None:
        """Draw or hide the overlay of an instance."""
        self.apply("set_visible", instance=instance, visible=visible)

    def set_mask(self, instance: int, mask: RLE | None) -> None:
        """Give an instance a fixed mask in place of its clicks and strokes, or take it away."""
        self.apply("set_mask", instance=instance, mask=mask)

    def paint(
        self, instance: int, mode: str, radius: float, points: Iterable[tuple[int, int]]
    ) -> Stroke:
        """Add a brush stroke and return it; see `Stroke`."""
        places = [tuple(point) for point in points]
        state = self.apply("paint", instance=instance, mode=mode, radius=radius, points=places)
        return state.strokes[-1]

    def reset(self) -> None:
        """Take away all clicks, instances and strokes (undoable)."""
        self.apply("reset")

    def undo(self) -> bool:
        """Take the last edit back; False if there is none."""
        if not self._past:
            return False
        step = self._past.pop()
        self._future.append(step.intent)
        self._state = step.before
        return True

    def redo(self) -> bool:
        """Bring the last undone edit back; False if there is none."""
        if not self._future:
            return False
        intent = self._future.pop()
        self._past.append(_Step(self._state, intent))
        self._state = intent.apply(self._state)
        return True

    def _account(self, intent: Intent, after: SessionState) -> None:
        """Add the time since the last edit to the instance that this edit was about."""
        spent = min(max(0.0, intent.seconds - self._last_edit), IDLE_CAP_S)
        self._last_edit = max(self._last_edit, intent.seconds)
        target = after.active_instance
        named = intent.args.get("instance")
        if isinstance(named, int) and named > 0:
            target = named
        elif intent.name in ("move_click", "remove_click"):
            target = self._state.click(int(intent.args["t"])).instance or target
        if target:
            self.seconds_spent[target] = round(self.seconds_spent.get(target, 0.0) + spent, 3)

    # -- files -----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the session as plain data that JSON can hold, history included."""
        return session_json.to_dict(self)

    def to_json(self) -> str:
        """Return the session as JSON text."""
        return session_json.to_json(self)

    @classmethod
    def from_dict(cls, fields: Any) -> ClickSession:
        """Rebuild a session; SessionError if damaged or written by a newer version."""
        return session_json.from_dict(fields)

    @classmethod
    def from_json(cls, text: str | bytes) -> ClickSession:
        """Rebuild a session from `to_json`; SessionError as in `from_dict`."""
        return session_json.from_json(text)

    def save(self, path: str | Path) -> None:
        """Write the session to a file, whole or not at all (temporary file, then replace)."""
        session_json.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> ClickSession:
        """Read a session file; SessionError naming the file if it is damaged."""
        return session_json.load(Path(path))

    def copy(self) -> ClickSession:
        """Return an independent session with the same state and history."""
        twin = copy.copy(self)
        twin._past, twin._future = list(self._past), list(self._future)
        twin.seconds_spent, twin.meta = dict(self.seconds_spent), copy.deepcopy(self.meta)
        return twin

    def _restore(
        self, base: SessionState, done: list[tuple[int, Intent]], undone: list[Intent]
    ) -> None:
        """Replay a stored history: (active instance before, intent) pairs, then undone intents."""
        self._base = self._state = check_state(base)
        for active, intent in done:
            before = intents.select(self._state, active)
            self._past.append(_Step(before, intent))
            self._state = intent.apply(before)
        self._future = list(undone)

    def _resume_clock(self, elapsed_s: float) -> None:
        self._started = self._clock() - elapsed_s
        self._last_edit = elapsed_s
