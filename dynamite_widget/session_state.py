"""The data of a session: clicks, instances, strokes and the state that holds them. All immutable.

No behaviour but validation lives here: `intents` turns one state into the next, `session` adds the
history, `session_json` the file format. Numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from .colours import is_colour
from .errors import SessionError
from .rle import MAX_ID, RLE

BACKGROUND = 0
MAX_CLASS_NAME = 200
MAX_SIDE = 1_000_000
_NUMBERS = (int, float, np.integer, np.floating)
StrokeMode = Literal["add", "erase"]


@dataclass(frozen=True)
class Click:
    """A point on the picture that belongs to an instance, or to the background.

    Parameters
    ----------
    x, y : int
        Pixel column and row of the original picture.
    instance : int
        Instance id >= 1, or 0 for the background.
    t : int or None
        Time index: unique within a session, increasing, never renumbered; the click's identity.
    seconds : float or None
        When it was placed, in seconds of session time; not part of a comparison.
    """

    x: int
    y: int
    instance: int
    t: int | None = None
    seconds: float | None = field(default=None, compare=False)

    @property
    def is_background(self) -> bool:
        """Whether the click belongs to no instance."""
        return self.instance == BACKGROUND


@dataclass(frozen=True)
class Instance:
    """An object of the picture.

    Parameters
    ----------
    id : int
        1..65535, unique within a session.
    class_name : str
        What it is.
    colour : str
        ``"#rrggbb"``.
    visible : bool
        Whether its overlay is drawn; masks and exports do not depend on it.
    locked : bool
        A locked instance keeps `fixed_mask`; clicks and strokes on it are refused.
    fixed_mask : RLE or None
        Full-resolution mask of a locked or imported instance, used in place of the prediction.
    """

    id: int
    class_name: str
    colour: str
    visible: bool = True
    locked: bool = False
    fixed_mask: RLE | None = None


@dataclass(frozen=True)
class Stroke:
    """A brush or eraser stroke on one instance.

    Parameters
    ----------
    instance : int
        Instance id >= 1.
    mode : {"add", "erase"}
        Whether pixels join or leave the instance.
    radius : float
        Radius in pixels of the original picture, > 0: the stroke covers discs along the polyline.
    points : tuple of (x, y)
        Pixel positions of the polyline, at least one.
    t : int
        Time index, from the same counter as the clicks'.
    seconds : float or None
        When it was drawn, in seconds of session time; not part of a comparison.
    """

    instance: int
    mode: StrokeMode
    radius: float
    points: tuple[tuple[int, int], ...]
    t: int
    seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class SessionState:
    """Everything that decides the masks of one picture, besides the picture and the weights.

    Parameters
    ----------
    height, width : int
        Size of the original picture in pixels.
    clicks : tuple of Click
        In the order of their time indices.
    instances : tuple of Instance
        In the order of their ids.
    strokes : tuple of Stroke
        In the order of their time indices.
    active_instance : int
        The instance that a plain click goes to; 0 for none.
    next_id, next_t : int
        What the next instance and the next click get.
    classes : tuple of str
        Known class names, in the order of the digit keys.
    """

    height: int
    width: int
    clicks: tuple[Click, ...] = ()
    instances: tuple[Instance, ...] = ()
    strokes: tuple[Stroke, ...] = ()
    active_instance: int = 0
    next_id: int = 1
    next_t: int = 0
    classes: tuple[str, ...] = ()

    @property
    def instance_ids(self) -> tuple[int, ...]:
        """Ids of all instances, ascending."""
        return tuple(instance.id for instance in self.instances)

    def instance(self, instance_id: int) -> Instance:
        """Return the instance with this id.

        Raises
        ------
        SessionError
            If there is none; the message lists the ids that exist.
        """
        for instance in self.instances:
            if instance.id == instance_id:
                return instance
        known = ", ".join(map(str, self.instance_ids)) or "none yet"
        raise SessionError(f"unknown instance {instance_id!r:.80}; instances: {known}")

    def click(self, t: int) -> Click:
        """Return the click with time index `t`.

        Raises
        ------
        SessionError
            If there is none.
        """
        for click in self.clicks:
            if click.t == t:
                return click
        raise SessionError(f"there is no click with t={t!r:.80}")

    def clicks_of(self, instance_id: int) -> tuple[Click, ...]:
        """Return the clicks of one instance (0: the background clicks)."""
        return tuple(click for click in self.clicks if click.instance == instance_id)


def as_integer(value: Any, name: str, low: int, high: int) -> int:
    """Return `value` as an int within low..high.

    Numpy integers and integral floats count as integers, bools do not.

    Raises
    ------
    SessionError
        Naming the value seen and the values allowed.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        raise SessionError(f"{name} must be an integer {low}..{high}, got {value!r:.80}")
    if isinstance(value, (float, np.floating)) and not (
        math.isfinite(value) and value == math.floor(value)
    ):
        raise SessionError(f"{name} must be a whole number {low}..{high}, got {value!r:.80}")
    number = int(value)
    if not low <= number <= high:
        shown = number if abs(number) < 10**20 else "a huge number"
        raise SessionError(f"{name}={shown} is outside {low}..{high}")
    return number


def as_pixel(state: SessionState, x: Any, y: Any) -> tuple[int, int]:
    """Return (x, y) as integers inside the picture, or raise SessionError naming the limits."""
    try:
        return (
            as_integer(x, "x", 0, state.width - 1),
            as_integer(y, "y", 0, state.height - 1),
        )
    except SessionError as error:
        raise SessionError(
            f"{error}; the picture is {state.width} x {state.height} (width x height)"
        ) from None


def as_class_name(value: Any) -> str:
    """Return a class name without surrounding blanks, or raise SessionError."""
    if not isinstance(value, str):
        raise SessionError(f"a class name is a string, got {value!r:.80}")
    name = value.strip()
    if not name or len(name) > MAX_CLASS_NAME or not name.isprintable():
        raise SessionError(
            f"a class name has 1..{MAX_CLASS_NAME} printable characters, got {value!r:.80}"
        )
    return name


def as_flag(value: Any, name: str) -> bool:
    """Return a bool, or raise SessionError for anything that is not one."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise SessionError(f"{name} must be true or false, got {value!r:.80}")


def as_radius(value: Any) -> float:
    """Return a brush radius in pixels, or raise SessionError."""
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        raise SessionError(f"radius must be a number of pixels, got {value!r:.80}")
    radius = float(value) if -1e9 < value < 1e9 else math.inf
    if not 0 < radius <= 4096:
        raise SessionError(f"radius={radius} is outside 0 < radius <= 4096 pixels")
    return radius


def empty_state(height: Any, width: Any, classes: Any = ()) -> SessionState:
    """Return the state of a picture without clicks, all fields checked."""
    if isinstance(classes, str):
        raise SessionError(f"classes is a sequence of names, got the string {classes!r:.80}")
    names = tuple(dict.fromkeys(as_class_name(name) for name in classes))
    return SessionState(
        as_integer(height, "height", 1, MAX_SIDE),
        as_integer(width, "width", 1, MAX_SIDE),
        classes=names,
    )


def check_state(state: SessionState) -> SessionState:
    """Return `state` if it is consistent; raise SessionError otherwise (damaged files, bugs)."""
    ids = state.instance_ids
    if any(a >= b for a, b in pairwise(ids)):
        raise SessionError(f"instance ids must ascend, got {ids}")
    for instance in state.instances:
        as_integer(instance.id, "instance id", 1, MAX_ID)
        if as_class_name(instance.class_name) != instance.class_name:
            raise SessionError(f"class name {instance.class_name!r:.80} has blanks around it")
        if not is_colour(instance.colour):
            raise SessionError(f"a colour is '#rrggbb', got {instance.colour!r:.80}")
        mask = instance.fixed_mask
        if mask is not None and (mask.height, mask.width) != (state.height, state.width):
            raise SessionError(
                f"the mask of instance {instance.id} is {mask.width} x {mask.height}, "
                f"the picture {state.width} x {state.height}"
            )
        if instance.locked and mask is None:
            raise SessionError(f"instance {instance.id} is locked but has no fixed mask")
    known = set(ids)
    places: set[tuple[int, int]] = set()
    for click in state.clicks:
        as_pixel(state, click.x, click.y)
        place = (click.x, click.y)
        if click.instance != BACKGROUND and click.instance not in known:
            raise SessionError(f"click t={click.t} belongs to unknown instance {click.instance}")
        if place in places:
            raise SessionError(f"two clicks at x={click.x}, y={click.y}")
        places.add(place)
    for stroke in state.strokes:
        if stroke.instance not in known:
            raise SessionError(f"stroke t={stroke.t} belongs to unknown instance {stroke.instance}")
        if stroke.mode not in ("add", "erase") or not stroke.points:
            raise SessionError(f"stroke t={stroke.t} has mode {stroke.mode!r:.40} or no points")
        as_radius(stroke.radius)
        for x, y in stroke.points:
            as_pixel(state, x, y)
    for times in ([c.t for c in state.clicks], [s.t for s in state.strokes]):
        checked = [as_integer(t, "t", 0, state.next_t - 1) for t in times]
        if any(a >= b for a, b in pairwise(checked)):
            raise SessionError(f"time indices must ascend, got {checked!r:.80}")
    if {c.t for c in state.clicks} & {s.t for s in state.strokes}:
        raise SessionError("a click and a stroke share a time index")
    if state.active_instance != 0 and state.active_instance not in known:
        raise SessionError(f"active instance {state.active_instance} does not exist")
    if state.next_id <= max(ids, default=0):
        raise SessionError(f"next_id={state.next_id} is already taken")
    if len(set(state.classes)) != len(state.classes):
        raise SessionError("a class name occurs twice")
    return state
