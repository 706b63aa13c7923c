"""explain: the trace agrees with the network; arrays, figures and controls fit together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dynamite_widget import Click, DynaMITeWidget, Predictor, load_image
from dynamite_widget.errors import DynaMITeError, SessionError
from dynamite_widget.model.clicks import check_clicks, click_tensors
from dynamite_widget.model.config import get_config
from dynamite_widget.model.dynamite import build_model
from dynamite_widget.session import ClickSession
from dynamite_widget.teaching import Explanation, explain
from dynamite_widget.teaching.explanation_plots import VIEWS, plot
from dynamite_widget.teaching.trace import trace

CLICKS = [Click(60, 50, 1), Click(110, 30, 2), Click(20, 80, 0), Click(70, 60, 1)]


def small(name: str) -> Predictor:
    """A network of the preset's structure at a fraction of its size, random weights."""
    torch.manual_seed(0)
    config = replace(get_config(name), short_side=None, max_long_side=160)
    return Predictor(build_model(config))


@pytest.fixture(scope="module")
def picture(repository: Path) -> np.ndarray:
    return load_image(repository / "notebooks" / "images" / "cat.jpg")[::3, ::3].copy()


@pytest.fixture(scope="module")
def lite() -> Predictor:
    return small("lite")


@pytest.fixture(scope="module")
def session(picture) -> ClickSession:
    made = ClickSession(*picture.shape[:2])
    made.click(60, 50, "new")
    made.click(110, 30, "new")
    made.click_background(20, 80)
    made.click(70, 60, 1)
    return made


@pytest.fixture(scope="module")
def found(picture, lite, session) -> Explanation:
    return explain(session, image=picture, predictor=lite)


@pytest.mark.parametrize("name", ["lite", pytest.param("segformer-b0", marks=pytest.mark.slow)])
def test_the_trace_is_what_the_network_computes(name, picture, lite):
    predictor = lite if name == "lite" else small(name)
    embedding = predictor.embed(picture)
    points, _ = check_clicks(CLICKS, embedding.height, embedding.width)
    clicks = click_tensors(points, embedding)
    with torch.inference_mode():
        decoded = predictor.model.decode_clicks(embedding.prepared, [clicks], all_predictions=True)
    run = trace(predictor.model, embedding.prepared.features, clicks)
    layers = predictor.config.encoder_layers
    assert len(run.layers) == layers
    for index, prediction in enumerate(decoded.auxiliary[:layers]):
        torch.testing.assert_close(run.logits[index], prediction.logits[0], atol=2e-4, rtol=2e-4)
    # With a refinement head the last auxiliary prediction is what comes out of the pixel decoder.
    last = decoded.auxiliary[layers] if len(decoded.auxiliary) > layers else decoded.final
    torch.testing.assert_close(run.final, last.logits[0], atol=2e-4, rtol=2e-4)


def test_arrays_fit_together(lite, session, found):
    found = found.of(1)
    layers, heads = lite.config.encoder_layers, lite.config.heads
    static = lite.config.static_queries
    assert found.click == session.state.click(1)
    assert found.query_names[:4] == ("1·t0", "1·t3", "2·t1", "bg·t2")
    assert found.query == 2
    assert found.owners.tolist() == [1, 1, 2, *[0] * (static + 1)]
    assert found.times.tolist() == [0, 3, 1, 2, *[-1] * static]
    assert found.layers == layers
    assert found.layer_levels == tuple(i % 3 for i in range(layers))
    assert found.self_attention.shape == (layers, heads, 4 + static)
    np.testing.assert_allclose(found.self_attention.sum(axis=2), 1, atol=1e-5)
    for weights, allowed in zip(found.attention, found.allowed, strict=True):
        assert weights.shape == (heads, *allowed.shape)
        assert (weights[:, ~allowed] == 0).all()
        assert (weights.sum(axis=(1, 2)) <= 1 + 1e-5).all()
    assert len(found.masks) == layers + 2
    assert found.background_logits.shape == (static, *found.masks.shape[1:])
    assert found.background_owner.min() >= -1
    assert found.background_owner.max() < static
    assert found.sampled_at.shape == (3, 2)
    for (row, column), similar in zip(found.sampled_at, found.similarity, strict=True):
        assert -0.5 <= row <= similar.shape[0]
        assert -0.5 <= column <= similar.shape[1]
        assert np.abs(similar).max() <= 1 + 1e-5


def test_leaving_one_out(picture, lite, session, found):
    assert found.click.t == 3
    embedding = lite.embed(picture)
    expected = lite.predict(embedding, session.clicks[:3], instances=(1, 2)).label_map
    np.testing.assert_array_equal(found.label_map_without, expected)
    np.testing.assert_array_equal(found.changed, found.label_map != expected)
    first = found.of(0)
    assert first.click.t == 0
    assert not np.array_equal(first.label_map_without, expected)


def test_the_only_click_leaves_nothing(picture, lite):
    made = ClickSession(*picture.shape[:2])
    made.click(60, 50)
    found = explain(made, image=picture, predictor=lite)
    assert not found.label_map_without.any()


def test_on_picture_keeps_places(found):
    height, width = found.picture.shape[:2]
    for values in (*found.attention[0], *found.similarity, found.masks[0], found.allowed[2]):
        assert found.on_picture(values).shape == (height, width)
    row, column = np.round(found.sampled_at[2]).astype(int)
    spot = np.zeros_like(found.similarity[2])
    spot[row, column] = 1
    where = np.argwhere(found.on_picture(spot, smooth=False) > 0).mean(axis=0)
    stride = 8 * width / found.network_size[1]
    assert np.abs(where - (found.click.y, found.click.x)).max() <= stride
    assert found.on_picture(found.allowed[0]).dtype == bool


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_can_be_drawn(view, found, tmp_path):
    plot(found, view, layer=found.layers - 1, head=0).savefig(tmp_path / "figure.png")


def test_unknown_views_layers_and_heads(found):
    with pytest.raises(ValueError, match="sampling"):
        found.plot("other")
    with pytest.raises(ValueError, match="layer must be"):
        found.plot("attention", layer=99)
    with pytest.raises(ValueError, match="head must be"):
        found.plot("attention", head=99)


def test_controls(found):
    view = found.show()
    first = bytes(view._image.value)
    assert first.startswith(b"\x89PNG")
    view._layer.value = 2
    assert bytes(view._image.value) != first
    view._view.value = "background"
    assert view._layer.disabled
    view._click.value = 0
    assert view.explanation.click.t == 0


def test_what_cannot_be_explained(picture, lite, session):
    with pytest.raises(ValueError, match="image="):
        explain(session)
    with pytest.raises(SessionError, match="t=9"):
        explain(session, 9, image=picture, predictor=lite)
    with pytest.raises(SessionError, match="nothing to explain"):
        explain(ClickSession(*picture.shape[:2]), image=picture, predictor=lite)


def test_a_widget_is_explained_beside_its_own_thread(picture, lite):
    widget = DynaMITeWidget(picture, predictor=lite)
    try:
        widget.click(60, 50)
        t = widget.click(20, 80, 0)
        found = explain(widget)
        assert found.click.t == t
        np.testing.assert_array_equal(found.label_map, widget.label_map)
    finally:
        widget.close()
    with pytest.raises(DynaMITeError, match="closed"):
        explain(widget)
