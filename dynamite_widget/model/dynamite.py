"""The whole network: backbone, pixel decoder, interactive transformer.

`encode_image` and `prepare` run once per picture, `decode_clicks` at every change of the clicks.
Training, evaluation, `Predictor` and widget all call these three.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..cancelling import give_way
from .config import ModelConfig
from .interactive import InteractiveTransformer
from .structures import ClickTensors, Decoded, ImageFeatures, Prediction, PreparedFeatures

__all__ = ["DynaMITe", "build_model"]

#: Picture sides must be multiples of the coarsest stride.
STRIDE = 32


class DynaMITe(nn.Module):
    """Interactive multi-instance segmentation network ("Clicks as Queries").

    Parameters
    ----------
    config : ModelConfig
        Sizes and switches; see `dynamite_widget.model.config.PRESETS`.

    Attributes
    ----------
    config : ModelConfig
    backbone, pixel_decoder, transformer : torch.nn.Module
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        from .backbones import build_backbone

        self.config = config
        self.backbone = build_backbone(config)
        channels = self.backbone.channels
        self.pixel_decoder: nn.Module
        if config.pixel_decoder == "fpn":
            from .pyramid import PyramidPixelDecoder

            self.pixel_decoder = PyramidPixelDecoder(config, channels)
        else:
            from .pixel_decoder import DeformablePixelDecoder

            self.pixel_decoder = DeformablePixelDecoder(config, channels)
        self.transformer = InteractiveTransformer(config, channels[0])
        for part in (self.backbone, self.pixel_decoder):
            for module in part.modules():
                if isinstance(module, (nn.Linear, nn.Conv2d)):
                    module.register_forward_pre_hook(_give_way)

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """Run backbone and pixel decoder.

        Parameters
        ----------
        pixels : Tensor
            (B, 3, Hp, Wp) float, normalised RGB, zero-padded right and bottom to multiples of 32.

        Returns
        -------
        ImageFeatures

        Raises
        ------
        ValueError
            If the shape is not as described.
        """
        if (
            pixels.ndim != 4
            or pixels.shape[1] != 3
            or pixels.shape[2] % STRIDE
            or pixels.shape[3] % STRIDE
        ):
            raise ValueError(
                f"pixels must be (B, 3, Hp, Wp) with sides that are multiples of {STRIDE}, "
                f"got {tuple(pixels.shape)}"
            )
        if pixels.device.type == "cpu" and not torch.is_grad_enabled():
            # Convolutions on CPUs are up to twice as fast so, and layers after them keep it.
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        with self._backbone_precision(pixels.device.type):
            maps = self.backbone(pixels)
        multi_scale, mask_features = self.pixel_decoder(maps)
        detail = maps[0] if self.config.refine_width else None
        size = (int(pixels.shape[2]), int(pixels.shape[3]))
        return ImageFeatures(tuple(multi_scale), mask_features, detail, size)

    def _backbone_precision(self, device_type: str) -> contextlib.AbstractContextManager[object]:
        """Keep backbones that add up in the type of products out of a CPU's autocast."""
        if device_type != "cpu" or torch.is_grad_enabled() or self.backbone.adds_in_float32:
            return contextlib.nullcontext()
        return torch.autocast("cpu", enabled=False)

    def prepare(self, features: ImageFeatures) -> PreparedFeatures:
        """Compute every product of the picture that no click changes; see `PreparedFeatures`."""
        return self.transformer.prepare(features)

    def decode_clicks(
        self,
        prepared: PreparedFeatures,
        clicks: Sequence[ClickTensors],
        all_predictions: bool = False,
        exact: bool = True,
        on_preview: Callable[[Prediction], object] | None = None,
    ) -> Decoded:
        """Segment all instances of each picture from all of its clicks.

        Parameters
        ----------
        prepared : PreparedFeatures
            Of B pictures.
        clicks : sequence of ClickTensors
            One per picture; each with at least one click of an instance.
        all_predictions : bool
            Also return the earlier predictions that training supervises.
        exact : bool
            Otherwise, while predicting one picture on a CPU, logits far from any change of the
            label may be interpolated and products computed in bfloat16 (see `Predictor`).
        on_preview : callable, optional
            Called before the decoder runs, with the last masks of the encoder that training
            supervises: a `Prediction` at stride 8.

        Returns
        -------
        Decoded
        """
        batch = len(prepared.features.mask_features)
        if len(clicks) != batch:
            raise ValueError(f"expected the clicks of {batch} pictures, got {len(clicks)}")
        for c in clicks:
            if not bool((c.instance > 0).any()):
                raise ValueError("every picture needs a click on at least one instance")
        return self.transformer.decode(prepared, clicks, all_predictions, exact, on_preview)

    def forward(self, pixels: Tensor, clicks: Sequence[ClickTensors]) -> Decoded:
        """Encode, prepare and decode in one go (for tracing and distributed training)."""
        return self.decode_clicks(
            self.prepare(self.encode_image(pixels)), clicks, all_predictions=self.training
        )

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.transformer.level_embed.weight.device


def _give_way(_module: nn.Module, _inputs: object) -> None:
    """Make the seconds of an embedding interruptible, between products of large matrices."""
    if not torch.compiler.is_compiling():
        give_way()


def build_model(config: ModelConfig) -> DynaMITe:
    """Build a network with fresh (random) weights."""
    return DynaMITe(config)
