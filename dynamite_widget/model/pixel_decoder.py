"""The published pixel decoder: deformable attention over three levels, then a pyramid to stride 4.

Entry names equal those of the authors' checkpoints. The sampling is in `deformable.py`; the
convolutional decoder of the ``lite`` preset is another module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynamite_widget.model.config import ModelConfig
from dynamite_widget.model.deformable import LevelMaps, deformable_attention_at
from dynamite_widget.model.parallel import in_even_pieces
from dynamite_widget.model.position import sine_code_2d
from dynamite_widget.model.precision import autocast_dtype, linear

__all__ = ["DeformablePixelDecoder"]

_LEVELS = 3
_GROUPS = 32
#: Tokens that go through a layer together on a core: activations stay in its cache.
_CHUNK = 1024


class _DeformableAttention(nn.Module):
    """Self-attention over the tokens of all levels, each looking at a few learned points."""

    def __init__(self, dim: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads = heads
        self.points = points
        self.sampling_offsets = nn.Linear(dim, heads * _LEVELS * points * 2)
        self.attention_weights = nn.Linear(dim, heads * _LEVELS * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self._reset()

    def _reset(self) -> None:
        """Start with points on rays, one direction per head, and uniform weights."""
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        angle = torch.arange(self.heads, dtype=torch.float32) * (2 * torch.pi / self.heads)
        ray = torch.stack((angle.cos(), angle.sin()), -1)
        ray = ray / ray.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, self.points + 1, dtype=torch.float32)
        offsets = ray[:, None, None] * distance[None, None, :, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, _LEVELS, -1, -1).reshape(-1))
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def maps(
        self, source: Tensor, shapes: Sequence[tuple[int, int]], dtype: torch.dtype
    ) -> LevelMaps:
        """(B, S, d) tokens of all levels → float32 maps to sample from."""
        value = linear(self.value_proj, source, dtype).float()
        return LevelMaps.of(value.unflatten(-1, (self.heads, -1)), shapes)

    def forward(
        self,
        query: Tensor,
        maps: LevelMaps,
        reference: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        """(B, Q, d) queries, each at one of Q reference points → (B, Q, d)."""
        batch, count, _ = query.shape
        # Where to look is always computed in float32.
        offsets = self.sampling_offsets(query)
        offsets = offsets.view(batch, count, self.heads, _LEVELS, self.points, 2)
        weights = _softmax(self.attention_weights(query).view(batch, count, self.heads, -1))
        weights = weights.view(batch, count, self.heads, _LEVELS, self.points)
        attended = deformable_attention_at(maps, reference, offsets, weights)
        return linear(self.output_proj, attended, dtype)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis; a CPU is ten times slower at short rows than across long ones."""
    if logits.device.type != "cpu" or torch.is_grad_enabled():
        return logits.softmax(-1)
    count = logits.shape[-1]
    across = logits.reshape(-1, count).T.contiguous()
    return across.softmax(0).T.contiguous().view(logits.shape)


class _EncoderLayer(nn.Module):
    def __init__(self, dim: int, heads: int, points: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = _DeformableAttention(dim, heads, points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(
        self,
        tokens: Tensor,
        position: Tensor,
        reference: Tensor,
        shapes: list[tuple[int, int]],
        dtype: torch.dtype,
    ) -> Tensor:
        maps = self.self_attn.maps(tokens, shapes, dtype)
        count = tokens.shape[1]
        if tokens.device.type != "cpu" or torch.is_grad_enabled():
            return self._layer(tokens, position, reference, maps, dtype)
        output = torch.empty_like(tokens)

        def run(part: slice) -> None:
            output[:, part] = self._layer(
                tokens[:, part], position[part], reference[part], maps, dtype
            )

        in_even_pieces(run, count, _CHUNK)
        return output

    def _layer(
        self,
        tokens: Tensor,
        position: Tensor,
        reference: Tensor,
        maps: LevelMaps,
        dtype: torch.dtype,
    ) -> Tensor:
        attended = self.self_attn(tokens + position, maps, reference, dtype)
        tokens = self.norm1(tokens + attended)
        hidden = F.relu(linear(self.linear1, tokens, dtype))
        return self.norm2(tokens + linear(self.linear2, hidden, dtype))


class _Encoder(nn.Module):
    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class _DeformableTransformer(nn.Module):
    """Six post-norm layers over the concatenated tokens of strides 32, 16 and 8."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.level_embed = nn.Parameter(torch.randn(_LEVELS, dim))
        self.encoder = _Encoder(
            [
                _EncoderLayer(
                    dim, config.heads, config.pixel_decoder_points, config.pixel_decoder_ffn
                )
                for _ in range(config.pixel_decoder_layers)
            ]
        )

    def forward(self, maps: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
        dim = maps[0].shape[1]
        shapes = [(int(level.shape[2]), int(level.shape[3])) for level in maps]
        position, reference = [], []
        for embed, (height, width) in zip(self.level_embed, shapes, strict=True):
            code = sine_code_2d(height, width, dim, maps[0].device)
            position.append(code.flatten(1).T + embed)
            y = (torch.arange(height, device=code.device, dtype=torch.float32) + 0.5) / height
            x = (torch.arange(width, device=code.device, dtype=torch.float32) + 0.5) / width
            grid = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)
            reference.append(grid.flatten(0, 1))
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        codes, references = torch.cat(position), torch.cat(reference)
        for layer in self.encoder.layers:
            tokens = layer(tokens, codes, references, shapes, dtype)
        parts = tokens.split([height * width for height, width in shapes], dim=1)
        # Channels stay last in memory, as in tokens: convolutions like it, and nothing is copied.
        return [
            part.unflatten(1, shape).permute(0, 3, 1, 2)
            for part, shape in zip(parts, shapes, strict=True)
        ]


class _ConvNorm(nn.Conv2d):
    """Convolution without bias, GroupNorm, and a ReLU where asked for."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, relu: bool) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, out_channels)
        self.relu = relu

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in the base class
        pointwise = self.kernel_size == (1, 1)
        output = _pointwise(self, input) if pointwise else super().forward(input)
        output = self.norm(output.float())
        return F.relu(output) if self.relu else output


def _products(dtype: torch.dtype) -> torch.autocast:
    """Products of CPU tensors in `dtype`; without effect for float32."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def _pointwise(layer: nn.Conv2d, maps: Tensor) -> Tensor:
    """Apply a 1 x 1 convolution; on a CPU as a product of tokens, which takes half the time."""
    if maps.device.type != "cpu" or torch.is_grad_enabled():
        return nn.Conv2d.forward(layer, maps)
    tokens = maps.permute(0, 2, 3, 1)
    return F.linear(tokens, layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)


def _resize(feature_map: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(feature_map, like.shape[-2:], mode="bilinear", align_corners=False)


class DeformablePixelDecoder(nn.Module):
    """From four backbone maps to the multi-scale features and the mask features.

    Parameters
    ----------
    config : ModelConfig
        Sizes; ``fpn_levels == 2`` reproduces the HRNet checkpoints, whose pyramid has one step
        more and whose refinement therefore reads maps one step finer (and ignores stride 32).
    backbone_channels : tuple of 4 int
        Widths of the maps at strides 4, 8, 16, 32.

    Raises
    ------
    ValueError
        If `config.fpn_levels` is neither 1 nor 2.
    """

    def __init__(self, config: ModelConfig, backbone_channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        if config.fpn_levels not in (1, 2):
            raise ValueError(f"fpn_levels must be 1 or 2, got {config.fpn_levels}")
        dim = config.hidden_dim
        self.fpn_levels = config.fpn_levels
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, dim, 1), nn.GroupNorm(_GROUPS, dim))
            for width in backbone_channels[:0:-1]
        )
        self.transformer = _DeformableTransformer(config)
        self.mask_features = nn.Conv2d(dim, dim, 1)
        for step in range(1, config.fpn_levels + 1):
            adapter = _ConvNorm(backbone_channels[step - 1], dim, 1, relu=False)
            self.add_module(f"adapter_{step}", adapter)
            self.add_module(f"layer_{step}", _ConvNorm(dim, dim, 3, relu=True))
        self.refine = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in range(3))

    def forward(self, backbone_maps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Decode the backbone's maps, in float32 on accelerators and while training.

        On a CPU that predicts under bfloat16 autocast, large products are computed in bfloat16;
        sums over layers, norms and sampling positions stay float32.

        Parameters
        ----------
        backbone_maps : sequence of 4 Tensor
            ``[b4, b8, b16, b32]`` as `Backbone.forward` returns them.

        Returns
        -------
        multi_scale : list of 3 Tensor
            ``[T32, T16, T8]``, each (B, d, H / stride, W / stride), coarse to fine.
        mask_features : Tensor of shape (B, d, H / 4, W / 4)
        """
        device_type = backbone_maps[0].device.type
        dtype = torch.float32
        if device_type == "cpu" and not torch.is_grad_enabled():
            dtype = autocast_dtype(device_type) or dtype
        with torch.autocast(device_type, enabled=False):
            return self._decode([feature_map.float() for feature_map in backbone_maps], dtype)

    def _decode(
        self, backbone_maps: Sequence[Tensor], dtype: torch.dtype
    ) -> tuple[list[Tensor], Tensor]:
        projected = []
        for project, feature_map in zip(self.input_proj, backbone_maps[:0:-1], strict=True):
            convolution, norm = cast(nn.Sequential, project)
            projected.append(norm(_pointwise(cast(nn.Conv2d, convolution), feature_map)))
        multi_scale: list[Tensor] = self.transformer(projected, dtype)
        pyramid = list(multi_scale)
        for step in range(self.fpn_levels, 0, -1):
            side = self.get_submodule(f"adapter_{step}")(backbone_maps[step - 1])
            merged = _resize(pyramid[-1], side).add_(side)
            with _products(dtype):
                pyramid.append(self.get_submodule(f"layer_{step}")(merged))
        # The three maps before the last, fine to coarse, are refined and added at stride 8.
        with _products(dtype):
            refined = [
                conv(level).float()
                for conv, level in zip(self.refine, pyramid[-2:-5:-1], strict=True)
            ]
        total = refined[0]
        for level in refined[1:]:
            total = total + _resize(level, total)
        merged = _resize(total, pyramid[-1]).add_(pyramid[-1])
        return multi_scale, _pointwise(self.mask_features, merged)
