"""Parts of the annotator's page: ipywidgets that stay live while a cell runs; tiles and keys."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets as t

_HERE = Path(__file__).parent


class _Live:
    """Lets the front end choose the thread of its next message.

    ipykernel >= 7.4 sends it to the shell that published last on the comm: the main shell after any
    cell, which then is dead to the page until the cell ends. The names are private; where they do
    not exist this does nothing.
    """

    def open(self) -> None:
        super().open()  # type: ignore[misc]
        self._unpin()

    def _send(self, msg: Any, buffers: Any = None) -> None:
        super()._send(msg, buffers=buffers)  # type: ignore[misc]
        self._unpin()

    def _unpin(self) -> None:
        fields = getattr(getattr(self, "comm", None), "__dict__", None)
        if fields:
            fields.pop("_reply_subshell_id", None)
            per_request = fields.get("_reply_subshell_ids")
            if isinstance(per_request, dict):
                per_request.clear()


class Button(_Live, ipywidgets.Button):
    """A button."""


class ToggleButton(_Live, ipywidgets.ToggleButton):
    """A button that stays down."""


class Text(_Live, ipywidgets.Text):
    """A line of text, reported when it is finished."""


class Whole(_Live, ipywidgets.BoundedIntText):
    """A whole number."""


class Dropdown(_Live, ipywidgets.Dropdown):
    """A choice."""


class Line(_Live, ipywidgets.HTML):
    """A line of text; whatever it says is shown as text, never as markup."""

    def say(self, text: str) -> None:
        """Show a text."""
        # Names may hold bytes that are no Unicode, which cannot be sent.
        escaped: str = html.escape(text.encode("utf-8", "replace").decode())
        self.value = escaped


class Tiles(_Live, anywidget.AnyWidget):
    """Thumbnails in a strip or a grid; see ``tiles.js``."""

    # As text with a line break: for paths, anywidget watches the files.
    _esm = (_HERE / "tiles.js").read_text(encoding="utf-8") + "\n"
    _css = (_HERE / "annotator.css").read_text(encoding="utf-8") + "\n"

    kind = t.Unicode("strip").tag(sync=True)
    label = t.Unicode("").tag(sync=True)
    tiles = t.List(t.Dict()).tag(sync=True)

    def __init__(
        self,
        kind: str,
        label: str,
        on_open: Callable[[int], object],
        on_want: Callable[[list[int]], object],
    ) -> None:
        super().__init__(kind=kind, label=label)
        self._on_open, self._on_want = on_open, on_want
        self.on_msg(self._receive)

    def send_picture(self, place: int, version: str, data: bytes) -> None:
        """Send the thumbnail of a place to all views."""
        self.send({"type": "thumbnail", "place": place, "version": version}, [data])

    def _receive(self, _widget: Any, content: Any, _buffers: Any) -> None:
        if not isinstance(content, dict):
            return
        if content.get("type") == "open" and type(content.get("place")) is int:
            self._on_open(content["place"])
        elif content.get("type") == "want" and isinstance(content.get("places"), list):
            self._on_want([place for place in content["places"] if type(place) is int])


class Keys(_Live, anywidget.AnyWidget):
    """Keys of the annotator; see ``keys.js``."""

    _esm = (_HERE / "keys.js").read_text(encoding="utf-8") + "\n"

    proposals = t.Bool(False).tag(sync=True)
    read_only = t.Bool(False).tag(sync=True)

    def __init__(self, on_key: Callable[[str], object]) -> None:
        super().__init__()
        self._on_key = on_key
        self.on_msg(self._receive)

    def _receive(self, _widget: Any, content: Any, _buffers: Any) -> None:
        if isinstance(content, dict) and content.get("type") == "key":
            self._on_key(str(content.get("command")))
