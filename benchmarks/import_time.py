"""Seconds that imports take in a fresh interpreter, and which heavy packages they bring along.

Usage: ``python benchmarks/import_time.py [--repeats N] [--json]``
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

STATEMENTS = {
    "nothing": "pass",
    "package": "import dynamite_widget",
    "clicks": "from dynamite_widget import Click, ClickSession",
    "widget": "from dynamite_widget import DynaMITeWidget",
    "predictor": "from dynamite_widget import Predictor",
}
HEAVY = ("numpy", "PIL", "ipywidgets", "torch", "timm", "matplotlib")
_PROGRAM = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(wall, cpu, *(name for name in {heavy} if name in sys.modules))
"""


def measure(statement: str, repeats: int) -> dict[str, object]:
    """Run a statement in fresh interpreters; medians of wall and processor seconds."""
    program = _PROGRAM.format(statement=statement, heavy=HEAVY)
    walls, cpus, heavy = [], [], []
    for _ in range(repeats):
        output = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        ).stdout.split()
        walls.append(float(output[0]))
        cpus.append(float(output[1]))
        heavy = output[2:]
    return {
        "wall_s": round(statistics.median(walls), 4),
        "cpu_s": round(statistics.median(cpus), 4),
        "imports": heavy,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one last line of JSON")
    arguments = parser.parse_args()
    rows = []
    print(f"{'':<12}{'wall s':>9}{'CPU s':>9}   brings along")
    for name, statement in STATEMENTS.items():
        row = measure(statement, arguments.repeats)
        imports = row["imports"]
        assert isinstance(imports, list)
        print(f"{name:<12}{row['wall_s']:>9}{row['cpu_s']:>9}   {', '.join(imports)}", flush=True)
        rows.append({"name": name, "statement": statement, **row})
    if arguments.json:
        print(json.dumps({"rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
