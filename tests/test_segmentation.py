"""`Segmentation` and its edits, the overlay and the figure."""

from __future__ import annotations

import dataclasses
import io
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dynamite_widget.edits import stroke_mask
from dynamite_widget.label_maps import CERTAIN_MARGIN
from dynamite_widget.plotting import blend, plot_segmentation
from dynamite_widget.rle import RLE
from dynamite_widget.segmentation import Segmentation
from dynamite_widget.session_state import Click, Instance, SessionState, Stroke

HEIGHT, WIDTH = 40, 60


def labels_of_two() -> NDArray[np.int32]:
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    labels[5:20, 10:30] = 1
    labels[15:35, 25:50] = 4
    return labels


def box_mask(y0: int, y1: int, x0: int, x1: int) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def instance(
    number: int, mask: NDArray[np.bool_] | None = None, locked: bool = False, **more: Any
) -> Instance:
    rle = None if mask is None else RLE.from_mask(mask)
    return Instance(number, f"class {number}", "#ff0000", locked=locked, fixed_mask=rle, **more)


def state(*instances: Instance, strokes: tuple[Stroke, ...] = ()) -> SessionState:
    return SessionState(HEIGHT, WIDTH, instances=instances, strokes=strokes)


# --- plain -----------------------------------------------------------------------------------


def test_arrays() -> None:
    labels = labels_of_two()
    segmentation = Segmentation.from_label_map(
        labels, instances=[4, 1, 9], scores={1: 0.5, 4: 0.9, 9: 0}
    )
    assert (segmentation.height, segmentation.width) == (HEIGHT, WIDTH)
    assert segmentation.instances == (1, 4, 9)
    np.testing.assert_array_equal(segmentation.label_map, labels)
    assert segmentation.label_map.dtype == np.int32
    assert segmentation.masks.shape == (3, HEIGHT, WIDTH)
    assert segmentation.masks.dtype == bool
    for index, number in enumerate(segmentation.instances):
        np.testing.assert_array_equal(segmentation.masks[index], labels == number)
        np.testing.assert_array_equal(segmentation.mask(number), labels == number)
    assert segmentation.masks.sum(axis=0).max() == 1
    assert segmentation.areas.tolist() == [(labels == 1).sum(), (labels == 4).sum(), 0]
    assert segmentation.boxes.tolist() == [[10, 5, 30, 20], [25, 15, 50, 35], [0, 0, 0, 0]]
    assert segmentation.boxes.dtype == segmentation.areas.dtype == np.int64
    np.testing.assert_allclose(segmentation.scores, [0.5, 0.9, 0.0])
    assert segmentation.scores.dtype == segmentation.margin.dtype == np.float32
    assert segmentation.margin.shape == (HEIGHT, WIDTH)
    assert "instances=[1, 4, 9]" in repr(segmentation)


def test_it_does_not_change() -> None:
    labels = labels_of_two()
    segmentation = Segmentation.from_label_map(labels)
    labels[:] = 0
    assert segmentation.label_map.max() == 4
    assert segmentation.label_map is segmentation.label_map
    for array in (
        segmentation.label_map,
        segmentation.masks,
        segmentation.scores,
        segmentation.boxes,
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(AttributeError, match="does not change"):
        segmentation.height = 3


def test_empty() -> None:
    segmentation = Segmentation.empty(7, 9, [2, 5])
    assert segmentation.instances == (2, 5)
    assert not segmentation.label_map.any()
    assert segmentation.label_map_at(3, 4).shape == (3, 4)
    assert segmentation.masks.shape == (2, 7, 9)
    assert segmentation.areas.tolist() == segmentation.scores.tolist() == [0, 0]
    nothing = Segmentation.empty(1, 1)
    assert nothing.masks.shape == (0, 1, 1)
    assert nothing.boxes.shape == (0, 4)
    assert nothing.scores.shape == (0,)


def test_other_sizes_show_pixel_centres() -> None:
    segmentation = Segmentation.from_label_map(labels_of_two())
    half = segmentation.label_map_at(HEIGHT // 2, WIDTH // 2)
    np.testing.assert_array_equal(half, labels_of_two()[1::2, 1::2])
    twice = segmentation.label_map_at(HEIGHT * 2, WIDTH * 2)
    np.testing.assert_array_equal(twice, np.kron(labels_of_two(), np.ones((2, 2), int)))
    assert segmentation.label_map_at(HEIGHT, WIDTH) is segmentation.label_map
    assert segmentation.margin_at(3, 5).shape == (3, 5)
    for ask in (segmentation.label_map_at, segmentation.margin_at):
        with pytest.raises(ValueError, match="0 x 5"):
            ask(0, 5)


def test_from_label_map_checks() -> None:
    for bad in (np.zeros(3, int), np.zeros((0, 3), int), np.zeros((2, 2)), np.full((2, 2), -1)):
        with pytest.raises(ValueError, match="label"):
            Segmentation.from_label_map(bad)
    with pytest.raises(ValueError, match="3 scores"):
        Segmentation.from_label_map(labels_of_two(), scores=[1, 2, 3])
    with pytest.raises(ValueError, match=">= 1"):
        Segmentation.from_label_map(labels_of_two(), instances=[0, 1])
    assert Segmentation.from_label_map(labels_of_two(), instances=[1]).label_map.max() == 1
    assert Segmentation.from_label_map(np.eye(3, dtype=bool)).instances == (1,)
    with pytest.raises(KeyError, match=r"\[1, 4\]"):
        Segmentation.from_label_map(labels_of_two()).mask(2)


def test_statistics_over_many_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(1).integers(0, 4, (HEIGHT, WIDTH)).astype(np.int32)
    whole = Segmentation.from_label_map(labels)
    expected = whole.areas.tolist(), whole.boxes.tolist(), whole.masks
    monkeypatch.setattr("dynamite_widget.label_maps._BAND_PIXELS", 100)
    banded = Segmentation.from_label_map(labels)
    assert (banded.areas.tolist(), banded.boxes.tolist()) == expected[:2]
    np.testing.assert_array_equal(banded.masks, expected[2])


def test_rendered_once_for_many_threads() -> None:
    calls = []

    class Renderer:
        def label_map(self, height: int, width: int) -> NDArray[np.int32]:
            calls.append((height, width))
            return np.zeros((height, width), np.int32)

        def margin(self, height: int, width: int) -> NDArray[np.float32]:
            return np.zeros((height, width), np.float32)

        def scores(self) -> dict[int, float]:
            return {}

    segmentation = Segmentation(20, 30, [1], Renderer())
    threads = [threading.Thread(target=lambda: segmentation.label_map) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [(20, 30)]
    # Brushing renders the network's part of a display size once, not once per stroke.
    for t in range(3):
        stroke = Stroke(1, "add", 3.0, ((5, 5),), t)
        changed = segmentation.with_edits(
            SessionState(20, 30, instances=(Instance(1, "a", "#ffffff"),), strokes=(stroke,))
        )
        assert changed.label_map_at(10, 15).any()
    assert calls == [(20, 30), (10, 15)]


# --- edits -----------------------------------------------------------------------------------


def test_no_edits_change_nothing() -> None:
    segmentation = Segmentation.from_label_map(labels_of_two(), scores=[0.25, 0.5])
    same = segmentation.with_edits(state(instance(1), instance(4), instance(6)))
    np.testing.assert_array_equal(same.label_map, labels_of_two())
    assert same.instances == (1, 4, 6)
    assert same.scores.tolist() == [0.25, 0.5, 0.0]


def test_deleted_instances_never_appear() -> None:
    stroke = Stroke(1, "add", 4.0, ((30, 30),), 0)
    segmentation = Segmentation.from_label_map(labels_of_two())
    changed = segmentation.with_edits(state(instance(4), strokes=(stroke,)))
    assert changed.instances == (4,)
    assert np.unique(changed.label_map).tolist() == [0, 4]
    assert np.unique(changed.label_map_at(20, 30)).tolist() == [0, 4]


@pytest.mark.parametrize("locked", [False, True])
def test_fixed_masks_are_exact_and_win(locked: bool) -> None:
    fixed = box_mask(0, 18, 20, 40)
    segmentation = Segmentation.from_label_map(labels_of_two(), scores=[0.25, 0.5])
    changed = segmentation.with_edits(state(instance(1, fixed, locked), instance(4)))
    np.testing.assert_array_equal(changed.mask(1), fixed)
    np.testing.assert_array_equal(changed.mask(4), (labels_of_two() == 4) & ~fixed)
    assert changed.scores.tolist() == [1.0, 0.5]
    # An instance without any click, imported.
    imported = segmentation.with_edits(state(instance(1), instance(4), instance(7, fixed, locked)))
    np.testing.assert_array_equal(imported.mask(7), fixed)
    assert imported.scores[2] == 1.0


def test_overlapping_fixed_masks() -> None:
    a, b = box_mask(0, 20, 0, 20), box_mask(10, 30, 10, 30)
    segmentation = Segmentation.empty(HEIGHT, WIDTH)
    for first, second, winner in (
        (instance(1, a), instance(2, b), 1),
        (instance(1, a, locked=True), instance(2, b), 1),
        (instance(1, a), instance(2, b, locked=True), 2),
        (instance(1, a, locked=True), instance(2, b, locked=True), 1),
    ):
        changed = segmentation.with_edits(state(first, second))
        assert changed.label_map[15, 15] == winner
        assert changed.label_map[5, 5] == 1
        assert changed.label_map[25, 25] == 2


def test_strokes_apply_in_their_order() -> None:
    add = Stroke(1, "add", 5.0, ((40, 25),), 3)
    erase = Stroke(1, "erase", 2.0, ((40, 25),), 7)
    segmentation = Segmentation.from_label_map(labels_of_two())
    both = segmentation.with_edits(state(instance(1), instance(4), strokes=(erase, add)))
    assert both.label_map[25, 40] == 0
    assert both.label_map[25, 44] == 1
    late = dataclasses.replace(add, t=9)
    assert (
        segmentation.with_edits(state(instance(1), instance(4), strokes=(erase, late))).label_map[
            25, 40
        ]
        == 1
    )
    # Erasing takes only pixels of its own instance.
    other = segmentation.with_edits(state(instance(1), instance(4), strokes=(erase,)))
    np.testing.assert_array_equal(other.label_map, labels_of_two())
    painted = segmentation.with_edits(
        state(instance(8), strokes=(Stroke(8, "add", 1, ((0, 0),), 0),))
    )
    assert painted.scores.tolist() == [1.0]


def test_locked_instances_are_protected() -> None:
    fixed = box_mask(10, 20, 10, 20)
    strokes = (
        Stroke(2, "add", 8.0, ((15, 15),), 1),
        Stroke(1, "erase", 30.0, ((15, 15),), 2),  # part of the mask at the time of locking
        Stroke(1, "add", 30.0, ((50, 30),), 3),
    )
    changed = Segmentation.empty(HEIGHT, WIDTH).with_edits(
        state(instance(1, fixed, locked=True), instance(2), strokes=strokes)
    )
    np.testing.assert_array_equal(changed.mask(1), fixed)
    assert changed.label_map[15, 22] == 2
    # An imported mask which is not locked can be painted over and touched up.
    changed = Segmentation.empty(HEIGHT, WIDTH).with_edits(
        state(instance(1, fixed), instance(2), strokes=strokes[:1])
    )
    assert changed.label_map[15, 15] == 2


def test_edits_are_replaced_not_stacked() -> None:
    segmentation = Segmentation.from_label_map(labels_of_two())
    stroke = Stroke(1, "add", 5.0, ((40, 5),), 0)
    painted = segmentation.with_edits(state(instance(1), instance(4), strokes=(stroke,)))
    assert painted.label_map[5, 40] == 1
    back = painted.with_edits(state(instance(1), instance(4)))
    np.testing.assert_array_equal(back.label_map, labels_of_two())


def test_margin_is_certain_where_a_person_decided() -> None:
    class Renderer:
        def label_map(self, height: int, width: int) -> NDArray[np.int32]:
            return np.ones((height, width), np.int32)

        def margin(self, height: int, width: int) -> NDArray[np.float32]:
            return np.full((height, width), 0.5, np.float32)

        def scores(self) -> dict[int, float]:
            return {1: 0.7}

    segmentation = Segmentation(HEIGHT, WIDTH, [1], Renderer())
    stroke = Stroke(1, "erase", 4.0, ((30, 20),), 0)
    changed = segmentation.with_edits(state(instance(1), strokes=(stroke,)))
    decided = changed.label_map == 0
    assert decided.any()
    np.testing.assert_array_equal(changed.margin == CERTAIN_MARGIN, decided)
    assert changed.margin_at(20, 30)[10, 15] == CERTAIN_MARGIN
    assert (segmentation.margin == 0.5).all()


@pytest.mark.parametrize(("height", "width"), [(40, 60), (20, 30), (13, 17), (80, 120), (1, 1)])
def test_fixed_masks_at_any_size(height: int, width: int) -> None:
    mask = np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.5
    changed = Segmentation.empty(HEIGHT, WIDTH).with_edits(state(instance(3, mask)))
    expected = Segmentation.from_label_map(mask * np.int32(3), instances=[3])
    np.testing.assert_array_equal(
        changed.label_map_at(height, width), expected.label_map_at(height, width)
    )


def test_fixed_masks_of_every_kind() -> None:
    full, nothing = np.ones((HEIGHT, WIDTH), bool), np.zeros((HEIGHT, WIDTH), bool)
    corner = box_mask(39, 40, 59, 60)
    for mask in (full, nothing, corner, ~corner, box_mask(0, 1, 0, 1), box_mask(3, 9, 0, WIDTH)):
        changed = Segmentation.from_label_map(labels_of_two()).with_edits(state(instance(1, mask)))
        np.testing.assert_array_equal(changed.mask(1), mask)


def test_states_of_other_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="picture"):
        Segmentation.empty(3, 4).with_edits(state())


# --- strokes ---------------------------------------------------------------------------------


def drawn(stroke: Stroke, height: int, width: int) -> NDArray[np.bool_]:
    canvas = np.zeros((height, width), bool)
    result = stroke_mask(stroke, HEIGHT, WIDTH, height, width)
    if result is not None:
        canvas[result[0]] = result[1]
    return canvas


@pytest.mark.parametrize("radius", [0.4, 1.0, 2.5, 9.0])
@pytest.mark.parametrize("points", [((30, 20),), ((5, 5), (40, 30), (50, 2)), ((0, 0), (59, 39))])
def test_strokes_are_capsules(radius: float, points: tuple[tuple[int, int], ...]) -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    for (ax, ay), (bx, by) in zip(points[:-1] or points, points[1:] or points, strict=True):
        length = (bx - ax) ** 2 + (by - ay) ** 2
        along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length if length else 0 * x
        along = np.clip(along, 0, 1)
        distance = np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))
        expected |= distance <= max(radius, 0.5) + 1e-9
    np.testing.assert_array_equal(
        drawn(Stroke(1, "add", radius, points, 0), HEIGHT, WIDTH), expected
    )


def test_thin_strokes_stay_visible_on_small_maps() -> None:
    stroke = Stroke(1, "add", 0.5, ((3, 20), (57, 20)), 0)
    small = drawn(stroke, 4, 6)
    assert small.any(axis=0).all()
    big = drawn(Stroke(1, "add", 10.0, ((30, 20),), 0), HEIGHT // 2, WIDTH // 2)
    assert big.sum() == pytest.approx(np.pi * 25, rel=0.1)


# --- pictures --------------------------------------------------------------------------------


def test_blend() -> None:
    image = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    labels = labels_of_two()
    mixed = blend(image, labels, {1: "#ff0000"}, opacity=0.5)
    assert mixed.dtype == np.uint8
    assert mixed[0, 0].tolist() == [100, 100, 100]
    assert mixed[10, 20].tolist() == [178, 50, 50]
    assert mixed[5, 20].tolist() == [255, 0, 0]  # outline
    assert blend(image, labels, {1: "#ff0000"}, 0.5, outlines=False)[5, 20].tolist() == [
        178,
        50,
        50,
    ]
    with pytest.raises(ValueError, match="differ"):
        blend(image, labels[1:])
    with pytest.raises(ValueError, match="opacity"):
        blend(image, labels, opacity=2)


def test_png_for_notebooks() -> None:
    png = Segmentation.from_label_map(np.kron(labels_of_two(), np.ones((20, 20), int)))._repr_png_()
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.size == (384, 256)
        assert len(picture.getcolors() or []) >= 3


def test_figure() -> None:
    pytest.importorskip("matplotlib")
    segmentation = Segmentation.from_label_map(labels_of_two())
    clicks = (Click(15, 10, 1), Click(2, 2, 0))
    session = dataclasses.replace(state(instance(1), instance(4)), clicks=clicks)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    figure = segmentation.plot(image, state=session, title="two $")
    axes = figure.axes[0]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["1 class 1 (1.00)", "4 class 4 (1.00)"]
    assert len(axes.lines) == 3  # disc; disc and cross
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert segmentation.plot(legend=False, clicks=()).axes[0].get_legend() is None
    assert segmentation.plot(image, axes=axes) is figure
    with pytest.raises(ValueError, match="not the same picture"):
        plot_segmentation(segmentation, np.zeros((10, 90, 3), np.uint8))
