"""Annotates at random until it is killed, again and again; checks what is on the disk each time.

    python annotator_victim.py FOLDER KILLS SEED

A program of its own, because each round forks: the child works with a real annotator (and a
stand-in for the network), the parent ends it with SIGKILL at a random moment and reads what it
left. Before every step the child notes in a file what the step will lead to. What is found on the
disk must be one of the states noted since the child last knew everything to be on the disk.

The last line of the output is a JSON object with counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import filelock  # noqa: F401 - here, so that the children need not import it each time
import numpy as np
import scipy.ndimage  # noqa: F401
from kernel_fakes import FakePredictor
from PIL import Image

import dynamite_widget.annotator.embeddings
import dynamite_widget.widget  # noqa: F401
from dynamite_widget.annotator.dataset import DatasetAnnotator
from dynamite_widget.annotator.index import Record
from dynamite_widget.annotator.store import AnnotationStore
from dynamite_widget.errors import SessionError
from dynamite_widget.session import ClickSession
from dynamite_widget.session_json import to_dict

HEIGHT, WIDTH = 24, 32
LONGEST_S = 0.15
KINDS = (
    *("click", "click", "new", "background", "move", "remove", "class", "paint"),
    *("undo", "redo", "drop"),
)


def make_pictures(folder: Path, count: int = 4) -> None:
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def fingerprint(session: ClickSession | None) -> str:
    """Hash what must come back: state, undo and redo. Times differ, and are left out."""
    if session is None or not (session.history or session.can_redo):
        return "nothing"
    fields = to_dict(session)
    text = json.dumps([without_times(fields["state"]), without_times(fields["history"])])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = ("seconds", "active", "active_instance")
        return {k: without_times(v) for k, v in value.items() if k not in left_out}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def mark_of(record: Record) -> list[Any]:
    return [record.status, record.flagged, record.note]


# --- the child ---------------------------------------------------------------------------------


def annotate_until_killed(folder: Path, log: int, rng: random.Random) -> None:
    def note(**entry: Any) -> None:
        os.write(log, json.dumps({**entry, "at": time.monotonic()}).encode() + b"\n")

    annotator = DatasetAnnotator(
        folder / "pictures", folder / "out", ["a", "b"], predictor=FakePredictor()
    )
    assert not annotator.read_only, annotator.store.read_only_reason
    note(open=annotator.current.name, first=True)
    while True:
        choice = rng.random()
        if choice < 0.1:
            place = rng.randrange(len(annotator))
            note(open=annotator.keys[place])
            annotator.open(place)
        elif choice < 0.2:
            key = rng.choice(annotator.keys)
            values: dict[str, Any] = rng.choice(
                [{"status": "done"}, {"status": "skipped"}, {"flagged": True}, {"status": "todo"}]
            )
            values["note"] = str(rng.randrange(1000))
            note(key=key, mark=mark_of(annotator.store.record(key).changed(**values)))
            annotator.mark(key, **values)
        elif choice < 0.25:
            annotator.flush()
            note(flushed=True)
        else:
            edit(annotator, rng, note)
        time.sleep(rng.random() * 0.004)


def edit(annotator: DatasetAnnotator, rng: random.Random, note: Any) -> None:
    controller = annotator.widget.controller
    shadow = controller.session
    name, args = random_edit(shadow, rng)
    try:
        if name in ("undo", "redo"):
            getattr(shadow, name)()
        else:
            shadow.apply(name, **args)
    except SessionError:
        return
    note(key=annotator.key, state=fingerprint(shadow))
    if name in ("undo", "redo"):
        getattr(controller, name)()
    else:
        controller.apply(name, **args)


def random_edit(session: ClickSession, rng: random.Random) -> tuple[str, dict[str, Any]]:
    x, y = rng.randrange(WIDTH), rng.randrange(HEIGHT)
    ids, times = list(session.state.instance_ids), [click.t for click in session.clicks]
    some = rng.choice(ids) if ids else 0
    kind = rng.choice(
        [
            "click",
            "click",
            "new",
            "background",
            "move",
            "remove",
            "class",
            "paint",
            "undo",
            "redo",
            "drop",
        ]
    )
    if kind == "new":
        return "click", {"x": x, "y": y, "instance": "new", "class_name": rng.choice("ab")}
    if kind == "move" and times:
        return "move_click", {"t": rng.choice(times), "x": x, "y": y}
    if kind == "remove" and times:
        return "remove_click", {"t": rng.choice(times)}
    if kind == "class" and some:
        return "set_class", {"instance": some, "class_name": rng.choice("abc")}
    if kind == "paint" and some:
        return "paint", {"instance": some, "mode": "add", "radius": 2, "points": [(x, y)]}
    if kind in ("undo", "redo"):
        return kind, {}
    if kind == "drop" and some and rng.random() < 0.3:
        return "remove_instance", {"instance": some}
    return "click", {"x": x, "y": y, "instance": some if kind == "click" and some else 0}


# --- the parent --------------------------------------------------------------------------------


class Expected:
    """States that may be on the disk: of each picture, those noted since the last flush."""

    def __init__(self) -> None:
        self.states: dict[str, list[str]] = {}
        self.marks: dict[str, list[list[Any]]] = {}
        self.opened: list[str] = []
        self.steps = 0

    def read(self, log: Path) -> None:
        data = log.read_bytes()
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            entry = json.loads(line)
            self.steps += 1
            if "open" in entry:
                if entry.get("first") and self.opened:
                    assert entry["open"] == self.opened[-1], "resumed at another picture"
                self.opened.append(entry["open"])
            elif "state" in entry:
                self.states.setdefault(entry["key"], ["nothing"]).append(entry["state"])
            elif "mark" in entry:
                first = mark_of(Record())
                self.marks.setdefault(entry["key"], [first]).append(entry["mark"])
            elif "flushed" in entry:
                self.opened = self.opened[-1:]
                for states in self.states.values():
                    del states[:-1]
                for marks in self.marks.values():
                    del marks[:-1]

    def compare(self, folder: Path) -> int:
        """Check the disk, take it as the new truth, and return how many steps were lost."""
        store = AnnotationStore(folder / "out", read_only=True)
        lost = 0
        for key, states in self.states.items():
            found = fingerprint(store.load_session(key))
            assert found in states, f"{key}: a state that never was: {found} not in {states}"
            lost += len(states) - 1 - max(k for k, s in enumerate(states) if s == found)
            self.states[key] = [found]
        for key, marks in self.marks.items():
            mark = mark_of(store.record(key))
            assert mark in marks, f"{key}: a mark that never was: {mark} not in {marks}"
            self.marks[key] = [mark]
        if store.current:
            assert store.current in self.opened, f"{store.current} not in {self.opened}"
            self.opened = [store.current]
        else:
            self.opened = []
        for path in (folder / "out" / "sessions").glob("*.json"):
            ClickSession.load(path)  # none is damaged
        return lost


def wait_for_work(log: Path, child: int) -> None:
    while not (log.exists() and log.stat().st_size):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.005)


def main() -> None:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    make_pictures(folder / "pictures")
    Image.init()
    expected = Expected()
    lost = 0
    for number in range(kills):
        log = folder / "log"
        log.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            handle = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
            try:
                annotate_until_killed(folder, handle, random.Random(f"{seed} {number}"))
            except BaseException as error:
                print(f"round {number}: {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        if rng.random() < 0.8:  # the others are ended while they open the folder
            wait_for_work(log, child)
        time.sleep(rng.random() * LONGEST_S)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"round {number}: the child ended by itself"
        assert os.WTERMSIG(status) == signal.SIGKILL
        if log.exists():
            expected.read(log)
        lost += expected.compare(folder)
    store = AnnotationStore(folder / "out")
    assert not store.read_only
    store.remove_leftovers()
    names = sorted(path.name for path in (folder / "out").rglob("*") if path.name.startswith("."))
    assert names == [], names
    store.close()
    assert "torch" not in sys.modules
    print(json.dumps({"kills": kills, "steps": expected.steps, "lost": lost}))


if __name__ == "__main__":
    main()
