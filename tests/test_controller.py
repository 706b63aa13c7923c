"""The controller: newest wins, nothing is lost, errors are reported, everything is freed."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from kernel_fakes import FakePredictor

from dynamite_widget.answers import Job
from dynamite_widget.controller import AnnotationController
from dynamite_widget.doubt import doubtful_regions
from dynamite_widget.embedding_cache import EmbeddingCache
from dynamite_widget.errors import DynaMITeError, ImageError, SessionError
from dynamite_widget.session import ClickSession
from dynamite_widget.worker import SerialThread

LONG = 30.0


@pytest.fixture
def predictor():
    return FakePredictor()


@pytest.fixture
def image():
    return np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3).astype(np.uint8)


@pytest.fixture
def controller(image, predictor):
    with AnnotationController(
        image, predictor=predictor, classes=["cat"], cache=EmbeddingCache()
    ) as made:
        yield made
        predictor.gate.set()


class Recorder:
    """Collects the values of an event; waits for a number of them."""

    def __init__(self, controller, event):
        self.values = []
        self._condition = threading.Condition()
        controller.add_callback(event, self)

    def __call__(self, value):
        with self._condition:
            self.values.append(value)
            self._condition.notify_all()

    def wait_for(self, test):
        with self._condition:
            assert self._condition.wait_for(lambda: any(map(test, self.values)), LONG)


def test_clicks_become_masks(controller):
    controller.apply("click", x=3, y=3, instance="new")
    controller.apply("click", x=25, y=3, instance="new")
    assert controller.segmentation.instances == (1, 2)
    assert controller.segmentation.areas.sum() == 600
    assert controller.wait(LONG)
    view = controller.view()
    assert view.result.revision == view.revision == 2
    assert view.result.areas == {1: 280, 2: 320}
    assert view.status.state == "ready"
    assert view.status.device == "cpu"


def test_edits_never_wait_for_the_network(controller, predictor):
    assert controller.wait(LONG)
    predictor.gate.clear()
    predictor.entered.clear()
    controller.apply("click", x=0, y=0, instance="new")
    assert predictor.entered.wait(LONG)
    for x in range(1, 20):
        controller.apply("click", x=x, y=0, instance=1)
    assert len(controller.state.clicks) == 20
    assert not controller.wait(0.01)
    assert not controller.settled
    predictor.gate.set()
    assert controller.wait(LONG)
    # One was running, the newest was computed, those between were skipped.
    assert [len(clicks) for clicks in predictor.predicted] == [0, 1, 20]


def test_the_picture_is_embedded_once_and_predictions_are_kept(controller, predictor):
    controller.apply("click", x=3, y=3, instance="new")
    controller.wait(LONG)
    controller.apply("click", x=9, y=3, instance="new")
    controller.wait(LONG)
    count = len(predictor.predicted)
    controller.undo()
    controller.wait(LONG)
    controller.apply("set_class", instance=1, class_name="dog")
    controller.apply("paint", instance=1, mode="add", radius=2, points=[(1, 1)])
    assert controller.wait(LONG)
    assert len(predictor.predicted) == count
    assert predictor.embedded == 1


def test_strokes_and_locks_reach_the_masks(controller):
    controller.apply("click", x=3, y=3, instance="new")
    controller.apply("click", x=25, y=3, instance="new")
    controller.apply("paint", instance=1, mode="add", radius=2, points=[(28, 3)])
    assert controller.segmentation.label_map[3, 28] == 1
    before = controller.segmentation.mask(1)
    controller.apply("lock", instance=1, locked=True)
    assert np.array_equal(controller.state.instance(1).fixed_mask.decode(), before)
    controller.apply("click", x=1, y=1, instance=2)
    assert np.array_equal(controller.segmentation.mask(1), before)
    controller.apply("lock", instance=1, locked=False)
    assert controller.segmentation.label_map[1, 1] == 2


def test_locking_takes_the_mask_of_the_state_that_is_locked(controller, predictor):
    controller.apply("click", x=3, y=3, instance="new")
    controller.wait(LONG)
    predictor.gate.clear()
    controller.apply("click", x=25, y=3, instance="new")
    locker = threading.Thread(
        target=controller.apply, args=("lock",), kwargs={"instance": 1, "locked": True}
    )
    locker.start()
    controller.apply("click", x=25, y=13, instance=2)
    predictor.gate.set()
    locker.join(LONG)
    state = controller.state
    assert state.instance(1).locked
    assert np.array_equal(state.instance(1).fixed_mask.decode(), controller.segmentation.mask(1))
    assert 0 < state.instance(1).fixed_mask.area < 600
    with pytest.raises(SessionError, match="unknown instance"):
        controller.apply("lock", instance=7, locked=True)
    with pytest.raises(SessionError, match="true or false"):
        controller.apply("lock", instance=1, locked=1)


def test_events(image, predictor):
    with AnnotationController(image, predictor=predictor, cache=EmbeddingCache()) as controller:
        changed = Recorder(controller, "changed")
        predictions = Recorder(controller, "prediction")
        states = Recorder(controller, "status")
        controller.apply("click", x=3, y=3, instance="new")
        assert changed.values == [controller.state]
        predictions.wait_for(lambda r: r.revision == 1)
        states.wait_for(lambda s: s.state == "ready")
        revisions = [r.revision for r in predictions.values]
        assert revisions == sorted(revisions)
        controller.remove_callback("changed", changed)
        controller.remove_callback("changed", changed)
        controller.undo()
        assert len(changed.values) == 1
        with pytest.raises(ValueError, match="unknown event"):
            controller.add_callback("click", print)  # type: ignore[arg-type]


def test_callbacks_may_wait_edit_and_fail(controller, caplog):
    """A callback that waits for the network, on the events thread, does not stop the network."""
    done = threading.Event()

    def callback(_result):
        if len(controller.state.clicks) < 3:
            controller.apply("click", x=len(controller.state.clicks), y=9, instance="new")
            assert controller.segmentation.areas.sum() == 600
        else:
            done.set()
            raise RuntimeError("a callback's own error")

    controller.add_callback("prediction", callback)
    controller.apply("click", x=0, y=9, instance="new")
    assert done.wait(LONG)
    assert controller.events.drain(LONG)
    assert "a callback's own error" in caplog.text


def test_model_errors_keep_the_clicks_and_are_reported(controller, predictor):
    errors = Recorder(controller, "error")
    controller.wait(LONG)
    predictor.failures = [RuntimeError("kernel launch failed")]
    controller.apply("click", x=3, y=3, instance="new")
    with pytest.raises(DynaMITeError, match="RuntimeError: kernel launch failed") as caught:
        controller.wait(LONG)
    assert isinstance(caught.value.__cause__, RuntimeError)
    errors.wait_for(lambda e: "launch" in str(e))
    assert controller.status.state == "error"
    assert len(controller.state.clicks) == 1
    controller.apply("click", x=9, y=3, instance="new")
    assert controller.wait(LONG)
    assert controller.status.state == "ready"


def test_out_of_memory_is_tried_again_with_more_room(image, predictor):
    cache = EmbeddingCache()
    with AnnotationController(image, predictor=predictor, cache=cache) as controller:
        controller.wait(LONG)
        cache.prefetch(("other", "x"), lambda: predictor.embed(image))
        predictor.failures = [MemoryError()]
        controller.apply("click", x=3, y=3, instance="new")
        assert controller.wait(LONG)
        assert ("other", "x") not in cache
        predictor.failures = [MemoryError(), MemoryError()]
        controller.apply("click", x=4, y=3, instance="new")
        with pytest.raises(DynaMITeError, match=r"out of memory.*clicks are kept"):
            controller.wait(LONG)


def test_a_failing_picture_or_network_is_tried_again(image):
    predictor = FakePredictor()
    predictor.embed_failures = [RuntimeError("no"), RuntimeError("no")]
    with AnnotationController(image, predictor=predictor, cache=EmbeddingCache()) as controller:
        with pytest.raises(DynaMITeError, match="no"):
            controller.wait(LONG)
        controller.apply("click", x=3, y=3, instance="new")
        with pytest.raises(DynaMITeError, match="no"):
            controller.wait(LONG)
        controller.apply("click", x=4, y=3, instance="new")
        assert controller.wait(LONG)


def test_an_unknown_model_is_an_error_of_the_worker(image):
    with AnnotationController(image, model="lte", cache=EmbeddingCache()) as controller:
        with pytest.raises(DynaMITeError, match="lite"):
            controller.wait(120)
        assert controller.apply("click", x=1, y=1, instance="new").clicks


def test_another_picture(controller, predictor):
    controller.apply("click", x=3, y=3, instance="new")
    controller.set_image(np.zeros((9, 8, 3), np.uint8), name="b")
    assert controller.state.clicks == ()
    assert controller.state.classes == ("cat",)
    assert controller.view().result is None or controller.view().result.picture.version == 2
    assert controller.segmentation.label_map.shape == (9, 8)
    assert controller.picture.name == "b"
    assert controller.picture.version == 2
    with pytest.raises(ImageError):
        controller.set_image("missing.jpg")
    assert controller.picture.version == 2
    assert not controller.undo()


def test_changing_pictures_while_predicting(controller, predictor, image):
    predictor.gate.clear()
    controller.apply("click", x=25, y=15, instance="new")
    for size in range(4, 9):
        controller.set_image(np.zeros((size, size, 3), np.uint8))
        controller.apply("click", x=size - 1, y=size - 1, instance="new")
    predictor.gate.set()
    assert controller.segmentation.label_map.shape == (8, 8)
    assert controller.segmentation.areas.tolist() == [64]


def test_sessions(controller, image, predictor, tmp_path):
    controller.apply("click", x=3, y=3, instance="new")
    controller.apply("click", x=9, y=3, instance="new")
    controller.wait(LONG)
    session = controller.session
    assert session.checkpoint_hash == "fake"
    session.click(1, 1)
    assert len(controller.state.clicks) == 2
    session.save(tmp_path / "s.json")
    sources = (session, session.to_dict(), session.to_json(), session.to_json().encode())
    for source in (*sources, tmp_path / "s.json", str(tmp_path / "s.json")):
        controller.apply("reset")
        controller.load_session(source)
        assert len(controller.state.clicks) == 3
        assert controller.segmentation.instances == (1, 2)
    assert controller.undo()
    with pytest.raises(SessionError, match="30 x 20"):
        controller.load_session(ClickSession(9, 9))
    with pytest.raises(SessionError, match="path"):
        controller.load_session(3)  # type: ignore[arg-type]
    other = AnnotationController(255 - image, predictor=predictor, cache=EmbeddingCache())
    with other:
        with pytest.raises(SessionError, match="another picture"):
            other.load_session(session)
        other.load_session(session, check_image=False)
        assert len(other.state.clicks) == 3
        assert other.session.image_hash == other.picture.hash


def test_jobs(controller, predictor):
    log: list[tuple[Any, ...]] = []
    controller.wait(LONG)
    predictor.gate.clear()
    controller.apply("click", x=3, y=3, instance="new")
    done = threading.Event()

    def job(name, key=None):
        def run(_predictor, _embedding, result):
            log.append((name, "run", result.revision))
            if name == "bad":
                raise ValueError("job")
            done.set()

        return Job(
            run,
            lambda: log.append((name, "skipped")),
            lambda error: log.append((name, str(error))),
            key,
        )

    controller.ask(job("bad"))
    controller.ask(job("old", "preview"))
    controller.ask(job("new", "preview"))
    assert log == [("old", "skipped")]
    predictor.gate.set()
    assert done.wait(LONG)
    assert log == [("old", "skipped"), ("bad", "run", 1), ("bad", "job"), ("new", "run", 1)]
    controller.close()
    controller.ask(job("late"))
    assert log[-1] == ("late", "the widget is closed")


def test_prefetch(controller, predictor):
    other = np.full((7, 7, 3), 9, np.uint8)
    controller.wait(LONG)
    done = threading.Event()
    controller.prefetch(other)
    controller.ask(Job(lambda *_: done.set(), done.set, lambda _: done.set()))
    assert done.wait(LONG)
    assert predictor.embedded == 2
    controller.set_image(other)
    assert controller.wait(LONG)
    assert predictor.embedded == 2


def test_controllers_share_embeddings(image, predictor):
    cache = EmbeddingCache()
    controllers = [AnnotationController(image, predictor=predictor, cache=cache) for _ in range(4)]
    for controller in controllers:
        assert controller.wait(LONG)
    assert predictor.embedded == 1
    for controller in controllers[1:]:
        controller.close()
    assert len(cache) == 1
    controllers[0].apply("click", x=1, y=1, instance="new")
    assert controllers[0].wait(LONG)
    controllers[0].close()
    assert len(cache) == 0


def test_closing(image, predictor):
    before = threading.active_count()
    controller = AnnotationController(image, predictor=predictor, cache=EmbeddingCache())
    controller.apply("click", x=1, y=1, instance="new")
    segmentation = weakref.ref(controller.segmentation)
    controller.close()
    controller.close()
    assert controller.closed
    assert threading.active_count() == before
    gc.collect()
    assert segmentation() is None
    assert len(controller.session.clicks) == 1
    with pytest.raises(DynaMITeError, match="closed"):
        controller.apply("click", x=2, y=1, instance=1)
    with pytest.raises(DynaMITeError, match="closed"):
        controller.undo()


def test_closing_frees_those_who_wait(image, predictor):
    controller = AnnotationController(image, predictor=predictor, cache=EmbeddingCache())
    controller.wait(LONG)
    predictor.gate.clear()
    predictor.entered.clear()
    controller.apply("click", x=1, y=1, instance="new")
    assert predictor.entered.wait(LONG)
    seen = []

    def wait():
        try:
            controller.wait(LONG)
        except DynaMITeError as error:
            seen.append(str(error))

    waiter = threading.Thread(target=wait)
    waiter.start()
    closer = threading.Thread(target=controller.close)
    closer.start()
    waiter.join(LONG)
    predictor.gate.set()
    closer.join(LONG)
    assert seen == ["the controller is closed"]


def test_many_threads_edit_at_once(controller):
    def edit(row):
        for x in range(30):
            controller.apply("click", x=x, y=row, instance="new" if x == 0 else row % 3)

    controller.apply("new_instance")
    controller.apply("new_instance")
    threads = [threading.Thread(target=edit, args=(row,)) for row in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    state = controller.state
    assert len(state.clicks) == 180
    assert [c.t for c in state.clicks] == list(range(180))
    assert controller.revision == 182
    assert controller.segmentation.areas.sum() <= 600


def test_the_program_ends_with_an_open_controller():
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import numpy as np\n"
        "from kernel_fakes import FakePredictor\n"
        "from dynamite_widget.controller import AnnotationController\n"
        "c = AnnotationController(np.zeros((9, 9, 3), np.uint8), predictor=FakePredictor())\n"
        "c.apply('click', x=1, y=1, instance='new')\n"
        "assert 'torch' not in sys.modules and 'IPython' not in sys.modules\n"
        "print('end')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "end\n"), ran.stderr


def test_embedding_cache_keeps_within_its_budget():
    class Block:
        nbytes = 400

    cache = EmbeddingCache(1000)
    for name in "abc":
        cache.prefetch((name, ""), Block)
    assert ("a", "") not in cache
    assert cache.size_bytes == 800
    held = cache.acquire(("b", ""), Block)
    cache.prefetch(("d", ""), Block)
    assert ("c", "") not in cache
    assert cache.acquire(("b", ""), Block) is held
    cache.release(("b", ""))
    cache.clear()
    assert ("b", "") in cache
    cache.release(("b", ""), drop=True)
    assert len(cache) == 0
    cache.release(("nobody", ""))
    with pytest.raises(ValueError, match="budget_bytes"):
        EmbeddingCache(-1)


def test_serial_thread_runs_in_order_and_on_time(caplog):
    thread = SerialThread("test")
    log: list[object] = []
    done = threading.Event()
    gate = threading.Event()
    thread.post(lambda: gate.wait(LONG))
    thread.post(done.set, delay_s=0.05)
    thread.post(lambda: log.append("old"), key="k")
    thread.post(lambda: log.append("new"), key="k")
    thread.post(lambda: 1 / 0)
    thread.post(lambda: log.append("last"))
    gate.set()
    assert done.wait(LONG)
    assert thread.drain(LONG)
    assert log == ["new", "last"]
    assert "ZeroDivisionError" in caplog.text
    assert not thread.is_current
    thread.post(lambda: log.append("never"), delay_s=1000)
    thread.close()
    assert not thread.post(lambda: log.append("never"))
    assert log == ["new", "last"]


def test_doubtful_regions():
    margin = np.full((100, 200), 9.0, np.float32)
    margin[:, 50] = 0  # an outline: long, but thin
    margin[10:20, 100:112] = 0.2
    margin[50:80, 120:160] = 0.2
    regions = doubtful_regions(margin, 200, 400)
    assert len(regions) == 2
    largest, small = regions
    assert 240 <= largest.x < 320
    assert 100 <= largest.y < 160
    assert 25 <= largest.radius <= 32
    assert 200 <= small.x < 224
    assert doubtful_regions(np.full((4, 4), 5.0), 4, 4) == ()
