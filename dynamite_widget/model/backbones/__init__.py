"""Registry of the backbones: from `ModelConfig.backbone` to a module with four feature maps.

One module per family; timm is imported only when one of its networks is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from dynamite_widget.model.backbones.base import Backbone
from dynamite_widget.model.config import ModelConfig

__all__ = ["BACKBONES", "Backbone", "BackboneSpec", "build_backbone"]

_IMAGENET_MEAN = (123.675, 116.280, 103.530)
_IMAGENET_STD = (58.395, 57.120, 57.375)


@dataclass(frozen=True)
class BackboneSpec:
    """One entry of the registry.

    Parameters
    ----------
    module, factory : str
        Module below this package and the callable in it that builds the network.
    channels : tuple of 4 int
        Widths at strides 4, 8, 16, 32, known without building the network.
    norm : {"layer", "batch", "frozen_batch"}
        Kind of its normalisation layers; "batch" learns statistics while training.
    pixel_mean, pixel_std : tuple of 3 float
        Normalisation (RGB, 0..255) that its ImageNet weights were trained with.
    """

    module: str
    factory: str
    channels: tuple[int, int, int, int]
    norm: Literal["layer", "batch", "frozen_batch"]
    pixel_mean: tuple[float, float, float] = _IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = _IMAGENET_STD

    def build(self) -> Backbone:
        """Build the network with random weights."""
        factory: Callable[[], Backbone] = getattr(
            import_module(f"{__name__}.{self.module}"), self.factory
        )
        return factory()


BACKBONES: dict[str, BackboneSpec] = {
    "swin_tiny": BackboneSpec("swin", "swin_tiny", (96, 192, 384, 768), "layer"),
    "swin_large": BackboneSpec("swin", "swin_large", (192, 384, 768, 1536), "layer"),
    "mit_b0": BackboneSpec("mit", "mit_b0", (32, 64, 160, 256), "layer"),
    "hrnet_w32": BackboneSpec("convolutional", "HRNetW32", (32, 64, 128, 256), "batch"),
    "resnet50": BackboneSpec("convolutional", "ResNet50", (256, 512, 1024, 2048), "frozen_batch"),
    "efficientnet_lite0": BackboneSpec(
        "convolutional",
        "EfficientNetLite0",
        (24, 40, 112, 320),
        "batch",
        pixel_mean=(127.5, 127.5, 127.5),
        pixel_std=(127.5, 127.5, 127.5),
    ),
}


def build_backbone(config: ModelConfig) -> Backbone:
    """Build the backbone that `config` names, with random weights.

    Parameters
    ----------
    config : ModelConfig
        Only `config.backbone`, a key of `BACKBONES`, is read.

    Returns
    -------
    Backbone
        ``forward(pixels (B, 3, H, W)) -> [b4, b8, b16, b32]`` and the attribute `channels`.

    Raises
    ------
    ValueError
        If there is no such backbone.
    """
    spec = BACKBONES.get(config.backbone)
    if spec is None:
        raise ValueError(
            f"unknown backbone {config.backbone!r}; known backbones: {', '.join(BACKBONES)}"
        )
    return spec.build()
