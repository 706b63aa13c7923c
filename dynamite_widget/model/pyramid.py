"""The convolutional pixel decoder of ``lite``: a feature pyramid that is cheap on a CPU.

It gives what the deformable one gives (maps at strides 32, 16, 8 and mask features at stride 4).
Global context comes from self-attention among the few stride-32 tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import FeedForwardLayer, SelfAttentionLayer
from .config import ModelConfig
from .position import sine_code_2d
from .precision import in_float32

_GROUPS = 8


class _SeparableBlock(nn.Module):
    """Residual block: depth-wise 3 x 3, normalisation, ReLU, point-wise mixing."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, dim)
        self.pointwise = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pointwise(F.relu(self.norm(self.depthwise(x))))


class PyramidPixelDecoder(nn.Module):
    """Top-down feature pyramid over four backbone maps.

    Parameters
    ----------
    config : ModelConfig
        ``pixel_decoder_layers`` is the number of self-attention layers at stride 32.
    channels : sequence of int
        Channels of the backbone maps at strides 4, 8, 16, 32.
    """

    def __init__(self, config: ModelConfig, channels: Sequence[int]) -> None:
        super().__init__()
        d = config.hidden_dim
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, d, 1, bias=False), nn.GroupNorm(_GROUPS, d))
            for c in channels
        )
        self.attention = nn.ModuleList(
            SelfAttentionLayer(d, config.heads) for _ in range(config.pixel_decoder_layers)
        )
        self.ffn = nn.ModuleList(
            FeedForwardLayer(d, config.pixel_decoder_ffn)
            for _ in range(config.pixel_decoder_layers)
        )
        self.blocks = nn.ModuleList(_SeparableBlock(d) for _ in range(3))
        self.mask_features = nn.Conv2d(d, d, 1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return [T32, T16, T8] and the stride-4 mask features, all with d channels.

        While predicting on an accelerator they are computed in float32, autocast or not.
        """
        if maps[0].device.type == "cpu" or torch.is_grad_enabled():
            return self._decode(maps)
        with in_float32(maps[0].device):
            return self._decode([feature_map.float() for feature_map in maps])

    def _decode(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        laterals = [layer(x) for layer, x in zip(self.lateral, maps, strict=True)]
        top = self._attend(laterals[3])
        out = [top]
        for lateral, block in zip(laterals[2::-1], self.blocks, strict=True):
            up = F.interpolate(out[-1], lateral.shape[-2:], mode="bilinear", align_corners=False)
            out.append(block(lateral + up))
        return out[:3], self.mask_features(out[3])

    def _attend(self, x: Tensor) -> Tensor:
        if not len(self.attention):
            return x
        size = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)
        position = sine_code_2d(size[0], size[1], x.shape[1], x.device).flatten(1).T
        for attention, ffn in zip(self.attention, self.ffn, strict=True):
            tokens = ffn(attention(tokens, position.to(tokens.dtype)))
        return tokens.transpose(1, 2).unflatten(-1, tuple(size))


__all__ = ["PyramidPixelDecoder"]
