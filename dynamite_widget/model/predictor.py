"""`Predictor`: a picture is embedded once, clicks become masks as often as they change.

Around `DynaMITe`: the resize rule, click coordinates, states that the network cannot take (no
click of any instance), devices and precision. Widget, scripts and evaluation all come through here.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ..images import MAX_MEGAPIXELS, load_image, picture_hash
from ..segmentation import Segmentation
from .clicks import check_clicks, click_tensors
from .components import keep_clicked_regions
from .config import ModelConfig
from .graphs import CudaRecorder, GraphedClicks, can_record
from .parallel import one_core
from .precision import fast_dtype
from .render import LogitsRenderer, MaskLogits
from .resize import network_size_for, padded_size, preprocess
from .structures import ClickTensors, ImageFeatures, Prediction, PreparedFeatures, fuse
from .transfers import upload

_THUMBNAIL_LONG_SIDE = 384


@dataclass(frozen=True)
class ImageEmbedding:
    """All that the network knows of a picture before any click; made by `Predictor.embed`.

    Parameters
    ----------
    height, width : int
        Size of the original picture in pixels.
    network_size : tuple of int
        (h', w') that it was resized to.
    padded_size : tuple of int
        (Hp, Wp), multiples of 32.
    picture_hash : str
        SHA-256 of the picture.
    key : str
        Hash of all that the embedding is a function of: picture, weights, device type, precision.
    prepared : PreparedFeatures
        Click-independent products of the network.
    config : ModelConfig
        Of the network that made it.
    thumbnail : (h, w, 3) uint8 array
        Small copy of the picture, for previews.
    """

    height: int
    width: int
    network_size: tuple[int, int]
    padded_size: tuple[int, int]
    picture_hash: str
    key: str
    prepared: PreparedFeatures = field(repr=False)
    config: ModelConfig = field(repr=False)
    thumbnail: NDArray[np.uint8] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held, most of it on the network's device."""
        return self.prepared.nbytes + self.thumbnail.nbytes


class Predictor:
    """Segments pictures by clicks.

    May be used from several threads at once. The network is switched to evaluation mode.

    Parameters
    ----------
    model : DynaMITe
        From `load_model`. Its device and parameter type are used as they are; on CUDA devices with
        float32 weights, matrix products run in half precision (except in the pixel decoder and
        where attention masks are made, which always compute in float32).
    half : bool or None
        Half precision of embeddings (and, on CUDA, of clicks). None: where the weights are float32
        and the device is fast at it, CUDA or a CPU with instructions for bfloat16; there the large
        products of the published networks run in bfloat16. Sums over layers, norms and sampling
        positions stay float32 (benchmarks/README.md says how far labels move).
    exact : bool
        On CPUs, compute everything in the precision of the weights, and logits at every pixel. By
        default a click's large products run in bfloat16 on processors with instructions for it, and
        the published networks' decoder runs where a label may change; elsewhere its logits are
        interpolated. Labels then differ in a few of 10,000 pixels (benchmarks/README.md).
        Evaluation is exact.
    graphs : bool
        On CUDA devices, decode clicks by recorded CUDA graphs (`graphs.py`): one order to the
        device per click. Each size of the network image and of the (padded) number of clicks takes
        a moment the first time. Opt-in, as it has been tested with recorded operations on a CPU
        only; a graph that does not repeat the ordinary result is given up, with a warning in the
        log. Without effect on networks with a refinement head (``lite``) and on calls with
        `on_preview`.

    Raises
    ------
    ValueError
        If half precision or graphs are asked for on a device that they are not for.

    Examples
    --------
    >>> embedding = predictor.embed("picture.jpg")  # doctest: +SKIP
    >>> predictor.predict(embedding, [Click(120, 80, instance=1)]).label_map  # doctest: +SKIP
    """

    def __init__(
        self, model: Any, half: bool | None = None, exact: bool = False, graphs: bool = False
    ) -> None:
        self.model = model.eval() if model.training else model
        parameter = next(iter(model.parameters()), torch.zeros(0))
        self._device, self._dtype = parameter.device, parameter.dtype
        on_cuda = self._device.type == "cuda"
        if half and self._device.type not in ("cuda", "cpu"):
            raise ValueError(
                f"half precision is for CUDA devices and CPUs; the model is on {self._device}"
            )
        self._half = on_cuda and (self._dtype == torch.float32 if half is None else half)
        self._may_lower = half is not False and self._device.type == "cpu"
        self.exact = exact
        self._graphs: GraphedClicks | None = None
        if graphs:
            if not on_cuda:
                raise ValueError(f"graphs are for CUDA devices; the model is on {self._device}")
            if can_record(self.config):
                self._graphs = GraphedClicks(self.model, CudaRecorder(self._device))

    def __repr__(self) -> str:
        return f"Predictor({self.config.name}, device={self._device}, dtype={self._dtype})"

    @property
    def config(self) -> ModelConfig:
        """Configuration of the network."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self._device

    @property
    def checkpoint_hash(self) -> str:
        """Hash of the weights (hex): the checkpoint's where the model says, else computed."""
        stated = getattr(self.model, "checkpoint_hash", None)
        if isinstance(stated, str) and stated:
            return stated
        from .checkpoints import model_hash

        return model_hash(self.model)

    def embed(self, image: Any, max_megapixels: float | None = MAX_MEGAPIXELS) -> ImageEmbedding:
        """Compute everything about a picture that no click changes.

        Parameters
        ----------
        image : path, bytes, PIL image, array or tensor
            See `dynamite_widget.images.load_image`.
        max_megapixels : float or None
            Larger pictures are refused; None: no limit.

        Returns
        -------
        ImageEmbedding

        Raises
        ------
        ImageError
            If it is not a usable picture.
        """
        return self._embed([load_image(image, max_megapixels)])[0]

    def embed_many(
        self,
        images: Iterable[Any],
        max_megapixels: float | None = MAX_MEGAPIXELS,
        batch_size: int | None = None,
    ) -> list[ImageEmbedding]:
        """Embed several pictures, those of equal network size together.

        Parameters
        ----------
        images : iterable
            Of what `embed` takes; all are held in memory.
        max_megapixels : float or None
            As for `embed`.
        batch_size : int, optional
            Most pictures at a time. By default 1 on CPUs, where more take longer (their working set
            leaves the caches), and 4 elsewhere.

        Returns
        -------
        list of ImageEmbedding
            In the order given; equal to those of `embed` within rounding.

        Raises
        ------
        ImageError
            If one of them is not a usable picture.
        """
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        most = batch_size or self.batch_size
        pictures = [load_image(image, max_megapixels) for image in images]
        groups: dict[tuple[int, int], list[int]] = {}
        for n, picture in enumerate(pictures):
            size = padded_size(*network_size_for(self.config, *picture.shape[:2]))
            groups.setdefault(size, []).append(n)
        found: dict[int, ImageEmbedding] = {}
        for group in groups.values():
            for start in range(0, len(group), most):
                batch = group[start : start + most]
                made = self._embed([pictures[n] for n in batch])
                found.update(zip(batch, made, strict=True))
        return [found[n] for n in range(len(pictures))]

    @property
    def batch_size(self) -> int:
        """Pictures that `embed_many` embeds at a time unless told."""
        return 1 if self._device.type == "cpu" else 4

    def _embed(self, pictures: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        """Embed RGB pictures of one padded network size."""
        inputs = [preprocess(picture, self.config) for picture in pictures]
        with torch.inference_mode(), self._precision():
            pixels = torch.from_numpy(np.stack([pixels for pixels, _ in inputs]))
            features = self._encode(upload(pixels, self._device).to(self._dtype))
            each = [features] if len(inputs) == 1 else map(features.pick, range(len(inputs)))
            prepared = [self.model.prepare(one) for one in each]
        checkpoint = self.checkpoint_hash
        embeddings = []
        for picture, (padded, size), part in zip(pictures, inputs, prepared, strict=True):
            hashed = picture_hash(picture)
            key = "|".join((hashed, checkpoint, self._device.type, self.precision))
            embeddings.append(
                ImageEmbedding(
                    picture.shape[0],
                    picture.shape[1],
                    size,
                    (padded.shape[1], padded.shape[2]),
                    hashed,
                    hashlib.sha256(key.encode()).hexdigest(),
                    part,
                    self.config,
                    _thumbnail(picture),
                )
            )
        return embeddings

    def predict(
        self,
        embedding: ImageEmbedding,
        clicks: Sequence[Any],
        instances: Iterable[int] | None = None,
        on_preview: Callable[[Segmentation], object] | None = None,
    ) -> Segmentation:
        """Segment all instances of a picture from all of its clicks.

        Parameters
        ----------
        embedding : ImageEmbedding
            From `embed`.
        clicks : sequence of Click
            In the order of arrival: a click without t gets the next one after the largest given.
            With no click, or background clicks only, everything is background.
        instances : iterable of int, optional
            Instances that exist; those without a click own no pixel. By default those with clicks.
        on_preview : callable, optional
            Called in this thread, before the decoder runs, with a coarse `Segmentation` from the
            masks of the encoder. What is returned does not depend on it; what it raises is raised.
            Not called when there is nothing to compute.

        Returns
        -------
        Segmentation
            Rendered when asked for.

        Raises
        ------
        SessionError
            If a click lies outside the picture, is not made of whole numbers, belongs to an unknown
            instance, repeats a time index, or lies on the pixel of another click.
        ValueError
            If the embedding was made by another kind of network or on another device.
        """
        self._check_embedding(embedding)
        points, ids = check_clicks(clicks, embedding.height, embedding.width, instances)
        if not (points[:, 2] > 0).any():
            return Segmentation.empty(embedding.height, embedding.width, ids, embedding.thumbnail)
        tensors = click_tensors(points, embedding)
        options: dict[str, Any] = {}
        if on_preview is not None:

            def pass_on(prediction: Prediction) -> None:
                masks = _enlarged(prediction, embedding.network_size)
                on_preview(self._segmentation(masks, embedding, ids, tensors))

            options["on_preview"] = pass_on
        with torch.inference_mode(), self._precision(), self._cores():
            if self._graphs is not None and not options:
                decoded = self._graphs.decode(embedding.prepared, tensors)
            else:
                decoded = self.model.decode_clicks(
                    embedding.prepared, [tensors], exact=self.exact, **options
                )
            masks = _mask_logits(decoded.final, embedding.network_size)
            return self._segmentation(masks, embedding, ids, tensors)

    def _segmentation(
        self,
        masks: MaskLogits,
        embedding: ImageEmbedding,
        ids: tuple[int, ...],
        clicks: ClickTensors,
    ) -> Segmentation:
        if self.config.connected_instances:
            logits = keep_clicked_regions(masks.logits, masks.channel_instance, clicks)
            masks = replace(masks, logits=logits)
        renderer = LogitsRenderer(masks)
        return Segmentation(
            embedding.height, embedding.width, ids, renderer, thumbnail=embedding.thumbnail
        )

    @property
    def precision(self) -> str:
        """What embeddings are computed in; those of another precision differ in rounding."""
        if self._half:
            return "float16"
        lowered = torch.bfloat16 if self._lowers else self._dtype
        return str(lowered).removeprefix("torch.")

    @property
    def _lowers(self) -> bool:
        """Whether products of an embedding run in bfloat16; small networks gain nothing."""
        return (
            self._may_lower
            and not self.exact
            and self.config.pixel_decoder == "deformable"
            and self._dtype == torch.float32
            and fast_dtype(self._dtype) == torch.bfloat16
        )

    def _encode(self, pixels: torch.Tensor) -> ImageFeatures:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._lowers):
            return self.model.encode_image(pixels)

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self._lowers:
            # A click may be answered in the middle of an embedding (`cancelling.py`).
            return torch.autocast("cpu", enabled=False)
        if not self._half:
            return contextlib.nullcontext()
        # float16, not bfloat16: activations are small after the norms, its 10-bit mantissa keeps
        # boundaries in place, and the published networks were trained with it.
        return torch.autocast("cuda", dtype=torch.float16)

    def _cores(self) -> contextlib.AbstractContextManager[None]:
        """Whole clicks on one core but for their larger pieces; exact ones have fewer pieces."""
        if self.exact or self._device.type != "cpu":
            return contextlib.nullcontext()
        return one_core()

    def _check_embedding(self, embedding: ImageEmbedding) -> None:
        if not isinstance(embedding, ImageEmbedding):
            raise TypeError(
                "predict needs an ImageEmbedding, which embed returns; got "
                f"{type(embedding).__name__}"
            )
        if embedding.config != self.config:
            raise ValueError(
                f"the embedding was made by {embedding.config.name!r}, this is "
                f"{self.config.name!r} (or a variant of it); embed the picture again"
            )


def _mask_logits(prediction: Prediction, network_size: tuple[int, int]) -> MaskLogits:
    owners = tuple(int(i) for i in prediction.channel_instance[0].tolist())
    return MaskLogits(prediction.logits[0], owners, network_size)


def _enlarged(prediction: Prediction, network_size: tuple[int, int]) -> MaskLogits:
    """Bring logits at stride 8 to stride 4; before, channels of an instance are fused."""
    fused, instances = fuse(prediction)
    logits = F.interpolate(
        fused[None].float(), scale_factor=2, mode="bilinear", align_corners=False
    )
    return MaskLogits(logits[0], (*instances, 0), network_size)


def _thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    height, width = picture.shape[:2]
    scale = min(1.0, _THUMBNAIL_LONG_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced = Image.fromarray(picture).resize(
        size, Image.Resampling.BILINEAR, reducing_gap=2.0 if scale < 1 else None
    )
    return np.array(reduced)
