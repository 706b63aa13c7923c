"""The queue without a page: going on, marks, resuming, unreadable pictures, proposals, filters."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotator_sets import HEIGHT, WIDTH, annotate, make_pictures
from kernel_fakes import FakePredictor

from dynamite_widget.annotator import DatasetAnnotator, Proposal
from dynamite_widget.annotator.filters import Choice, make_route
from dynamite_widget.annotator.index import Record
from dynamite_widget.annotator.proposals import read_proposals
from dynamite_widget.annotator.store import AnnotationStore
from dynamite_widget.annotator.timing import FEWEST, Pace, StopWatch, duration
from dynamite_widget.answers import Job
from dynamite_widget.errors import DataError, DynaMITeError, ImageError, SessionError


def test_opening_reads_no_picture_and_no_network(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("1.jpg", "2.jpg"):
        (pictures / name).write_bytes(b"not opened, so nobody knows")
    with annotate(tmp_path) as annotator:
        assert len(annotator) == 2
        assert annotator.key == ""
        assert annotator.progress.todo == 2


def test_a_robot_annotates_everything(tmp_path: Path) -> None:
    seen = []

    def robot(item: Any) -> Any:
        seen.append(item.name)
        assert item.image.shape == (HEIGHT, WIDTH, 3)
        if item.name == "b.png":
            return [(1, 1, 9, 9), (20, 10)]
        item.click(3, 4, class_name="dog")
        item.click_background(20, 4)
        return None

    with annotate(tmp_path) as annotator:
        progress = annotator.annotate(robot)
        assert (progress.done, progress.todo, progress.fraction) == (4, 0, 1.0)
        assert annotator.annotate(robot).done == 4  # nothing is left to do
        assert seen == ["a.png", "b.png", "c.png", "d.png"]
        record = annotator.store.record("b.png")
        assert (record.instances, record.clicks, record.classes) == (2, 2, ("cat",))
        (annotations,) = [p for p in annotator.annotations() if p.name == "a.png"]
        assert [i.class_name for i in annotations.instances] == ["dog"]
        assert annotations.label_map[4, 3] == 1
        assert annotations.label_map[4, 20] == 0


def test_a_loop_that_ends_early_keeps_what_was_done(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        for item in annotator:
            item.click(5, 5)
            if item.name == "b.png":
                break
            item.done()
    with annotate(tmp_path) as annotator:
        assert annotator.progress.done == 1
        assert annotator.current.name == "b.png"
        assert len(annotator.current.controller.state.clicks) == 1


def test_resumes_at_the_picture_with_undo_and_redo(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        item = annotator.open("c.png")
        item.click(1, 1, "new")
        item.click(2, 2, "new")
        item.undo()
        before = item.session
    with annotate(tmp_path, classes=None) as annotator:
        item = annotator.current
        assert item.name == "c.png"
        assert item.session.state == before.state
        assert item.session.history == before.history
        assert item.redo()
        assert len(item.session.clicks) == 2
        assert item.undo()
        assert item.undo()
        assert not item.undo()


def test_going_back_at_once_finds_what_was_not_saved_yet(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        for x in range(3):
            annotator.open(0).click(x, 3, "new")
            annotator.open(1)
        assert len(annotator.open("a.png").session.history) == 3


def test_run_again_in_the_same_kernel_takes_over(tmp_path: Path) -> None:
    first = annotate(tmp_path)
    first.open("b.png").click(1, 1)
    with annotate(tmp_path) as second:
        assert not second.read_only
        assert second.current.session.clicks
        with pytest.raises(DynaMITeError, match="closed"):
            first.open("a.png")
        assert first.read_only


def test_read_only_looks_and_changes_nothing(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        annotator.open("b.png").click(1, 1)
    files = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    with annotate(tmp_path, read_only=True) as annotator:
        item = annotator.current
        assert item.name == "b.png"
        item.click(9, 9)
        with pytest.raises(DynaMITeError, match="read only"):
            item.done()
        with pytest.raises(DynaMITeError, match="read only"):
            annotator.merge()
    assert files == {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    make_pictures(tmp_path / "pictures", "b.png d.png")
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    (tmp_path / "pictures" / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return tmp_path


def test_unreadable_pictures_are_listed_and_passed_over(broken: Path) -> None:
    with annotate(broken) as annotator:
        assert annotator.current.name == "b.png"
        assert annotator.next().name == "d.png"
        assert "c.png" in annotator.problem
        assert set(annotator.unreadable) == {"a.png", "c.png"}
        assert "empty" in annotator.unreadable["a.png"]
        with pytest.raises(ImageError):
            annotator.open("a.png")
        assert annotator.key == "d.png"
        assert annotator.next() is None
        assert annotator.previous().name == "b.png"
        assert annotator.progress.unreadable == 2
    make_pictures(broken / "pictures", "a.png")
    with annotate(broken) as annotator:  # repaired meanwhile
        assert annotator.open("a.png").record.status == "todo"
        assert set(annotator.unreadable) == {"c.png"}


def test_nothing_readable_and_nothing_at_all(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        annotate(tmp_path)
    (tmp_path / "pictures" / "a.png").touch()
    with annotate(tmp_path) as annotator, pytest.raises(DataError, match="none of the 1 pictures"):
        _ = annotator.current


def test_unusable_session_is_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    with annotate(tmp_path) as annotator:
        annotator.open("a.png").click(1, 1)
        annotator.flush()
        path = annotator.store.session_path("a.png")
    path.write_bytes(path.read_bytes()[:100])
    with annotate(tmp_path) as annotator:
        assert annotator.open("a.png").session.clicks == ()
        assert "kept as" in annotator.problem
        assert len(list(path.parent.glob("a-*.unusable-1"))) == 1


def test_marks_filters_and_search(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        annotator.mark("b.png", status="skipped", note="blurred")
        annotator.mark("c.png", flagged=True)
        item = annotator.open("d.png")
        item.click(1, 1, class_name="dog")
        item.wait()
        item.done()
        assert annotator.choose("todo") == 2
        annotator.open("a.png")
        assert annotator.next().name == "c.png"
        assert annotator.next() is None
        assert annotator.choose("flagged") == 1
        assert annotator.choose("class:dog") == 1
        assert annotator.choose("skipped", "B") == 1
        assert annotator.choose("all", "?.png") == 4
        with pytest.raises(ValueError, match="unknown filter"):
            annotator.choose("odd")
        with pytest.raises(ValueError, match="unknown status"):
            annotator.mark("a.png", status="finished")
        with pytest.raises(DataError):
            annotator.open("z.png")
        with pytest.raises(DataError):
            annotator.open(4)
        progress = annotator.progress
        assert (progress.todo, progress.done, progress.skipped, progress.flagged) == (2, 1, 1, 1)
    store = AnnotationStore(tmp_path / "out", read_only=True)
    assert store.record("b.png").note == "blurred"
    assert store.record("d.png").status == "done"


def test_routes_order_by_score_and_doubt() -> None:
    keys = [f"{n}.png" for n in range(6)]
    records = {
        "0.png": Record(score=0.6, doubt=0.1),
        "2.png": Record(score=0.2, doubt=0.3),
        "4.png": Record(score=0.95, doubt=0.2),
    }
    low = make_route(Choice("low score"), keys, records)
    assert list(low.places) == [2, 0]
    assert (low.step(2), low.step(0), low.step(5), low.step(0, forward=False)) == (0, None, 2, 2)
    doubtful = make_route(Choice("most doubtful"), keys, records)
    assert list(doubtful.places) == [2, 4, 0]
    everything = make_route(Choice(), keys, records)
    assert everything.step(None) == 0
    assert everything.step(5) is None
    assert everything.step(0, forward=False) is None
    assert everything.rank(3) == 3


def test_the_next_picture_is_embedded_ahead(tmp_path: Path) -> None:
    predictor = FakePredictor()
    predictor.checkpoint_hash = "of its own"  # embeddings are shared by all tests
    with annotate(tmp_path, predictor=predictor) as annotator:
        annotator.current.wait()
        assert annotator._desk._ahead_thread.drain(60)
        idle = threading.Event()
        annotator.widget.controller.ask(Job(lambda *_: idle.set(), idle.set, lambda _: idle.set()))
        assert idle.wait(60)
        assert predictor.embedded == 2
        annotator.next().wait()
        assert annotator.current.name == "b.png"
        assert annotator.current.image.shape == (HEIGHT, WIDTH, 3)


def test_work_in_a_source_that_grew_and_shrank(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        annotator.mark("b.png", status="done")
    make_pictures(tmp_path / "pictures", "0.png")
    (tmp_path / "pictures" / "b.png").unlink()
    with annotate(tmp_path) as annotator:
        assert annotator.progress.total == 4
        assert annotator.progress.done == 0
    assert AnnotationStore(tmp_path / "out", read_only=True).record("b.png").status == "done"


# --- proposals ---------------------------------------------------------------------------------


def test_proposals_of_all_kinds() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    assert read_proposals(None) == []
    assert read_proposals([]) == []
    assert [p.kind for p in read_proposals([(0, 0, 2, 2), (1, 1), mask])] == [
        "box",
        "point",
        "mask",
    ]
    assert len(read_proposals(np.array([[0, 0, 2, 2], [1, 1, 3, 3.5]]))) == 2
    assert len(read_proposals(mask.astype(np.int32) * 3)) == 1
    (one,) = read_proposals({"box": (0, 0, 2, 2), "class": "cat", "score": 0.5})
    assert (one.class_name, one.score, one.bounds()) == ("cat", 0.5, (0, 0, 2, 2))
    two = read_proposals({"masks": [mask, mask], "classes": ["a", "b"], "scores": [1, 0.5]})
    assert [(p.class_name, p.score) for p in two] == [("a", 1.0), ("b", 0.5)]
    assert two[0].bounds() == (1, 1, 4, 3)
    assert read_proposals(Proposal(point=(1, 2)))[0].bounds() == (1, 2, 2, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"boxes": [(0, 0, 1, 1)], "classes": ["a", "b"]},
        {"polygon": []},
        (1, 2, 3),
        (5, 5, 1, 1),
        [(float("nan"), 1)],
        np.zeros((2, 3, 4, 5)),
        "cat",
    ],
)
def test_what_is_no_proposal(wrong: Any) -> None:
    with pytest.raises((SessionError, ValueError)):
        read_proposals(wrong)


def test_proposals_are_accepted_rejected_and_undone(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[2:6, 2:8] = True

    def propose(item: Any) -> Any:
        if item.name == "b.png":
            raise OSError("no detector")
        return {"masks": [mask], "classes": ["dog"]}, (10, 10, 14, 14), (200, 200)

    with annotate(tmp_path) as annotator:
        annotator.current  # noqa: B018
        annotator.propose(propose)
        assert [p.kind for p in annotator.proposals] == ["mask", "box", "point"]
        assert annotator.accept() == 1
        (instance,) = annotator.current.controller.state.instances
        assert instance.class_name == "dog"
        assert instance.fixed_mask is not None
        assert instance.fixed_mask.area == 24
        assert annotator.reject() == 1
        assert annotator.accept() == 0  # outside the picture
        assert "does not fit" in annotator.problem
        assert annotator.current.undo()
        assert annotator.proposals == ()
        annotator.next()
        assert "no detector" in annotator.problem
        annotator.next()
        assert annotator.reject(everything=True) == 3
        annotator.open("a.png")
        assert annotator.proposals == ()  # answered before


def test_an_old_file_proposes(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        annotator.open("c.png").click(4, 4, class_name="dog")
        annotator.current.wait()
        annotator.merge()
    other = tmp_path / "other"
    source = tmp_path / "pictures"
    with DatasetAnnotator(source, other, predictor=FakePredictor()) as annotator:
        annotator.propose(tmp_path / "out" / "annotations.json")
        annotator.open("c.png")
        (proposal,) = annotator.proposals
        assert (proposal.kind, proposal.class_name) == ("mask", "dog")
        annotator.open("d.png")
        assert annotator.proposals == ()


# --- time --------------------------------------------------------------------------------------


def test_breaks_are_not_counted() -> None:
    now = [0.0]
    watch = StopWatch(5.0, clock=lambda: now[0])
    now[0] = 10.0
    assert watch.tick() == 15.0
    now[0] = 4000.0
    assert watch.tick() == 75.0


def test_estimate_is_honest() -> None:
    pace = Pace()
    for _ in range(FEWEST - 1):
        pace.add(30.0, 2)
    assert pace.estimate(10) is None
    pace.add(30.0, 2)
    estimate = pace.estimate(10)
    assert estimate is not None
    assert estimate.seconds_left == estimate.low_s == estimate.high_s == 300
    assert (estimate.seconds_per_instance, estimate.instances_per_picture) == (15, 2)
    pace.add(90.0, 6)
    wider = pace.estimate(10)
    assert wider is not None
    assert wider.low_s < wider.seconds_left == 450 < wider.high_s
    assert "about 8 min left" in str(wider)
    assert [duration(s) for s in (4, 59.7, 3600, 12_000, 400_000)] == [
        *("4 s", "60 s", "1 h", "3 h 20 min", "5 days")
    ]


def test_record_is_plain_json(tmp_path: Path) -> None:
    with annotate(tmp_path) as annotator:
        annotator.open("a.png").click(1, 1)
        annotator.current.flag("look here")
    lines = (tmp_path / "out" / "index.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    (last,) = [e for e in entries if e.get("key") == "a.png"][-1:]
    assert (last["flagged"], last["note"], last["clicks"]) == (True, "look here", 1)
