"""Coarse masks while a slow decoder runs: shown in time or not at all, and never an answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from kernel_fakes import FakePredictor

from dynamite_widget import inference
from dynamite_widget.answers import ProvisionalLabels
from dynamite_widget.controller import AnnotationController
from dynamite_widget.embedding_cache import EmbeddingCache
from dynamite_widget.front_end import FrontEnd
from dynamite_widget.model.clicks import check_clicks, click_tensors
from dynamite_widget.model.config import get_config
from dynamite_widget.model.predictor import Predictor
from dynamite_widget.model.render import LogitsRenderer, MaskLogits
from dynamite_widget.segmentation import Segmentation
from dynamite_widget.session_state import Click

LONG = 30.0
IMAGE = np.zeros((12, 16, 3), np.uint8)


class Desk:
    """A controller whose messages and provisional labels are collected."""

    def __init__(self, predictor: Any) -> None:
        self.predictor = predictor
        self.controller = AnnotationController(
            IMAGE, predictor=predictor, cache=EmbeddingCache(), display_long_side_px=16
        )
        self.sent: list[dict[str, Any]] = []
        self.front = FrontEnd(self.controller, lambda content, _: self.sent.append(content))
        self.shown: list[ProvisionalLabels] = []
        self.arrived = threading.Event()
        self.controller.add_callback("prediction", self.front.announce)
        self.controller.add_callback("provisional", self._take)

    def _take(self, labels: ProvisionalLabels) -> None:
        self.shown.append(labels)
        self.front.show(labels)
        self.arrived.set()

    def click(self, x: int, instance: int | str = 1) -> None:
        self.controller.apply("click", x=x, y=3, instance=instance)

    def settle(self) -> None:
        assert self.controller.wait(LONG)
        assert self.controller.events.drain(LONG)

    @property
    def revisions(self) -> list[float]:
        """Revisions of the labels that were sent."""
        return [m["revision"] for m in self.sent if m["type"] == "labels"]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A network that was slow twice, with a click of each of two instances."""
    monkeypatch.setattr(inference, "SLOW_PREDICTION_MS", -1.0)
    made = Desk(FakePredictor())
    with made.controller:
        for number in range(2):
            made.click(2 + 10 * number, "new")
            made.settle()
        assert made.predictor.previews_asked == 0  # nobody knew that it is slow
        made.sent.clear()
        yield made
        made.predictor.gate.set()
    made.front.close()


def test_shown_while_the_network_goes_on(desk: Desk) -> None:
    desk.predictor.gate.clear()
    desk.click(14, 2)
    assert desk.arrived.wait(LONG)
    assert desk.controller.events.drain(LONG)
    (labels,) = desk.shown
    assert labels.revision == desk.controller.revision == 3
    assert (labels.labels == 1).all()
    # It is no answer to anything.
    assert not desk.controller.settled
    assert not desk.controller.wait(0.01)
    result = desk.controller.view().result
    assert result is not None
    assert result.revision == 2
    assert desk.controller.status.state == "predicting"
    (message,) = desk.sent
    assert message["provisional"] is True
    assert 2 < message["revision"] < 3
    desk.front.send_labels()  # what a view that opens now is given
    assert desk.revisions[-1] == 2
    desk.predictor.gate.set()
    desk.settle()
    assert desk.revisions == [2.5, 2, 3]
    final = desk.controller.segmentation.label_map
    assert set(np.unique(final)) == {1, 2}


def test_never_where_the_network_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "SLOW_PREDICTION_MS", 1e6)
    desk = Desk(FakePredictor())
    with desk.controller:
        for x in range(4):
            desk.click(x, "new")
            desk.settle()
    assert desk.predictor.previews_asked == 0
    assert len(desk.predictor.predicted) >= 4
    assert desk.shown == []


def test_one_slow_prediction_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first prediction of a network takes longer than the others; so does any, by chance."""
    monkeypatch.setattr(inference, "SLOW_PREDICTION_MS", 400.0)
    clock = iter([0.0, 9.0, 10.0, 10.01, 11.0, 20.0, 21.0, 30.0, 40.0, 41.0])
    desk = Desk(FakePredictor())
    with desk.controller:
        desk.settle()
        segment = desk.controller._inference._segment
        monkeypatch.setattr(
            desk.controller._inference,
            "_segment",
            lambda target: _with_clock(monkeypatch, clock, segment, target),
        )
        asked = []
        for x in range(5):  # 9 s, 10 ms, 9 s, 9 s, 1 s
            desk.click(x, "new")
            desk.settle()
            asked.append(desk.predictor.previews_asked)
    assert asked == [0, 0, 0, 0, 1]


def _with_clock(monkeypatch: pytest.MonkeyPatch, clock: Any, segment: Any, target: Any) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr("time.perf_counter", lambda: next(clock))
        return segment(target)


def test_not_shown_when_a_newer_state_waits(desk: Desk) -> None:
    desk.predictor.gate.clear()
    desk.predictor.entered.clear()
    seen: list[int] = []
    predict = desk.predictor.predict

    def overtaken(*args: Any, on_preview: Any, **options: Any) -> Segmentation:
        """A click comes while the encoder runs."""
        if not seen:
            seen.append(1)
            desk.click(15, 2)
        return predict(*args, on_preview=on_preview, **options)

    desk.predictor.predict = overtaken
    desk.click(14, 2)
    assert desk.predictor.entered.wait(LONG)
    assert desk.shown == []
    desk.predictor.gate.set()
    desk.settle()
    assert [labels.revision for labels in desk.shown] == [4]
    assert desk.revisions == [3, 3.5, 4]


def test_late_ones_do_not_cover_final_labels(desk: Desk) -> None:
    desk.click(14, 2)
    desk.settle()
    (labels,) = desk.shown
    sent = len(desk.sent)
    assert not desk.front.show(labels)  # the final ones were sent
    desk.predictor.gate.clear()
    desk.click(15, 2)
    assert not desk.front.show(labels)  # of an older state
    desk.predictor.gate.set()
    desk.settle()
    desk.controller.set_image(IMAGE[:6])
    assert not desk.front.show(labels)  # of another picture
    assert [m["revision"] for m in desk.sent[sent:] if m.get("provisional")] in ([], [3.5])


def test_edits_are_applied_and_predictions_kept(desk: Desk) -> None:
    desk.controller.apply("paint", instance=2, mode="add", radius=1, points=[(9, 9)])
    desk.settle()
    assert desk.shown == []  # no network has run
    desk.click(14, 2)
    desk.settle()
    (labels,) = desk.shown
    assert labels.labels[9, 9] == 2


def test_an_error_loses_no_answer(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    predict = desk.predictor.predict

    class Broken:
        def with_edits(self, _state: Any) -> Any:
            raise RuntimeError("coarse")

    def broken(*args: Any, on_preview: Any = None, **options: Any) -> Segmentation:
        if on_preview is not None:
            on_preview(Broken())
        return predict(*args, **options)

    desk.predictor.predict = broken
    desk.click(14, 2)
    desk.settle()
    assert desk.revisions == [3]
    assert "coarse masks of revision 3" in caplog.text
    # Neither does one without room: the second attempt goes without.
    failures = [MemoryError()]

    def full(*args: Any, on_preview: Any = None, **options: Any) -> Segmentation:
        if on_preview is not None:
            raise failures.pop()
        return predict(*args, **options)

    desk.predictor.predict = full
    desk.click(15, 2)
    desk.settle()
    assert failures == []


def test_predictors_of_others_are_left_alone(desk: Desk) -> None:
    predict = desk.predictor.predict
    desk.predictor.predict = lambda embedding, clicks, instances=None: predict(
        embedding, clicks, instances
    )
    desk.click(14, 2)
    desk.settle()
    assert desk.shown == []


# ---- the network ---------------------------------------------------------------------------------


def network(name: str) -> Predictor:
    from dynamite_widget.model.dynamite import build_model

    torch.manual_seed(4)
    changes: dict[str, Any] = {"hidden_dim": 32, "heads": 4, "encoder_layers": 3}
    if name != "lite":
        changes |= {"pixel_decoder_layers": 1, "decoder_layers": 2, "short_side": 256}
    return Predictor(build_model(get_config(name).replace(max_long_side=256, **changes)))


@pytest.mark.parametrize("name", ["segformer-b0", "lite"])
def test_coarse_masks_are_those_of_the_encoder(name: str) -> None:
    predictor = network(name)
    ys, xs = np.mgrid[:192, :256]
    image = np.stack([ys, xs, 255 - ys], axis=-1).astype(np.uint8)
    embedding = predictor.embed(image)
    clicks = [Click(20, 20, 1), Click(200, 150, 2), Click(40, 30, 1), Click(120, 20, 0)]
    coarse: list[Segmentation] = []
    final = predictor.predict(embedding, clicks, (1, 2, 5), on_preview=coarse.append)
    alone = predictor.predict(embedding, clicks, (1, 2, 5))
    np.testing.assert_array_equal(final.label_map, alone.label_map)
    np.testing.assert_array_equal(final.margin, alone.margin)
    (preview,) = coarse
    assert preview.instances == (1, 2, 5)
    # The encoder's own masks, at every pixel of the logits.
    points, _ = check_clicks(clicks, 192, 256)
    with torch.inference_mode():
        decoded = predictor.model.decode_clicks(
            embedding.prepared, [click_tensors(points, embedding)], all_predictions=True
        )
    supervised = decoded.auxiliary[predictor.config.encoder_layers - 1]
    owners = tuple(supervised.channel_instance[0].tolist())
    masks = MaskLogits(supervised.logits[0], owners, embedding.network_size)
    own = Segmentation(192, 256, (1, 2, 5), LogitsRenderer(masks))
    # Where they differ the encoder itself hesitates: stride 8 is interpolated between its logits.
    differs = preview.label_map != own.label_map
    assert differs.mean() < 0.1
    assert np.median(own.margin[differs]) < 0.5 * np.median(own.margin[~differs])


def test_nothing_is_previewed_without_objects() -> None:
    predictor = network("lite")
    embedding = predictor.embed(IMAGE)
    predictor.predict(embedding, [Click(3, 3, 0)], on_preview=lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        predictor.predict(embedding, [Click(3, 3, 1)], on_preview=lambda _: 1 // 0)
