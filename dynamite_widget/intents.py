"""Intents: every edit of a session as a pure function from one state to the next.

Each takes a `SessionState` and checked or unchecked arguments, and returns a new state or raises
`SessionError` naming the value seen and the values allowed. Nothing here knows of history or time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .colours import instance_colour
from .errors import SessionError
from .rle import MAX_ID, RLE
from .session_state import (
    BACKGROUND,
    Click,
    Instance,
    SessionState,
    Stroke,
    as_class_name,
    as_flag,
    as_integer,
    as_pixel,
    as_radius,
)

DEFAULT_CLASS = "object"
NEW = "new"
MAX_STROKE_POINTS = 20_000


def default_class(state: SessionState) -> str:
    """Return the class that a new instance gets: the active one's, else the first, else object."""
    if state.active_instance:
        return state.instance(state.active_instance).class_name
    return state.classes[0] if state.classes else DEFAULT_CLASS


def click(
    state: SessionState,
    x: Any,
    y: Any,
    instance: Any,
    class_name: Any = None,
    seconds: float | None = None,
) -> SessionState:
    """Add a click at pixel (x, y) to an instance, to the background (0) or to a ``"new"`` one."""
    column, row = as_pixel(state, x, y)
    if isinstance(instance, str):
        if instance != NEW:
            raise SessionError(f"instance must be an id, 0 or 'new', got {instance!r:.80}")
        state = new_instance(state, class_name)
        target = state.active_instance
    else:
        target = _editable(state, instance, background=True)
    _refuse_duplicate(state, column, row, target)
    if target != BACKGROUND:
        # An imported mask stays as it is until its instance is clicked; then clicks decide.
        state = _change_instance(state, target, fixed_mask=None)
        state = replace(state, active_instance=target)
    added = Click(column, row, target, state.next_t, seconds)
    return replace(state, clicks=(*state.clicks, added), next_t=state.next_t + 1)


def move_click(state: SessionState, t: Any, x: Any, y: Any) -> SessionState:
    """Move the click with time index `t` to pixel (x, y); it keeps t and its instance."""
    moved = state.click(as_time(t))
    column, row = as_pixel(state, x, y)
    _editable(state, moved.instance, background=True)
    _refuse_duplicate(state, column, row, moved.instance, but=moved.t)
    return replace(
        state,
        clicks=tuple(replace(c, x=column, y=row) if c.t == moved.t else c for c in state.clicks),
    )


def remove_click(state: SessionState, t: Any) -> SessionState:
    """Remove the click with time index `t`; the others keep theirs."""
    removed = state.click(as_time(t))
    _editable(state, removed.instance, background=True)
    return replace(state, clicks=tuple(c for c in state.clicks if c.t != removed.t))


def new_instance(
    state: SessionState, class_name: Any = None, mask: RLE | None = None
) -> SessionState:
    """Add an instance and make it active; `mask` gives it a fixed (imported) mask."""
    if state.next_id > MAX_ID:
        raise SessionError(f"a session holds at most {MAX_ID} instances")
    name = default_class(state) if class_name is None else as_class_name(class_name)
    _check_mask(state, mask)
    added = Instance(state.next_id, name, instance_colour(state.next_id), fixed_mask=mask)
    return _with_class(
        replace(
            state,
            instances=(*state.instances, added),
            active_instance=added.id,
            next_id=added.id + 1,
        ),
        name,
    )


def remove_instance(state: SessionState, instance: Any) -> SessionState:
    """Remove an instance with its clicks and strokes; a locked one is refused."""
    target = _editable(state, instance)
    return replace(
        state,
        instances=tuple(i for i in state.instances if i.id != target),
        clicks=tuple(c for c in state.clicks if c.instance != target),
        strokes=tuple(s for s in state.strokes if s.instance != target),
        active_instance=0 if state.active_instance == target else state.active_instance,
    )


def set_class(state: SessionState, instance: Any, class_name: Any) -> SessionState:
    """Name what an instance is; a name not seen before joins the classes."""
    target = as_instance(state, instance)
    name = as_class_name(class_name)
    return _with_class(_change_instance(state, target, class_name=name), name)


def select(state: SessionState, instance: Any) -> SessionState:
    """Make an instance active; 0 for none."""
    if as_integer(instance, "instance", 0, MAX_ID) == 0:
        return replace(state, active_instance=0)
    return replace(state, active_instance=as_instance(state, instance))


def lock(state: SessionState, instance: Any, locked: Any, mask: RLE | None = None) -> SessionState:
    """Lock an instance on `mask`, or unlock it.

    Without a mask an instance keeps its fixed one, or nothing when it has none. Once unlocked, the
    mask follows the clicks again; an instance without clicks keeps its fixed mask.
    """
    target = as_instance(state, instance)
    if not as_flag(locked, "locked"):
        keeps = not state.clicks_of(target)
        fixed = state.instance(target).fixed_mask if keeps else None
        return _change_instance(state, target, locked=False, fixed_mask=fixed)
    _check_mask(state, mask)
    fixed = mask or state.instance(target).fixed_mask or empty_mask(state)
    if state.instance(target).locked:
        return state
    return _change_instance(state, target, locked=True, fixed_mask=fixed)


def set_visible(state: SessionState, instance: Any, visible: Any) -> SessionState:
    """Draw an instance's overlay, or hide it; its mask stays."""
    target = as_instance(state, instance)
    return _change_instance(state, target, visible=as_flag(visible, "visible"))


def set_mask(state: SessionState, instance: Any, mask: RLE | None) -> SessionState:
    """Give an instance a fixed mask in place of its clicks and strokes; None takes it away."""
    target = _editable(state, instance)
    _check_mask(state, mask)
    if mask is not None:
        state = replace(
            state,
            clicks=tuple(c for c in state.clicks if c.instance != target),
            strokes=tuple(s for s in state.strokes if s.instance != target),
        )
    return _change_instance(state, target, fixed_mask=mask)


def paint(
    state: SessionState,
    instance: Any,
    mode: Any,
    radius: Any,
    points: Any,
    seconds: float | None = None,
) -> SessionState:
    """Add a brush ("add") or eraser ("erase") stroke; points outside the picture are clamped."""
    target = _editable(state, instance)
    if mode not in ("add", "erase"):
        raise SessionError(f"mode must be 'add' or 'erase', got {mode!r:.80}")
    if not isinstance(points, Sequence) or isinstance(points, (str, bytes)) or not points:
        raise SessionError(f"points must be a list of [x, y], got {points!r:.80}")
    if len(points) > MAX_STROKE_POINTS:
        raise SessionError(f"a stroke has at most {MAX_STROKE_POINTS} points, got {len(points)}")
    places: list[tuple[int, int]] = []
    for point in points:
        if not isinstance(point, Sequence) or isinstance(point, (str, bytes)) or len(point) != 2:
            raise SessionError(f"a stroke's points are [x, y] pairs, got {point!r:.80}")
        column = as_integer(point[0], "x", -(2**31), 2**31)
        row = as_integer(point[1], "y", -(2**31), 2**31)
        place = (min(max(column, 0), state.width - 1), min(max(row, 0), state.height - 1))
        if not places or places[-1] != place:
            places.append(place)
    stroke = Stroke(target, mode, as_radius(radius), tuple(places), state.next_t, seconds)
    return replace(
        state,
        strokes=(*state.strokes, stroke),
        next_t=state.next_t + 1,
        active_instance=target,
    )


def reset(state: SessionState) -> SessionState:
    """Take away all clicks, instances and strokes; the classes stay."""
    return SessionState(state.height, state.width, classes=state.classes)


INTENTS: dict[str, Callable[..., SessionState]] = {
    function.__name__: function
    for function in (
        click,
        move_click,
        remove_click,
        new_instance,
        remove_instance,
        set_class,
        select,
        lock,
        set_visible,
        set_mask,
        paint,
        reset,
    )
}


def as_instance(state: SessionState, value: Any) -> int:
    """Return the id of an existing instance, or raise SessionError listing those that exist."""
    try:
        number = as_integer(value, "instance", 1, MAX_ID)
    except SessionError as error:
        known = ", ".join(map(str, state.instance_ids)) or "none yet"
        raise SessionError(f"{error}; instances: {known}") from None
    return state.instance(number).id


def as_time(value: Any) -> int:
    """Return a time index as an int, or raise SessionError."""
    return as_integer(value, "t", 0, 2**53)


def empty_mask(state: SessionState) -> RLE:
    """Return the mask that holds no pixel of the picture."""
    size = state.height * state.width
    if size >= 2**32:
        raise SessionError(f"a mask of {size} pixels does not fit a run of uint32")
    return RLE(state.height, state.width, size.to_bytes(4, "little"))


def _editable(state: SessionState, value: Any, background: bool = False) -> int:
    """Return the id of an unlocked instance (or 0 if `background` is allowed)."""
    if background:
        low = as_integer(value, "instance", 0, MAX_ID)
        if low == BACKGROUND:
            return BACKGROUND
    target = as_instance(state, value)
    if state.instance(target).locked:
        raise SessionError(f"instance {target} is locked; unlock it before changing it")
    return target


def _refuse_duplicate(
    state: SessionState, x: int, y: int, instance: int, but: int | None = None
) -> None:
    """Refuse a second click on a pixel; the network could make nothing of it."""
    for other in state.clicks:
        if (other.x, other.y) == (x, y) and other.t != but:
            owner = f"instance {other.instance}" if other.instance else "the background"
            kind = "already" if other.instance == instance else "of another instance already"
            raise SessionError(
                f"there is {kind} a click at x={x}, y={y}: t={other.t}, {owner}; "
                "each pixel takes one click"
            )


def _check_mask(state: SessionState, mask: RLE | None) -> None:
    if mask is None:
        return
    if not isinstance(mask, RLE):
        raise SessionError(f"a fixed mask is an RLE, got {type(mask).__name__}")
    if (mask.height, mask.width) != (state.height, state.width):
        raise SessionError(
            f"the mask is {mask.width} x {mask.height}, the picture {state.width} x {state.height}"
        )


def _change_instance(state: SessionState, instance_id: int, **changes: Any) -> SessionState:
    return replace(
        state,
        instances=tuple(
            replace(i, **changes) if i.id == instance_id else i for i in state.instances
        ),
    )


def _with_class(state: SessionState, name: str) -> SessionState:
    return state if name in state.classes else replace(state, classes=(*state.classes, name))
