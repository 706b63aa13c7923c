"""A matplotlib figure that notebooks show by themselves, without pyplot and its global state."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure whose value at the end of a cell is its picture.

    Figures that pyplot made are shown through the backend that it has set up; where nobody has
    imported it, a plain figure would be shown as text.
    """

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
