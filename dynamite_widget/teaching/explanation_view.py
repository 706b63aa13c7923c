"""Controls over the figures of an `Explanation`: choose click, view, layer and head."""

from __future__ import annotations

import io
from typing import Any

import ipywidgets

from .explanation import Explanation
from .explanation_plots import VIEWS, plot

_LABELS = {
    "sampling": "sampling",
    "attention": "attention",
    "mask": "its own mask",
    "without": "without it",
    "queries": "other queries",
    "background": "background",
}
_TEXTS = {
    "sampling": "A click becomes a query: the features under it, averaged over three levels. "
    "Bright: what looks alike to the network, before any attention.",
    "attention": "Masked cross-attention: in each encoder layer the query gathers features from "
    "one level, but only where its own mask so far is positive.",
    "mask": "The mask of this query alone: red is inside, the white line is where it ends.",
    "without": "Leave one out: the label map with and without this click.",
    "queries": "Self-attention: clicks of all instances and the static background queries (s) "
    "talk to each other, so a click changes the masks of others, too.",
    "background": "The static background queries are learned, and there in every picture: they "
    "hold the background where nobody clicked.",
}


class ExplanationView(ipywidgets.VBox):
    """Browse an explanation.

    Parameters
    ----------
    explanation : Explanation
        What to show first; other clicks are explained when chosen.
    """

    def __init__(self, explanation: Explanation) -> None:
        self._explanation = explanation
        clicks = explanation.state.clicks
        self._click = ipywidgets.Dropdown(
            options=[(_click_name(c), c.t) for c in clicks],
            value=explanation.click.t,
            description="click",
        )
        self._view = ipywidgets.ToggleButtons(
            options=[(_LABELS[view], view) for view in VIEWS],
            value="attention",
            style={"button_width": "auto"},
        )
        self._layer = ipywidgets.IntSlider(
            value=1, min=1, max=explanation.layers, description="layer"
        )
        heads = explanation.self_attention.shape[1]
        self._head = ipywidgets.Dropdown(
            options=[("mean of all", -1), *((str(k + 1), k) for k in range(heads))],
            value=-1,
            description="head",
        )
        self._text = ipywidgets.HTML()
        self._image = ipywidgets.Image(
            format="png", layout={"max_width": "100%", "align_self": "flex-start"}
        )
        super().__init__(
            [
                ipywidgets.HBox(
                    [self._click, self._layer, self._head], layout={"flex_flow": "row wrap"}
                ),
                self._view,
                self._text,
                self._image,
            ]
        )
        self._click.observe(self._choose, "value")
        for control in (self._view, self._layer, self._head):
            control.observe(self._draw, "value")
        self._draw()

    @property
    def explanation(self) -> Explanation:
        """The explanation shown."""
        return self._explanation

    def _choose(self, change: Any) -> None:
        if change["new"] != self._explanation.click.t:
            self._explanation = self._explanation.of(int(change["new"]))
        self._draw()

    def _draw(self, _change: Any = None) -> None:
        view = str(self._view.value)
        self._layer.disabled = view != "attention"
        self._head.disabled = view not in ("attention", "queries")
        head = int(self._head.value)
        figure = plot(
            self._explanation,
            view,
            layer=int(self._layer.value) - 1,
            head=None if head < 0 else head,
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        self._text.value = f"<span style='opacity:.8'>{_TEXTS[view]}</span>"
        self._image.value = buffer.getvalue()


def _click_name(click: Any) -> str:
    owner = f"instance {click.instance}" if click.instance else "background"
    return f"t{click.t}: {owner} at {click.x}, {click.y}"
