"""What nobody waits for any more ends between two steps; what is urgent comes in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from kernel_fakes import FakeEmbedding, FakePredictor

from dynamite_widget.answers import Job
from dynamite_widget.cancelling import Cancelled, give_way, interruptible
from dynamite_widget.controller import AnnotationController
from dynamite_widget.embedding_cache import EmbeddingCache
from dynamite_widget.model import precision
from dynamite_widget.model.config import get_config
from dynamite_widget.model.dynamite import build_model
from dynamite_widget.model.predictor import Predictor
from dynamite_widget.session_state import Click

LONG = 30.0


def picture(value: int) -> np.ndarray:
    return np.full((6, 8 + value, 3), value, np.uint8)


class Slow(FakePredictor):
    """Embeds some pictures (by their width) step by step until it is told to end."""

    def __init__(self, *slow: int) -> None:
        super().__init__()
        self.slow = {8 + value for value in slow}
        self.begun = threading.Event()
        self.done = threading.Event()
        self.given_up: list[int] = []

    def embed(self, image: np.ndarray) -> FakeEmbedding:
        width = image.shape[1]
        if width in self.slow:
            self.begun.set()
            try:
                for _ in range(int(LONG / 0.005)):
                    give_way()
                    if self.done.wait(0.005):
                        break
            except Cancelled:
                self.given_up.append(width - 8)
                raise
        return super().embed(image)


@pytest.fixture
def cache() -> EmbeddingCache:
    return EmbeddingCache()


def controller_of(predictor: Any, cache: EmbeddingCache, value: int = 0) -> AnnotationController:
    return AnnotationController(picture(value), predictor=predictor, cache=cache)


@pytest.fixture
def ahead(cache: EmbeddingCache) -> Iterator[tuple[Slow, AnnotationController]]:
    """A controller of picture 0 that is embedding picture 1 ahead."""
    predictor = Slow(1)
    with controller_of(predictor, cache) as controller:
        assert controller.wait(LONG)
        controller.prefetch(picture(1))
        assert predictor.begun.wait(LONG)
        yield predictor, controller
        predictor.done.set()


def test_an_unwanted_picture_is_given_up(cache: EmbeddingCache) -> None:
    predictor = Slow(0)
    with controller_of(predictor, cache) as controller:
        assert predictor.begun.wait(LONG)
        controller.apply("click", x=1, y=1, instance="new")  # of the same picture: no reason
        controller.set_image(picture(1))
        assert controller.segmentation.label_map.shape == (6, 9)
        assert predictor.given_up == [0]
        assert predictor.embedded == 1
        # Back again it is embedded from the beginning.
        predictor.done.set()
        controller.set_image(picture(0))
        controller.apply("click", x=1, y=1, instance="new")
        assert controller.segmentation.areas.tolist() == [48]
    assert predictor.embedded == 2


def test_the_same_picture_again_goes_on(cache: EmbeddingCache) -> None:
    predictor = Slow(0)
    with controller_of(predictor, cache) as controller:
        assert predictor.begun.wait(LONG)
        controller.set_image(picture(0))
        predictor.done.set()
        assert controller.wait(LONG)
        assert controller.view().result is not None
    assert predictor.given_up == []
    assert predictor.embedded == 1


def test_jumping_elsewhere_while_embedding_ahead(ahead: tuple[Slow, AnnotationController]) -> None:
    predictor, controller = ahead
    controller.set_image(picture(2))
    assert controller.wait(LONG)
    assert predictor.given_up == [1]
    assert predictor.embedded == 2


def test_going_where_one_looked_ahead(ahead: tuple[Slow, AnnotationController]) -> None:
    predictor, controller = ahead
    controller.set_image(picture(1))
    assert not controller.wait(0.05)
    predictor.done.set()
    assert controller.wait(LONG)
    assert predictor.given_up == []
    assert predictor.embedded == 2


def test_clicks_do_not_wait_for_what_is_ahead(ahead: tuple[Slow, AnnotationController]) -> None:
    predictor, controller = ahead
    for x in range(3):
        controller.apply("click", x=x, y=1, instance="new")
        assert controller.wait(LONG)
    assert controller.segmentation.areas.sum() == 48
    # Neither do other jobs, or errors.
    done = threading.Event()
    controller.ask(Job(lambda *_: done.set(), done.set, lambda _: None))
    assert done.wait(LONG)
    predictor.failures = [RuntimeError("no")]
    controller.apply("click", x=5, y=1, instance=1)
    with pytest.raises(Exception, match="no"):
        controller.wait(LONG)
    controller.apply("click", x=6, y=1, instance=1)
    assert controller.wait(LONG)
    assert predictor.given_up == []
    assert predictor.embedded == 1
    predictor.done.set()
    controller.set_image(picture(1))
    assert controller.wait(LONG)
    assert predictor.embedded == 2


def test_closing_gives_up(cache: EmbeddingCache) -> None:
    predictor = Slow(0)
    controller = controller_of(predictor, cache)
    assert predictor.begun.wait(LONG)
    controller.close()
    assert predictor.given_up == [0]
    assert len(cache) == 0


def test_jobs_ahead_end_once(cache: EmbeddingCache) -> None:
    predictor = Slow(1)
    with controller_of(predictor, cache) as controller:
        assert controller.wait(LONG)
        ends: list[str] = []
        controller.prefetch(picture(1))
        assert predictor.begun.wait(LONG)
        job = Job(
            lambda *_: ends.append("run"),
            lambda: ends.append("skipped"),
            lambda _: ends.append("failed"),
            key="prefetch",
            ahead=controller.picture,
        )
        controller.ask(job)  # waits for the one that runs
        controller.prefetch(picture(1))  # takes its place
        assert ends == ["skipped"]
        predictor.done.set()


def test_a_prediction_for_the_picture_before_is_given_up(cache: EmbeddingCache) -> None:
    predictor = FakePredictor()
    entered, predict, given_up = threading.Event(), predictor.predict, []

    def slow(*args: Any, **options: Any) -> Any:
        entered.set()
        try:
            for _ in range(int(LONG / 0.005)):
                give_way()
                threading.Event().wait(0.005)
        except Cancelled:
            given_up.append(1)
            predictor.predict = predict  # type: ignore[method-assign]
            raise

    with controller_of(predictor, cache) as controller:
        assert controller.wait(LONG)
        predictor.predict = slow  # type: ignore[method-assign]
        controller.apply("click", x=1, y=1, instance="new")
        assert entered.wait(LONG)
        controller.apply("click", x=2, y=1, instance=1)  # a newer state is no reason
        controller.set_image(picture(3))
        assert controller.wait(LONG)
    assert given_up == [1]


def test_waiting_for_another_widget_gives_way(cache: EmbeddingCache) -> None:
    first, second = Slow(0), FakePredictor()
    second.checkpoint_hash = "another"
    with controller_of(first, cache) as busy:
        assert first.begun.wait(LONG)
        with controller_of(second, cache, 1) as controller:
            waited = threading.Event()
            timer = threading.Timer(0.3, waited.set)  # it waits for its turn now
            timer.start()
            assert waited.wait(LONG)
            assert second.embedded == 0
            controller.close()
            assert not controller._inference._thread.is_alive()
        first.done.set()
        assert busy.wait(LONG)


# ---- in general ----------------------------------------------------------------------------------


def test_interruptions_nest() -> None:
    log: list[str] = []

    def outer() -> None:
        log.append("outer")
        give_way()  # what comes in between is not interrupted itself
        with interruptible(lambda: log.append("inner")):
            give_way()

    give_way()
    with interruptible(outer):
        give_way()
        give_way()
        threads = [threading.Thread(target=give_way)]
        threads[0].start()
        threads[0].join()
    give_way()
    assert log == ["outer", "inner"] * 2


# ---- the network ---------------------------------------------------------------------------------


def small(name: str, half: bool | None = None) -> Predictor:
    torch.manual_seed(0)
    config = get_config(name).replace(
        hidden_dim=32, heads=4, encoder_layers=2, short_side=None, max_long_side=96
    )
    return Predictor(build_model(config), half=half)


def stops(compute: Callable[[], object], after: int) -> bool:
    """Tell whether a computation ends when it gives way for the `after`-th time."""
    count = 0

    def interrupt() -> None:
        nonlocal count
        count += 1
        if count >= after:
            raise Cancelled

    try:
        with interruptible(interrupt):
            compute()
    except Cancelled:
        return True
    return False


@pytest.mark.parametrize(
    ("name", "half"), [("lite", None), ("segformer-b0", None), ("swin-tiny", True)]
)
def test_networks_give_way(name: str, half: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if half:
        monkeypatch.setattr(precision, "has_native_bfloat16", lambda: True)
    predictor = small(name, half)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    assert stops(lambda: predictor.embed(image), 1)
    assert stops(lambda: predictor.embed(image), 40)
    embedding = predictor.embed(image)
    clicks = [Click(5, 5, 1), Click(50, 50, 2)]
    expected = predictor.predict(embedding, clicks)
    assert stops(lambda: predictor.predict(embedding, clicks), 3)
    inside: list[np.ndarray] = []
    count = 0

    def interrupt() -> None:
        nonlocal count
        count += 1
        if count % 20 == 0:
            inside.append(predictor.predict(embedding, clicks).label_map)

    with interruptible(interrupt):
        again = predictor.embed(image)
    assert len(inside) > 1
    assert all(np.array_equal(labels, expected.label_map) for labels in inside)
    for one, other in zip(again.prepared.keys, embedding.prepared.keys, strict=True):
        assert torch.equal(one, other)
