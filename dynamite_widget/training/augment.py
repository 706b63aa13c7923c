"""From annotated pictures to training crops: geometry, copy-paste, cut-outs, choice of objects.

`make_crop` is a pure function of (data set, configuration, seed, sample number): that is what
makes a training run resumable and independent of the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dynamite_widget.errors import DataError
from dynamite_widget.training.colour import ColourConfig, Picture, jitter, tone_table
from dynamite_widget.training.data import Annotated, InstanceDataset

PADDING = 128
_MAX_ATTEMPTS = 50


@dataclass(frozen=True)
class AugmentConfig:
    """How crops are made.

    Attributes
    ----------
    geometry : {"paper", "zoom"}
        ``"paper"``: large-scale jitter of section 6.1 and nothing else but flips. ``"zoom"``:
        whole pictures mixed with crops that bring one instance to a wanted size.
    scale_range : (float, float)
        ``"paper"``: the picture fits into ``crop * s``; ``"zoom"``: the long side of whole
        pictures becomes ``crop * s`` (log-uniform).
    zoom : float
        Probability of a crop around one instance.
    object_area : (float, float)
        Wanted area of that instance as a fraction of the crop (log-uniform).
    max_enlargement : float
        Pictures are never enlarged more than this in a zoom.
    rotate, stretch, flip, flip_vertical : float
        Probabilities; rotation is normal with 9 degrees, stretching up to 15 %.
    paste, same_picture : float
        Probability of pasting instances of another crop, and of that other crop coming from the
        same picture (neighbours of the same kind).
    cut_out : float
        Probability that everything but the instances is replaced by another background.
    keep : {"paper", "mixed"}
        Which objects are asked for: section 6.1, or a mixture of one / some / all.
    max_instances : int
        At most so many objects are asked for.
    min_area_px : int
        Instances with fewer pixels in the annotation are not used.
    min_visible_px : int
        Objects with at most so many pixels in the crop are not asked for.
    """

    geometry: Literal["paper", "zoom"] = "zoom"
    scale_range: tuple[float, float] = (1.15, 2.6)
    zoom: float = 0.5
    object_area: tuple[float, float] = (0.005, 0.6)
    max_enlargement: float = 2.0
    rotate: float = 0.3
    stretch: float = 0.3
    flip: float = 0.5
    flip_vertical: float = 0.03
    paste: float = 0.6
    same_picture: float = 0.35
    cut_out: float = 0.06
    keep: Literal["paper", "mixed"] = "mixed"
    max_instances: int = 6
    min_area_px: int = 60
    min_visible_px: int = 25
    colour: ColourConfig | None = field(default_factory=ColourConfig)


PAPER_AUGMENTATION = AugmentConfig(
    geometry="paper",
    scale_range=(0.1, 2.0),
    flip_vertical=0.0,
    paste=0.0,
    cut_out=0.0,
    keep="paper",
    max_instances=30,
    min_area_px=400,
    min_visible_px=50,
    colour=None,
)


@dataclass(frozen=True)
class Crop:
    """One training crop.

    Attributes
    ----------
    pixels : (S, S, 3) uint8
        RGB, 128 where there is no picture.
    label_map : (S, S) uint8
        0 background, 1..n the objects asked for.
    valid : (S, S) bool
        False on padding.
    """

    pixels: Picture
    label_map: NDArray[np.uint8]
    valid: NDArray[np.bool_]

    @property
    def instances(self) -> int:
        """Number of objects asked for."""
        return int(self.label_map.max(initial=0))


@dataclass
class _Layer:
    """A warped picture: pixels, instance numbers of its own, valid pixels (all of size S x S)."""

    pixels: Picture
    numbers: NDArray[np.uint16]
    valid: NDArray[np.uint8]


def sample_rng(seed: int, *path: int) -> np.random.Generator:
    """Return the generator that belongs to sample ``path`` of run ``seed``."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, *path))))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _paper_matrix(
    record: Annotated, size: int, rng: np.random.Generator, config: AugmentConfig
) -> NDArray[np.float64]:
    """Large-scale jitter and fixed crop (section 6.1): resize, random offset, pad right/bottom."""
    scale = rng.uniform(*config.scale_range) * size / max(record.height, record.width)
    height, width = record.height * scale, record.width * scale
    position = rng.random()  # one number for both axes
    offset_x = -position * max(width - size, 0.0)
    offset_y = -position * max(height - size, 0.0)
    matrix = np.array([[scale, 0.0, offset_x], [0.0, scale, offset_y], [0.0, 0.0, 1.0]])
    if rng.random() < config.flip:
        # mirror inside the picture, so that padding stays at the right
        matrix = matrix @ np.array([[-1.0, 0.0, record.width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return matrix


def _axis_offset(low: float, high: float, wanted: float, size: int) -> float:
    """Shift `wanted` so that the span [low, high] covers the crop, or starts at 0 if smaller."""
    if high - low <= size:
        return -low
    return float(np.clip(wanted, size - high, -low))


def _zoom_matrix(
    record: Annotated,
    size: int,
    rng: np.random.Generator,
    config: AugmentConfig,
    focus: int | None,
) -> NDArray[np.float64]:
    """Whole picture, or a crop around instance `focus`; with flips, rotation and stretching."""
    long_side = max(record.height, record.width)
    if focus is None:
        scale = _log_uniform(rng, *config.scale_range) * size / long_side
        if rng.random() < 0.7:
            scale = max(scale, 0.85 * size / min(record.height, record.width))
        centre = np.array([rng.uniform(0, record.width), rng.uniform(0, record.height)])
    else:
        wanted = _log_uniform(rng, *config.object_area) * size * size
        scale = float(np.sqrt(wanted / record.areas[focus]))
        # at least most of the crop is picture
        smallest = 0.85 * size / min(record.height, record.width)
        scale = float(np.clip(scale, smallest, max(config.max_enlargement, smallest)))
        x, y, width, height = record.boxes[focus]
        centre = np.array([x + width / 2, y + height / 2])
    angle = float(np.deg2rad(rng.normal(0.0, 9.0))) if rng.random() < config.rotate else 0.0
    stretch = float(np.exp(rng.uniform(-0.15, 0.15))) if rng.random() < config.stretch else 1.0
    linear = scale * np.array(
        [
            [np.cos(angle) * stretch, -np.sin(angle)],
            [np.sin(angle) * stretch, np.cos(angle)],
        ]
    )
    if rng.random() < config.flip:
        linear = linear @ np.diag([-1.0, 1.0])
    if rng.random() < config.flip_vertical:
        linear = linear @ np.diag([1.0, -1.0])
    # the focus lands anywhere in the middle two thirds of the crop
    shift = rng.uniform(0.17, 0.83, 2) * size - linear @ centre
    corners = np.array([[0, 0], [record.width, 0], [0, record.height], [record.width] * 2], float)
    corners[3, 1] = record.height
    spread = corners @ linear.T
    low, high = spread.min(axis=0), spread.max(axis=0)
    shift = [_axis_offset(low[i], high[i], shift[i], size) for i in range(2)]
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = shift
    return matrix


def _warp(
    dataset: InstanceDataset,
    index: int,
    matrix: NDArray[np.float64],
    size: int,
    shared: dict[tuple[int, int], Picture],
) -> _Layer:
    """Warp picture and label map by `matrix` (annotated pixels to crop pixels, corners at 0)."""
    record = dataset.pictures[index]
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    # JPEG decodes at 1/2, 1/4 or 1/8 for less than the full price, and averages while doing so
    reduce = next((r for r in (8, 4, 2) if scale * r <= 1.0), 1)
    if (index, reduce) not in shared:
        shared[index, reduce] = dataset.picture(index, reduce)
    pixels = shared[index, reduce]
    half = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    # pixel centres lie at half integers of the continuous coordinates
    from_full = np.linalg.inv(half) @ matrix @ half
    ratio = np.diag([record.width / pixels.shape[1], record.height / pixels.shape[0], 1.0])
    from_reduced = np.linalg.inv(half) @ matrix @ ratio @ half
    warped = cv2.warpAffine(
        pixels,
        from_reduced[:2],
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    label_map = dataset.label_map(index)
    numbers = cv2.warpAffine(label_map, from_full[:2], (size, size), flags=cv2.INTER_NEAREST)
    box = cv2.transform(
        np.array(
            [[[0, 0], [record.width, 0], [record.width, record.height], [0, record.height]]]
        ).astype(np.float64),
        matrix[:2],
    )
    valid = np.zeros((size, size), np.uint8)
    # 4 fractional bits; the shift by half a pixel turns corners into pixel centres
    cv2.fillConvexPoly(valid, np.round((box[0] - 0.5) * 16).astype(np.int32), 1, shift=4)
    warped[valid == 0] = PADDING
    numbers[valid == 0] = 0
    return _Layer(warped, numbers.astype(np.uint16), valid)


def _layer(
    dataset: InstanceDataset,
    index: int,
    size: int,
    rng: np.random.Generator,
    config: AugmentConfig,
    shared: dict[tuple[int, int], Picture],
    focus_probability: float,
) -> _Layer:
    record = dataset.pictures[index]
    if config.geometry == "paper":
        return _warp(dataset, index, _paper_matrix(record, size, rng, config), size, shared)
    usable = [i for i, area in enumerate(record.areas) if area >= config.min_area_px]
    focus = None
    if usable and rng.random() < focus_probability:
        focus = usable[int(rng.integers(len(usable)))]
    matrix = _zoom_matrix(record, size, rng, config, focus)
    return _warp(dataset, index, matrix, size, shared)


def _paste(base: _Layer, donor: _Layer, rng: np.random.Generator, config: AugmentConfig) -> _Layer:
    """Paste one or some instances of `donor` onto `base`, with soft edges and own tones."""
    counts = np.bincount(donor.numbers.ravel())
    present = [n for n in range(1, len(counts)) if counts[n] > config.min_visible_px]
    if not present:
        return base
    wanted = 1 if rng.random() < 0.6 else int(rng.integers(1, min(len(present), 4) + 1))
    chosen = rng.choice(present, size=wanted, replace=False)
    selected = np.isin(donor.numbers, chosen)
    mask = selected.astype(np.uint8)
    x, y, width, height = cv2.boundingRect(mask)
    left, top = max(x - 2, 0), max(y - 2, 0)
    window = np.s_[top : y + height + 2, left : x + width + 2]
    sigma = float(rng.uniform(0.5, 1.1))
    alpha = cv2.GaussianBlur(mask[window] * np.float32(1.0), (0, 0), sigma)[..., None]
    pasted = donor.pixels[window]
    if config.colour is not None and rng.random() < 0.5:
        pasted = np.asarray(cv2.LUT(pasted, tone_table(rng, 0.5 * config.colour.strength)))
    blended = pasted * alpha + base.pixels[window] * (1.0 - alpha)
    base.pixels[window] = (blended + 0.5).astype(np.uint8)
    offset = int(base.numbers.max()) + 1
    base.numbers[selected] = donor.numbers[selected] + offset
    base.valid[selected] = 1
    return base


def _background(
    dataset: InstanceDataset, size: int, rng: np.random.Generator, config: AugmentConfig
) -> Picture:
    """Return a background for cut-outs: another picture, one colour, or a gradient."""
    kind = rng.random()
    if kind < 0.7:
        shared: dict[tuple[int, int], Picture] = {}
        other = _layer(dataset, dataset.pick(rng), size, rng, config, shared, 0.5)
        return other.pixels
    first, second = rng.integers(0, 256, (2, 3)).astype(np.float32)
    if kind < 0.85:
        return np.broadcast_to(first.astype(np.uint8), (size, size, 3)).copy()
    ramp = np.linspace(0.0, 1.0, size, dtype=np.float32)[:, None, None]
    picture = np.broadcast_to(first + (second - first) * ramp, (size, size, 3))
    return np.ascontiguousarray(picture if rng.random() < 0.5 else picture.swapaxes(0, 1)).astype(
        np.uint8
    )


def _cut_out(layer: _Layer, background: Picture) -> _Layer:
    """Replace everything but the instances."""
    alpha = cv2.GaussianBlur((layer.numbers > 0).astype(np.float32), (0, 0), 0.8)[..., None]
    layer.pixels = (layer.pixels * alpha + background * (1.0 - alpha) + 0.5).astype(np.uint8)
    layer.valid[:] = 1
    return layer


def _choose(
    present: NDArray[np.int64], rng: np.random.Generator, config: AugmentConfig
) -> NDArray[np.int64]:
    """Choose which of the `present` instance numbers are asked for."""
    count = len(present)
    if config.keep == "paper":
        wanted = max(1, min(int(0.7 * count), config.max_instances))
    else:
        kind = rng.random()
        if kind < 0.2:
            wanted = 1
        elif kind < 0.55:
            wanted = int(rng.integers(1, count + 1))
        else:
            wanted = count
        wanted = min(wanted, config.max_instances)
    return rng.permutation(present)[:wanted]


def _attempt(
    dataset: InstanceDataset, size: int, rng: np.random.Generator, config: AugmentConfig
) -> Crop | None:
    index = dataset.pick(rng)
    shared: dict[tuple[int, int], Picture] = {}
    layer = _layer(dataset, index, size, rng, config, shared, config.zoom)
    if rng.random() < config.cut_out and layer.numbers.any():
        layer = _cut_out(layer, _background(dataset, size, rng, config))
    if rng.random() < config.paste:
        other = index if rng.random() < config.same_picture else dataset.pick(rng)
        if other != index and rng.random() < 0.25:
            siblings = dataset.by_source[dataset.pictures[index].source]
            other = siblings[int(rng.integers(len(siblings)))]
        layer = _paste(layer, _layer(dataset, other, size, rng, config, shared, 0.85), rng, config)
    counts = np.bincount(layer.numbers.ravel())
    present = np.flatnonzero(counts > config.min_visible_px)
    present = present[present > 0]
    if not len(present):
        return None
    chosen = _choose(present, rng, config)
    # the smallest last: order of the ids carries no meaning, but keep it stable
    chosen = chosen[np.argsort(-counts[chosen], kind="stable")]
    table = np.zeros(len(counts), np.uint8)
    table[chosen] = np.arange(1, len(chosen) + 1)
    pixels = layer.pixels
    if config.colour is not None:
        pixels = jitter(pixels, rng, config.colour)
        pixels[layer.valid == 0] = PADDING
    return Crop(np.ascontiguousarray(pixels), table[layer.numbers], layer.valid > 0)


def make_crop(
    dataset: InstanceDataset, config: AugmentConfig, size: int, seed: int, number: int
) -> tuple[Crop, np.random.Generator]:
    """Return sample `number` of run `seed`, and its generator (for the clicks).

    Pictures that cannot be read are replaced by the next attempt of the same sample.

    Raises
    ------
    DataError
        If 50 attempts in a row gave no picture with an object.
    """
    last: Exception | None = None
    for attempt in range(_MAX_ATTEMPTS):
        rng = sample_rng(seed, number, attempt)
        try:
            crop = _attempt(dataset, size, rng, config)
        except (DataError, cv2.error) as error:
            last = error
            continue
        if crop is not None:
            return crop, rng
    raise DataError(
        f"no usable crop in {_MAX_ATTEMPTS} attempts for sample {number}; last problem: {last}"
    )
