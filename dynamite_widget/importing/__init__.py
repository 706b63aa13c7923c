"""From files to sessions: annotations of other tools, to be looked at, corrected and refined.

>>> from dynamite_widget.importing import read_annotations
>>> sessions = read_annotations("annotations.json", images="pictures").to_sessions()

An imported mask stays exactly as it is until its instance is edited; `refine` finds clicks with
which the network can take over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..lazy import import_name

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
    return import_name(__name__, _HOMES, name)
