"""Proposals for the pictures of a set: asked for when a picture is opened, answered one by one."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import DynaMITeError
from .item import PictureItem
from .proposals import Proposal, Propose, proposals_of_file, read_proposals

if TYPE_CHECKING:
    from .desk import Desk

logger = logging.getLogger(__name__)


class SetProposals:
    """Proposals, for a class that opens pictures at a desk."""

    problem: str
    _desk: Desk
    _lock: threading.RLock
    _propose: Propose | None
    _proposals: dict[str, list[Proposal]]

    @property
    def key(self) -> str:
        """Name of the open picture; "" before the first is opened."""
        raise NotImplementedError

    def _tell(self, event: str) -> None:
        raise NotImplementedError

    def _item(self, key: str) -> PictureItem:
        raise NotImplementedError

    def propose(self, propose: Propose | str | os.PathLike[str] | None) -> None:
        """Propose objects on every picture that has none yet, for a person to accept with Enter.

        Parameters
        ----------
        propose : callable, path or None
            Gets a `PictureItem` and returns boxes, points or masks, as `proposals.read_proposals`
            describes; or an annotation file of any tool. None: no more proposals.
        """
        if isinstance(propose, (str, os.PathLike)):
            propose = proposals_of_file(propose)
        with self._lock:
            self._propose = propose
            self._proposals.clear()
            opened = bool(self.key)
        if opened:
            self._find_proposals(self.key)
        self._tell("proposals")

    @property
    def proposals(self) -> tuple[Proposal, ...]:
        """Proposals for the open picture that wait for an answer."""
        with self._lock:
            return tuple(self._proposals.get(self.key, ()))

    def accept(self, everything: bool = False) -> int:
        """Accept the first proposal, or all; returns how many. Each can be undone."""
        return self._answer(everything, lambda proposal: self._item(self.key).accept(proposal))

    def reject(self, everything: bool = False) -> int:
        """Drop the first proposal, or all; returns how many."""
        return self._answer(everything, lambda _: None)

    # -- inside ---------------------------------------------------------------------------------

    def _find_proposals(self, key: str) -> None:
        if key in self._proposals or self._propose is None:
            return
        self._proposals[key] = []
        if self._desk.widget.controller.state.instances:
            return
        try:
            self._proposals[key] = read_proposals(self._propose(self._item(key)))
        except Exception as error:
            # Somebody else's code: the picture can be annotated all the same.
            logger.exception("no proposals for %s", key)
            self.problem = f"no proposals for {key}: {type(error).__name__}: {error}"

    def _answer(self, everything: bool, answer: Callable[[Proposal], object]) -> int:
        count = 0
        with self._lock:
            waiting = self._proposals.get(self.key, [])
            while waiting and (everything or count == 0):
                proposal = waiting.pop(0)
                try:
                    answer(proposal)
                    count += 1
                except DynaMITeError as error:
                    self.problem = f"the proposal does not fit: {error}"
        self._tell("proposals")
        return count
