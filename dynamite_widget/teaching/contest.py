"""challenge: a person and the robot annotator click the same picture, turn by turn.

The rules are those of the evaluation (`dynamite_widget.evaluation`): IoU per object against known
masks, number of clicks until a quality is reached (NoC). `Challenge` is the box of controls.
"""

from __future__ import annotations

import html
import io
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np

from ..colours import instance_colour
from ..images import load_image
from ..session import Click, ClickSession
from .contest_robot import Robot
from .contest_scores import THRESHOLDS, Curve, matched_ious, plot_curves, read_truth
from .recording import record

_TURN_EDITS = frozenset({"click", "move_click", "remove_click", "paint"})


def challenge(
    image: Any,
    ground_truth: Any,
    *,
    predictor: Any = None,
    classes: Sequence[str] = (),
    budget: int | None = None,
    iou_threshold: float = 0.90,
) -> Challenge:
    """Start a challenge; see `Challenge`.

    Parameters
    ----------
    image : object
        The picture; see `load_image`.
    ground_truth : array, list of masks, path of a label PNG
        (H, W) label map, 0 = background; or masks (H, W), smaller ones on top.
    predictor : Predictor, optional
        The network both players use; by default the bundled one.
    classes : sequence of str
        Names for the digit keys.
    budget : int, optional
        Clicks that the robot may make; by default 10 per object, at most 60.
    iou_threshold : float
        An object with this IoU is done: the robot leaves it alone.

    Returns
    -------
    Challenge
    """
    return Challenge(
        image,
        ground_truth,
        predictor=predictor,
        classes=classes,
        budget=budget,
        iou_threshold=iou_threshold,
    )


class Challenge(ipywidgets.VBox):
    """A widget to click in, the live IoU of every object, and the robot beside it.

    The robot has as many clicks as the person: each new click of the person is answered by one of
    its own, always on the object that is worst. Instances are matched with objects as agrees best.
    A click that was moved or removed, and a brush stroke, counts as a click; what was undone does
    not count.

    Parameters
    ----------
    image, ground_truth, predictor, classes, budget, iou_threshold
        See `challenge`.

    Attributes
    ----------
    widget : DynaMITeWidget
        Where the person clicks.
    truth : (H, W) int32 array
        Ground truth, objects 1..n by descending area.
    objects : int
        n.

    Raises
    ------
    ValueError
        If the ground truth does not fit the picture or shows no object.
    """

    def __init__(
        self,
        image: Any,
        ground_truth: Any,
        *,
        predictor: Any = None,
        classes: Sequence[str] = (),
        budget: int | None = None,
        iou_threshold: float = 0.90,
    ) -> None:
        from ..widget import DynaMITeWidget

        if budget is not None and budget < 1:
            raise ValueError(f"budget must be >= 1, got {budget}")
        picture = load_image(image)
        self.truth = read_truth(ground_truth, picture.shape[:2])
        self.objects = int(self.truth.max())
        if predictor is None:
            from ..model.checkpoints import load_model
            from ..model.predictor import Predictor

            predictor = Predictor(load_model())
        self.budget = min(60, 10 * self.objects) if budget is None else int(budget)
        self._predictor = predictor
        self._picture = picture
        self._robot = Robot(predictor, picture, self.truth, iou_threshold)
        self._lock = threading.Lock()
        self.widget = DynaMITeWidget(picture, predictor=predictor, classes=classes)
        own_size = {"max_width": "100%", "align_self": "flex-start"}
        self._robot_view = ipywidgets.Image(format="png", layout=own_size)
        self._table = ipywidgets.HTML()
        self._finish = ipywidgets.Button(
            description="Finish", icon="flag-checkered", tooltip="compare both, click by click"
        )
        self._result = ipywidgets.Image(format="png", layout={**own_size, "display": "none"})
        self._note = ipywidgets.HTML()
        super().__init__(
            [
                self.widget,
                ipywidgets.HBox(
                    [
                        ipywidgets.VBox([self._table, self._finish]),
                        ipywidgets.VBox([ipywidgets.HTML("<b>The robot</b>"), self._robot_view]),
                    ],
                    layout={"flex_flow": "row wrap", "grid_gap": "24px"},
                ),
                self._note,
                self._result,
            ]
        )
        self._finish.on_click(lambda _button: self.finish())
        self.widget.on_change(lambda _widget: self._update())
        nothing = dict.fromkeys(range(1, self.objects + 1), 0.0)
        self._table.value = _table_html(nothing, nothing, 0, 0)
        self._robot_view.value = self._robot.picture(0)

    # -- reading ---------------------------------------------------------------------------------

    @property
    def clicks(self) -> int:
        """Clicks of the person so far."""
        return _turns(self.widget.session)

    @property
    def ious(self) -> dict[int, float]:
        """IoU of every object 1..n with what the person has clicked; waits for the masks."""
        return matched_ious(self.truth, self.widget.label_map, self.objects)

    @property
    def robot_ious(self) -> dict[int, float]:
        """IoU of every object after as many clicks of the robot (or all that it wanted)."""
        with self._lock:
            return self._theirs(self.clicks)

    @property
    def robot_clicks(self) -> tuple[Click, ...]:
        """Clicks that the robot has made so far."""
        return tuple(self._robot.annotator.clicks[: self._robot.made])

    def finish(self) -> dict[str, Curve]:
        """Let the robot use its clicks, draw both curves, and return them.

        Returns
        -------
        dict
            ``"you"`` and ``"robot"``; the first has one row per click of the session's history.
        """
        self._finish.disabled = True
        try:
            person = self._person()
            with self._lock:
                curves = {"you": person, "robot": self._robot.play(self.budget)}
        finally:
            self._finish.disabled = False
        figure = plot_curves(curves, self.budget)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        self._result.value = buffer.getvalue()
        self._result.layout.display = ""
        self._note.value = _result_html(curves, self.budget)
        return curves

    # -- inside ----------------------------------------------------------------------------------

    def _person(self) -> Curve:
        """Play the history of the widget again, and measure after every click."""
        self.widget.wait()
        long_side = max(self.truth.shape)
        recording = record(self.widget, long_side_px=long_side)
        rows = [np.zeros(self.objects)]
        for step in recording.steps[1:]:
            ious = matched_ious(self.truth, recording.label_map(step.index), self.objects)
            row = np.asarray(list(ious.values()))
            if step.intent is not None and step.intent.name in _TURN_EDITS:
                rows.append(row)
            else:
                rows[-1] = row
        return Curve("you", np.stack(rows))

    def _theirs(self, clicks: int) -> dict[int, float]:
        row = self._robot.after(min(clicks, self.budget))
        return {k: float(value) for k, value in enumerate(row, 1)}

    def _update(self) -> None:
        mine = self.ious
        with self._lock:
            clicks = self.clicks
            theirs = self._theirs(clicks)
            self._table.value = _table_html(mine, theirs, clicks, self._robot.made)
            self._robot_view.value = self._robot.picture(min(clicks, self.budget))

    def close(self) -> None:
        """Remove it from the page and free what it holds."""
        widget = getattr(self, "widget", None)  # none when the arguments were refused
        if widget is not None:
            widget.close()
        super().close()


def _turns(session: ClickSession) -> int:
    return sum(intent.name in _TURN_EDITS for intent in session.history)


def _table_html(
    mine: Mapping[int, float], theirs: Mapping[int, float], clicks: int, robot_clicks: int
) -> str:
    def bar(value: float, colour: str) -> str:
        return (
            "<td style='min-width:130px;padding:2px 6px'><div style='display:flex;gap:6px;"
            "align-items:center'><div style='flex:1;height:10px;border-radius:5px;"
            "background:rgba(128,128,128,.25)'><div style='height:10px;border-radius:5px;"
            f"width:{100 * value:.1f}%;background:{colour}'></div></div>"
            f"<span style='width:3em;text-align:right'>{value:.2f}</span></div></td>"
        )

    rows = "".join(
        f"<tr><td style='padding:2px 6px'>object {k}</td>"
        f"{bar(mine[k], instance_colour(6))}{bar(theirs[k], instance_colour(5))}</tr>"
        for k in mine
    )
    means = [sum(values.values()) / max(1, len(values)) for values in (mine, theirs)]
    return (
        "<table style='border-collapse:collapse;line-height:1.5'><tr style='text-align:left'>"
        f"<th></th><th style='padding:2px 6px'>you, {_count(clicks)}</th>"
        f"<th style='padding:2px 6px'>robot, {_count(min(clicks, robot_clicks))}</th></tr>{rows}"
        "<tr style='font-weight:600'><td style='padding:2px 6px'>mean IoU</td>"
        f"{bar(means[0], instance_colour(6))}{bar(means[1], instance_colour(5))}</tr></table>"
    )


def _count(clicks: int) -> str:
    return f"{clicks} click" if clicks == 1 else f"{clicks} clicks"


def _result_html(curves: Mapping[str, Curve], budget: int) -> str:
    head = "".join(f"<th style='padding:2px 10px'>NoC@{t * 100:g}</th>" for t in THRESHOLDS)
    rows = ""
    for name, curve in curves.items():
        cells = ""
        for threshold in THRESHOLDS:
            clicks, done = curve.noc(threshold, budget)
            cells += f"<td style='padding:2px 10px'>{clicks if done else '> ' + str(budget)}</td>"
        rows += f"<tr><th style='text-align:left'>{html.escape(name)}</th>{cells}</tr>"
    return (
        "<table style='line-height:1.5'><tr><th style='text-align:left'>clicks until the mean IoU "
        f"is reached</th>{head}</tr>{rows}</table>"
    )
