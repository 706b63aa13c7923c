"""Showing how clicks work: replay, self-contained stories, explanations, challenges.

`ClickReplay` and stories need no network; `explain` and `challenge` load one. Names are imported
when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..lazy import import_name

if TYPE_CHECKING:
    from .contest import Challenge, challenge
    from .explanation import Explanation, explain
    from .recording import Recording, record
    from .replay import ClickReplay
    from .story import story

__all__ = [
    "Challenge",
    "ClickReplay",
    "Explanation",
    "Recording",
    "challenge",
    "explain",
    "record",
    "story",
]

_HOMES = {
    "Challenge": "contest",
    "ClickReplay": "replay",
    "Explanation": "explanation",
    "Recording": "recording",
    "challenge": "contest",
    "explain": "explanation",
    "record": "recording",
    "story": "story",
}


def __getattr__(name: str) -> Any:
    return import_name(__name__, _HOMES, name)
