"""A recording as one HTML file: a scrubber over the clicks that opens from disk, without a kernel.

The page holds the picture (JPEG), the differences between the label maps and one inline script; its
content security policy allows nothing else, in particular no request.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import logging
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from ..embed_html import script_safe
from . import runs
from .captions import caption
from .drawing import canvas_of, nearest
from .recording import Recording, jpeg

logger = logging.getLogger(__name__)

MAX_BYTES = 300_000
_HERE = Path(__file__).parent
#: Sizes and qualities tried, best first, until the page is small enough.
_LONG_SIDES_PX = (1024, 896, 768, 640, 512, 384)
_QUALITIES = (85, 78, 70, 62, 54)


def story(
    recording: Recording,
    *,
    title: str | None = None,
    max_bytes: int = MAX_BYTES,
    seconds_per_step: float = 0.9,
) -> str:
    """Return a self-contained page that steps through a recording.

    Picture and masks are reduced until the page is small enough: first the quality of the picture,
    then the size of both.

    Parameters
    ----------
    recording : Recording
    title : str, optional
        Heading, any text; by default the name of the picture.
    max_bytes : int
        Size aimed at. A page that cannot be made that small is returned all the same, as small as
        it gets, with a warning in the log.
    seconds_per_step : float
        Pace of its play button.

    Returns
    -------
    str
    """
    heading = title or recording.session.image_name or "Click by click"
    steps = _steps(recording)
    page = ""
    fields: dict[str, Any] = {}
    for long_side_px in _LONG_SIDES_PX:
        if max(recording.height, recording.width) < long_side_px != _LONG_SIDES_PX[-1]:
            continue
        fields = _fields(recording, steps, long_side_px, seconds_per_step)
        without = len(_page(heading, {**fields, "picture": ""}).encode())
        for quality in _QUALITIES:
            if without > max_bytes:
                break
            page = _page(heading, {**fields, "picture": _picture(recording, fields, quality)})
            if len(page.encode()) <= max_bytes:
                return page
    if not page:
        page = _page(heading, {**fields, "picture": _picture(recording, fields, _QUALITIES[-1])})
    logger.warning("the story has %d bytes, more than the %d asked for", len(page), max_bytes)
    return page


def _picture(recording: Recording, fields: dict[str, Any], quality: int) -> str:
    if recording.picture is None:
        return ""
    small = canvas_of(recording, max(fields["width"], fields["height"]))
    return base64.b64encode(jpeg(small, quality)).decode("ascii")


def _steps(recording: Recording) -> list[dict[str, Any]]:
    """List what the page says about each step; clicks are still in pixels of the picture."""
    state = recording.session.state
    scale = state.height * state.width / (recording.height * recording.width)
    found, diff = [], 0
    for step in recording.steps:
        counts = np.bincount(recording.label_map(step.index).reshape(-1))
        first, second = caption(recording, step.index)
        found.append(
            {
                "caption": first,
                "changes": second,
                "diff": diff if recording.known[step.index] else None,
                "clicks": [(c.x, c.y, c.instance, c.t == step.click) for c in step.state.clicks],
                "instances": [
                    {
                        "id": i.id,
                        "name": i.class_name,
                        "colour": i.colour,
                        "area": round(float(counts[i.id]) * scale) if i.id < len(counts) else 0,
                    }
                    for i in step.state.instances
                ],
            }
        )
        diff += recording.known[step.index]
    return found


def _fields(
    recording: Recording, steps: list[dict[str, Any]], long_side_px: int, seconds_per_step: float
) -> dict[str, Any]:
    shrink = min(1.0, long_side_px / max(recording.height, recording.width))
    height = max(1, round(recording.height * shrink))
    width = max(1, round(recording.width * shrink))
    if shrink == 1:
        packed = recording.packed
    else:
        packed = runs.pack(
            nearest(recording.label_map(i), height, width)
            for i, known in enumerate(recording.known)
            if known
        )
    state = recording.session.state
    across, down = width / state.width, height / state.height
    placed = [
        {
            **step,
            "clicks": [
                [round((x + 0.5) * across, 1), round((y + 0.5) * down, 1), instance, int(newest)]
                for x, y, instance, newest in step["clicks"]
            ],
        }
        for step in steps
    ]
    return {
        "width": width,
        "height": height,
        "pace": max(50, round(seconds_per_step * 1000)),
        "steps": placed,
        "runs": base64.b64encode(packed).decode("ascii"),
    }


def _page(heading: str, fields: dict[str, Any]) -> str:
    script = (_HERE / "story.js").read_text(encoding="utf-8")
    style = (_HERE / "story.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; script-src '{_digest(script)}'; "
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    template = Template((_HERE / "story.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=html.escape(heading, quote=True),
        policy=policy,
        style=style,
        script=script,
        data=script_safe(json.dumps(fields, separators=(",", ":"))),
        footer="Made with dynamite-widget. Everything shown is in this file.",
    )


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
