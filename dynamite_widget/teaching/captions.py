"""What a step did, in words and numbers: captions, and which pixels changed hands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..session_state import SessionState
from .recording import Recording, Step

#: Smaller exchanges are not worth a word: a fraction of the picture.
_WORTH_SAYING = 0.0005


@dataclass(frozen=True)
class Transfer:
    """Pixels that went from one owner to another in one step.

    Parameters
    ----------
    source, target : int
        Instance ids, 0 = background.
    pixels : int
        How many, in pixels of the full picture (scaled up from the recorded size).
    """

    source: int
    target: int
    pixels: int


def transfers(
    before: NDArray[np.integer[Any]], after: NDArray[np.integer[Any]], scale: float = 1.0
) -> tuple[Transfer, ...]:
    """Return what changed hands between two label maps of one size, the largest exchange first.

    Parameters
    ----------
    before, after : (H, W) integer arrays
        Label maps.
    scale : float
        Pixels of the picture per pixel of these maps.
    """
    if before.shape != after.shape:
        raise ValueError(f"label maps differ in size: {before.shape} and {after.shape}")
    changed = before != after
    pairs = np.stack([before[changed], after[changed]], axis=1)
    if not len(pairs):
        return ()
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)
    found = [
        Transfer(int(a), int(b), max(1, round(int(n) * scale)))
        for (a, b), n in zip(kinds.tolist(), counts.tolist(), strict=True)
    ]
    return tuple(sorted(found, key=lambda transfer: -transfer.pixels))


def step_transfers(recording: Recording, index: int) -> tuple[Transfer, ...]:
    """Return what changed hands in one step of a recording; nothing for the beginning."""
    if index == 0 or not recording.known[index]:
        return ()
    state = recording.session.state
    scale = state.height * state.width / (recording.height * recording.width)
    return transfers(recording.label_map(index - 1), recording.label_map(index), scale)


def describe_edit(step: Step) -> str:
    """Return what the person did in a step."""
    if step.intent is None:
        return "The picture, before the first click."
    name, args = step.intent.name, step.intent.args
    state = step.state
    if name == "click":
        click = state.clicks[-1]
        place = f"x {click.x}, y {click.y}"
        if click.instance == 0:
            return f"Background click at {place}."
        if args.get("instance") == "new":
            return f"New instance {_name(state, click.instance)}, clicked at {place}."
        return f"Click for {_name(state, click.instance)} at {place}."
    if name == "move_click":
        click = state.click(int(args["t"]))
        return f"Click {int(args['t']) + 1} moved to x {click.x}, y {click.y}."
    if name == "remove_click":
        return f"Click {int(args['t']) + 1} removed."
    if name == "new_instance":
        return f"New instance {_name(state, state.active_instance)}."
    if name == "remove_instance":
        return f"Instance {int(args['instance'])} removed."
    if name == "paint":
        stroke = state.strokes[-1]
        deed = "Brush" if stroke.mode == "add" else "Eraser"
        return f"{deed} on {_name(state, stroke.instance)}."
    if name == "reset":
        return "Everything taken away."
    subject = _name(state, int(args["instance"])) if "instance" in args else "the session"
    if name == "lock":
        return f"{subject} {'locked' if args['locked'] else 'unlocked'}."
    if name == "set_visible":
        return f"{subject} {'shown' if args['visible'] else 'hidden'}."
    if name == "set_class":
        return f"Instance {int(args['instance'])} is now called {args['class_name']!r}."
    return f"{name.replace('_', ' ')}: {subject}."


def describe_transfers(
    found: tuple[Transfer, ...], state: SessionState, limit: int = 4
) -> tuple[str, ...]:
    """Return the largest exchanges of a step in words."""
    least = _WORTH_SAYING * state.height * state.width
    said = [t for t in found if t.pixels >= least][:limit] or list(found[:1])
    lines = []
    for transfer in said:
        count = f"{transfer.pixels:,} px".replace(",", "\u202f")
        if transfer.source == 0:
            lines.append(f"{transfer.target} gained {count}")
        elif transfer.target == 0:
            lines.append(f"{transfer.source} lost {count} to the background")
        else:
            lines.append(f"{count} went from {transfer.source} to {transfer.target}")
    return tuple(lines)


def caption(recording: Recording, index: int) -> tuple[str, str]:
    """Return two lines about a step: what was done, and what changed hands."""
    step = recording.steps[index]
    if not recording.known[index] and any(recording.known):
        return describe_edit(step), "Masks were not recorded for this step."
    if not recording.known[index]:
        return describe_edit(step), "Clicks only: no masks were recorded."
    found = step_transfers(recording, index)
    if not found:
        return describe_edit(step), "" if step.intent is None else "No pixel changed hands."
    words = "; ".join(describe_transfers(found, step.state))
    return describe_edit(step), words[:1].upper() + words[1:] + "."


def class_names(state: SessionState) -> Mapping[int, str]:
    """Return the class name of each instance."""
    return {instance.id: instance.class_name for instance in state.instances}


def _name(state: SessionState, instance: int) -> str:
    names = class_names(state)
    return f"{instance} ({names[instance]})" if instance in names else str(instance)
