"""What flows between the parts of the network: features, prepared features, clicks, predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from .transfers import upload


@dataclass(frozen=True)
class ImageFeatures:
    """Output of backbone and pixel decoder for a batch of B pictures.

    Attributes
    ----------
    multi_scale : tuple of 3 Tensors
        (B, d, h, w) at strides 32, 16, 8, in this order.
    mask_features : Tensor
        (B, d, Hp / 4, Wp / 4).
    detail : Tensor or None
        The backbone's stride-4 map, kept where the refinement head needs it.
    padded_size : tuple of int
        (Hp, Wp), multiples of 32.
    """

    multi_scale: tuple[Tensor, ...]
    mask_features: Tensor
    detail: Tensor | None
    padded_size: tuple[int, int]

    def pick(self, index: int) -> ImageFeatures:
        """Return one picture of the batch, as a batch of 1 in memory of its own."""

        def copy(x: Tensor) -> Tensor:
            return x[index : index + 1].clone(memory_format=torch.contiguous_format)

        return ImageFeatures(
            tuple(copy(level) for level in self.multi_scale),
            copy(self.mask_features),
            None if self.detail is None else copy(self.detail),
            self.padded_size,
        )


@dataclass(frozen=True)
class PreparedFeatures:
    """Every product of the picture that no click changes.

    Attributes
    ----------
    features : ImageFeatures
        What everything here was computed from (click descriptors are sampled from it).
    keys, values : tuple of Tensors
        Per encoder layer (B, heads, tokens, d / heads).
    level_mask_features : tuple of 3 Tensors
        Mask features resized to each attention level, (B, d, tokens): the mask head is linear in
        them and bilinear resizing is linear, so an attention mask is one small matrix product.
    decoder_tokens : Tensor or None
        (B, tokens, d) pixels that the decoder starts from; None without a decoder.
    refine_context : Tensor or None
        (B, c, Hp / 4, Wp / 4): the picture's part of the refinement head's first convolution.
    """

    features: ImageFeatures
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    level_mask_features: tuple[Tensor, ...]
    decoder_tokens: Tensor | None
    refine_context: Tensor | None

    @property
    def padded_size(self) -> tuple[int, int]:
        """(Hp, Wp) of the network image."""
        return self.features.padded_size

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors held, those of `features` included."""
        storages = (tensor.untyped_storage() for tensor in self.tensors())
        return sum({storage._cdata: storage.nbytes() for storage in storages}.values())

    def tensors(self) -> list[Tensor]:
        """Return all tensors held, those of `features` included, always in the same order."""
        found: list[Tensor] = []

        def note(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        self.map(note)
        return found

    def map(self, change: Callable[[Tensor], Tensor]) -> PreparedFeatures:
        """Return a copy with `change` applied to every tensor, those of `features` included."""

        def over(value: Any) -> Any:
            if isinstance(value, Tensor):
                return change(value)
            if isinstance(value, (PreparedFeatures, ImageFeatures)):
                return replace(
                    value, **{f.name: over(getattr(value, f.name)) for f in fields(value)}
                )
            return tuple(over(v) for v in value) if isinstance(value, tuple) else value

        changed: PreparedFeatures = over(self)
        return changed

    def detach(self) -> PreparedFeatures:
        """Return the same tensors cut off from the autograd graph."""
        return self.map(Tensor.detach)


@dataclass(frozen=True)
class ClickTensors:
    """The clicks of one picture, in any order.

    Attributes
    ----------
    yx : Tensor
        (N, 2) float32, row and column in pixels of the resized, unpadded network image.
    t : Tensor
        (N,) int64 time indices.
    instance : Tensor
        (N,) int64, 0 = background.
    """

    yx: Tensor
    t: Tensor
    instance: Tensor

    def ordered(self) -> ClickTensors:
        """Sort by instance, background last, and by time within each (the published order)."""
        last = int(self.instance.max()) + 1 if len(self.instance) else 1
        group = torch.where(self.instance == 0, last, self.instance)
        order = torch.argsort(self.t, stable=True)
        order = order[torch.argsort(group[order], stable=True)]
        return ClickTensors(self.yx[order], self.t[order], self.instance[order])


@dataclass(frozen=True)
class StagedClicks:
    """The clicks of a batch as one small table, which goes to the device in one copy.

    Attributes
    ----------
    rows : Tensor
        (B, N, 5) float32, a row per click, padded to the same number for all pictures: y and x in
        network-image pixels, normalised time, row of the identity table, 1 (0 for padding).
    owner : Tensor
        (B, Q) int64 on the CPU, of the N rows and the static background rows: instance id,
        0 = background, -1 = padding.
    hides_padding : bool
        Whether padding is invisible to all other queries and to the pixels.
    """

    rows: Tensor
    owner: Tensor
    hides_padding: bool

    def to(self, device: torch.device) -> StagedClicks:
        """Send the table to a device; `owner` stays on the CPU."""
        return replace(self, rows=upload(self.rows, device))


@dataclass(frozen=True)
class Prediction:
    """Mask logits of one stage.

    Attributes
    ----------
    logits : Tensor
        (B, C, Hp / 4, Wp / 4).
    channel_instance : Tensor
        (B, C) int64 on the CPU: instance a channel speaks for, 0 = background, -1 = padding.
    """

    logits: Tensor
    channel_instance: Tensor


@dataclass(frozen=True)
class Decoded:
    """Result of one run of the interactive transformer.

    Attributes
    ----------
    final : Prediction
        The prediction to use.
    auxiliary : tuple of Prediction
        Deeply supervised earlier predictions, first to last; empty unless asked for.
    """

    final: Prediction
    auxiliary: tuple[Prediction, ...] = ()


def fuse(prediction: Prediction, index: int = 0) -> tuple[Tensor, list[int]]:
    """Take the maximum over the channels of each instance of one picture of the batch.

    Parameters
    ----------
    prediction : Prediction
        Any stage's logits.
    index : int
        Picture within the batch.

    Returns
    -------
    fused : Tensor
        (K + 1, h, w): instances by ascending id, background last.
    instances : list of int
        The K ids.
    """
    owners = prediction.channel_instance[index].tolist()
    logits = prediction.logits[index]
    instances = sorted({owner for owner in owners if owner > 0})
    rows = []
    for instance in [*instances, 0]:
        channels = [c for c, owner in enumerate(owners) if owner == instance]
        first, count = channels[0], len(channels)
        if channels == list(range(first, first + count)):
            part = logits[first : first + count]
        else:
            part = logits[channels]
        rows.append(part[0] if count == 1 else part.amax(dim=0))
    return torch.stack(rows), instances
