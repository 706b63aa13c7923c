"""ClickReplay, still pictures and the HTML story."""

from __future__ import annotations

import json
import logging
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from kernel_fakes import FakePredictor
from PIL import Image
from test_teaching_recording import HEIGHT, WIDTH, picture, session

from dynamite_widget.errors import DynaMITeError, SessionError
from dynamite_widget.session import ClickSession
from dynamite_widget.teaching import ClickReplay, drawing, record
from dynamite_widget.teaching.story import story


@pytest.fixture
def recording():
    return record(session(), picture(), FakePredictor())


class _Page(HTMLParser):
    """Collects tags, addresses and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append((self.tags[-1][0] if self.tags else "", data))

    def data(self):
        (found,) = (
            text
            for (tag, attrs), text in zip(
                [t for t in self.tags if t[0] == "script"],
                [text for tag, text in self.texts if tag == "script" and text.strip()],
                strict=True,
            )
            if attrs.get("type") == "application/json"
        )
        return json.loads(found)


def test_steps_and_captions(recording):
    replay = ClickReplay(recording)
    assert replay.step == 4
    replay.step = 2
    np.testing.assert_array_equal(replay.label_map, recording.label_map(2))
    assert "New instance 2 (right)" in replay.caption
    assert replay.transfers[0].target == 2
    for bad in (-1, 5):
        with pytest.raises(ValueError, match=r"0\.\.4"):
            replay.step = bad


def test_playing_moves_the_step(recording):
    replay = ClickReplay(recording, interval_s=0.25)
    replay._play.value = 1
    assert replay.step == 1
    assert replay._play.interval == 250
    replay.step = 3
    assert replay._play.value == 3


def test_overlay_marks_masks_and_changes(recording):
    replay = ClickReplay(recording)
    overlay = replay._overlay(2)
    assert overlay.shape == (HEIGHT, WIDTH, 4)
    changed = recording.label_map(2) != recording.label_map(1)
    edge = drawing.edge(changed)
    assert (overlay[edge] == 255).all()
    replay._changes.value = False
    assert not (replay._overlay(2)[edge] == 255).all()
    replay._opacity.value = 0
    inner = recording.label_map(2) == 1
    inner &= ~drawing.edge(inner)
    assert (replay._overlay(2)[inner, 3] == 0).all()


def test_texts_are_escaped():
    made = session()
    made.set_class(1, "<img src=x onerror=alert(1)>")
    replay = ClickReplay(record(made, picture(), FakePredictor()))
    assert "<img" not in replay._text.value
    assert "<img" not in replay._legend.value
    assert "&lt;img" in replay._legend.value


def test_a_widget_brings_everything_along():
    from dynamite_widget import DynaMITeWidget

    widget = DynaMITeWidget(picture(), predictor=FakePredictor(), classes=["a"])
    try:
        widget.click(10, 10)
        widget.click(50, 20, "new")
        replay = ClickReplay(widget)
        assert len(replay.recording) == 3
        np.testing.assert_array_equal(replay.label_map, widget.label_map)
        with pytest.raises(ValueError, match="nothing besides"):
            ClickReplay(widget, image=picture())
    finally:
        widget.close()


def test_a_session_with_network_and_picture(tmp_path):
    replay = ClickReplay(session(), picture(), predictor=FakePredictor())
    assert replay.recording.complete
    replay.save(tmp_path / "lesson.json")
    again = ClickReplay(tmp_path / "lesson.json")
    np.testing.assert_array_equal(again.label_map, replay.label_map)
    with pytest.raises(DynaMITeError, match="image="):
        ClickReplay(session(), predictor=FakePredictor())
    with pytest.raises(ValueError, match="nothing besides"):
        ClickReplay(again.recording, image=picture())
    with pytest.raises(ValueError, match="width_px"):
        ClickReplay(again.recording, width_px=3)
    with pytest.raises(SessionError, match="not a session"):
        ClickReplay({"format": "other"})


def test_clicks_alone_can_be_replayed():
    replay = ClickReplay(session())
    replay.step = 3
    assert "Clicks only" in replay.caption
    assert not replay.label_map.any()


def test_an_empty_session_has_one_step(tmp_path):
    replay = ClickReplay(ClickSession(HEIGHT, WIDTH), picture())
    assert replay.step == 0
    replay.to_gif(tmp_path / "one.gif")
    replay.to_html(tmp_path / "one.html")


def test_gif_has_a_frame_per_step(recording, tmp_path):
    ClickReplay(recording).to_gif(tmp_path / "a.gif", seconds_per_step=0.5)
    with Image.open(tmp_path / "a.gif") as opened:
        assert opened.n_frames == 5
        durations = []
        for frame in range(5):
            opened.seek(frame)
            durations.append(opened.info["duration"])
        assert durations == [500, 500, 500, 500, 1500]
        assert opened.width == WIDTH


def test_strip_lays_frames_out(recording, tmp_path):
    ClickReplay(recording).to_png(tmp_path / "a.png", columns=3, captions=False)
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.size == (3 * WIDTH + 16, 2 * HEIGHT + 8)
    two = drawing.strip(recording, steps=[1, 4], captions=False)
    assert two.shape == (HEIGHT, 2 * WIDTH + 8, 3)
    with pytest.raises(ValueError, match="columns"):
        drawing.strip(recording, columns=0)


def test_frames_show_masks_and_clicks(recording):
    frame = drawing.draw_step(recording, 1, captions=False, changes=False)
    assert frame.shape == (HEIGHT, WIDTH, 3)
    tinted = frame.astype(int) - picture()
    assert np.abs(tinted[30:, 30:]).sum() > 0
    assert (
        np.abs(drawing.draw_step(recording, 0, captions=False).astype(int) - picture()).max() == 0
    )
    assert drawing.draw_step(recording, 1).shape[0] > HEIGHT


def test_long_captions_lose_whole_clauses():
    short = drawing._fit("one; two; three.", 12, drawing.font(12).getlength("one; two …") + 1)
    assert short == "one; two …"
    assert drawing._fit("x" * 200, 12, 50).endswith("…")


def test_story_holds_everything_and_asks_for_nothing(recording):
    page = _Page(story(recording, title="A <b>story</b> & </script>"))
    data = page.data()
    assert (data["width"], data["height"]) == (WIDTH, HEIGHT)
    assert [step["diff"] for step in data["steps"]] == [0, 1, 2, 3, 4]
    assert data["steps"][4]["clicks"][0] == [10.5, 10.5, 1, 0]
    assert data["steps"][4]["clicks"][-1] == [28.5, 5.5, 1, 1]
    for tag, attrs in page.tags:
        assert "src" not in attrs, tag
        assert "href" not in attrs, tag
        assert not any(name.startswith("on") for name in attrs), tag
        assert tag not in ("b", "link", "iframe", "img")
    (policy,) = (
        attrs["content"]
        for tag, attrs in page.tags
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "http" not in policy


def test_story_keeps_user_text_out_of_the_markup():
    made = session()
    made.set_class(1, "</script><script>alert(1)</script>")
    text = story(record(made, picture(), FakePredictor()))
    assert "alert(1)</" not in text
    assert len(re.findall("<script", text)) == 2
    assert _Page(text).data()["steps"][-1]["instances"][0]["name"].startswith("</script>")


def test_story_of_a_large_session_is_small(repository: Path):
    """A photograph of one megapixel with 30 clicks on 8 instances stays below 300 kB."""
    source = repository / "notebooks" / "images" / "coffee.jpg"
    with Image.open(source) as opened:
        photo = np.array(opened.convert("RGB").resize((1224, 816), Image.Resampling.BICUBIC))
    # Grain, so that the picture is as hard to compress as a real one of this size.
    noise = np.random.default_rng(0).normal(0, 5, photo.shape)
    photo = np.clip(photo + noise, 0, 255).astype(np.uint8)
    assert photo.shape[0] * photo.shape[1] > 0.99e6
    made = ClickSession(816, 1224)
    random = np.random.default_rng(1)
    for number in range(30):
        x, y = int(random.integers(0, 1224)), int(random.integers(0, 816))
        made.click(x, y, "new" if number < 8 else int(random.integers(0, 9)))
    text = story(record(made, photo, _Wavy()))
    assert len(text.encode()) < 300_000
    data = _Page(text).data()
    assert len(data["steps"]) == 31
    assert max(data["width"], data["height"]) >= 512
    assert len(data["picture"]) > 20_000


class _Wavy(FakePredictor):
    """Masks with wavy borders: as many runs as a network's."""

    def predict(self, embedding, clicks, instances=None, on_preview=None):
        from dynamite_widget.segmentation import Segmentation

        height, width = embedding.height, embedding.width
        ys, xs = np.mgrid[:height, :width].astype(np.float32)
        ys, xs = ys + 6 * np.sin(xs / 9), xs + 6 * np.sin(ys / 7)
        best = np.full((height, width), np.inf, np.float32)
        labels = np.zeros((height, width), np.int32)
        for click in clicks:
            distance = (ys - click.y) ** 2 + (xs - click.x) ** 2
            closer = distance <= np.minimum(best, 200**2)
            best[closer] = distance[closer]
            labels[closer] = click.instance
        return Segmentation.from_label_map(labels, instances)


def test_story_says_when_it_cannot_be_that_small(recording, caplog):
    with caplog.at_level(logging.WARNING, "dynamite_widget"):
        page = story(recording, max_bytes=1000)
    assert "more than the 1000" in caplog.text
    assert _Page(page).data()["picture"]
