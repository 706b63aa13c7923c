"""Recordings: packed label maps, computing them, keeping them in session files."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_fakes import FakePredictor

from dynamite_widget.errors import SessionError
from dynamite_widget.rle import RLE
from dynamite_widget.session import ClickSession
from dynamite_widget.teaching import captions, runs
from dynamite_widget.teaching.recording import META_KEY, Recording, record

HEIGHT, WIDTH = 40, 60


def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 4, rows + columns], axis=2).astype(np.uint8)


def session(height: int = HEIGHT, width: int = WIDTH) -> ClickSession:
    made = ClickSession(height, width, classes=["left", "right"], image_name="test.png")
    made.click(10, 10, "new")
    made.click(50, 20, "new", "right")
    made.click_background(30, 35)
    made.click(28, 5, 1)
    return made


@st.composite
def label_maps(draw: st.DrawFn) -> list[np.ndarray]:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    top = draw(st.sampled_from([1, 3, 300, 65534]))
    cells = st.lists(st.integers(0, top), min_size=height * width, max_size=height * width)
    steps = draw(st.lists(cells, max_size=4))
    return [np.asarray(step, np.int32).reshape(height, width) for step in steps]


@settings(max_examples=60, deadline=None)
@given(label_maps())
def test_packed_label_maps_come_back(maps):
    height, width = maps[0].shape if maps else (3, 3)
    labels = np.zeros((height, width), np.int32)
    diffs = runs.unpack(runs.pack(maps), height, width, len(maps))
    for diff, expected in zip(diffs, maps, strict=True):
        labels = runs.apply(labels, diff)
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda data: b"no deflate", "damaged"),
        (lambda data: data[:-6], "damaged"),
        (lambda data: zlib.compress(zlib.decompress(data)[:-1]), "end in step"),
        (lambda data: zlib.compress(zlib.decompress(data) + b"\x00"), "more than"),
        (lambda data: zlib.compress(zlib.decompress(data) + b"\x80"), "cut short"),
        (lambda data: zlib.compress(b"\xff" * 9 + b"\x00"), "too long"),
        (lambda data: zlib.compress(b"\x01\x05\x00\x01\x04\x00"), "do not fit"),
    ],
)
def test_damaged_runs_are_refused(damage, complaint):
    maps = [np.eye(2, 3, dtype=np.int32), np.ones((2, 3), np.int32)]
    with pytest.raises(SessionError, match=complaint):
        runs.unpack(damage(runs.pack(maps)), 2, 3, 2)


def test_record_has_the_masks_of_every_step():
    made, network = session(), FakePredictor()
    recording = record(made, picture(), network)
    assert len(recording) == 5
    assert recording.complete
    assert [step.index for step in recording.steps] == [0, 1, 2, 3, 4]
    assert [step.click for step in recording.steps] == [None, 0, 1, 2, 3]
    assert not recording.label_map(0).any()
    for step in recording.steps[1:]:
        expected = network.predict(network.embed(picture()), step.state.clicks).label_map
        np.testing.assert_array_equal(recording.label_map(step.index), expected)
    # Backwards and from the end, too.
    np.testing.assert_array_equal(recording.label_map(1), recording.label_map(-4))
    with pytest.raises(ValueError, match="read-only"):
        recording.label_map(2)[0, 0] = 1
    with pytest.raises(IndexError, match=r"0\.\.4"):
        recording.label_map(5)


def test_record_applies_edits_and_does_not_predict_twice():
    made, network = session(), FakePredictor()
    made.set_class(1, "other")
    made.lock(2, mask=RLE.from_mask(np.pad(np.ones((4, 4), bool), ((0, 36), (0, 56)))))
    made.paint(1, "add", 3, [(55, 35)])
    recording = record(made, picture(), network)
    assert len(network.predicted) == 4
    assert recording.label_map(-1)[0, 0] == 2
    assert recording.label_map(-1)[35, 55] == 1
    assert recording.label_map(4)[35, 55] != 1


def test_record_reduces_large_pictures():
    recording = record(session(), picture(), FakePredictor(), long_side_px=30)
    assert (recording.height, recording.width) == (20, 30)
    assert recording.picture is not None
    assert recording.picture.shape == (20, 30, 3)


def test_record_asks_for_what_is_missing():
    with pytest.raises(ValueError, match="predictor="):
        record(session(), picture())
    with pytest.raises(ValueError, match="long_side_px"):
        record(session(), picture(), FakePredictor(), long_side_px=0)
    with pytest.raises(SessionError, match="60 x 40"):
        record(session(), picture(40, 61), FakePredictor())


def test_another_picture_of_the_same_size_is_noticed():
    made = session()
    made.image_hash = "0" * 64
    with pytest.raises(SessionError, match="another picture"):
        Recording.from_session(made, picture())


def test_a_saved_recording_is_a_session_file(tmp_path):
    recording = record(session(), picture(), FakePredictor())
    recording.save(tmp_path / "lesson.json")
    loaded = ClickSession.load(tmp_path / "lesson.json")
    assert loaded.clicks == session().clicks
    again = Recording.from_session(loaded)
    assert again.complete
    assert again.picture is not None
    assert np.abs(again.picture.astype(int) - picture()).mean() < 20
    for index in range(len(recording)):
        np.testing.assert_array_equal(again.label_map(index), recording.label_map(index))
    recording.save(tmp_path / "small.json", picture=False)
    assert Recording.from_session(ClickSession.load(tmp_path / "small.json")).picture is None


def test_a_session_goes_on_after_its_recording(tmp_path):
    recording = record(session(), picture(), FakePredictor())
    recording.save(tmp_path / "lesson.json")
    loaded = ClickSession.load(tmp_path / "lesson.json")
    loaded.click(5, 35, 2)
    longer = Recording.from_session(loaded)
    assert longer.known == (True,) * 5 + (False,)
    np.testing.assert_array_equal(longer.label_map(5), recording.label_map(4))
    for _ in range(3):
        loaded.undo()
    loaded.click(5, 5, 2)
    other = Recording.from_session(loaded)
    assert other.known == (True, True, True, False)
    np.testing.assert_array_equal(other.label_map(2), recording.label_map(2))
    assert "not recorded" in captions.caption(other, 3)[1]


def test_without_a_recording_the_last_masks_are_shown():
    made, network = session(), FakePredictor()
    assert Recording.from_session(made).known == (False,) * 5
    assert "no masks" in captions.caption(Recording.from_session(made), 1)[1]
    made.keep_masks(network.predict(network.embed(picture()), made.clicks, (1, 2)))
    recording = Recording.from_session(made)
    assert recording.known == (False,) * 4 + (True,)
    assert not recording.label_map(3).any()
    assert recording.label_map(4).any()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 2}, "version 2"),
        ({"size": [0, 60]}, "impossible size"),
        ({"size": [41, 60]}, "impossible size"),
        ({"known": [True]}, "flags"),
        ({"runs": "?"}, "damaged"),
        ({"runs": base64.b64encode(b"x").decode()}, "damaged"),
        ({"picture": base64.b64encode(b"no picture").decode()}, "picture"),
        ({"size": None}, "damaged"),
    ],
)
def test_damaged_recordings_are_refused(change, complaint):
    recording = record(session(), picture(), FakePredictor())
    made = session()
    made.meta[META_KEY] = {**recording.to_json(), **change}
    with pytest.raises(ValueError, match=complaint):
        Recording.from_session(ClickSession.from_json(made.to_json()))


def test_captions_say_what_changed_hands():
    recording = record(session(), picture(), FakePredictor())
    texts = [" ".join(captions.caption(recording, i)) for i in range(5)]
    assert texts[0].startswith("The picture")
    assert "New instance 1 (left), clicked at x 10, y 10." in texts[1]
    assert "1 gained 2\u202f400 px." in texts[1]
    assert "went from 1 to 2" in texts[2]
    assert "Background click" in texts[3]
    assert "lost" in texts[3]
    assert "Click for 1 (left)" in texts[4]
    found = captions.step_transfers(recording, 2)
    assert found == (captions.Transfer(1, 2, int((recording.label_map(2) == 2).sum())),)
    assert captions.step_transfers(recording, 0) == ()


def test_every_edit_has_a_caption():
    made = session()
    made.move_click(0, 12, 12)
    made.remove_click(3)
    made.new_instance("third")
    made.set_visible(1, False)
    made.set_class(3, "<b>")
    made.paint(1, "erase", 2, [(1, 1)])
    made.lock(1, mask=RLE.from_mask(np.ones((HEIGHT, WIDTH), bool)))
    made.set_mask(3, RLE.from_mask(np.ones((HEIGHT, WIDTH), bool)))
    made.remove_instance(2)
    made.lock(1, False)
    made.reset()
    recording = record(made, picture(), FakePredictor())
    said = [captions.describe_edit(step) for step in recording.steps[5:]]
    assert said == [
        "Click 1 moved to x 12, y 12.",
        "Click 4 removed.",
        "New instance 3 (third).",
        "1 (left) hidden.",
        "Instance 3 is now called '<b>'.",
        "Eraser on 1 (left).",
        "1 (left) locked.",
        "set mask: 3 (<b>).",
        "Instance 2 removed.",
        "1 (left) unlocked.",
        "Everything taken away.",
    ]


def test_transfers_refuse_maps_of_two_sizes():
    with pytest.raises(ValueError, match="differ"):
        captions.transfers(np.zeros((2, 2), int), np.zeros((2, 3), int))


def test_replaying_needs_no_torch(tmp_path):
    record(session(), picture(), FakePredictor()).save(tmp_path / "lesson.json")
    code = (
        "import sys\n"
        "from dynamite_widget.teaching import ClickReplay\n"
        f"replay = ClickReplay({str(tmp_path / 'lesson.json')!r})\n"
        "replay.step = 2\n"
        f"replay.to_html({str(tmp_path / 'lesson.html')!r})\n"
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert (tmp_path / "lesson.html").stat().st_size > 1000
    assert json.loads((tmp_path / "lesson.json").read_text())["meta"][META_KEY]["version"] == 1
