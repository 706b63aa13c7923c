"""A widget as one HTML file that opens from disk: no kernel, no network, nothing to install.

The page holds the built front end, and a stand-in for the model that answers as the kernel would
have: with the picture and the label map, and with "read only" to everything else.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

READ_ONLY = "This is a saved page: it can be looked at, not edited."

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 0; padding: 12px; font: 14px/1.4 system-ui, sans-serif; color-scheme: light dark; }}
</style>
<style>{style}</style>
</head>
<body>
<div id="dynamite-widget"></div>
<noscript><img alt="{title}" src="{thumbnail}"></noscript>
<script type="application/json" id="dynamite-data">{data}</script>
<script type="module">
const data = JSON.parse(document.getElementById("dynamite-data").textContent);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const handlers = new Map();
const emit = (name, ...args) => {{
  for (const handler of [...(handlers.get(name) ?? [])]) handler(...args);
}};
const say = (content, buffers = []) => setTimeout(() =>
  emit("msg:custom", content, buffers.map((text) => new DataView(bytes(text).buffer))), 0);
const model = {{
  get: (name) => data.traits[name],
  set: (name, value) => {{
    if (!data.writable.includes(name)) return;
    data.traits[name] = value;
    emit("change:" + name);
    emit("change");
  }},
  save_changes() {{}},
  on: (name, handler) => handlers.set(name, [...(handlers.get(name) ?? []), handler]),
  off: (name, handler) => handler
    ? handlers.set(name, (handlers.get(name) ?? []).filter((other) => other !== handler))
    : handlers.delete(name),
  send(content) {{
    const id = content?.id ?? null;
    if (content?.type === "ready") {{
      say({{ ...data.image, id }}, data.imageBuffers);
      if (data.labels) say(data.labels, data.labelBuffers);
    }} else if (content?.type === "ping") {{
      say({{ type: "ok", id, revision: data.revision }});
    }} else {{
      say({{ type: "error", id, message: data.readOnly }});
    }}
  }},
}};
const address = URL.createObjectURL(new Blob([data.script], {{ type: "text/javascript" }}));
const front = (await import(address)).default;
const widget = typeof front === "function" ? await front() : front;
const signal = new AbortController().signal;
await widget.initialize?.({{ model, signal, experimental: {{}} }});
const el = document.getElementById("dynamite-widget");
await widget.render({{ model, el, signal, experimental: {{}} }});
</script>
</body>
</html>
"""


def page(
    *,
    title: str,
    script: str,
    style: str,
    traits: Mapping[str, Any],
    image: Mapping[str, Any],
    image_bytes: bytes,
    labels: Mapping[str, Any] | None,
    label_buffers: Sequence[bytes],
    thumbnail: str,
    writable: Sequence[str] = (),
) -> str:
    """Return the page.

    Parameters
    ----------
    title : str
        Any text; it is escaped.
    script, style : str
        The built front end.
    traits : mapping
        Values of the model's traits.
    image, image_bytes
        Answer to ``ready``, without its id.
    labels, label_buffers
        The labels message, None without one.
    thumbnail : str
        A ``data:`` address, shown where scripts do not run.
    writable : sequence of str
        Traits that the page may change for itself.
    """
    data = {
        "script": script,
        "traits": dict(traits),
        "image": {**image, "read_only": True},
        "imageBuffers": [_text(image_bytes)],
        "labels": None if labels is None else dict(labels),
        "labelBuffers": [_text(buffer) for buffer in label_buffers],
        "revision": 0 if labels is None else labels["revision"],
        "readOnly": READ_ONLY,
        "writable": list(writable),
    }
    return _PAGE.format(
        title=html.escape(title, quote=True),
        # A style sheet ends at the first "</style", whatever it stands in.
        style=style.replace("</", "<\\/"),
        data=script_safe(json.dumps(data, ensure_ascii=True)),
        thumbnail=html.escape(thumbnail, quote=True),
    )


def script_safe(text: str) -> str:
    """Escape JSON so that nothing in it can end, or open, a script element."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
