"""Clicks become queries: ordering, sampling of descriptors, position codes, static background.

Clicks as Queries, section 3.2 (query initialisation, spatio-temporal code, background queries).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import ModelConfig
from .position import sine_code_1d
from .structures import ClickTensors, ImageFeatures

_SINE_PARTS = {"spatio_temporal": 3, "spatial": 2, "temporal": 1}


@dataclass(frozen=True)
class QueryBatch:
    """Queries of a batch: clicks (padded to the longest picture), then background rows.

    Attributes
    ----------
    content, position : Tensor
        (B, Q, d): initial content X0 and position code E.
    yx : Tensor
        (B, N, 2) row and column of the N padded clicks in network-image pixels.
    owner : Tensor
        (B, Q) int64 on the CPU: instance id, 0 = background, -1 = batch padding.
    """

    content: Tensor
    position: Tensor
    yx: Tensor
    owner: Tensor

    @property
    def clicks(self) -> int:
        """Number of click rows (with padding) before the background rows."""
        return self.yx.shape[1]


def sample_descriptors(multi_scale: Sequence[Tensor], yx: Tensor, size: tuple[int, int]) -> Tensor:
    """Sample feature maps at clicks and average over the levels (equation 1).

    Parameters
    ----------
    multi_scale : sequence of Tensor
        (B, d, h, w) maps of any sizes.
    yx : Tensor
        (B, N, 2) clicks in pixels of the padded network image.
    size : tuple of int
        (Hp, Wp) of the padded network image.

    Returns
    -------
    Tensor
        (B, N, d). A click is a point: bilinear, zero outside, no pooling area.
    """
    scale = yx.new_tensor([2.0 / size[1], 2.0 / size[0]])
    grid = (yx.flip(-1) * scale - 1.0)[:, None]
    sampled = [
        F.grid_sample(level, grid.to(level.dtype), align_corners=False)[:, :, 0]
        for level in multi_scale
    ]
    return torch.stack(sampled).mean(dim=0).transpose(1, 2)


class ClickQueries(nn.Module):
    """Builds the query batch; its parameters live in the interactive transformer's name space."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.hidden_dim
        self.config = config
        self.query_embed = nn.Parameter(torch.randn(d) * 0.02)
        if config.static_queries:
            self.static_bg_pe = nn.Parameter(torch.randn(config.static_queries, d) * 0.02)
            self.static_bg_query = nn.Parameter(torch.randn(config.static_queries, d) * 0.02)
        # A zero row that is never trained: it pads batches and is the background query of last
        # resort when there are no static ones.
        self.bg_query = nn.Parameter(torch.zeros(d), requires_grad=False)
        self.queries_nonlinear_projection = nn.Sequential(
            nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d)
        )
        parts = _SINE_PARTS.get(config.positional, 0)
        if parts:
            features = d // 2 if parts > 1 else d
            self.ca_qpos_sine_proj = nn.Linear(parts * features, d)
        if config.identity_codes:
            # Row 0 is the background's.
            self.identity_embed = nn.Embedding(config.identity_codes + 1, d)
            nn.init.normal_(self.identity_embed.weight, std=0.5)

    def forward(self, features: ImageFeatures, clicks: Sequence[ClickTensors]) -> QueryBatch:
        """Turn the clicks of each picture into queries.

        Parameters
        ----------
        features : ImageFeatures
            Of B pictures.
        clicks : sequence of ClickTensors
            One per picture, any order; every picture needs at least one click.
        """
        device = features.mask_features.device
        ordered = [c.ordered() for c in clicks]
        longest = max(len(c.t) for c in ordered)
        batch = len(ordered)
        yx = torch.zeros(batch, longest, 2)
        t_hat = torch.zeros(batch, longest)
        owner = torch.full((batch, longest), -1, dtype=torch.int64)
        for i, c in enumerate(ordered):
            n = len(c.t)
            yx[i, :n] = c.yx
            t_hat[i, :n] = c.t.float() / max(int(c.t.max()) if n else 0, self.config.time_scale)
            owner[i, :n] = c.instance
        padded = (owner < 0).to(device)[..., None]
        yx_device = yx.to(device)

        content = sample_descriptors(features.multi_scale, yx_device, features.padded_size)
        content = torch.where(padded, self.bg_query.to(content.dtype), content)
        code = self._click_code(yx_device, t_hat.to(device), padded, features)
        position = (self.query_embed + code).expand(batch, longest, -1)

        # Static rows carry their own position code, without the common vector.
        rows: Tensor = self.bg_query[None]
        rows_position: Tensor = self.query_embed[None]
        if self.config.static_queries:
            rows, rows_position = self.static_bg_query, self.static_bg_pe
        content = torch.cat([content, rows.to(content.dtype).expand(batch, -1, -1)], dim=1)
        position = torch.cat([position, rows_position.expand(batch, -1, -1)], dim=1)
        content = self.queries_nonlinear_projection(content)
        owner = F.pad(owner, (0, len(rows)), value=0)
        if self.config.identity_codes:
            identity = self.identity_embed(self._identities(owner).to(device))
            content, position = content + identity, position + identity
        return QueryBatch(content, position, yx_device, owner)

    def _click_code(
        self, yx: Tensor, t_hat: Tensor, padded: Tensor, features: ImageFeatures
    ) -> Tensor | float:
        kind = self.config.positional
        if kind == "none":
            return 0.0
        d = self.config.hidden_dim
        height, width = features.padded_size
        values = {
            "spatio_temporal": [yx[..., 0] / height, yx[..., 1] / width, t_hat],
            "spatial": [yx[..., 0] / height, yx[..., 1] / width],
            "temporal": [t_hat],
        }[kind]
        num_feats = d // 2 if len(values) > 1 else d
        sine = torch.cat([sine_code_1d(v, num_feats) for v in values], dim=-1)
        return self.ca_qpos_sine_proj(torch.where(padded, 0.0, sine))

    def _identities(self, owner: Tensor) -> Tensor:
        """Row of the identity table per query: 0 background, else a code of the instance.

        Identities are names without meaning: training permutes them per picture.
        """
        codes = self.config.identity_codes
        rows = torch.where(owner > 0, (owner - 1) % codes + 1, 0)
        if self.training:
            for i in range(len(rows)):
                shuffled = F.pad(torch.randperm(codes) + 1, (1, 0), value=0)
                rows[i] = shuffled[rows[i]]
        return rows
