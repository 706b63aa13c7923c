"""The interactive transformer once more, slowly, with everything written down.

`decode_clicks` keeps no attention weights, for speed. Here the same parameters are applied step by
step to one picture, in float32; a test holds the two against each other. Torch lives here and in
nothing else of this package.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.position import sine_code_2d
from ..model.structures import ClickTensors, ImageFeatures

LEVELS = 3


@dataclass(frozen=True)
class LayerTrace:
    """One encoder layer.

    Attributes
    ----------
    level : int
        0, 1, 2: stride 32, 16, 8.
    allowed : Tensor
        (Q, h, w) bool, where each query may look.
    attention : Tensor
        (heads, Q, h, w) weights of the cross-attention; each map sums to 1.
    self_attention : Tensor
        (heads, Q, Q) weights; row q is what query q attends to.
    """

    level: int
    allowed: Tensor
    attention: Tensor
    self_attention: Tensor


@dataclass(frozen=True)
class Trace:
    """One run of the interactive transformer.

    Attributes
    ----------
    owner : Tensor
        (Q,) int64, instance of each query, 0 = background.
    clicks : int
        The first so many queries are clicks (ordered by instance, background last, then time); the
        others are the static background queries.
    t : Tensor
        (clicks,) int64 time index of each.
    yx : Tensor
        (clicks, 2) row and column in network-image pixels.
    layers : tuple of LayerTrace
    logits : Tensor
        (layers + 1, Q, Hp / 4, Wp / 4): each query's mask before the first and after each layer.
    final : Tensor
        (Q, Hp / 4, Wp / 4) after the pixel decoder.
    similarity : tuple of 3 Tensors
        (clicks, h, w) cosine between each click's descriptor and the features of each level.
    """

    owner: Tensor
    clicks: int
    t: Tensor
    yx: Tensor
    layers: tuple[LayerTrace, ...]
    logits: Tensor
    final: Tensor
    similarity: tuple[Tensor, ...]


def trace(model: Any, features: ImageFeatures, clicks: ClickTensors) -> Trace:
    """Run the interactive transformer of `model` on the clicks of one picture.

    Parameters
    ----------
    model : DynaMITe
        Any preset; read, not changed.
    features : ImageFeatures
        Of one picture.
    clicks : ClickTensors
        With at least one click of an instance.

    Returns
    -------
    Trace
        All tensors on the CPU.
    """
    network = model.transformer
    if network.level_embed.weight.dtype != torch.float32:
        network = copy.deepcopy(network).float()
    kind = features.mask_features.device.type
    with torch.inference_mode(), torch.autocast(kind, enabled=False):
        return _Run(network, _as_float(features), clicks).trace()


class _Run:
    def __init__(self, transformer: Any, features: ImageFeatures, clicks: ClickTensors) -> None:
        self.net = transformer
        self.config = transformer.config
        self.features = features
        self.ordered = clicks.ordered()
        self.queries = transformer.queries(features, [clicks])

    def trace(self) -> Trace:
        net, queries = self.net, self.queries
        x, layers, logits = queries.content, [], []
        sources = [self._source(level) for level in range(LEVELS)]
        for i in range(self.config.encoder_layers):
            level = i % LEVELS
            logits.append(self._logits(x, self.features.mask_features)[0])
            allowed = self._allowed(x, level)
            source, located = sources[level]
            cross = net.encoder.cross_attention_layers[i]
            attn = cross.multihead_attn
            x, weights = _attend(
                cross, x, attn.project_query(x + queries.position), located, source, allowed
            )
            own = net.encoder.self_attention_layers[i]
            located_queries = x + queries.position
            query = own.self_attn.project_query(located_queries)
            x, talk = _attend(own, x, query, located_queries, x, None)
            x = net.encoder.ffn_layers[i](x)
            size = self.features.multi_scale[level].shape[-2:]
            layers.append(
                LayerTrace(
                    level,
                    allowed[0].unflatten(-1, size).cpu(),
                    weights[0].unflatten(-1, size).cpu(),
                    talk[0].cpu(),
                )
            )
        logits.append(self._logits(x, self.features.mask_features)[0])
        final = self._logits(x, self._decoded(x))[0]
        return Trace(
            queries.owner[0].clamp(min=0).cpu(),
            queries.clicks,
            self.ordered.t,
            self.ordered.yx,
            tuple(layers),
            torch.stack(logits).cpu(),
            final.cpu(),
            tuple(s.cpu() for s in self._similarity()),
        )

    def _source(self, level: int) -> tuple[Tensor, Tensor]:
        """Values and keys of a level before their projection."""
        features = self.features.multi_scale[level]
        height, width = features.shape[-2:]
        source = _tokens(features) + self.net.level_embed.weight[level]
        code = sine_code_2d(height, width, self.config.hidden_dim, features.device)
        return source, source + code.flatten(1).T.to(source.dtype)

    def _logits(self, x: Tensor, maps: Tensor) -> Tensor:
        normed = self.net.layer_norm(x)
        logits = (self.net.mask_embed(normed) @ maps.flatten(2)).unflatten(-1, maps.shape[-2:])
        if self.net.relative is None:
            return logits
        clicks = self.queries.clicks
        term = self.net.relative(
            normed[:, :clicks], self.queries.yx, self.features.padded_size, tuple(maps.shape[-2:])
        )
        return logits + F.pad(term, (0, 0, 0, 0, 0, x.shape[1] - clicks))

    def _allowed(self, x: Tensor, level: int) -> Tensor:
        size = tuple(self.features.multi_scale[level].shape[-2:])
        maps = F.interpolate(
            self.features.mask_features, size, mode="bilinear", align_corners=False
        )
        allowed = self._logits(x, maps).flatten(2) >= 0
        return allowed | ~allowed.any(dim=-1, keepdim=True)

    def _decoded(self, x: Tensor) -> Tensor:
        """Mask features after the pixels have attended to the queries."""
        maps = self.features.mask_features
        if self.net.decoder is None:
            return maps
        half = self.config.decoder_stride == 8
        pixels = F.avg_pool2d(maps, 2) if half else maps
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        code = sine_code_2d(*size, self.config.hidden_dim, maps.device).flatten(1).T
        tokens = y = _tokens(pixels)
        decoder = self.net.decoder
        located = x + self.queries.position
        for cross, ffn in zip(decoder.cross_attention_layers, decoder.ffn_layers, strict=True):
            query = cross.multihead_attn.project_query(y + code.to(y.dtype))
            y = ffn(_attend(cross, y, query, located, x, None)[0])
        if not half:
            return y.transpose(1, 2).unflatten(-1, size)
        change = (y - tokens).transpose(1, 2).unflatten(-1, size)
        return maps + F.interpolate(change, scale_factor=2, mode="bilinear", align_corners=False)

    def _similarity(self) -> list[Tensor]:
        from ..model.queries import sample_descriptors

        descriptors = sample_descriptors(
            self.features.multi_scale, self.queries.yx, self.features.padded_size
        )[0]
        found = []
        for level in self.features.multi_scale:
            maps = F.normalize(level[0].flatten(1), dim=0)
            found.append((F.normalize(descriptors, dim=1) @ maps).unflatten(-1, level.shape[-2:]))
        return found


def _attend(
    layer: Any, x: Tensor, query: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the layer's output and its weights (B, heads, N, M)."""
    attn = getattr(layer, "multihead_attn", None) or layer.self_attn
    key, value = attn.project_key(keys), attn.project_value(values)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if allowed is not None:
        scores = scores.masked_fill(~allowed[:, None], -torch.inf)
    weights = scores.softmax(dim=-1)
    y = attn.out_proj((weights @ value).transpose(1, 2).flatten(2))
    return layer.norm(x + y), weights


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _as_float(features: ImageFeatures) -> ImageFeatures:
    return ImageFeatures(
        tuple(level.float() for level in features.multi_scale),
        features.mask_features.float(),
        None,
        features.padded_size,
    )
