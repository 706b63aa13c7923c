"""The output folder: index, sessions, lock; and the thread that writes to it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamite_widget.annotator.autosave import Autosave
from dynamite_widget.annotator.index import (
    STATUSES,
    Index,
    Record,
    from_fields,
    record_entry,
    to_fields,
)
from dynamite_widget.annotator.store import AnnotationStore
from dynamite_widget.errors import DataError, SessionError
from dynamite_widget.session import ClickSession

RECORDS = st.builds(
    Record,
    status=st.sampled_from(STATUSES),
    flagged=st.booleans(),
    note=st.text(max_size=20),
    instances=st.integers(0, 99),
    clicks=st.integers(0, 99),
    classes=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    seconds=st.floats(0, 1e6),
    score=st.none() | st.floats(0, 1),
    doubt=st.none() | st.floats(0, 1),
    at=st.floats(0, 2e9),
)


def session_of(*clicks: tuple[int, int]) -> ClickSession:
    session = ClickSession(10, 10, ["a"])
    for x, y in clicks:
        session.click(x, y, "new")
    return session


@given(RECORDS)
def test_records_survive_json(record: Record) -> None:
    assert from_fields(json.loads(json.dumps(to_fields(record)))) == record


@pytest.mark.parametrize(
    "fields", [{"status": "gone"}, {"note": 3}, {"classes": "cat"}, {"clicks": "1"}, {"at": None}]
)
def test_damaged_records_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(SessionError):
        from_fields(fields)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "ü/b", "\udcff"]), RECORDS), max_size=8),
    st.integers(0, 400),
)
def test_index_cut_anywhere_keeps_every_whole_line(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, Record]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("index") / "index.jsonl"
    index = Index(path, writable=True)
    start = path.stat().st_size
    ends = []
    for key, record in entries:
        index.append([record_entry(key, record)])
        ends.append(path.stat().st_size)
    index.close()
    size = min(path.stat().st_size, start + cut)
    with path.open("r+b") as file:
        file.truncate(size)
    expected = dict(entry for entry, end in zip(entries, ends, strict=True) if end <= size)
    for writable in (False, True):
        index = Index(path, writable)
        assert index.records == expected
        if writable:
            index.append([record_entry("new", Record(note="n"))])
        index.close()
    assert Index(path, writable=False).records == {**expected, "new": Record(note="n")}


def test_index_is_made_short_again(tmp_path: Path) -> None:
    path = tmp_path / "index.jsonl"
    index = Index(path, writable=True)
    index.append(record_entry("a", Record(clicks=n)) for n in range(3000))
    index.append([{"merged": 1}, record_entry("b", Record(note="x")), {"current": "a"}])
    index.close()
    index = Index(path, writable=True)
    index.close()
    assert path.read_bytes().count(b"\n") < 10
    again = Index(path, writable=False)
    assert again.records == {"a": Record(clicks=2999), "b": Record(note="x")}
    assert (again.current, list(again.unmerged)) == ("a", ["b"])


def test_damaged_line_is_left_out_and_newer_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.jsonl"
    path.write_bytes(b'{"key":"a","clicks":2}\n{"key":5}\nnonsense\n{"key":"b"}\n')
    assert Index(path, writable=False).records == {"a": Record(clicks=2), "b": Record()}
    path.write_bytes(b'{"format":"dynamite-index","version":99}\n')
    with pytest.raises(SessionError, match="newer"):
        Index(path, writable=False)


def test_second_store_is_read_only_and_says_who_has_the_first(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom dynamite_widget.annotator.store import AnnotationStore\n"
        "store = AnnotationStore(sys.argv[1])\nprint(store.read_only, flush=True)\ninput()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"False\n"
        store = AnnotationStore(tmp_path)
        assert store.read_only
        assert f"process {other.pid}" in store.read_only_reason
        with pytest.raises(SessionError, match="read only"):
            store.write({}, ["a"], None)
        other.kill()  # the lock of a killed process is free
        other.wait()
        store = AnnotationStore(tmp_path)
        assert not store.read_only
        store.close()


def test_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file"):
        AnnotationStore(tmp_path / "file")


def test_sessions_of_equal_names_do_not_meet(tmp_path: Path) -> None:
    store = AnnotationStore(tmp_path)
    keys = ["a/1.png", "b/1.png", "A/1.png", "\udcff.png", "x" * 300 + ".png"]
    assert len({store.session_path(key) for key in keys}) == len(keys)
    store.write({key: session_of((n, n)) for n, key in enumerate(keys)}, keys, "b/1.png")
    store.close()
    store = AnnotationStore(tmp_path, read_only=True)
    assert store.current == "b/1.png"
    for number, key in enumerate(keys):
        session = store.load_session(key)
        assert session is not None
        assert session.clicks[0].x == number
        assert session.can_undo
    assert store.load_session("c") is None


def test_lost_index_is_made_anew_from_the_sessions(tmp_path: Path) -> None:
    store = AnnotationStore(tmp_path)
    record = store.update("a", status="done", note="n", clicks=1)
    store.write({"a": session_of((1, 1))}, ["a"], "a")
    store.close()
    (tmp_path / "index.jsonl").unlink()
    store = AnnotationStore(tmp_path)
    assert store.record("a") == record
    store.close()
    assert AnnotationStore(tmp_path, read_only=True).record("a") == record


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    store = AnnotationStore(tmp_path)
    store.write({"a": session_of((1, 1))}, ["a"], "a")
    left = store.sessions / f".{store.session_path('a').name}.k2j4"
    other = store.sessions / ".gitignore"
    for path in (left, other):
        path.touch()
    assert store.remove_leftovers() == 1
    assert not left.exists()
    assert other.exists()
    store.close()


# --- autosave ----------------------------------------------------------------------------------


def test_newest_wins_and_nothing_is_forgotten(tmp_path: Path) -> None:
    store = AnnotationStore(tmp_path)
    saved: list[tuple[str, ...]] = []
    autosave = Autosave(store, on_saved=saved.append)
    session = ClickSession(10, 10)
    for n in range(10):
        session.click(n, n, "new")
        autosave.touch("a", session.copy)
    store.update("b", note="only a record")
    autosave.touch("b")
    autosave.note_current("b")
    assert autosave.flush(30)
    assert not autosave.has("a")
    assert autosave.close()
    store.close()
    assert {key for keys in saved for key in keys} == {"a", "b"}
    store = AnnotationStore(tmp_path, read_only=True)
    loaded = store.load_session("a")
    assert loaded is not None
    assert loaded.state == session.state
    assert (store.record("b").note, store.current) == ("only a record", "b")


def test_a_full_disk_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamite_widget.annotator.autosave.RETRY_S", 0.01)
    store = AnnotationStore(tmp_path)
    said: list[str] = []
    full = threading.Event()
    write = store.write
    failures = iter([OSError(28, "No space left on device")] * 2)

    def failing(*args: Any) -> Any:
        error = next(failures, None)
        if error is not None:
            full.set()
            raise error
        return write(*args)

    monkeypatch.setattr(store, "write", failing)
    autosave = Autosave(store, on_error=said.append, delay_s=0.0)
    autosave.touch("a", lambda: session_of((1, 1)))
    assert full.wait(30)
    autosave.touch("a", lambda: session_of((2, 2)))  # newer than what could not be written
    assert autosave.flush(30)
    autosave.close()
    store.close()
    assert "No space left" in said[0]
    assert said[-1] == ""
    loaded = AnnotationStore(tmp_path, read_only=True).load_session("a")
    assert loaded is not None
    assert loaded.clicks[0].x == 2


def test_a_session_without_file_form_does_not_hold_up_others(tmp_path: Path) -> None:
    store = AnnotationStore(tmp_path)
    said: list[str] = []
    autosave = Autosave(store, on_error=said.append)
    odd = session_of((1, 1))
    odd.meta["x"] = object()
    autosave.touch("odd", lambda: odd)
    autosave.touch("a", lambda: session_of((3, 3)))
    assert autosave.flush(30)
    autosave.close()
    assert any("odd is not saved" in text for text in said)
    assert store.load_session("a") is not None
    store.close()
