"""Convolutional backbones straight from timm: HRNet-W32, ResNet-50, EfficientNet-Lite0.

timm gives the published numbers as it is; here only the stages to return are chosen, ResNet's
batch norms are frozen, and names are translated.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from dynamite_widget.model.backbones.base import Backbone

__all__ = ["EfficientNetLite0", "HRNetW32", "ResNet50"]


class _TimmFeatures(Backbone):
    """A timm network in ``features_only`` mode, strides 4 to 32."""

    def __init__(self, variant: str, **options: Any) -> None:
        super().__init__()
        import timm

        net: Any = timm.create_model(
            variant, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4), **options
        )
        if tuple(net.feature_info.reduction()) != (4, 8, 16, 32):
            raise RuntimeError(
                f"timm's {variant} returns strides {net.feature_info.reduction()}, "
                "expected [4, 8, 16, 32]: this version of timm is not supported"
            )
        widths = tuple(net.feature_info.channels())
        assert len(widths) == 4
        self.channels = widths
        self.net = net

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """See `Backbone.forward`."""
        return list(self.net(pixels))

    def reference_key(self, key: str) -> str:
        """See `Backbone.reference_key`."""
        return key.removeprefix("net.")


class HRNetW32(_TimmFeatures):
    """HRNetV2-W32: the four fused maps of its last stage, without timm's classification head."""

    def __init__(self) -> None:
        super().__init__("hrnet_w32", feature_location="")


class ResNet50(_TimmFeatures):
    """ResNet-50 with frozen batch norms (stored statistics and affine values are buffers)."""

    def __init__(self) -> None:
        super().__init__("resnet50")
        from timm.layers.norm_act import freeze_batch_norm_2d

        self.net = freeze_batch_norm_2d(self.net)

    def reference_key(self, key: str) -> str:
        """See `Backbone.reference_key`: there, norms are children of their convolutions."""
        key = super().reference_key(key)
        key = re.sub(r"^(conv1|bn1)\.", r"stem.\1.", key)
        key = re.sub(r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}", key)
        key = key.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
        return re.sub(r"\bbn(\d)\.", r"conv\1.norm.", key)


class EfficientNetLite0(_TimmFeatures):
    """EfficientNet-Lite0 (widths 24, 40, 112, 320), the backbone of the ``lite`` preset."""

    def __init__(self) -> None:
        super().__init__("tf_efficientnet_lite0")
