"""Sessions: intents, what they refuse, undo and redo, time, files."""

from __future__ import annotations

import json
import stat
from typing import Any

import numpy as np
import pytest

from dynamite_widget.colours import instance_colour, is_colour, to_rgb
from dynamite_widget.errors import SessionError
from dynamite_widget.rle import RLE
from dynamite_widget.session import Click, ClickSession
from dynamite_widget.session_state import check_state


@pytest.fixture
def session():
    return ClickSession(40, 60, ["cat", "mug"], image_name="a.jpg", image_hash="h")


def mask(height=40, width=60):
    out = np.zeros((height, width), bool)
    out[3:9, 4:8] = True
    return RLE.from_mask(out)


def test_clicks_and_instances(session):
    first = session.click(3, 4)
    assert first == Click(3, 4, 1, 0)
    assert session.click(5, 6) == Click(5, 6, 1, 1)
    assert session.click(7, 8, "new", class_name="dog") == Click(7, 8, 2, 2)
    background = session.click_background(9, 9)
    assert background.is_background
    assert [i.class_name for i in session.instances] == ["cat", "dog"]
    assert session.state.classes == ("cat", "mug", "dog")
    assert session.state.active_instance == 2
    assert session.state.clicks_of(1) == session.clicks[:2]


def test_new_instances_take_the_class_of_the_active_one(session):
    session.new_instance("mug")
    assert session.new_instance() == 2
    assert session.instances[1].class_name == "mug"
    session.select(0)
    session.new_instance()
    assert session.instances[2].class_name == "cat"
    assert ClickSession(4, 4).click(1, 1).instance == 1


def test_time_indices_stay(session):
    for x in range(4):
        session.click(x, 0)
    session.remove_click(1)
    assert session.move_click(2, 30, 30) == Click(30, 30, 1, 2)
    assert [c.t for c in session.clicks] == [0, 2, 3]
    assert session.click(9, 9).t == 4


@pytest.mark.parametrize("value", [np.int64(7), np.uint8(7), 7.0, np.float32(7), np.array(7)])
def test_integral_numbers_are_taken(session, value):
    click = session.click(value, value)
    assert (click.x, click.y) == (7, 7)
    assert type(click.x) is int
    assert ClickSession.from_json(session.to_json()).state == session.state


@pytest.mark.parametrize(
    "value",
    [True, np.True_, 1.5, "3", None, float("nan"), float("inf"), [1], 1j, -1, 60, 10**400, -1e300],
)
def test_other_values_are_refused(session, value):
    before = session.state
    with pytest.raises(SessionError, match="x"):
        session.click(value, 3)
    assert session.state is before
    assert not session.can_undo


def test_errors_name_value_and_limits(session):
    with pytest.raises(SessionError, match=r"x=60 is outside 0\.\.59.*60 x 40"):
        session.click(60, 3)
    with pytest.raises(SessionError, match=r"unknown instance 5; instances: none yet"):
        session.click(1, 1, 5)
    session.click(1, 1)
    with pytest.raises(SessionError, match=r"unknown instance 9; instances: 1"):
        session.set_class(9, "cat")
    with pytest.raises(SessionError, match=r"already a click at x=1, y=1"):
        session.click(1, 1)
    with pytest.raises(SessionError, match=r"of another instance"):
        session.click(1, 1, 0)
    with pytest.raises(SessionError, match=r"no click with t=7"):
        session.remove_click(7)
    with pytest.raises(SessionError, match=r"'new'"):
        session.click(2, 2, "old")
    with pytest.raises(SessionError, match=r"unknown intent 'clack'"):
        session.apply("clack")
    with pytest.raises(SessionError, match=r"wrong arguments"):
        session.apply("click", x=1)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201, 3, None])
def test_bad_class_names(session, name):
    session.click(1, 1)
    with pytest.raises(SessionError, match="class name"):
        session.set_class(1, name)


def test_locked_instances_refuse_changes(session):
    session.click(1, 1)
    session.paint(1, "add", 2, [(5, 5)])
    session.lock(1, mask=mask())
    for change in (
        lambda: session.click(2, 2),
        lambda: session.move_click(0, 3, 3),
        lambda: session.remove_click(0),
        lambda: session.paint(1, "add", 2, [(1, 1)]),
        lambda: session.remove_instance(1),
        lambda: session.set_mask(1, None),
    ):
        with pytest.raises(SessionError, match="locked"):
            change()
    session.set_class(1, "mug")
    session.set_visible(1, False)
    assert session.instances[0].fixed_mask == mask()
    session.lock(1, False)
    assert session.instances[0].fixed_mask is None
    session.click(2, 2)


def test_imported_masks_stay_until_clicked(session):
    imported = session.new_instance("cat", mask=mask())
    session.lock(imported)
    session.lock(imported, False)
    assert session.instances[0].fixed_mask == mask()
    session.click_background(50, 30)
    assert session.instances[0].fixed_mask == mask()
    session.click(5, 5)
    assert session.instances[0].fixed_mask is None
    session.undo()
    assert session.instances[0].fixed_mask == mask()
    session.set_mask(1, None)
    assert session.instances[0].fixed_mask is None
    with pytest.raises(SessionError, match="60 x 40"):
        session.set_mask(1, mask(10, 10))


def test_locking_without_a_mask_locks_nothing(session):
    session.new_instance()
    session.lock(1)
    assert session.instances[0].fixed_mask.area == 0


def test_strokes(session):
    session.click(1, 1)
    stroke = session.paint(1, "erase", 2.5, [(1, 1), (1, 1), (70, -3)])
    assert stroke.points == ((1, 1), (59, 0))
    assert stroke.t == 1
    assert session.click(2, 2).t == 2
    bads: tuple[dict[str, Any], ...] = (
        {"mode": "draw"},
        {"radius": 0},
        {"radius": True},
        {"radius": float("nan")},
        {"points": []},
        {"points": [(1, 2, 3)]},
        {"points": ["ab"]},
        {"points": [(0.5, 1)]},
        {"instance": 0},
    )
    for bad in bads:
        fields = {"instance": 1, "mode": "add", "radius": 3, "points": [(1, 2)], **bad}
        with pytest.raises(SessionError):
            session.apply("paint", **fields)


def test_stroke_points_are_copied(session):
    session.click(1, 1)
    points = [[1, 1], [2, 2]]
    session.apply("paint", instance=1, mode="add", radius=1, points=points)
    points[0][0] = 9
    assert session.history[-1].args["points"][0][0] == 1


def test_removing_an_instance_takes_what_belongs_to_it(session):
    session.click(1, 1)
    session.click(2, 2, "new")
    session.paint(2, "add", 1, [(3, 3)])
    session.click_background(9, 9)
    session.remove_instance(2)
    assert session.state.instance_ids == (1,)
    assert [c.instance for c in session.clicks] == [1, 0]
    assert session.state.strokes == ()
    assert session.state.active_instance == 0
    assert session.new_instance() == 3


def test_undo_and_redo_of_everything(session):
    session.click(1, 1)
    session.click(2, 2, "new")
    session.move_click(1, 4, 4)
    session.paint(1, "add", 3, [(2, 2), (9, 9)])
    session.set_class(1, "dog")
    session.set_visible(2, False)
    session.lock(1, mask=mask())
    session.remove_click(1)
    session.remove_instance(2)
    session.reset()
    states = session.states()
    assert len(states) == 11
    for expected in reversed(states[:-1]):
        assert session.undo()
        assert session.state == expected
    assert not session.undo()
    for expected in states[1:]:
        assert session.redo()
        assert session.state == expected
    assert not session.redo()


def test_a_new_edit_ends_redo(session):
    session.click(1, 1)
    session.undo()
    session.click(2, 2)
    assert not session.can_redo


def test_selecting_is_no_step(session):
    session.click(1, 1)
    session.click(2, 2, "new")
    session.undo()
    session.select(1)
    assert session.can_redo
    session.redo()
    assert session.clicks[-1] == Click(2, 2, 2, 1)
    assert session.instances[1].class_name == "cat"


def test_an_edit_that_changes_nothing_is_no_step(session):
    session.click(1, 1)
    session.set_visible(1, True)
    session.set_class(1, "cat")
    session.move_click(0, 1, 1)
    session.undo()
    assert not session.can_undo


def test_time_is_counted_per_instance():
    now = [0.0]
    session = ClickSession(40, 60, clock=lambda: now[0])
    now[0] = 2
    session.click(1, 1)
    now[0] = 5
    session.click(2, 2, "new")
    now[0] = 500
    session.click(3, 3, 1)
    now[0] = 501
    session.move_click(1, 9, 9)
    assert session.seconds_spent == {1: 62.0, 2: 4.0}
    assert [c.seconds for c in session.clicks] == [2, 5, 500]
    again = ClickSession.from_json(session.to_json())
    assert again.seconds_spent == session.seconds_spent
    assert again.elapsed_s >= 501
    assert [c.seconds for c in again.clicks] == [2, 5, 500]


def test_files_round_trip(session, tmp_path):
    session.click(1, 1)
    session.click(np.int64(2), 2, "new", class_name="tasse ☕")
    session.lock(1, mask=mask())
    session.meta["note"] = {"flag": True}
    session.checkpoint_hash = "w"
    session.undo()
    session.select(1)
    path = tmp_path / "with space ü.json"
    session.save(path)
    again = ClickSession.load(path)
    assert again.state == session.state
    assert again.states() == session.states()
    assert (again.image_name, again.image_hash, again.checkpoint_hash) == ("a.jpg", "h", "w")
    assert again.meta == {"note": {"flag": True}}
    assert again.redo()
    assert again.instances[0].fixed_mask == mask()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_saving_keeps_the_mode_and_the_old_file(session, tmp_path):
    path = tmp_path / "s.json"
    session.save(path)
    path.chmod(0o640)
    session.click(1, 1)
    session.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    session.meta["bad"] = object()
    with pytest.raises(SessionError, match="meta"):
        session.save(path)
    assert len(ClickSession.load(path).clicks) == 1
    del session.meta["bad"]
    with pytest.raises(FileNotFoundError):
        session.save(tmp_path / "missing" / "s.json")


def test_names_that_are_no_unicode(session, tmp_path):
    session.image_name = "caf\udce9.jpg"
    session.save(tmp_path / "s.json")
    assert ClickSession.load(tmp_path / "s.json").image_name == session.image_name


def test_newer_versions_say_so(session):
    fields = {**session.to_dict(), "version": 99}
    with pytest.raises(SessionError, match=r"version 99.*newer.*Update"):
        ClickSession.from_dict(fields)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '{"format": "other"}', b"\xff\xfe", "[" * 100_000, "\x00"],
)
def test_what_is_no_session(text):
    with pytest.raises(SessionError):
        ClickSession.from_json(text)


def test_damaged_files_name_the_file(session, tmp_path):
    path = tmp_path / "s.json"
    path.write_text(session.to_json()[:-20])
    with pytest.raises(SessionError, match=r"s\.json"):
        ClickSession.load(path)


def _places(value, path=()):
    """All paths to values inside plain data."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))
    elif isinstance(value, list):
        for key, inner in enumerate(value):
            yield from _places(inner, (*path, key))


def test_damage_anywhere_is_found_or_harmless(session):
    """Replace, or remove, every single value of a file in turn: an error or a sound session."""
    session.click(1, 1)
    session.click(2, 2, "new")
    session.paint(1, "add", 3, [(2, 2), (9, 9)])
    session.lock(1, mask=mask())
    session.set_class(2, "dog")
    session.undo()
    text = session.to_json()
    paths = [p for p in _places(json.loads(text)) if p and p[0] != "meta"]
    refused = 0
    for path in paths:
        values: tuple[Any, ...] = (None, -1, 10**30, "x", [], {}, True, ...)
        for value in values:
            fields = json.loads(text)
            parent = fields
            for key in path[:-1]:
                parent = parent[key]
            if value is ...:
                del parent[path[-1]]
            else:
                parent[path[-1]] = value
            try:
                check_state(ClickSession.from_dict(fields).state)
            except SessionError:
                refused += 1
    assert refused > 5 * len(paths)


def test_from_state(session):
    session.click(1, 1)
    twin = ClickSession.from_state(session.state, image_name="b")
    assert twin.state == session.state
    assert not twin.can_undo
    assert ClickSession.from_json(twin.to_json()).state == session.state


def test_copies_are_independent(session):
    session.click(1, 1)
    twin = session.copy()
    twin.click(2, 2)
    twin.meta["a"] = 1
    twin.undo()
    twin.undo()
    assert len(session.clicks) == 1
    assert session.can_undo
    assert session.meta == {}


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (1.5, 5), (True, 5), ("4", 5)])
def test_sizes(size):
    with pytest.raises(SessionError):
        ClickSession(*size)


def test_classes_are_a_list():
    with pytest.raises(SessionError, match="sequence of names"):
        ClickSession(4, 4, "cat")
    assert ClickSession(4, 4, ["a", " a ", "b"]).state.classes == ("a", "b")


def test_colours_differ():
    colours = [instance_colour(i) for i in range(1, 60)]
    assert len(set(colours)) == len(colours)
    assert all(is_colour(c) for c in colours)
    assert to_rgb("#e69f00") == (230, 159, 0)
