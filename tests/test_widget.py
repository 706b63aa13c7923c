"""DynaMITeWidget without a browser: traits, API, saved state, static page."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import contextvars
import gc
import io
import json
import re
import subprocess
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest
import traitlets
from kernel_fakes import FakePredictor
from PIL import Image

pytest.importorskip(
    "dynamite_widget.widget", reason="the front end is not built", exc_type=ImportError
)

import comm.base_comm
import ipywidgets

from dynamite_widget import embed_html, rle
from dynamite_widget.controller import AnnotationController
from dynamite_widget.errors import DynaMITeError, ImageError, SessionError
from dynamite_widget.session import ClickSession
from dynamite_widget.widget import DynaMITeWidget

LONG = 30.0
subshell: contextvars.ContextVar[str] = contextvars.ContextVar("subshell", default="main")


class FakeComm(comm.base_comm.BaseComm):
    """Records what is sent, and from which context; pins replies like ipykernel 7.4 does."""

    def __init__(self, **fields):
        self.published: list[tuple[str, dict[str, Any], list[Any], str]] = []
        self.condition = threading.Condition()
        super().__init__(**fields)

    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        json.dumps(data, allow_nan=False)
        with self.condition:
            self.published.append((msg_type, data or {}, buffers or [], subshell.get()))
            self._reply_subshell_id = subshell.get()
            self.condition.notify_all()

    def customs(self):
        return [
            (data["content"], buffers)
            for kind, data, buffers, _ in self.published
            if kind == "comm_msg" and data.get("method") == "custom"
        ]

    def wait_for(self, test):
        with self.condition:
            assert self.condition.wait_for(lambda: test(self), LONG)


@pytest.fixture(autouse=True)
def comms(monkeypatch):
    made: list[FakeComm] = []

    def create(**fields):
        made.append(FakeComm(**fields))
        return made[-1]

    monkeypatch.setattr("comm.create_comm", create)
    return made


@pytest.fixture
def image():
    ramp = np.add.outer(np.arange(60), np.arange(90))
    return np.stack([ramp, ramp[::-1], ramp * 0 + 80], axis=-1).astype(np.uint8)


@pytest.fixture
def widget(image):
    made = DynaMITeWidget(image, predictor=FakePredictor(), classes=["cat", "mug"])
    yield made
    made.close()


def receive(widget, content, shell="subshell-1"):
    """Deliver a custom message as the kernel does, on a thread of its own."""

    def handle():
        subshell.set(shell)
        data = {"method": "custom", "content": content}
        widget._handle_msg({"content": {"data": data}, "buffers": []})

    thread = threading.Thread(target=handle)
    thread.start()
    thread.join(LONG)


def test_clicks_show_at_once_and_masks_follow(widget):
    t = widget.click(3, 4)
    assert widget.clicks == [{"t": t, "x": 3, "y": 4, "instance": 1}]
    assert widget.active_instance == 1
    assert widget.history == {"can_undo": True, "can_redo": False}
    widget.click(80, 4, instance="new", class_name="dog")
    assert widget.masks.shape == (2, 60, 90)
    assert widget.masks.dtype == bool
    assert widget.masks.sum(axis=0).max() == 1
    assert widget.label_map[4, 3] == 1
    assert widget.mask_of(2)[4, 80]
    assert widget.segmentation.instances == (1, 2)
    first, second = widget.instances
    assert first == {
        "id": 1,
        "class_name": "cat",
        "colour": "#e69f00",
        "area": int(widget.mask_of(1).sum()),
        "score": 1.0,
        "visible": True,
        "locked": False,
        "clicks": 1,
    }
    assert second["class_name"] == "dog"
    assert widget.classes == ["cat", "mug", "dog"]
    assert widget.status["state"] == "ready"
    assert widget.status["device"] == "cpu"
    assert widget.image_info == {"version": 1, "width": 90, "height": 60, "name": ""}
    assert widget.image.shape == (60, 90, 3)


def test_the_whole_api(widget, tmp_path):
    first = widget.click(3, 4)
    background = widget.click_background(50, 50)
    widget.move_click(background, 51, 50)
    assert widget.clicks[1] == {"t": 1, "x": 51, "y": 50, "instance": 0}
    assert widget.new_instance("mug") == 2
    widget.set_class(2, "cup")
    widget.hide(2)
    widget.hide(1)
    widget.hide(1, False)
    assert [i["visible"] for i in widget.instances] == [True, False]
    widget.select(1)
    widget.paint(1, [(50, 50)], radius=3)
    assert widget.mask_of(1)[50, 50]
    widget.lock(1)
    with pytest.raises(SessionError, match="locked"):
        widget.remove_click(first)
    widget.lock(1, False)
    widget.remove_click(first)
    widget.remove_instance(2)
    imported = np.zeros((60, 90), bool)
    imported[:5, :5] = True
    assert widget.new_instance(mask=imported) == 3
    assert np.array_equal(widget.mask_of(3), imported)
    path = tmp_path / "s.json"
    widget.save(path)
    state = widget.controller.state
    widget.reset()
    assert widget.clicks == widget.instances == []
    assert widget.masks.shape == (0, 60, 90)
    assert widget.undo()
    assert widget.controller.state == state
    assert widget.redo()
    assert not widget.redo()
    widget.load_session(path)
    assert widget.controller.state == state
    assert isinstance(widget.session, ClickSession)
    with pytest.raises(SessionError, match="unknown instance 77"):
        widget.mask_of(77)
    with pytest.raises(SessionError, match="hidden"):
        widget.hide(3, "yes")


def test_starting_from_a_session(widget, image):
    widget.click(3, 4)
    other = DynaMITeWidget(image, predictor=FakePredictor(), session=widget.session.to_json())
    assert other.clicks == widget.clicks
    assert other.history["can_undo"]
    other.close()


def test_another_picture(widget, image):
    widget.click(3, 4)
    widget.wait()
    widget.set_image(image[:30, :40], name="crop.png")
    assert widget.image_info == {"version": 2, "width": 40, "height": 30, "name": "crop.png"}
    assert widget.clicks == []
    assert widget.masks.shape == (0, 30, 40)
    assert widget.classes == ["cat", "mug"]


@pytest.mark.parametrize(
    ("arguments", "near"),
    [({"clases": []}, "classes"), ({"modell": "lite"}, "model"), ({"zzz": 1}, "Valid: image")],
)
def test_unknown_arguments(image, arguments, near):
    with pytest.raises(TypeError, match=near):
        DynaMITeWidget(image, **arguments)


def test_bad_pictures_leave_no_thread(tmp_path):
    before = threading.active_count()
    with pytest.raises(ImageError):
        DynaMITeWidget(tmp_path / "missing.png")
    with pytest.raises(SessionError):
        DynaMITeWidget(np.zeros((4, 4)), predictor=FakePredictor(), session=ClickSession(5, 5))
    assert threading.active_count() == before


def test_traits_can_be_observed_and_linked(widget):
    seen = []
    widget.observe(lambda change: seen.append(len(change["new"])), "clicks")
    widget.click(3, 4)
    widget.click(5, 4)
    assert seen == [1, 2]
    slider = ipywidgets.IntSlider()
    link = traitlets.link((widget, "active_instance"), (slider, "value"))
    widget.new_instance()
    assert slider.value == 2
    slider.value = 1
    assert widget.controller.state.active_instance == 1
    with pytest.raises(traitlets.TraitError, match="unknown instance 9"):
        widget.active_instance = 9
    assert widget.active_instance == 1
    with pytest.raises(traitlets.TraitError, match="read-only"):
        widget.clicks = []
    link.unlink()


def test_observers_may_edit(widget):
    """An observer that edits, in the middle of publishing, leaves the traits in step."""

    def observer(change):
        if len(change["new"]) < 4:
            widget.click(len(change["new"]) * 5, 9, "new")

    widget.observe(observer, "clicks")
    widget.click(0, 9, "new")
    assert len(widget.clicks) == len(widget.instances) == 4
    assert widget.active_instance == widget.controller.state.active_instance == 4


def test_observers_may_wait(widget):
    areas = []
    done = threading.Event()

    def observer(_change):
        areas.append(int(widget.masks.sum()))
        done.set()

    widget.observe(observer, "label_version")
    widget.click(3, 4)
    assert done.wait(LONG)
    widget.wait()
    assert areas[-1] == 60 * 90


def test_on_change(widget, caplog):
    seen: list[tuple[int, ...]] = []
    done = threading.Event()

    def callback(changed):
        seen.append(changed.masks.shape)
        if len(changed.clicks) == 2:
            done.set()
            raise RuntimeError("mine")

    widget.on_change(callback)
    widget.click(3, 4)
    widget.click(3, 9)
    assert done.wait(LONG)
    assert widget.controller.events.drain(LONG)
    assert seen[-1] == (1, 60, 90)
    assert "mine" in caplog.text
    assert any("mine" in c.get("message", "") for c, _ in widget.comm.customs())
    widget.on_change(callback, remove=True)
    count = len(seen)
    widget.click(9, 9)
    widget.wait()
    widget.controller.events.drain(LONG)
    assert len(seen) == count


async def test_updated(widget):
    widget.click(3, 4)
    await asyncio.wait_for(widget.updated(), LONG)
    assert widget.instances[0]["area"] == 60 * 90


def test_model_errors(widget):
    widget.wait()
    widget.controller._inference._predictor.failures = [RuntimeError("no kernel image")]
    widget.click(3, 4)
    with pytest.raises(DynaMITeError, match="no kernel image"):
        _ = widget.masks
    widget.comm.wait_for(
        lambda c: any("no kernel image" in m.get("message", "") for m, _ in c.customs())
    )
    assert len(widget.clicks) == 1
    widget.click(4, 4)
    assert widget.masks.shape == (1, 60, 90)


def test_an_error_before_anybody_listens_is_told(image, monkeypatch):
    add_callback = AnnotationController.add_callback

    def late(controller, event, callback):
        with pytest.raises(DynaMITeError, match="no such weights"):
            controller.wait(LONG)
        add_callback(controller, event, callback)

    monkeypatch.setattr(AnnotationController, "add_callback", late)
    predictor = FakePredictor()
    predictor.embed_failures.append(DynaMITeError("no such weights"))
    with contextlib.closing(DynaMITeWidget(image, predictor=predictor)) as widget:
        widget.controller.events.drain()
        assert widget.status["state"] == "error"
        assert widget.status["message"] == "no such weights"


def test_messages_are_answered_in_the_context_they_came_in(widget):
    receive(
        widget,
        {"type": "click", "id": "a", "view": "v", "seq": 1, "x": 3, "y": 4, "instance": "new"},
        shell="subshell-7",
    )
    widget.comm.wait_for(lambda c: any(m.get("id") == "a" for m, _ in c.customs()))
    assert widget.clicks[0]["x"] == 3
    widget.wait()
    shells = {shell for kind, *_, shell in widget.comm.published[-3:] if kind == "comm_msg"}
    assert shells == {"subshell-7"}
    widget.click(9, 9)  # from a cell, on the main shell
    assert widget.comm.published[-1][3] == "subshell-7"
    assert "_reply_subshell_id" not in vars(widget.comm)


def test_ipykernel_is_not_left_pinned_to_the_main_shell(widget, comms):
    assert comms[-1].published[0][0] == "comm_open"
    assert "_reply_subshell_id" not in vars(widget.comm)


def test_ready_and_labels(widget):
    widget.click(3, 4)
    widget.wait()
    receive(widget, {"type": "ready", "id": "r", "view": "v"})
    widget.comm.wait_for(lambda c: any(m["type"] == "image" for m, _ in c.customs()))
    answer, buffers = next((m, b) for m, b in widget.comm.customs() if m["type"] == "image")
    assert answer["id"] == "r"
    assert Image.open(io.BytesIO(buffers[0])).size == (90, 60)
    widget.comm.wait_for(lambda c: c.customs()[-1][0]["type"] == "labels")


def test_few_messages_per_click(widget):
    """Websockets hold back small messages that follow each other; so there are few."""
    widget.click(3, 4)
    widget.wait()
    widget.controller.events.drain(LONG)
    receive(widget, {"type": "ping", "id": "p"})
    widget.comm.wait_for(lambda c: c.customs()[-1][0].get("id") == "p")
    before = len(widget.comm.published)
    receive(
        widget,
        {"type": "click", "id": "a", "view": "v", "seq": 1, "x": 9, "y": 4, "instance": 1},
    )
    widget.comm.wait_for(
        lambda c: (
            any(m.get("id") == "a" for m, _ in c.customs())
            and c.customs()[-1][0]["type"] == "labels"
        )
    )
    widget.controller.events.drain(LONG)
    after = [data for _, data, *_ in widget.comm.published[before:]]
    kinds = [d["content"]["type"] if d["method"] == "custom" else "update" for d in after]
    assert kinds == ["update", "ok", "labels", "update"]


def test_the_front_end_cannot_write_what_the_kernel_owns(widget):
    widget.click(3, 4)
    widget.wait()

    def update(state):
        message = {"content": {"data": {"method": "update", "state": state}}, "buffers": []}
        widget._handle_msg(message)

    update({"clicks": [], "painted": 7, "hover_preview": True, "_esm": "alert(1)"})
    assert len(widget.clicks) == 1
    assert widget.painted == 7
    update({"painted": 7.5})  # provisional labels, on the way from 7 to 8
    assert widget.painted == 7
    assert widget.hover_preview
    assert widget._esm != "alert(1)"
    sent_back = [d["state"] for _, d, *_ in widget.comm.published if d.get("method") == "update"]
    assert any(state.get("clicks") == widget.clicks for state in sent_back[-2:])
    widget.new_instance()
    update({"active_instance": 1})
    assert widget.controller.state.active_instance == 1
    update({"active_instance": 99})
    assert widget.active_instance == 1
    update({"hover_preview": "junk"})
    assert widget.hover_preview is True


def test_what_is_saved_stays_small():
    """A noisy picture, many clicks and ragged masks: 100 kB with everything but the front end."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (600, 800, 3), dtype=np.uint8)
    widget = DynaMITeWidget(noise, predictor=FakePredictor(), name="n" * 100)
    session = widget.session
    for n in range(120):
        x, y = rng.integers(0, 800), rng.integers(0, 600)
        session.click(int(x), int(y), "new" if n < 40 else int(rng.integers(1, 41)))
    widget.load_session(session)
    widget.wait()
    state = {k: v for k, v in widget.get_state().items() if k not in ("_esm", "_css")}
    assert len(json.dumps(state, default=str)) <= 100_000
    assert not any(isinstance(v, (bytes, memoryview)) for v in state.values())
    kept = widget.snapshot
    thumbnail = Image.open(io.BytesIO(base64.b64decode(kept["thumbnail"])))
    assert max(thumbnail.size) <= 480
    labels = kept["labels"]
    code = "<u1" if labels["id_bytes"] == 1 else "<u2"
    decoded = rle.decode(
        np.frombuffer(base64.b64decode(labels["lengths"]), "<u4"),
        np.frombuffer(base64.b64decode(labels["ids"]), code),
        labels["height"],
        labels["width"],
    )
    assert set(np.unique(decoded)) <= set(range(41))
    assert len(np.unique(decoded)) > 30
    widget.close()


def test_thousands_of_clicks_still_give_a_snapshot(image):
    widget = DynaMITeWidget(image, predictor=FakePredictor())
    session = widget.session
    for n in range(1200):
        session.click(n % 90, n // 90, "new" if n == 0 else 1)
    widget.load_session(session)
    widget.wait()
    assert widget.snapshot["clicks"] == []
    assert widget.snapshot["thumbnail"]
    widget.close()


def test_the_snapshot_follows_by_itself(widget, monkeypatch):
    monkeypatch.setattr("dynamite_widget.widget.SNAPSHOT_DELAY_S", 0.0)
    receive(widget, {"type": "ready", "id": "r", "view": "v"})
    receive(
        widget,
        {"type": "click", "id": "a", "view": "v", "seq": 1, "x": 9, "y": 4, "instance": "new"},
    )
    widget.comm.wait_for(
        lambda c: any(
            d.get("method") == "update" and len(d["state"].get("snapshot", {}).get("clicks", []))
            for _, d, *_ in c.published
        )
    )


def test_the_fallback_picture(widget):
    widget.click(3, 4)
    widget.wait()
    data, _ = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert len(data["image/png"]) <= 60_000
    picture = np.asarray(Image.open(io.BytesIO(data["image/png"])).convert("RGB"), int)
    assert picture.shape == (60, 90, 3)
    red, _, blue = picture[30:, 30:].mean(axis=(0, 1))
    assert red > blue  # orange lies over it


def test_a_static_page(image, tmp_path):
    name = "</script><script>alert(1)</script><!--.png"
    widget = DynaMITeWidget(image, predictor=FakePredictor(), name=name, classes=["</style><b>"])
    widget.click(3, 4)
    path = tmp_path / "page.html"
    widget.to_html(path)
    text = path.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text
    assert "<b>" not in text
    assert text.count("</script>") == 2
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    data = json.loads(re.search(r'id="dynamite-data">(.*?)</script>', text, re.S).group(1))  # type: ignore[union-attr]
    assert data["traits"]["image_info"]["name"] == name
    assert data["traits"]["clicks"] == widget.clicks
    assert data["traits"]["status"]["state"] == "ready"
    assert data["labels"]["revision"] == 1
    assert len(data["labelBuffers"]) == 2
    assert Image.open(io.BytesIO(base64.b64decode(data["imageBuffers"][0]))).size == (90, 60)
    assert "export" in data["script"]
    assert embed_html.script_safe("</script>") == "\\u003c/script\\u003e"
    widget.close()


def test_closing_frees_everything(image, comms):
    before = threading.active_count()
    predictor = FakePredictor()
    widget = DynaMITeWidget(image, predictor=predictor)
    widget.click(3, 4)
    segmentation = weakref.ref(widget.segmentation)
    reference = weakref.ref(widget)
    controller = widget.controller
    widget.close()
    widget.close()
    assert threading.active_count() == before
    assert controller.closed
    gc.collect()
    assert segmentation() is None
    del widget
    comms.clear()
    gc.collect()
    assert reference() is None


def test_a_failing_wire_loses_nothing(widget, monkeypatch, caplog):
    widget.wait()

    def broken(*_args, **_fields):
        raise OSError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(widget.comm, "publish_msg", broken)
        widget.click(3, 4)
        assert widget.masks.shape == (1, 60, 90)
        widget.controller.events.drain(LONG)
    assert "could not be sent" in caplog.text


def test_without_the_bundle_importing_says_what_to_do():
    code = (
        "import pathlib\n"
        "whole = pathlib.Path.is_file\n"
        "pathlib.Path.is_file = lambda p: p.name != 'widget.js' and whole(p)\n"
        "from dynamite_widget import DynaMITeWidget\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 1
    assert "ImportError: the front end is not built" in ran.stderr
    assert "npm ci && npm run build" in ran.stderr


def test_importing_the_widget_leaves_torch_alone():
    code = (
        "import sys, dynamite_widget.widget\n"
        "assert not {'torch', 'timm', 'scipy', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
