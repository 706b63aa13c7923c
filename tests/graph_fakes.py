"""Stand-ins for tests of clicks by graph: a network without its backbone, and a recorder.

`FxRecorder` records the operations of one run on the very memory they read, and repeats them, as a
CUDA graph does; what was a number in Python while recording stays that number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from dynamite_widget.model.config import ModelConfig
from dynamite_widget.model.dynamite import DynaMITe
from dynamite_widget.model.graphs import Recorded
from dynamite_widget.model.interactive import InteractiveTransformer
from dynamite_widget.model.structures import (
    ClickTensors,
    ImageFeatures,
    PreparedFeatures,
)

SMALL = ModelConfig(
    "small",
    "none",
    short_side=None,
    max_long_side=96,
    hidden_dim=32,
    heads=4,
    encoder_layers=3,
    encoder_ffn=48,
    decoder_layers=1,
    decoder_ffn=48,
)


class Network(nn.Module):
    """`DynaMITe` without backbone and pixel decoder."""

    def __init__(self, config: ModelConfig = SMALL) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = config
        self.transformer = InteractiveTransformer(config, 24)
        with torch.no_grad():
            # Masks that cover a part of the picture, not nearly nothing or all.
            for parameter in self.transformer.mask_embed.parameters():
                parameter.mul_(3)
        self.eval()

    decode_clicks: Any = DynaMITe.decode_clicks

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        mixed = (
            pixels.mean(1, keepdim=True)
            * torch.linspace(-1, 1, self.config.hidden_dim)[:, None, None]
        )
        *levels, finest = (F.avg_pool2d(mixed, s) for s in (32, 16, 8, 4))
        size = (pixels.shape[2], pixels.shape[3])
        return ImageFeatures(tuple(levels), finest, None, size)

    def prepare(self, features: ImageFeatures) -> PreparedFeatures:
        return self.transformer.prepare(features)

    def picture(self, seed: int, size: tuple[int, int] = (64, 96)) -> PreparedFeatures:
        generator = torch.Generator().manual_seed(seed)
        d, (h, w) = self.config.hidden_dim, size
        maps = (torch.randn(1, d, h // s, w // s, generator=generator) for s in (32, 16, 8, 4))
        *levels, finest = maps
        with torch.inference_mode():
            return self.prepare(ImageFeatures(tuple(levels), finest, None, size))


def clicks(count: int, seed: int = 0, size: tuple[int, int] = (64, 96)) -> ClickTensors:
    rng = np.random.default_rng(seed)
    instance = rng.integers(0, 5, count)
    instance[rng.integers(count)] = 1 + seed % 7
    return ClickTensors(
        torch.from_numpy((rng.random((count, 2)) * size).astype(np.float32)),
        torch.from_numpy(rng.choice(900, count, replace=False)),
        torch.from_numpy(instance),
    )


class FxRecorder:
    """Records with `make_fx`: a list of operations and the tensors that they read."""

    def __init__(self) -> None:
        self.recordings = 0
        self.inside = 0

    def record(self, compute: Callable[[], Tensor]) -> Recorded:
        assert self.inside == 1, "recordings are made in turn"
        self.recordings += 1
        recorded = make_fx(compute)()
        output = recorded().clone()
        return Recorded(lambda: output.copy_(recorded()), output)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
