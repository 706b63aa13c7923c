"""The wire: every message answered once, intents in order, nothing escapes, nothing is lost."""

from __future__ import annotations

import json
import random
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_fakes import FakePredictor

from dynamite_widget import rle
from dynamite_widget.controller import AnnotationController
from dynamite_widget.embedding_cache import EmbeddingCache
from dynamite_widget.front_end import FrontEnd
from dynamite_widget.messages import INTENT_FIELDS, REQUESTS, encode_labels, heat_map
from dynamite_widget.ordering import IntentOrder
from dynamite_widget.session_state import check_state

LONG = 30.0
HEIGHT, WIDTH = 12, 16


class Page:
    """A front end with a fake wire: sends from any thread, collects what comes back."""

    def __init__(self, gap_timeout_s=0.05):
        self.predictor = FakePredictor()
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        self.controller = AnnotationController(
            image, predictor=self.predictor, cache=EmbeddingCache(), classes=["cat"]
        )
        self.sent: list[tuple[dict[str, Any], list[bytes]]] = []
        self._condition = threading.Condition()
        self.front = FrontEnd(self.controller, self._take, gap_timeout_s=gap_timeout_s)
        self.controller.add_callback("prediction", self.front.announce)

    def _take(self, content, buffers):
        json.dumps(content, allow_nan=False)
        with self._condition:
            self.sent.append((content, buffers))
            self._condition.notify_all()

    def send(self, *messages):
        for message in messages:
            self.front.receive(message)

    def wait_for(self, test):
        with self._condition:
            assert self._condition.wait_for(lambda: test(self.sent), LONG), self.sent[-5:]

    def answers(self, name):
        return [c for c, _ in self.sent if c.get("id") == name and "id" in c]

    def answer(self, name):
        self.wait_for(lambda _: self.answers(name))
        return self.answers(name)[0]

    def settle(self):
        """Wait until everything sent so far is answered."""
        name = f"settle-{random.random()}"
        self.send({"type": "ping", "id": name, "view": "settle"})
        self.answer(name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.predictor.gate.set()
        self.controller.close()
        self.front.close()


@pytest.fixture
def page():
    with Page() as made:
        yield made


def click(seq, x, y=0, instance: Any = 1, view="v", **fields):
    name = f"{view}{seq}"
    return {
        "type": "click",
        "id": name,
        "view": view,
        "seq": seq,
        "x": x,
        "y": y,
        "instance": instance,
        **fields,
    }


def test_answers(page):
    page.send(click(1, 3, instance="new", class_name="dog"))
    answer = page.answer("v1")
    assert answer == {"type": "ok", "id": "v1", "revision": 1, "t": 0, "instance": 1}
    assert page.controller.state.instances[0].class_name == "dog"
    page.send({"type": "new_instance", "id": "a", "view": "v", "seq": 2})
    assert page.answer("a")["instance"] == 2
    page.send({"type": "undo", "id": "b", "view": "v", "seq": 3})
    assert page.answer("b")["changed"] is True
    page.send(click(4, 99))
    assert page.answer("v4") == {
        "type": "error",
        "id": "v4",
        "message": "x=99 is outside 0..15; the picture is 16 x 12 (width x height)",
    }
    page.wait_for(lambda sent: any(c["type"] == "labels" and c["revision"] == 3 for c, _ in sent))


def test_ready_brings_picture_and_labels(page):
    page.send(click(1, 3, instance="new"))
    page.wait_for(lambda sent: any(c.get("revision") == 1 and "width" in c for c, _ in sent))
    page.sent.clear()
    page.send({"type": "ready", "id": "r", "view": "v"})
    answer = page.answer("r")
    assert (answer["type"], answer["version"], answer["mime"]) == ("image", 1, "image/png")
    assert (answer["width"], answer["full_width"]) == (WIDTH, WIDTH)
    page.wait_for(lambda sent: len(sent) >= 2)
    (_, picture), (labels, buffers) = page.sent[:2]
    assert picture[0].startswith(b"\x89PNG")
    assert labels["type"] == "labels"
    assert labels["revision"] == 1
    assert decode(labels, buffers).tolist() == [[1] * WIDTH] * HEIGHT


def decode(fields, buffers):
    code = "<u1" if fields["id_bytes"] == 1 else "<u2"
    height, width = fields["height"], fields["width"]
    if fields["encoding"] == "raw":
        return np.frombuffer(buffers[0], code).reshape(height, width)
    return rle.decode(
        np.frombuffer(buffers[0], "<u4"), np.frombuffer(buffers[1], code), height, width
    )


def test_a_new_picture_between_ready_and_its_answer(page):
    page.controller.set_image(np.zeros((4, 5, 3), np.uint8))
    page.send({"type": "ready", "id": "r", "view": "v"})
    answer = page.answer("r")
    assert (answer["version"], answer["full_width"]) == (2, 5)


def test_a_click_meant_for_the_picture_before(page):
    page.controller.set_image(np.zeros((4, 5, 3), np.uint8))
    page.send(click(1, 1, instance="new", image_version=1))
    assert "another picture" in page.answer("v1")["message"]
    page.send(click(2, 1, instance="new", image_version=2))
    assert page.answer("v2")["type"] == "ok"


def test_preview(page):
    page.send(click(1, 0, instance="new"))
    page.answer("v1")
    page.send({"type": "preview", "id": "p", "view": "v", "x": 15, "y": 0, "instance": "new"})
    answer = page.answer("p")
    assert (answer["type"], answer["instance"]) == ("preview", 2)
    buffers = next(b for c, b in page.sent if c.get("id") == "p")
    mask = decode(answer, buffers)
    assert mask[0].tolist() == [0] * 8 + [1] * 8
    assert len(page.controller.state.clicks) == 1
    page.send({"type": "preview", "id": "q", "view": "v", "x": 0, "y": 0, "instance": 1})
    assert "already" in page.answer("q")["message"]
    page.send({"type": "preview", "id": "s", "view": "v"})
    assert "missing" in page.answer("s")["message"]


def test_previews_give_way(page):
    page.controller.wait(LONG)
    page.predictor.gate.clear()
    page.predictor.entered.clear()
    page.send(click(1, 0, instance="new"))
    assert page.predictor.entered.wait(LONG)
    for name in "abc":
        page.send({"type": "preview", "id": name, "view": "v", "x": 5, "y": 5, "instance": 1})
    page.settle()
    page.send(click(2, 1))
    page.answer("v2")
    page.predictor.gate.set()
    for name in "abc":
        assert page.answer(name)["skipped"] is True


def test_margin_and_doubtful(page):
    page.send({"type": "margin", "id": "m", "view": "v"})
    answer = page.answer("m")
    assert (answer["width"], answer["height"]) == (WIDTH, HEIGHT)
    heat = next(b for c, b in page.sent if c.get("id") == "m")[0]
    assert len(heat) == WIDTH * HEIGHT
    page.send({"type": "doubtful", "id": "d", "view": "v", "index": 0})
    assert page.answer("d")["found"] is False
    page.send({"type": "doubtful", "id": "e", "view": "v", "index": "x"})
    assert page.answer("e")["type"] == "error"


def test_heat_and_label_encoding():
    assert heat_map(np.array([[0.0, 20.0, 1e30]])).tolist() == [[255, 0, 0]]
    noise = np.random.default_rng(0).integers(0, 2, (64, 64))
    fields, buffers = encode_labels(noise)
    assert fields["encoding"] == "raw"
    assert np.array_equal(decode(fields, buffers), noise)
    many = np.full((8, 80), 300)
    fields, buffers = encode_labels(many)
    assert (fields["encoding"], fields["id_bytes"]) == ("rle", 2)
    assert np.array_equal(decode(fields, buffers), many)


def test_a_model_error_answers_waiting_requests(page):
    page.controller.wait(LONG)
    page.predictor.failures = [RuntimeError("broken")]
    page.send(click(1, 0, instance="new"))
    page.answer("v1")
    page.send({"type": "margin", "id": "m", "view": "v"})
    assert "broken" in page.answer("m")["message"]
    page.send({"type": "lock", "id": "l", "view": "v", "seq": 2, "instance": 1, "locked": True})
    assert "broken" in page.answer("l")["message"]
    assert len(page.controller.state.clicks) == 1


@pytest.mark.parametrize(
    "message",
    [
        None,
        3,
        [],
        {},
        {"type": 3},
        {"type": "ping"},
        {"type": "ping", "id": 3},
        {"type": "ping", "id": ""},
        {"type": "ping", "id": "x" * 201},
    ],
)
def test_messages_without_an_id(page, message):
    page.send(message)
    page.settle()
    assert [c["type"] for c in page.answers(None)] == ["error"]


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "clik"},
        {"type": "__init__"},
        {"type": "apply"},
        {"seq": 0},
        {"seq": "1"},
        {"seq": True},
        {"seq": None},
        {"seq": 2**60},
        {"view": None},
        {"view": ""},
        {"x": None},
        {"x": {"a": 1}},
        {"x": 10**30},
        {"instance": "other"},
        {"instance": [1]},
        {"class_name": 5, "instance": "new"},
    ],
)
def test_bad_fields_are_refused_in_words(page, fields):
    page.send({**click(1, 3, instance="new"), "id": "bad", **fields})
    answer = page.answer("bad")
    assert answer["type"] == "error"
    assert len(answer["message"]) > 10
    assert page.controller.state.clicks == ()


def test_unknown_types_name_the_nearest(page):
    page.send({"type": "clik", "id": "bad"})
    assert "did you mean 'click'" in page.answer("bad")["message"]


def test_order_is_restored(page):
    page.send(*[click(seq, seq, instance="new" if seq == 1 else 1) for seq in (3, 2, 5, 1, 4)])
    page.answer("v5")
    assert [c.x for c in page.controller.state.clicks] == [1, 2, 3, 4, 5]


def test_views_do_not_wait_for_each_other(page):
    page.send(click(2, 2, view="slow"), click(1, 1, view="quick", instance="new"))
    assert page.answer("quick1")["type"] == "ok"


def test_gaps_are_given_up_and_late_clicks_still_count(page, caplog):
    page.send(click(1, 1, instance="new"), click(4, 4))
    assert page.answer("v4")["type"] == "ok"
    assert "did not come in time" in caplog.text
    page.send(click(2, 2), {"type": "undo", "id": "late", "view": "v", "seq": 3})
    assert page.answer("v2")["type"] == "ok"
    assert "too late" in page.answer("late")["message"]
    assert [c.x for c in page.controller.state.clicks] == [1, 4, 2]
    page.send(click(2, 2))
    page.settle()
    assert len(page.controller.state.clicks) == 3
    assert [a.get("duplicate") for a in page.answers("v2")] == [None, True]


def test_repetitions_are_answered_but_not_applied(page):
    first = click(1, 1, instance="new")
    page.send(first, {**first, "id": "again"}, click(3, 3))
    page.send({**click(3, 3), "id": "three"}, click(2, 2))
    answers = [page.answer(name) for name in ("v1", "again", "v2", "v3", "three")]
    assert [a["t"] for a in answers] == [0, 0, 1, 2, 2]
    assert [a.get("duplicate", False) for a in answers] == [False, True, False, False, True]
    assert len(page.controller.state.clicks) == 3


def test_errors_are_repeated_too(page):
    page.send(click(1, 99), {**click(1, 99), "id": "again"})
    assert page.answer("again")["type"] == "error"


def test_a_closed_widget_answers(page):
    page.controller.close()
    page.send(click(1, 1), {"type": "ready", "id": "r", "view": "v"}, None)
    assert "closed" in page.answer("v1")["message"]
    assert "closed" in page.answer("r")["message"]


def test_order_forgets_old_answers_and_views():
    order = IntentOrder()
    for view in range(600):
        assert order.offer(str(view), 1, {})[0].how == "apply"
    assert len(order._views) <= 257
    for seq in range(1, 2000):
        for release in order.offer("long", seq, {}):
            order.remember("long", release.seq, {"seq": release.seq})
    assert order.answer("long", 1999) == {"seq": 1999}
    repeated = order.offer("long", 5, {})
    assert (repeated[0].how, repeated[0].answer) == ("repeat", None)
    for seq in range(3000, 13_000):
        assert order.offer("long", seq, {}) == []
    assert order.offer("long", 20_000, {})[0].how == "refuse"


# -- random messages -------------------------------------------------------------------------------

nonsense = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(-1, 3), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


def either(good):
    return st.one_of(good, good, good, good, nonsense)


ids = either(st.one_of(st.integers(0, 4), st.just("new")))
field_values = {
    "x": either(st.integers(-1, WIDTH)),
    "y": either(st.integers(-1, HEIGHT)),
    "t": either(st.integers(0, 12)),
    "instance": ids,
    "locked": either(st.booleans()),
    "visible": either(st.booleans()),
    "class_name": either(st.sampled_from(["cat", "dog", ""])),
    "mode": either(st.sampled_from(["add", "erase"])),
    "radius": either(st.floats(0.1, 9)),
    "points": either(
        st.lists(st.tuples(st.integers(-2, 20), st.integers(-2, 20)).map(list), max_size=4)
    ),
    "index": either(st.integers(-3, 3)),
}
kinds = st.sampled_from([*["click"] * 4, *INTENT_FIELDS, *REQUESTS, "wrong"])
random_message = st.fixed_dictionaries(
    {"type": either(kinds)}, optional={"junk": nonsense, **field_values}
)
likely_message = st.builds(
    lambda kind, fields: {"type": kind, **fields}, kinds, st.fixed_dictionaries(field_values)
)
traffic = st.lists(st.one_of(likely_message, likely_message, random_message), max_size=40)


def addressed(messages, views=3):
    """Give messages ids, and those that need it a view and its next seq."""
    counts = dict.fromkeys(range(views), 0)
    out = []
    for n, message in enumerate(messages):
        view = n % views
        counts[view] += 1
        # Requests without seq get one as well here, which must not disturb the order.
        is_intent = isinstance(message["type"], str) and message["type"] in INTENT_FIELDS
        if not is_intent:
            counts[view] -= 1
        out.append({**message, "id": f"m{n}", "view": f"view{view}", "seq": counts[view] or 1})
    return out


shared: list[Page] = []


@pytest.fixture(scope="module", autouse=True)
def _one_page():
    yield
    while shared:
        shared.pop().__exit__()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(traffic, st.integers(0, 2**32), st.booleans())
def test_random_traffic(messages, seed, threaded):
    """Out of order, from several threads, with repetitions: one answer each, a sound state."""
    if not shared:
        shared.append(Page(gap_timeout_s=LONG))
    page = shared[0]
    page.front._order = IntentOrder()
    page.sent.clear()
    generator = random.Random(seed)
    ordered = addressed(messages)
    delivered = [*ordered, *generator.sample(ordered, len(ordered) // 4)]
    generator.shuffle(delivered)
    if threaded:
        threads = [threading.Thread(target=page.send, args=delivered[n::3]) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    else:
        page.send(*delivered)
    page.settle()
    expected = {m["id"]: sum(d["id"] == m["id"] for d in delivered) for m in ordered}
    page.wait_for(
        lambda sent: sum(c.get("id") in expected for c, _ in sent) >= sum(expected.values())
    )
    page.settle()
    for name, count in expected.items():
        answers = page.answers(name)
        assert len(answers) == count, (name, answers)
        for answer in answers:
            assert answer["type"] != "error" or "nternal" not in answer["message"]
            assert "Error:" not in answer.get("message", ""), answer
    check_state(page.controller.state)
    revisions = [c["revision"] for c, _ in page.sent if c["type"] == "labels"]
    assert page.controller.wait(LONG)
    assert page.controller.segmentation.instances == page.controller.state.instance_ids
    assert revisions == sorted(revisions) or any(c["type"] == "image" for c, _ in page.sent)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(traffic, st.integers(0, 2**32))
def test_order_of_arrival_does_not_matter(messages, seed):
    """One view: any permutation leads to the state that the right order leads to."""
    results = []
    for shuffled in (False, True):
        with Page(gap_timeout_s=LONG) as page:
            delivered = addressed(messages, views=1)
            if shuffled:
                random.Random(seed).shuffle(delivered)
            page.send(*delivered)
            page.wait_for(lambda _, d=delivered, p=page: all(p.answers(m["id"]) for m in d))
            results.append(page.controller.state)
    assert results[0] == results[1]
