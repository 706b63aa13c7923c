"""One picture of the queue, for programs: pixels and masks in, edits and marks out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..controller import AnnotationController
from ..errors import DynaMITeError
from ..results import ResultsAPI
from .index import Record
from .proposals import Proposal, read_proposals

if TYPE_CHECKING:
    from .dataset import DatasetAnnotator


class PictureItem(ResultsAPI):
    """The picture that an annotator has open, with the editing and result methods of the widget.

    >>> for item in annotator:  # doctest: +SKIP
    ...     item.click(120, 80, class_name="cat")
    ...     item.done()

    It is of use while its picture is open; afterwards its methods raise DynaMITeError.
    """

    def __init__(self, annotator: DatasetAnnotator, key: str) -> None:
        self._annotator = annotator
        self.name = key

    def __repr__(self) -> str:
        return f"PictureItem({self.name!r}, {self.record.status})"

    @property
    def controller(self) -> AnnotationController:
        """The controller that has the picture open."""
        if self._annotator.key != self.name:
            raise DynaMITeError(
                f"{self.name!r} is no longer open (that is {self._annotator.key!r}); "
                "annotator.open(name) opens it again"
            )
        return self._annotator.widget.controller

    @property
    def source(self) -> Any:
        """Path, array, … of the picture."""
        return self._annotator.source.image(self.name)

    @property
    def image(self) -> NDArray[np.uint8]:
        """The picture, (H, W, 3) uint8 RGB."""
        return self.controller.picture.image

    @property
    def record(self) -> Record:
        """Status, note, counts."""
        return self._annotator.store.record(self.name)

    @property
    def proposals(self) -> tuple[Proposal, ...]:
        """Proposals that wait for an answer."""
        _ = self.controller
        return self._annotator.proposals

    def accept(self, proposal: Any) -> int:
        """Take a proposal (or whatever `propose` may return), and return the last new instance.

        Raises
        ------
        SessionError
            If it does not fit the picture; what was accepted before it stays.
        """
        instance = 0
        for single in read_proposals(proposal):
            name, args = single.edit(self.controller.state)
            instance = self.controller.apply(name, **args).active_instance
        return instance

    def annotate(self, annotate: Callable[[PictureItem], Any]) -> None:
        """Let a program annotate the picture, then mark it as done.

        Parameters
        ----------
        annotate : callable
            Gets this item. It edits, or returns boxes, points or masks that are taken over as they
            are; see `proposals.read_proposals`.
        """
        self.accept(annotate(self))
        self.wait()
        self.done()

    def done(self, note: str | None = None) -> None:
        """Mark the picture as done."""
        self._mark(status="done", note=note)

    def skip(self, note: str | None = None) -> None:
        """Mark the picture as skipped; what was clicked is kept."""
        self._mark(status="skipped", note=note)

    def flag(self, note: str | None = None, flagged: bool = True) -> None:
        """Mark the picture for a second look."""
        self._mark(flagged=flagged, note=note)

    def _mark(self, note: str | None, **values: Any) -> None:
        if note is not None:
            values["note"] = note
        self._annotator.mark(self.name, **values)
