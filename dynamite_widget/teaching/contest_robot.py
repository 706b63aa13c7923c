"""The robot's side of a challenge: it clicks the worst object, and remembers every step."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.metrics import instance_ious
from ..evaluation.robot import RobotAnnotator
from ..evaluation.strategies import open_instances
from ..plotting import blend
from ..session import ClickSession
from . import drawing
from .contest_scores import Curve

_LONG_SIDE_PX = 420


class Robot:
    """The robot annotator, one click at a time: one on every object first, then where it is worst.

    Not thread-safe.

    Parameters
    ----------
    predictor : Predictor
        Its network.
    picture : (H, W, 3) uint8 array
    truth : (H, W) int32 array
        Objects 1..n.
    threshold : float
        An object with this IoU is done.
    """

    def __init__(
        self, predictor: Any, picture: NDArray[np.uint8], truth: NDArray[np.int32], threshold: float
    ) -> None:
        self.annotator = RobotAnnotator(truth)
        self._predictor = predictor
        self._embedding: Any = None
        self._picture = picture
        self._threshold = threshold
        self._exhausted = False
        self._maps = [np.zeros_like(truth)]
        self._ious = [np.zeros(self.annotator.objects)]
        self.annotator.first_clicks()  # one per object; played one by one all the same

    @property
    def made(self) -> int:
        """Clicks that it has made so far."""
        return len(self._maps) - 1

    def after(self, clicks: int) -> NDArray[np.float64]:
        """Return the IoUs (objects,) after so many clicks, or all it wanted to make."""
        self._reach(clicks)
        return self._ious[min(clicks, len(self._ious) - 1)]

    def play(self, budget: int) -> Curve:
        """Use the budget and return the curve."""
        self._reach(budget)
        return Curve("robot", np.stack(self._ious[: budget + 1]))

    def picture(self, clicks: int) -> bytes:
        """Return a PNG of picture, masks and markers after so many clicks."""
        from PIL import Image

        self._reach(clicks)
        made = min(clicks, len(self._maps) - 1)
        height, width = self._picture.shape[:2]
        scale = min(2.0, _LONG_SIDE_PX / max(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        small = np.array(
            Image.fromarray(self._picture).resize(size[::-1], Image.Resampling.BICUBIC)
        )
        frame = Image.fromarray(blend(small, drawing.nearest(self._maps[made], *size)))
        session = ClickSession(height, width)
        for _ in range(self.annotator.objects):
            session.new_instance()
        for click in self.annotator.clicks[:made]:
            session.click(click.x, click.y, click.instance)
        newest = session.clicks[-1].t if session.clicks else None
        drawing.draw_clicks(frame, session.state, newest=newest)
        buffer = io.BytesIO()
        frame.save(buffer, "PNG")
        return buffer.getvalue()

    def _reach(self, clicks: int) -> None:
        if clicks and self._embedding is None:
            self._embedding = self._predictor.embed(self._picture)
        objects = self.annotator.objects
        while len(self._maps) <= clicks and not self._exhausted:
            number = len(self._maps)
            if number > len(self.annotator.clicks) and not self._next_click():
                self._exhausted = True
                break
            placed = tuple(self.annotator.clicks[:number])
            result = self._predictor.predict(
                self._embedding, placed, instances=tuple(range(1, objects + 1))
            )
            self._maps.append(np.asarray(result.label_map))
            ious = instance_ious(self.annotator.truth, self._maps[-1], objects)
            self._ious.append(np.asarray(list(ious.values())))

    def _next_click(self) -> bool:
        """Correct the worst object that can be corrected; False if there is none."""
        ious = {k: float(v) for k, v in enumerate(self._ious[-1], 1)}
        for instance in sorted(open_instances(ious, self._threshold), key=lambda k: ious[k]):
            if self.annotator.next_click(self._maps[-1], instance) is not None:
                return True
        return False
