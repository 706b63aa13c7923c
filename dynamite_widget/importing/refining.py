"""Taking over imported masks: clicks from which the network makes (nearly) the same mask.

Each instance gets a click in the middle of its mask, then clicks where the network is wrong, until
it agrees or the budget is spent. Instances that it does not get right keep their mask and get no
clicks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SessionError
from ..evaluation.robot import RobotAnnotator
from ..export.polygons import iou
from ..segmentation import Segmentation
from ..session import ClickSession
from ..session_state import BACKGROUND, Click

Predict = Callable[[Sequence[Click], Sequence[int]], Any]


@dataclass(frozen=True)
class Refined:
    """How the network took over one instance.

    Attributes
    ----------
    instance : int
    class_name : str
    iou : float
        Of its mask now with the imported one, 0..1; 1 when the mask is kept.
    network_iou : float
        The best that the network reached.
    clicks : int
        Clicks that it has now.
    taken_over : bool
        Whether clicks decide about it now; otherwise its imported mask still does.
    """

    instance: int
    class_name: str
    iou: float
    network_iou: float
    clicks: int
    taken_over: bool


def refine(
    session: ClickSession,
    predict: Predict,
    *,
    target_iou: float = 0.9,
    max_clicks: int = 8,
    instances: Iterable[int] | None = None,
) -> tuple[Refined, ...]:
    """Seed clicks for the imported masks of a session, in place; each click can be undone.

    Parameters
    ----------
    session : ClickSession
        Instances with a fixed mask that are not locked take part.
    predict : callable
        From clicks and instance ids to a `Segmentation`; see `predict_with`.
    target_iou : float
        Agreement at which an instance is taken over, 0 < IoU <= 1.
    max_clicks : int
        Budget of each instance, counting the clicks that correct it.
    instances : iterable of int, optional
        Which; by default all that can take part.

    Returns
    -------
    tuple of Refined
        One per instance, by id.

    Raises
    ------
    SessionError
        If an instance has no imported mask or is locked.
    """
    if not 0 < target_iou <= 1:
        raise SessionError(f"target_iou must lie in 0..1, got {target_iou!r:.40}")
    if type(max_clicks) is not int or max_clicks < 1:
        raise SessionError(f"max_clicks must be a whole number from 1, got {max_clicks!r:.40}")
    chosen = _chosen(session, instances)
    if not chosen:
        return ()
    truth = _truth(session)
    existing = [c for c in session.clicks if c.instance not in chosen]
    seeds = _Seeds(truth, chosen, existing, session.state.next_t, predict, target_iou, max_clicks)
    best, reached = seeds.search()
    good = {i for i in chosen if reached[i] >= target_iou}
    clicks, final = _settle(seeds, good, target_iou)
    for click in clicks:
        session.apply("click", x=click.x, y=click.y, instance=click.instance)
    state = session.state
    return tuple(
        Refined(
            i,
            state.instance(i).class_name,
            round(final[i], 4) if i in final else 1.0,
            round(best[i], 4),
            len(state.clicks_of(i)),
            i in final,
        )
        for i in chosen
    )


def predict_with(predictor: Any, embedding: Any) -> Predict:
    """Return the `predict` of a `Predictor` for one picture."""

    def predict(clicks: Sequence[Click], instances: Sequence[int]) -> Any:
        return predictor.predict(embedding, clicks, instances=instances)

    return predict


class _Seeds:
    """Search for clicks, with all instances in one prediction, as the network works."""

    def __init__(
        self,
        truth: NDArray[np.int32],
        chosen: Sequence[int],
        existing: Sequence[Click],
        next_t: int,
        predict: Predict,
        target_iou: float,
        max_clicks: int,
    ) -> None:
        self.truth, self.chosen, self.existing = truth, chosen, existing
        self.next_t = next_t
        self._predict, self._target, self._budget = predict, target_iou, max_clicks
        # The robot numbers objects from 1; its clicks are translated back.
        present = sorted({int(i) for i in np.unique(truth) if i})
        self._ids = present
        table = np.zeros(max(present, default=0) + 1, np.int32)
        table[present] = np.arange(1, len(present) + 1)
        self._table = table
        self.robot = RobotAnnotator(table[truth], len(present))
        for click in existing:
            self.robot.not_clicked[click.y, click.x] = False
        self.clicks: list[Click] = []
        # Which instance each click was placed to correct: it is dropped along with it.
        self.meant_for: list[int] = []

    def search(self) -> tuple[dict[int, float], dict[int, float]]:
        """Place clicks; return the best and the last IoU of each instance."""
        for click in self.robot.first_clicks():
            instance = self._ids[click.instance - 1]
            if instance in self.chosen and self._is_free(click.x, click.y):
                self._add(click.x, click.y, instance, instance)
        spent = dict.fromkeys(self.chosen, 1)
        stuck: set[int] = set()
        best = dict.fromkeys(self.chosen, 0.0)
        while True:
            labels = self.predict(self.clicks)
            now = {i: iou(labels == i, self.truth == i) for i in self.chosen}
            best = {i: max(best[i], now[i]) for i in self.chosen}
            wanting = [
                i
                for i in self.chosen
                if now[i] < self._target and spent[i] < self._budget and i not in stuck
            ]
            if not wanting:
                return best, now
            for i in wanting:
                if not self._correct(labels, i):
                    stuck.add(i)
                spent[i] += 1

    def predict(self, clicks: Sequence[Click]) -> NDArray[np.int32]:
        """Return the label map that the network makes of clicks."""
        everything = sorted((*self.existing, *clicks), key=lambda c: -1 if c.t is None else c.t)
        ids = sorted({c.instance for c in everything if c.instance})
        if not ids:
            return np.zeros(self.truth.shape, np.int32)
        result: NDArray[np.int32] = self._predict(everything, ids).label_map
        return result

    def _is_free(self, x: int, y: int) -> bool:
        """Tell whether no click is on this pixel."""
        return all((c.x, c.y) != (x, y) for c in (*self.existing, *self.clicks))

    def _correct(self, labels: NDArray[np.int32], instance: int) -> bool:
        if instance >= self._table.size or not self._table[instance]:
            return False
        known = np.where(labels < self._table.size, labels, 0)
        click = self.robot.next_click(self._table[known], int(self._table[instance]))
        if click is None or not self._is_free(click.x, click.y):
            return False
        owner = self._ids[click.instance - 1] if click.instance else BACKGROUND
        if owner and owner not in self.chosen:
            # A click may not edit an instance that is not to be refined; say "not this" instead.
            owner = BACKGROUND
        self._add(click.x, click.y, owner, instance)
        return True

    def _add(self, x: int, y: int, owner: int, meant_for: int) -> None:
        self.clicks.append(Click(x, y, owner, self.next_t + len(self.clicks)))
        self.meant_for.append(meant_for)


def _settle(
    seeds: _Seeds, good: set[int], target_iou: float
) -> tuple[list[Click], dict[int, float]]:
    """Drop the clicks of instances that keep their mask, until all others are right without."""
    while good:
        left = [
            click
            for click, meant in zip(seeds.clicks, seeds.meant_for, strict=True)
            if meant in good and (click.is_background or click.instance in good)
        ]
        # With the time indices that the session will give them: the network sees these, too.
        clicks = [replace(click, t=seeds.next_t + k) for k, click in enumerate(left)]
        labels = seeds.predict(clicks)
        # Kept masks lie on top of what the network says.
        kept = (seeds.truth > 0) & ~np.isin(seeds.truth, sorted(good))
        labels = np.where(kept, seeds.truth, labels)
        now = {i: iou(labels == i, seeds.truth == i) for i in good}
        worse = {i for i, value in now.items() if value < target_iou}
        if not worse:
            return clicks, now
        good = good - worse
    return [], {}


def _chosen(session: ClickSession, instances: Iterable[int] | None) -> list[int]:
    state = session.state
    if instances is None:
        return [
            i.id
            for i in state.instances
            if i.fixed_mask is not None and not i.locked and i.fixed_mask.area
        ]
    chosen = sorted({state.instance(i).id for i in instances})
    for i in chosen:
        instance = state.instance(i)
        if instance.fixed_mask is None:
            raise SessionError(f"instance {i} has no imported mask; its clicks decide already")
        if instance.locked:
            raise SessionError(f"instance {i} is locked; unlock it before refining it")
    return chosen


def _truth(session: ClickSession) -> NDArray[np.int32]:
    """Return the label map of the fixed masks alone, as far as they are visible."""
    state = session.state
    fixed = tuple(i for i in state.instances if i.fixed_mask is not None)
    ids = tuple(i.id for i in fixed)
    strokes = tuple(s for s in state.strokes if s.instance in ids)
    only = replace(state, clicks=(), strokes=strokes, instances=fixed, active_instance=0)
    label_map: NDArray[np.int32] = (
        Segmentation.empty(state.height, state.width, ids).with_edits(only).label_map
    )
    return label_map
