"""Classical methods driven by the same clicks: what a user without a trained network would have.

All are pure functions of picture and clicks, like the network; GrabCut, which refines its previous
mask, gets there by remembering the masks of shorter click lists of the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..session import Click
from .multi import MultiInstanceAdapter
from .predictors import EvaluationPredictor

BASELINES = ("grabcut", "watershed", "random-walker", "disc")
"""Names for the command line. "disc" paints a disc around every click: a lower bound."""
SAM_PREFIX = "sam:"


def make_baseline(
    name: str, *, multi_instance: bool = False, device: str = "auto"
) -> EvaluationPredictor:
    """Return a baseline by name.

    Parameters
    ----------
    name : str
        One of `BASELINES`, or ``sam:MODEL`` with a name on the hub or a folder (extra ``sam``).
    multi_instance : bool
        Wrap GrabCut and SAM, which know one object only, by `multi.MultiInstanceAdapter`; the
        others handle several objects themselves.
    device : str
        Of SAM.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    check_baseline(name)
    if name.startswith(SAM_PREFIX):
        from .sam import SamPredictor

        sam = SamPredictor.from_pretrained(name.removeprefix(SAM_PREFIX), device)
        return MultiInstanceAdapter(sam) if multi_instance else sam
    if name == "grabcut":
        return MultiInstanceAdapter(GrabCut()) if multi_instance else GrabCut()
    if name == "watershed":
        return Watershed()
    if name == "random-walker":
        return RandomWalker()
    return Discs()


def check_baseline(name: str) -> str:
    """Return `name` if there is such a baseline; ValueError naming them otherwise."""
    if name in BASELINES or (name.startswith(SAM_PREFIX) and len(name) > len(SAM_PREFIX)):
        return name
    raise ValueError(f"unknown baseline {name!r}; known: {', '.join(BASELINES)}, sam:MODEL")


@dataclass
class _Picture:
    """A picture at working size, and what was computed for it."""

    pixels: NDArray[np.uint8]
    height: int
    width: int
    scale: float
    memory: dict[Any, Any] = field(default_factory=dict)


def _working_copy(image: NDArray[np.uint8], long_side_px: int | None) -> _Picture:
    height, width = image.shape[:2]
    scale = 1.0 if long_side_px is None else min(1.0, long_side_px / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return _Picture(np.ascontiguousarray(image), height, width, scale)


def _seeds(
    picture: _Picture, clicks: Sequence[Click], radius_px: float, background: int
) -> NDArray[np.int32]:
    """Return seeds at working size: instance + 1 in discs around clicks, `background` for 0.

    0 = no seed. Later clicks paint over earlier ones.
    """
    height, width = picture.pixels.shape[:2]
    seeds = np.zeros((height, width), np.int32)
    radius = max(1, round(radius_px * picture.scale))
    for click in clicks:
        centre = (
            min(int((click.x + 0.5) * picture.scale), width - 1),
            min(int((click.y + 0.5) * picture.scale), height - 1),
        )
        value = background if click.instance == 0 else click.instance + 1
        cv2.circle(seeds, centre, radius, value, thickness=-1)
    return seeds


def _frame(shape: tuple[int, ...], width_px: int) -> NDArray[np.bool_]:
    """Return the frame of a picture, which leaves at least one pixel inside."""
    height, width = shape
    thickness = max(min(width_px, (min(height, width) - 1) // 2), 0)
    frame = np.ones((height, width), bool)
    frame[thickness : height - thickness, thickness : width - thickness] = False
    return frame


def _full_size(picture: _Picture, labels: NDArray[np.integer]) -> NDArray[np.int32]:
    out = labels.astype(np.int32)
    if out.shape != (picture.height, picture.width):
        size = (picture.width, picture.height)
        out = np.asarray(cv2.resize(out, size, interpolation=cv2.INTER_NEAREST), np.int32)
    return out


class GrabCut:
    """OpenCV GrabCut: discs around clicks are sure, everything else is up to the colour model.

    Parameters
    ----------
    radius_px : float
        Radius of the sure discs.
    start_fraction : float
        Before the first run, pixels within this fraction of the shorter side around a foreground
        click are probable foreground, all others probable background.
    iterations : int
        Per click, starting from the previous mask.
    border_px : int
        A frame of this width is sure background, where no click says otherwise.
    long_side_px : int, optional
        Work on a reduced copy; None works at full size. On 40 training objects of up to 640 px the
        IoU after 1 / 3 / 5 clicks was 0.46 / 0.50 / 0.54 at 320 px and 0.46 / 0.50 / 0.52 at full
        size, at a fifth of the time. Start fractions 0.15 and 0.4 were no better than 0.25 there.
    """

    def __init__(
        self,
        radius_px: float = 5.0,
        start_fraction: float = 0.25,
        iterations: int = 5,
        border_px: int = 0,
        long_side_px: int | None = 320,
    ) -> None:
        self.radius_px = radius_px
        self.start_fraction = start_fraction
        self.iterations = iterations
        self.border_px = border_px
        self.long_side_px = long_side_px

    def embed(self, image: NDArray[np.uint8]) -> _Picture:
        """Return the picture at working size."""
        return _working_copy(image, self.long_side_px)

    def predict(
        self, embedding: _Picture, clicks: Sequence[Click], instances: Sequence[int]
    ) -> NDArray[np.int32]:
        """Return the label map of one instance; clicks of others count as background."""
        if len(instances) != 1:
            raise ValueError(
                f"GrabCut segments one instance, got {len(instances)}; use MultiInstanceAdapter"
            )
        (instance,) = instances
        labels = self._labels(embedding, tuple(clicks), instance)
        inside = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
        return _full_size(embedding, inside.astype(np.int32) * instance)

    def _labels(
        self, picture: _Picture, clicks: tuple[Click, ...], instance: int
    ) -> NDArray[np.uint8]:
        key = (instance, clicks)
        if key in picture.memory:
            known: NDArray[np.uint8] = picture.memory[key]
            return known
        positive = [click for click in clicks if click.instance == instance]
        if not positive:
            return np.full(picture.pixels.shape[:2], cv2.GC_PR_BGD, np.uint8)
        if len(positive) > 1 or clicks[-1].instance != instance:
            labels = self._labels(picture, clicks[:-1], instance).copy()
        else:
            labels = np.full(picture.pixels.shape[:2], cv2.GC_PR_BGD, np.uint8)
        if len(positive) == 1 and clicks[-1].instance == instance:
            self._draw(labels, picture, positive, cv2.GC_PR_FGD, self._start_radius(picture))
        labels[_frame(labels.shape, self.border_px)] = cv2.GC_BGD
        for click in clicks:
            value = cv2.GC_FGD if click.instance == instance else cv2.GC_BGD
            self._draw(labels, picture, [click], value, self.radius_px)
        labels = self._refine(picture.pixels, labels)
        picture.memory[key] = labels
        return labels

    def _start_radius(self, picture: _Picture) -> float:
        return self.start_fraction * min(picture.height, picture.width)

    @staticmethod
    def _draw(
        labels: NDArray[np.uint8],
        picture: _Picture,
        clicks: Sequence[Click],
        value: int,
        radius_px: float,
    ) -> None:
        seeds = _seeds(picture, clicks, radius_px, background=1)
        labels[seeds > 0] = value

    def _refine(self, pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        foreground = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
        if foreground.all() or not foreground.any():
            return labels  # one of the colour models has no sample: OpenCV would refuse
        cv2.setRNGSeed(0)  # its k-means draws from a global generator
        background_model = np.zeros((1, 65), np.float64)
        foreground_model = np.zeros((1, 65), np.float64)
        cv2.grabCut(
            pixels[..., ::-1].copy(),
            labels,
            (0, 0, 1, 1),  # unused: the mask says it all
            background_model,
            foreground_model,
            self.iterations,
            cv2.GC_INIT_WITH_MASK,
        )
        return labels


class _SeededMethod:
    """What watershed and random walker share: seeds of all instances, the border as background."""

    def __init__(
        self,
        radius_px: float = 5.0,
        border_px: int = 2,
        long_side_px: int | None = None,
    ) -> None:
        self.radius_px = radius_px
        self.border_px = border_px
        self.long_side_px = long_side_px

    def embed(self, image: NDArray[np.uint8]) -> _Picture:
        """Return the picture at working size."""
        return _working_copy(image, self.long_side_px)

    def _all_seeds(self, picture: _Picture, clicks: Sequence[Click]) -> NDArray[np.int32]:
        """Return seeds: 1 background, instance + 1 otherwise, 0 to be decided."""
        seeds = _seeds(picture, clicks, self.radius_px, background=1)
        seeds[_frame(seeds.shape, self.border_px) & (seeds == 0)] = 1
        return seeds


class Watershed(_SeededMethod):
    """Watershed of the gradient magnitude, flooded from discs around the clicks.

    Parameters
    ----------
    radius_px : float
        Radius of the seeds.
    border_px : int
        A frame of this width is a background seed, where no click says otherwise. (Without it,
        or only until the first background click, results on training pictures were worse.)
    long_side_px : int, optional
        Work on a reduced copy; None works at full size.
    """

    def predict(
        self, embedding: _Picture, clicks: Sequence[Click], instances: Sequence[int]
    ) -> NDArray[np.int32]:
        """Return the label map of all instances."""
        seeds = self._all_seeds(embedding, clicks)
        markers = seeds.copy()
        # OpenCV's watershed orders pixels by colour differences of neighbours; a slight blur keeps
        # single noisy pixels from becoming barriers.
        smooth = cv2.GaussianBlur(embedding.pixels, (0, 0), 1.0)
        cv2.watershed(smooth, markers)
        markers[seeds > 0] = seeds[seeds > 0]  # OpenCV draws a line around the whole picture
        _close_lines(markers)
        return _full_size(embedding, np.maximum(markers - 1, 0))


def _close_lines(markers: NDArray[np.int32]) -> None:
    """Give the one-pixel lines between basins (-1) to a neighbouring basin, in place."""
    lines = (markers <= 0).astype(np.uint8)
    if lines.all() or not lines.any():
        return
    _, nearest = cv2.distanceTransformWithLabels(
        lines, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(int(nearest.max()) + 1, np.int32)
    values[nearest[lines == 0]] = markers[lines == 0]
    markers[lines == 1] = values[nearest[lines == 1]]


class RandomWalker(_SeededMethod):
    """Random walker (Grady 2006) from discs around the clicks; needs scikit-image.

    Parameters
    ----------
    beta : float
        How strongly colour differences stop the walker.
    radius_px, border_px, long_side_px
        See `Watershed`. The default size keeps the linear systems at about a second.
    """

    def __init__(
        self,
        beta: float = 130.0,
        radius_px: float = 5.0,
        border_px: int = 2,
        long_side_px: int | None = 320,
    ) -> None:
        super().__init__(radius_px, border_px, long_side_px)
        self.beta = beta

    def predict(
        self, embedding: _Picture, clicks: Sequence[Click], instances: Sequence[int]
    ) -> NDArray[np.int32]:
        """Return the label map of all instances.

        Raises
        ------
        ModuleNotFoundError
            If scikit-image is not installed.
        """
        try:
            from skimage.segmentation import random_walker
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "the random-walker baseline needs scikit-image: pip install scikit-image"
            ) from error
        seeds = self._all_seeds(embedding, clicks)
        values = np.unique(seeds[seeds > 0])
        if len(values) < 2 or (seeds > 0).all():
            labels = np.where(seeds > 0, seeds, values[0] if len(values) else 1)
        else:
            compact = np.searchsorted(values, seeds) + 1
            compact[seeds == 0] = 0
            data = cv2.cvtColor(embedding.pixels, cv2.COLOR_RGB2LAB).astype(np.float64) / 255
            walked = random_walker(
                data, compact, beta=self.beta, mode="cg_j", tol=1e-4, prob_tol=0.1, channel_axis=-1
            )
            labels = values[np.clip(walked, 1, len(values)) - 1]
        return _full_size(embedding, np.maximum(labels - 1, 0))


class Discs:
    """Every pixel belongs to the nearest click within a radius: what clicking alone is worth."""

    def __init__(self, radius_fraction: float = 0.15) -> None:
        self.radius_fraction = radius_fraction

    def embed(self, image: NDArray[np.uint8]) -> _Picture:
        """Return the picture."""
        return _working_copy(image, None)

    def predict(
        self, embedding: _Picture, clicks: Sequence[Click], instances: Sequence[int]
    ) -> NDArray[np.int32]:
        """Return the label map of all instances."""
        height, width = embedding.height, embedding.width
        y, x = np.ogrid[0:height, 0:width]
        nearest = np.full((height, width), (self.radius_fraction * min(height, width)) ** 2)
        labels = np.zeros((height, width), np.int32)
        for click in clicks:
            distance = (y - click.y) ** 2 + (x - click.x) ** 2
            nearer = distance < nearest
            nearest[nearer] = distance[nearer]
            labels[nearer] = click.instance
        return labels
