"""explain: what one click's query did, as plain arrays (Clicks as Queries, section 3).

The figures are in `explanation_plots`, the controls of a notebook in `explanation_view`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DynaMITeError, SessionError
from ..session_json import read_session
from ..session_state import Click, SessionState
from .recording import check_picture, is_widget

Floats = NDArray[np.float32]

STRIDES = (32, 16, 8)
"""Of the three feature levels, in network-image pixels."""
_LONG_SIDE_PX = 800


@dataclass(frozen=True)
class Explanation:
    """Everything about one click's query; shown with controls at the end of a notebook cell.

    Maps are cut to the part of the network's input that the picture fills. Q is the number of
    queries: all clicks (by instance, background last, then time) and the static background queries.

    Parameters
    ----------
    click : Click
        The click explained.
    state : SessionState
        Where it stands.
    query : int
        Its place among the queries.
    query_names : tuple of str
        Q short names: ``"1·t0"`` (instance and time index), ``"bg·t3"``, ``"s1"`` (static).
    owners, times : (Q,) int64 arrays
        Instance (0 = background) and time index (-1: static) of each query.
    sampled_at : (3, 2) float32 array
        Row and column in cells of the three levels where the descriptor is read.
    similarity : tuple of 3 (h, w) float32 arrays
        Cosine, -1..1, between the click's descriptor and the features of each level.
    layer_levels : tuple of int
        The level (0, 1, 2: stride 32, 16, 8) that each encoder layer looks at.
    attention : tuple of (heads, h, w) float32 arrays
        Cross-attention of each layer; every map sums to at most 1 (the rest is on the padding).
    allowed : tuple of (h, w) bool arrays
        Where the query may look in each layer: where its own mask so far is positive.
    masks : (layers + 2, h, w) float32 array
        The query's own logits at stride 4: before the first layer, after each layer, and after the
        pixel decoder.
    self_attention : (layers, heads, Q) float32 array
        What it takes from the other queries; sums to 1 over Q.
    background_logits : (S, h, w) float32 array
        Logits of the S static background queries after the pixel decoder, at stride 4.
    background_owner : (h, w) int64 array
        The static query (0..S-1) that is strongest where no click's query is stronger, else -1.
    label_map, label_map_without : (H, W) int32 arrays
        With all clicks, and with all but this one; the size of `picture`.
    picture : (H, W, 3) uint8 array
        The picture, long side at most 800 pixels.
    """

    click: Click
    state: SessionState = field(repr=False)
    query: int
    query_names: tuple[str, ...] = field(repr=False)
    owners: NDArray[np.int64] = field(repr=False)
    times: NDArray[np.int64] = field(repr=False)
    sampled_at: Floats = field(repr=False)
    similarity: tuple[Floats, ...] = field(repr=False)
    layer_levels: tuple[int, ...] = field(repr=False)
    attention: tuple[Floats, ...] = field(repr=False)
    allowed: tuple[NDArray[np.bool_], ...] = field(repr=False)
    masks: Floats = field(repr=False)
    self_attention: Floats = field(repr=False)
    background_logits: Floats = field(repr=False)
    background_owner: NDArray[np.int64] = field(repr=False)
    label_map: NDArray[np.int32] = field(repr=False)
    label_map_without: NDArray[np.int32] = field(repr=False)
    picture: NDArray[np.uint8] = field(repr=False)
    network_size: tuple[int, int] = field(repr=False)
    _other: Callable[[int], Explanation] | None = field(default=None, repr=False, compare=False)

    @property
    def changed(self) -> NDArray[np.bool_]:
        """(H, W) bool: pixels whose label is another one without this click."""
        return self.label_map != self.label_map_without

    @property
    def layers(self) -> int:
        """Number of encoder layers."""
        return len(self.attention)

    def on_picture(self, values: NDArray[Any], smooth: bool = True) -> NDArray[Any]:
        """Resize a map of any level to the size of `picture`.

        Parameters
        ----------
        values : (h, w) array
            Any of the maps here.
        smooth : bool
            Interpolate linearly; otherwise show the cells as they are.
        """
        import cv2

        network_height, network_width = self.network_size
        height, width = self.picture.shape[:2]
        # The last cells may reach beyond the picture: work in network pixels, then cut.
        stride = round(max(network_height / values.shape[0], network_width / values.shape[1]))
        stride = min((4, *reversed(STRIDES)), key=lambda known: abs(known - stride))
        how = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
        size = values.shape[1] * stride, values.shape[0] * stride
        full = cv2.resize(values.astype(np.float32), size, None, 0, 0, how)
        cut = np.ascontiguousarray(full[:network_height, :network_width])
        resized = cv2.resize(cut, (width, height), None, 0, 0, how)
        return resized.astype(values.dtype) if values.dtype.kind in "biu" else resized

    def of(self, click: int) -> Explanation:
        """Explain another click (its time index) of the same state."""
        if self._other is None:
            raise DynaMITeError("this explanation was made without a network; call explain again")
        return self._other(click)

    def plot(self, view: str = "attention", **options: Any) -> Any:
        """Draw a matplotlib figure; `view` is one of `explanation_plots.VIEWS`."""
        from .explanation_plots import plot

        return plot(self, view, **options)

    def show(self) -> Any:
        """Return the controls and figures as one ipywidgets box."""
        from .explanation_view import ExplanationView

        return ExplanationView(self)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.show())  # type: ignore[no-untyped-call]


def explain(
    source: Any,
    click: int | None = None,
    *,
    image: Any = None,
    predictor: Any = None,
) -> Explanation:
    """Make one click's query visible.

    Parameters
    ----------
    source : DynaMITeWidget, ClickSession, mapping, JSON text or path
        Whose present clicks are looked at; a widget brings picture and network along.
    click : int, optional
        Time index t of the click; by default the newest.
    image : object, optional
        The picture, for anything but a widget.
    predictor : Predictor, optional
        The network, for anything but a widget; by default the bundled one.

    Returns
    -------
    Explanation

    Raises
    ------
    SessionError
        If there is no such click, no click of any instance, or the picture is another one.
    ValueError
        If the picture is missing.

    Notes
    -----
    The arrays come from the same parameters applied once more in float32; they agree with the
    prediction but for rounding. Fixed masks and strokes of the session play no part in them.
    """
    if is_widget(source):
        source.wait()
        state, picture = source.session.state, source.image
        predictor, embedding = _of_widget(source)
    else:
        if image is None:
            raise ValueError("explaining a session needs its picture: image=…")
        session = read_session(source)
        state, picture = session.state, check_picture(image, session)
        if predictor is None:
            from ..model.checkpoints import load_model
            from ..model.predictor import Predictor

            predictor = Predictor(load_model())
        embedding = predictor.embed(picture)
    return _explain(predictor, embedding, picture, state, click)


def _of_widget(widget: Any) -> tuple[Any, Any]:
    """Return network and embedding of a widget; both may be used beside its own thread."""
    from ..answers import Job

    done = threading.Event()
    answer: list[Any] = []

    def finish(value: Any) -> None:
        answer.append(value)
        done.set()

    def failed(error: Any = None) -> None:
        finish(error if isinstance(error, Exception) else DynaMITeError("the picture changed"))

    widget.controller.ask(
        Job(lambda network, embedded, _result: finish((network, embedded)), failed, failed)
    )
    while not done.wait(1.0):
        if widget.controller.closed:
            raise DynaMITeError("the widget is closed")
    if isinstance(answer[0], Exception):
        raise DynaMITeError(f"the widget has no prediction: {answer[0]}") from answer[0]
    network, embedded = answer[0]
    return network, embedded


def _explain(
    predictor: Any,
    embedding: Any,
    picture: NDArray[np.uint8],
    state: SessionState,
    t: int | None,
) -> Explanation:
    from ..model.clicks import check_clicks, click_tensors
    from .trace import trace

    if not any(c.instance for c in state.clicks):
        raise SessionError("there is nothing to explain: no instance has a click yet")
    click = state.clicks[-1] if t is None else state.click(t)
    points, ids = check_clicks(state.clicks, embedding.height, embedding.width, state.instance_ids)
    run = trace(predictor.model, embedding.prepared.features, click_tensors(points, embedding))
    query = run.t.tolist().index(click.t)
    static = len(run.owner) - run.clicks
    owners = run.owner.numpy()
    times = np.concatenate([run.t.numpy(), np.full(static, -1)])
    names = [f"{owner or 'bg'}·t{time}" for owner, time in zip(owners, times, strict=True)]
    names[run.clicks :] = [f"s{k + 1}" for k in range(static)]

    net, padded = embedding.network_size, embedding.padded_size

    def cut(values: Any, stride: int) -> Any:
        """Leave out the padding, and cells that lie in it wholly."""
        return values[..., : -(-net[0] // stride), : -(-net[1] // stride)].numpy()

    sizes = [(padded[0] / stride, padded[1] / stride) for stride in STRIDES]
    y, x = run.yx[query].tolist()
    final = run.final.numpy()
    strongest = final.argmax(axis=0)
    background = np.where(strongest >= run.clicks, strongest - run.clicks, -1)
    small = _small(picture)
    height, width = small.shape[:2]
    others = [c for c in state.clicks if c.t != click.t]
    with_all = predictor.predict(embedding, state.clicks, instances=ids)
    without = predictor.predict(embedding, others, instances=ids)
    levels = [layer.level for layer in run.layers]
    return Explanation(
        click=click,
        state=state,
        query=query,
        query_names=tuple(names),
        owners=owners,
        times=times,
        sampled_at=np.asarray(
            [(y * h / padded[0] - 0.5, x * w / padded[1] - 0.5) for h, w in sizes], np.float32
        ),
        similarity=tuple(
            cut(similar[query], stride)
            for similar, stride in zip(run.similarity, STRIDES, strict=True)
        ),
        layer_levels=tuple(levels),
        attention=tuple(
            cut(layer.attention[:, query], STRIDES[layer.level]) for layer in run.layers
        ),
        allowed=tuple(cut(layer.allowed[query], STRIDES[layer.level]) for layer in run.layers),
        masks=np.concatenate([cut(run.logits[:, query], 4), cut(run.final[query : query + 1], 4)]),
        self_attention=np.stack([layer.self_attention[:, query].numpy() for layer in run.layers]),
        background_logits=cut(run.final[run.clicks :], 4),
        background_owner=background[: -(-net[0] // 4), : -(-net[1] // 4)].astype(np.int64),
        label_map=with_all.label_map_at(height, width),
        label_map_without=without.label_map_at(height, width),
        picture=small,
        network_size=net,
        _other=lambda other: _explain(predictor, embedding, picture, state, other),
    )


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    scale = min(1.0, _LONG_SIDE_PX / max(picture.shape[:2]))
    if scale == 1:
        return picture
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
