"""Clicks by recorded graphs, on the CPU: recordings stand in for CUDA graphs.

`FxRecorder` records the operations of one run on the very memory they read, and repeats them; what
was a number in Python while recording stays that number. So if a recording answers other clicks and
another picture as the network itself does, nothing of the first ones is part of it.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from dynamite_widget.model import graphs
from dynamite_widget.model.config import ModelConfig
from dynamite_widget.model.dynamite import DynaMITe
from dynamite_widget.model.graphs import CudaRecorder, GraphedClicks, Recorded, padded_queries
from dynamite_widget.model.interactive import InteractiveTransformer
from dynamite_widget.model.structures import (
    ClickTensors,
    Decoded,
    ImageFeatures,
    PreparedFeatures,
    StagedClicks,
)

SMALL = ModelConfig(
    "small",
    "none",
    hidden_dim=32,
    heads=4,
    encoder_layers=4,
    encoder_ffn=48,
    decoder_layers=2,
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

    decode_clicks = DynaMITe.decode_clicks

    def picture(self, seed: int, size: tuple[int, int] = (64, 96)) -> PreparedFeatures:
        generator = torch.Generator().manual_seed(seed)
        d, (h, w) = self.config.hidden_dim, size
        maps = (torch.randn(1, d, h // s, w // s, generator=generator) for s in (32, 16, 8, 4))
        *levels, finest = maps
        with torch.inference_mode():
            return self.transformer.prepare(ImageFeatures(tuple(levels), finest, None, size))


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
        with torch.no_grad():
            recorded = make_fx(compute)()
            output = recorded().clone()
        return Recorded(lambda: output.copy_(recorded()), output)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        self.inside += 1
        yield
        self.inside -= 1


@pytest.fixture(scope="module")
def network() -> Network:
    return Network()


@pytest.fixture
def graphed(network: Network) -> GraphedClicks:
    return GraphedClicks(network, FxRecorder())


def same(found: Decoded, network: Network, picture: PreparedFeatures, own: ClickTensors) -> None:
    with torch.inference_mode():
        expected = network.decode_clicks(picture, [own]).final
    torch.testing.assert_close(found.final.logits, expected.logits, rtol=1e-3, atol=2e-4)
    assert torch.equal(found.final.channel_instance, expected.channel_instance)
