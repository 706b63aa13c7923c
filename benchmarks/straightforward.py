"""The evaluation order of the published implementation, with the weights of our network.

What is cached is what it caches: the pyramid and the mask features of the picture. Everything else
is done at every click: position codes, keys and values of every layer, full-resolution mask logits
at every layer (then resized to the attention level), attention that also returns its weights, and a
label map by way of one full-size map per query. Written from the description of the architecture,
as the yardstick of `latency.py` and as a check of the network's shortcuts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from dynamite_widget.model import deformable, pixel_decoder
from dynamite_widget.model.attention import Attention
from dynamite_widget.model.backbones import swin
from dynamite_widget.model.dynamite import DynaMITe
from dynamite_widget.model.position import sine_code_2d
from dynamite_widget.model.structures import ClickTensors, ImageFeatures


def _at_once(function: Callable[[slice], object], length: int, _most: int) -> None:
    function(slice(0, length))


def encode(model: DynaMITe, pixels: Tensor) -> ImageFeatures:
    """Run backbone and pixel decoder layer by layer in the type of the weights.

    Windows attend by explicit products with masks built anew, deformable attention samples each
    level by `grid_sample`, as published code does without its compiled operator, and maps lie in
    memory as PyTorch puts them: nothing of what makes our embeddings faster is switched on.
    """
    backbone: Any = model.backbone
    blocks = [m for m in backbone.modules() if hasattr(m, "fused_attn")]
    were = [block.fused_attn for block in blocks]
    for block in blocks:
        block.fused_attn = False
    if hasattr(backbone, "_masks"):
        backbone._masks.clear()
    plain = {
        (swin, "_in_chunks"): lambda _tokens: False,
        (deformable, "_by_rows"): lambda *_inputs: False,
        (pixel_decoder, "in_even_pieces"): _at_once,
        (pixel_decoder, "_pointwise"): nn.Conv2d.forward,
        (pixel_decoder, "_softmax"): lambda logits: logits.softmax(-1),
    }
    try:
        with contextlib.ExitStack() as patches:
            for (module, name), value in plain.items():
                patches.enter_context(mock.patch.object(module, name, value))
            maps = [level.contiguous() for level in backbone(pixels)]
            multi_scale, mask_features = model.pixel_decoder(maps)
    finally:
        for block, fused in zip(blocks, were, strict=True):
            block.fused_attn = fused
    size = (int(pixels.shape[2]), int(pixels.shape[3]))
    return ImageFeatures(tuple(multi_scale), mask_features, None, size)


def mask_logits(
    model: DynaMITe, features: ImageFeatures, clicks: ClickTensors
) -> tuple[Tensor, tuple[int, ...]]:
    """Return the final (Q, Hp / 4, Wp / 4) logits and the instance of each query (0 background).

    Of the published presets: extensions (relative term, refinement) are not part of it.
    """
    net = model.transformer
    if net.relative is not None or net.refine is not None or model.config.decoder_stride != 4:
        raise ValueError("the straightforward order is that of the published presets")
    queries = net.queries(features, [clicks])
    x, position = queries.content, queries.position
    mask_features = features.mask_features
    sources, codes = [], []
    for index, level in enumerate(features.multi_scale):
        sources.append(_tokens(level) + net.level_embed.weight[index])
        codes.append(_code(level))
    logits = _head(net, x, mask_features)
    for i in range(model.config.encoder_layers):
        stage = i % 3
        size = features.multi_scale[stage].shape[-2:]
        forbidden = _forbidden(logits, size, model.config.heads)
        cross: Any = net.encoder.cross_attention_layers[i]
        attended = _attention(
            cross.multihead_attn,
            x + position,
            sources[stage] + codes[stage],
            sources[stage],
            forbidden,
        )
        x = cross.norm(x + attended)
        own: Any = net.encoder.self_attention_layers[i]
        x = own.norm(x + _attention(own.self_attn, x + position, x + position, x))
        x = net.encoder.ffn_layers[i](x)
        logits = _head(net, x, mask_features)
    if net.decoder is not None:
        y, code = _tokens(mask_features), _code(mask_features)
        for cross, ffn in net.decoder.layers():
            y = cross.norm(y + _attention(cross.multihead_attn, y + code, x + position, x))
            y = ffn(y)
        mask_features = y.transpose(1, 2).unflatten(-1, mask_features.shape[-2:])
        logits = _head(net, x, mask_features)
    return logits[0], tuple(queries.owner[0].clamp(min=0).tolist())


def label_map(
    logits: Tensor,
    owners: tuple[int, ...],
    network_size: tuple[int, int],
    size: tuple[int, int],
) -> NDArray[np.int32]:
    """Resize the map of every query to the network image, then to the picture; fuse; arg max."""
    maps = F.interpolate(logits[None], scale_factor=4, mode="bilinear", align_corners=False)
    maps = maps[:, :, : network_size[0], : network_size[1]]
    maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]
    groups = [*sorted({owner for owner in owners if owner}), 0]
    fused = torch.stack(
        [maps[[q for q, owner in enumerate(owners) if owner == group]].amax(0) for group in groups]
    )
    return np.asarray(groups, np.int32)[fused.argmax(dim=0).cpu().numpy()]


def _tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


def _code(maps: Tensor) -> Tensor:
    height, width = maps.shape[-2:]
    code = sine_code_2d(height, width, maps.shape[1], maps.device)
    return code.flatten(1).T.to(maps.dtype)[None]


def _head(net: Any, x: Tensor, mask_features: Tensor) -> Tensor:
    embedding = net.mask_embed(net.layer_norm(x))
    return torch.einsum("bqc,bchw->bqhw", embedding, mask_features)


def _forbidden(logits: Tensor, size: torch.Size, heads: int) -> Tensor:
    resized = F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
    mask = (resized.sigmoid().flatten(2)[:, None].expand(-1, heads, -1, -1) < 0.5).flatten(0, 1)
    return mask.masked_fill(mask.all(dim=-1, keepdim=True), False)


def _attention(
    attention: Attention, query: Tensor, key: Tensor, value: Tensor, forbidden: Tensor | None = None
) -> Tensor:
    """Multi-head attention as `torch.nn.MultiheadAttention` does it when asked for its weights."""
    output, _weights = F.multi_head_attention_forward(
        query.transpose(0, 1),
        key.transpose(0, 1),
        value.transpose(0, 1),
        attention.dim,
        attention.heads,
        attention.in_proj_weight,
        attention.in_proj_bias,
        None,
        None,
        False,
        0.0,
        attention.out_proj.weight,
        attention.out_proj.bias,
        training=False,
        need_weights=True,
        attn_mask=forbidden,
    )
    return output.transpose(0, 1)
