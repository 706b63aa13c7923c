"""Print how far this package's network is from the published one, preset by preset.

Usage: ``python benchmarks/golden_parity.py [--preset NAME]... [--case A|B] [--all] [--json]``.
Every row holds the largest absolute deviation from the golden vectors (see tests/golden/README.md):
feature maps, queries, logits, and the share of label pixels that differ. "tipped" counts
attention-mask bits within rounding of 0 that came out the other way; they are set as in the golden
run, and what is left beyond the limits is an error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "golden"))
import parity


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", action="append", choices=list(parity.PRESETS))
    parser.add_argument("--case", action="append", choices=["A", "B"])
    parser.add_argument("--all", action="store_true", help="one line per array")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", action="store_true", help="print one last line of JSON")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = []
    kinds = ("features", "queries", "logits", "labels")
    print(
        f"{'preset':<14}case"
        + "".join(f"{kind:>12}" for kind in kinds)
        + "  tipped   seconds  verdict"
    )
    for preset in arguments.preset or parity.PRESETS:
        for case in arguments.case or ("A", "B"):
            parity.filled_model(preset)
            start = time.perf_counter()
            measured = parity.measure(preset, case)
            deviations = measured.deviations
            seconds = time.perf_counter() - start
            worst = parity.largest(deviations)
            excesses = parity.excesses(case, deviations)
            values = "".join(f"{worst[kind].largest:12.2e}" for kind in kinds)
            verdict = f"{len(excesses)} beyond limits" if excesses else "equal"
            print(
                f"{preset:<14}{case:<4}{values}{measured.tipped_bits:8}{seconds:10.1f}  {verdict}",
                flush=True,
            )
            if arguments.all:
                for name, deviation in deviations.items():
                    print(f"    {name:<36}{deviation.largest:12.2e}{deviation.p99:12.2e}")
            rows.append(
                {
                    "preset": preset,
                    "case": case,
                    **{kind: worst[kind].largest for kind in kinds},
                    "tipped_mask_bits": measured.tipped_bits,
                    "beyond_limits": excesses,
                }
            )
    if arguments.json:
        print(json.dumps({"rows": rows}))
    return int(any(row["beyond_limits"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
