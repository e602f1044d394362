"""How long the command line takes to answer: `lcl --help` and `lcl ingest --help`, each under 0.5 s.

    python benchmarks/startup.py [--runs 11]

Whole processes, median of the runs after one warm-up; `python -c pass` stands beside them as the floor.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

LCL = str(Path(sys.executable).with_name("lcl"))
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "lcl --help": [LCL, "--help"],
    "lcl ingest --help": [LCL, "ingest", "--help"],
    "lcl train --help": [LCL, "train", "--help"],
}


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    runs = parser.parse_args().runs
    for command in COMMANDS.values():
        seconds(command)
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():
            taken[name].append(seconds(command))
    medians = {name: round(statistics.median(each), 3) for name, each in taken.items()}
    print(json.dumps({"runs": runs, "median_s": medians}, indent=1))


if __name__ == "__main__":
    main()
