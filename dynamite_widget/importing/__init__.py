"""From files to sessions: annotations of other tools, to be looked at, corrected and refined.

>>> from dynamite_widget.importing import read_annotations
>>> sessions = read_annotations("annotations.json", images="pictures").to_sessions()

An imported mask stays exactly as it is until its instance is edited; `refine` finds clicks with
which the network can take over.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .refining import Refined, refine
    from .registry import read_annotations
    from .sessions import to_session

__all__ = ["Refined", "read_annotations", "refine", "to_session"]

_HOMES = {
    "Refined": "refining",
    "read_annotations": "registry",
    "refine": "refining",
    "to_session": "sessions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
