"""Order among the messages of a view: intents by their ``seq``, gaps, repetitions. Pure data.

Kernels hand messages to arbitrary threads, out of order. `IntentOrder` releases them in order,
remembers the answers of those that come twice, and lets late ones through once a gap was given up.
One thread uses it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Literal

Message = dict[str, Any]
Answer = dict[str, Any]

KEPT_VIEWS = 256
KEPT_ANSWERS = 1024
MAX_WAITING = 10_000


@dataclass
class _ViewOrder:
    next_seq: int = 1
    waiting: dict[int, list[Message]] = field(default_factory=dict)
    holes: list[tuple[int, int]] = field(default_factory=list)
    answers: OrderedDict[int, Answer] = field(default_factory=OrderedDict)

    def in_hole(self, seq: int) -> bool:
        return any(low <= seq < high for low, high in self.holes)

    def fill_hole(self, seq: int) -> None:
        parts: list[tuple[int, int]] = []
        for low, high in self.holes:
            if low <= seq < high:
                parts += [part for part in ((low, seq), (seq + 1, high)) if part[0] < part[1]]
            else:
                parts.append((low, high))
        self.holes = parts


@dataclass(frozen=True)
class Release:
    """A message to be dealt with now.

    ``apply``: in its turn. ``late``: its turn was given up before it came. ``repeat``: it was
    applied before; answer it with `answer` (None if that is forgotten). ``refuse``: too many wait.
    """

    message: Message
    seq: int
    how: Literal["apply", "late", "repeat", "refuse"]
    answer: Answer | None = None


class IntentOrder:
    """Orders the intents of all views of one widget."""

    def __init__(self) -> None:
        self._views: OrderedDict[str, _ViewOrder] = OrderedDict()

    def offer(self, view: str, seq: int, message: Message) -> list[Release]:
        """Take a message; return those that can be dealt with now, in order.

        The caller must call `remember` for each ``apply`` and ``late`` before the next offer.
        """
        order = self._view(view)
        if seq < order.next_seq:
            if order.in_hole(seq):
                order.fill_hole(seq)
                return [Release(message, seq, "late")]
            return [Release(message, seq, "repeat", order.answers.get(seq))]
        if seq not in order.waiting and len(order.waiting) >= MAX_WAITING:
            return [Release(message, seq, "refuse")]
        order.waiting.setdefault(seq, []).append(message)
        return self._release(order)

    def remember(self, view: str, seq: int, answer: Answer) -> None:
        """Keep the answer of an applied message for repetitions of it."""
        answers = self._view(view).answers
        answers[seq] = answer
        while len(answers) > KEPT_ANSWERS:
            answers.popitem(last=False)

    def answer(self, view: str, seq: int) -> Answer | None:
        """Return the remembered answer of a message."""
        return self._view(view).answers.get(seq)

    def gap(self, view: str) -> int | None:
        """Return the seq that later messages of a view wait for; None if none waits."""
        order = self._view(view)
        return order.next_seq if order.waiting else None

    def skip(self, view: str, seq: int) -> list[Release]:
        """Give up waiting for `seq` if it is still missing; return what can be applied then."""
        order = self._view(view)
        if order.next_seq != seq or not order.waiting:
            return []
        first = min(order.waiting)
        order.holes = [*order.holes[-63:], (order.next_seq, first)]
        order.next_seq = first
        return self._release(order)

    def _release(self, order: _ViewOrder) -> list[Release]:
        released: list[Release] = []
        while order.next_seq in order.waiting:
            first, *others = order.waiting.pop(order.next_seq)
            released.append(Release(first, order.next_seq, "apply"))
            # Their answer is known once the first is applied: see `answer`.
            released += [Release(other, order.next_seq, "repeat") for other in others]
            order.next_seq += 1
        return released

    def _view(self, view: str) -> _ViewOrder:
        order = self._views.get(view)
        if order is None:
            order = self._views[view] = _ViewOrder()
            # Views that wait for something stay; the others are gone pages, most likely.
            idle = [name for name, other in self._views.items() if not other.waiting]
            for name in idle[: max(0, len(self._views) - KEPT_VIEWS)]:
                if name != view:
                    del self._views[name]
        else:
            self._views.move_to_end(view)
        return order
