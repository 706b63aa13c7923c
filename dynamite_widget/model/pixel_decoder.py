"""The published pixel decoder: deformable attention over three levels, then a pyramid to stride 4.

Multi-scale deformable attention is plain PyTorch (no compiled operator). Entry names equal those
of the authors' checkpoints. The convolutional decoder of the ``lite`` preset is another module.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynamite_widget.model.config import ModelConfig
from dynamite_widget.model.position import sine_code_2d

__all__ = ["DeformablePixelDecoder", "deformable_attention"]

_LEVELS = 3
_GROUPS = 32
_CHUNK = 4096  # queries


def deformable_attention(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Gather every level's map at sampled points and add the samples up by weight.

    Parameters
    ----------
    value : Tensor of shape (B, S, heads, width), float
        Tokens of all levels, one level after the other, row-major; ``S = sum(h * w)``.
    shapes : sequence of (h, w)
        Sizes of the levels in cells.
    locations : Tensor of shape (B, Q, heads, levels, points, 2), float
        Sampling points (x, y), 0..1 over the map (0 is its left or upper edge).
    weights : Tensor of shape (B, Q, heads, levels, points), float
        Attention weights, usually summing to 1 per query and head.

    Returns
    -------
    Tensor of shape (B, Q, heads * width)
        Samples are bilinear between cell centres, zero outside the map.
    """
    inputs = (value, locations, weights)
    if value.device.type == "cpu" and not (
        torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    ):
        return _gather_rows(value, shapes, locations, weights)
    return _sample_maps(value, shapes, locations, weights)


def _sample_maps(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """`deformable_attention` by one `grid_sample` per level: for accelerators and gradients."""
    batch, _, heads, width = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    grids = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    per_head = value.permute(0, 2, 3, 1).flatten(0, 1)
    sampled = []
    start = 0
    for (height, columns), grid in zip(shapes, grids, strict=True):
        level = per_head[:, :, start : start + height * columns]
        start += height * columns
        sampled.append(
            F.grid_sample(
                level.reshape(batch * heads, width, height, columns),
                grid,
                mode="bilinear",
                padding_mode="zeros",
                align_corners=False,
            )
        )
    samples = torch.stack(sampled, dim=3)  # (B * heads, width, Q, levels, points)
    factors = weights.permute(0, 2, 1, 3, 4).reshape(batch * heads, 1, queries, -1, points)
    summed = (samples * factors).sum((3, 4))
    return summed.view(batch, heads * width, queries).transpose(1, 2)


def _gather_rows(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """`deformable_attention` as a weighted sum of table rows: four times faster on a CPU.

    Every query and head adds up ``levels * points * 4`` rows of one table (the four cells around
    each point), which is what `embedding_bag` does without storing the samples. Chunks of queries
    keep the index arrays within the cache.
    """
    batch, total, heads, width = value.shape
    table = value.reshape(batch * total * heads, width)
    rows = torch.arange(heads, dtype=torch.int32)
    rows = rows + torch.arange(batch, dtype=torch.int32)[:, None] * (total * heads)
    rows = rows.view(batch, 1, heads, 1, 1)
    outputs = []
    for points, factors in zip(
        locations.split(_CHUNK, dim=1), weights.split(_CHUNK, dim=1), strict=True
    ):
        shape = (*points.shape[:-1], 2, 2)
        index = torch.empty(shape, dtype=torch.int32)
        amount = torch.empty(shape, dtype=value.dtype)
        start = 0
        for level, (height, columns) in enumerate(shapes):
            x, share_x = _neighbours(points[:, :, :, level, :, 0], columns)
            y, share_y = _neighbours(points[:, :, :, level, :, 1], height)
            share_y = share_y * factors[:, :, :, level, :, None]
            y = y * (columns * heads) + (rows + start * heads)
            torch.add(y[..., None], (x * heads)[..., None, :], out=index[:, :, :, level])
            torch.mul(share_y[..., None], share_x[..., None, :], out=amount[:, :, :, level])
            start += height * columns
        bags = batch * points.shape[1] * heads
        summed = F.embedding_bag(
            index.view(bags, -1), table, per_sample_weights=amount.view(bags, -1), mode="sum"
        )
        outputs.append(summed.view(batch, -1, heads * width))
    return torch.cat(outputs, dim=1)


def _neighbours(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Find the two cells around each position (0..1) along one axis, and their bilinear shares.

    Returns int32 cells within 0..size - 1 and shares, both (..., 2); cells outside have share 0.
    """
    # The same order of operations as in grid_sample, so that both ways round alike.
    cell = (2 * position - 1 + 1) * (size / 2) - 0.5
    lower = cell.floor()
    above = cell - lower
    cells = torch.stack((lower, lower + 1), dim=-1)
    inside = (cells >= 0) & (cells < size)
    shares = torch.stack((1 - above, above), dim=-1) * inside
    return cells.clamp_(0, size - 1).int(), shares


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

    def forward(
        self, query: Tensor, source: Tensor, reference: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        batch, count, _ = query.shape
        value = self.value_proj(source).view(batch, count, self.heads, -1)
        offsets = self.sampling_offsets(query)
        offsets = offsets.view(batch, count, self.heads, _LEVELS, self.points, 2)
        scale = offsets.new_tensor([(width, height) for height, width in shapes])
        locations = reference[:, None, None, None] + offsets / scale[:, None]
        weights = self.attention_weights(query).view(batch, count, self.heads, -1).softmax(-1)
        weights = weights.view(batch, count, self.heads, _LEVELS, self.points)
        return self.output_proj(deformable_attention(value, shapes, locations, weights))


class _EncoderLayer(nn.Module):
    def __init__(self, dim: int, heads: int, points: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = _DeformableAttention(dim, heads, points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(
        self, tokens: Tensor, position: Tensor, reference: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        tokens = self.norm1(tokens + self.self_attn(tokens + position, tokens, reference, shapes))
        return self.norm2(tokens + self.linear2(F.relu(self.linear1(tokens))))


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

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        batch, dim = maps[0].shape[:2]
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
            tokens = layer(tokens, codes, references, shapes)
        parts = tokens.split([height * width for height, width in shapes], dim=1)
        return [
            part.transpose(1, 2).reshape(batch, dim, height, width)
            for part, (height, width) in zip(parts, shapes, strict=True)
        ]


class _ConvNorm(nn.Conv2d):
    """Convolution without bias, GroupNorm, and a ReLU where asked for."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, relu: bool) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, out_channels)
        self.relu = relu

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in the base class
        output = self.norm(super().forward(input))
        return F.relu(output) if self.relu else output


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
        """Decode the backbone's maps, always in float32.

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
        with torch.autocast(device_type, enabled=False):
            return self._decode([feature_map.float() for feature_map in backbone_maps])

    def _decode(self, backbone_maps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        projected = [
            project(feature_map)
            for project, feature_map in zip(self.input_proj, backbone_maps[:0:-1], strict=True)
        ]
        multi_scale: list[Tensor] = self.transformer(projected)
        pyramid = list(multi_scale)
        for step in range(self.fpn_levels, 0, -1):
            side = self.get_submodule(f"adapter_{step}")(backbone_maps[step - 1])
            merged = side + _resize(pyramid[-1], side)
            pyramid.append(self.get_submodule(f"layer_{step}")(merged))
        # The three maps before the last, fine to coarse, are refined and added at stride 8.
        refined = [conv(level) for conv, level in zip(self.refine, pyramid[-2:-5:-1], strict=True)]
        total = refined[0]
        for level in refined[1:]:
            total = total + _resize(level, total)
        return multi_scale, self.mask_features(_resize(total, pyramid[-1]) + pyramid[-1])
