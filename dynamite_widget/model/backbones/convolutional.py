"""Convolutional backbones straight from timm: HRNet-W32, ResNet-50, EfficientNet-Lite0.

timm gives the published numbers as it is; here only the stages to return are chosen, ResNet's
batch norms are frozen, and names are translated.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

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


class _FrozenBatchNorm(nn.Module):
    """Batch norm with stored statistics and affine values, in training too; all are buffers.

    The arithmetic is that of `torch.nn.functional.batch_norm`. The frozen norm that timm offers
    multiplies by a combined scale, which rounds differently: 1e-5 in the maps, enough to tip
    single bits of the attention masks.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())

    def forward(self, feature_map: Tensor) -> Tensor:
        return F.batch_norm(
            feature_map,
            self.get_buffer("running_mean"),
            self.get_buffer("running_var"),
            self.get_buffer("weight"),
            self.get_buffer("bias"),
            training=False,
            eps=self.eps,
        )


def _freeze_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _FrozenBatchNorm(child))
        else:
            _freeze_norms(child)


class ResNet50(_TimmFeatures):
    """ResNet-50 with frozen batch norms (stored statistics and affine values are buffers)."""

    def __init__(self) -> None:
        super().__init__("resnet50")
        _freeze_norms(self.net)

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
