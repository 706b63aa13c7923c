"""What every backbone promises: four feature maps, their widths, and its names in published files.

The networks themselves live in the sibling modules; here is only the interface.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["Backbone", "DropPath"]


class Backbone(nn.Module):
    """Base class of the image encoders.

    Attributes
    ----------
    channels : tuple of 4 int
        Widths of the maps at strides 4, 8, 16 and 32.
    adds_in_float32 : bool
        Whether sums over layers and norms stay float32 under bfloat16 autocast; otherwise
        bfloat16's eight bits would lose too much from layer to layer.
    """

    channels: tuple[int, int, int, int]
    adds_in_float32 = False

    @abstractmethod
    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Encode a batch of pictures.

        Parameters
        ----------
        pixels : Tensor of shape (B, 3, H, W), float
            Normalised RGB; H and W are multiples of 32 and may differ from call to call.

        Returns
        -------
        list of 4 Tensor
            ``[b4, b8, b16, b32]``, each ``(B, channels[i], H / stride, W / stride)``.
        """

    def reference_key(self, key: str) -> str:
        """Name that the authors' checkpoints give to our state-dict entry `key` (no prefix)."""
        return key

    def reference_constants(self) -> dict[str, Tensor]:
        """Entries of the authors' checkpoints that we compute instead of storing (no prefix)."""
        return {}


class DropPath(nn.Module):
    """Stochastic depth: while training, drop a residual branch per sample and rescale the rest."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Return `branch`, of any shape (B, ...), with some samples set to zero."""
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        shape = (branch.shape[0],) + (1,) * (branch.dim() - 1)
        return branch * (torch.rand(shape, device=branch.device) < keep).to(branch.dtype) / keep
