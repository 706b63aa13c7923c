"""Multiply-adds and bytes of every part of the network: what a picture and a click must cost.

Counted, not timed: the network runs on PyTorch's meta device (shapes only) in the layer-by-layer
order, so that the numbers belong to no machine. Bytes are those of all inputs and outputs of all
operators, as if nothing stayed in a cache. With ``--gflops`` the smallest possible time at that
speed is printed, too. ``lite``'s refinement depends on the clicks' places and runs on the CPU.

Usage: ``python benchmarks/roofline.py [--preset NAME]... [--clicks 5,100] [--gflops 75]``
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from dynamite_widget.model.config import PRESETS, get_config
from dynamite_widget.model.dynamite import build_model
from dynamite_widget.model.resize import network_size_for, padded_size
from dynamite_widget.model.structures import ClickTensors


class _Bytes(TorchDispatchMode):
    """Adds up the bytes that operators read and write (views cost nothing)."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            for leaf in tree_leaves((args, kwargs or {}, result)):
                if isinstance(leaf, Tensor):
                    self.total += leaf.numel() * leaf.element_size()
        return result


class Counter:
    """Multiply-adds and bytes per part, filled by hooks around its modules."""

    def __init__(self) -> None:
        self.parts: dict[str, list[int]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        flops, traffic = FlopCounterMode(display=False), _Bytes()
        with flops, traffic:
            yield
        entry = self.parts.setdefault(name, [0, 0])
        entry[0] += flops.get_total_flops() // 2
        entry[1] += traffic.total


def count(preset: str, long_side: int, clicks: int) -> dict[str, list[int]]:
    """Multiply-adds and bytes of each part, for a 4:3 picture."""
    config = get_config(preset)
    device = "cpu" if config.refine_width else "meta"
    with torch.device(device):
        model = build_model(config).eval()
    net = model.transformer
    height, width = padded_size(*network_size_for(config, long_side * 3 // 4, long_side))
    generator = torch.Generator().manual_seed(0)
    yx = torch.rand(clicks, 2, generator=generator) * torch.tensor([height, width])
    instances = torch.tensor([0 if n % 5 == 4 else n % 10 + 1 for n in range(clicks)])
    tensors = ClickTensors(yx, torch.arange(clicks), instances)
    counter = Counter()
    pixels = torch.zeros(1, 3, height, width, device=device)
    # The meta device knows no autocast.
    plain = mock.patch.object(torch, "autocast", return_value=nullcontext())
    with torch.inference_mode(), plain:
        with counter.part("picture: backbone"):
            maps = model.backbone(pixels)
        with counter.part("picture: pixel decoder"):
            model.pixel_decoder(maps)
        features = model.encode_image(pixels)
        with counter.part("picture: prepare"):
            prepared = net.prepare(features)
        with counter.part("click: queries"):
            queries = net.queries(features, [tensors])
        x = queries.content
        for i in range(config.encoder_layers):
            with counter.part("click: encoder"):
                x = net._encoder_layer(i, x, queries, prepared, i % 3, None)
        if net.decoder is not None:
            for cross, ffn in net.decoder.layers():
                for name, layer in (("attention", cross), ("perceptron", ffn)):
                    layer.register_forward_pre_hook(_enter(counter, f"click: decoder {name}"))
                    layer.register_forward_hook(_leave)
        with counter.part("click: decoder, head (all)"):
            final = net._decoded_logits(x, queries, prepared, None, exact=True)
        if net.refine is not None:
            from dynamite_widget.model.structures import Prediction

            with counter.part("click: refinement"):
                net._refined(Prediction(final, queries.owner), queries, prepared, True)
    return counter.parts


_open: list[Any] = []


def _enter(counter: Counter, name: str) -> Callable[..., None]:
    def hook(*_arguments: Any) -> None:
        context = counter.part(name)
        context.__enter__()
        _open.append(context)

    return hook


def _leave(*_arguments: Any) -> None:
    _open.pop().__exit__(None, None, None)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", action="append", choices=list(PRESETS))
    parser.add_argument("--long-side", type=int, default=1024, help="of a 4:3 picture, in pixels")
    parser.add_argument("--clicks", default="5,100")
    parser.add_argument("--gflops", type=float, help="speed of the machine in 10^9 operations / s")
    parser.add_argument("--json", action="store_true", help="print one last line of JSON")
    arguments = parser.parse_args()
    counts = [int(part) for part in arguments.clicks.split(",")]
    rows = []
    print(f"{'preset':<14}{'part':<32}{'clicks':>7}{'10^9 multiply-adds':>20}{'MB':>10}")
    for preset in arguments.preset or PRESETS:
        for position, clicks in enumerate(counts):
            for part, (products, traffic) in count(preset, arguments.long_side, clicks).items():
                if position and part.startswith("picture"):
                    continue
                line = (
                    f"{preset:<14}{part:<32}{clicks:>7}{products / 1e9:20.2f}{traffic / 1e6:10.0f}"
                )
                if arguments.gflops:
                    line += f"   >= {2 * products / arguments.gflops / 1e6:.0f} ms"
                print(line, flush=True)
                rows.append(
                    {
                        "preset": preset,
                        "part": part,
                        "clicks": clicks,
                        "multiply_adds": products,
                        "bytes": traffic,
                    }
                )
    if arguments.json:
        print(json.dumps({"rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
