"""What 8-bit integers would bring for the refinement of ``lite``, most of its click.

Each convolution of the refinement head on the map of a 1024 x 683 photograph, one thread: float32,
bfloat16 (as used where the processor has it) and int8 with fixed scales, without the steps between
that would have to quantise again. So this is the most that int8 can bring, before its accuracy.

Usage: ``python benchmarks/int8.py [--repeats N] [--json]``
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dynamite_widget.model.checkpoints import load_model
from dynamite_widget.model.refine import RefineHead
from dynamite_widget.model.refine_near import _Convolutions

SIZE = (88, 128)


def inputs_of(head: RefineHead) -> dict[str, Tensor]:
    """Input of every convolution that a click runs, by the name of the layer."""
    found: dict[str, Tensor] = {}
    names = {layer: name for name, layer in head.named_modules()}

    def convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
        found[names[layer]] = x.clone()
        return layer(x)

    guides = torch.randn(1, head.guide_conv.in_channels, *SIZE)
    head.change(guides, torch.randn(1, head.guide_conv.out_channels, *SIZE), convolve)
    return found


def quantised(layer: nn.Conv2d, x: Tensor) -> Callable[[], Tensor]:
    """Return the layer's convolution on 8-bit integers."""
    values = torch.quantize_per_tensor(x, float(x.abs().max()) / 127, 128, torch.quint8)
    largest = layer.weight.abs().amax(dim=(1, 2, 3)) / 127
    zero = torch.zeros(len(largest), dtype=torch.int64)
    weight = torch.quantize_per_channel(layer.weight, largest, zero, 0, torch.qint8)
    packed = torch.ops.quantized.conv2d_prepack(
        weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups
    )
    values = values.contiguous(memory_format=torch.channels_last)
    return lambda: torch.ops.quantized.conv2d_relu(values, packed, 0.05, 128)


def plain(
    head: RefineHead, layer: nn.Conv2d, x: Tensor, dtype: torch.dtype
) -> Callable[[], Tensor]:
    """Return the layer's convolution in a floating type, as a click runs it."""
    x, convolve = x.to(dtype, memory_format=torch.channels_last), _Convolutions(head, dtype)
    return lambda: convolve(layer, x).relu_()


def microseconds(call: Callable[[], Tensor], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e6)
    return statistics.median(times)


@torch.inference_mode()
def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="print one last line of JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*quantize.*")
    head = load_model("lite", device="cpu").transformer.refine
    assert isinstance(head, RefineHead)
    layers, kinds = dict(head.named_modules()), ("float32", "bfloat16", "int8")
    total, rows = dict.fromkeys(kinds, 0.0), []
    print(f"{'layer':<16}" + "".join(f"{kind:>10}" for kind in kinds) + "  (microseconds)")
    for name, x in inputs_of(head).items():
        layer = layers[name]
        assert isinstance(layer, nn.Conv2d)
        calls = {
            "float32": plain(head, layer, x, torch.float32),
            "bfloat16": plain(head, layer, x, torch.bfloat16),
            "int8": quantised(layer, x),
        }
        row = {kind: microseconds(call, arguments.repeats) for kind, call in calls.items()}
        for kind, value in row.items():
            total[kind] += value
        rows.append({"layer": name, **row})
        print(f"{name:<16}" + "".join(f"{row[kind]:>10.0f}" for kind in kinds))
    print(f"{'all':<16}" + "".join(f"{total[kind]:>10.0f}" for kind in kinds))
    if arguments.json:
        print(json.dumps({"rows": rows, "all": total}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
