"""How long a user waits for the first simulated frame: CPU time of a start without compiled kernels, and of every later one.

    python -m bench.start [SHOT] [--repeats 3]

`demolish run SHOT --to simulate` for the first two frames (the second is the first that is stepped), each time in a fresh process and
with an empty store, so that building, fracture, stress at rest and one frame are in it. Cold: Taichi's kernel cache is an empty folder.
Warm: the folder that the cold run left. Larger: warm, another scene of more storeys and pieces, which must not add a kernel to the folder
nor rebuild one. Times are process CPU times (user and system) of the whole command; imports alone are timed beside them.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pipeline.digest import ROOT

SHOT = ROOT / "tests" / "shots" / "tiny_frame.toml"
LARGER = ("-s", "building.storeys=4", "-s", "building.bays_x=3", "-s", "fracture.piece=1.3")
BOUNDS = {"cold": 120.0, "warm": 10.0, "larger": float("nan")}  # [CPU s]
KERNELS = ".tic"  # how Taichi's compiled kernels end
IMPORTS = "import taichi, sim.simulate, sim.fracture, assets.building"


def main() -> None:
    """Cold, warm and larger, one table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("shot", nargs="?", default=str(SHOT))
    ask.add_argument("--repeats", type=int, default=3, help="of the warm start, median")
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as kernels:
        rows = {"cold": [started(given.shot, (), kernels)]}
        had = compiled(kernels)
        rows["warm"] = [started(given.shot, (), kernels) for _ in range(given.repeats)]
        again = compiled(kernels)
        rows["larger"] = [started(given.shot, LARGER, kernels)]
        added = {"cold": len(had), "warm": changed(had, again), "larger": changed(again, compiled(kernels))}
    print("| start | CPU s | bound | kernels compiled |\n|---|---|---|---|")
    for name, seconds in rows.items():
        middle, bound = float(np.median(seconds)), BOUNDS[name]
        verdict = "" if np.isnan(bound) else f"{bound:g}, {'met' if middle <= bound else 'NOT met'}"
        print(f"| {name} | {middle:.1f} | {verdict} | {added[name]} |")
    print(f"| imports alone | {cpu([sys.executable, '-c', IMPORTS], {}):.1f} | | |")


def started(shot: str, more: tuple[str, ...], kernels: str) -> float:
    """[CPU s] of the command up to the first frame that is stepped."""
    with tempfile.TemporaryDirectory() as store:
        command = ["run", shot, *more, "--to", "simulate", "--frames", "1001-1002", "-q", "-o", f"{store}/out"]
        setting = {"DEMOLISH_CACHE": store, "TI_OFFLINE_CACHE_FILE_PATH": kernels}
        return cpu([sys.executable, "-c", "import cli; cli.main()", *command], setting)


def cpu(command: list[str], setting: dict[str, str]) -> float:
    """[s] of process time of a command that ends well."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, env=os.environ | setting, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compiled(kernels: str) -> dict[str, int]:
    """When each compiled kernel in the folder was written [ns]."""
    return {str(p): p.stat().st_mtime_ns for p in Path(kernels).rglob(f"*{KERNELS}")}


def changed(before: dict[str, int], after: dict[str, int]) -> int:
    """Kernels that are new or were written again."""
    return sum(before.get(name) != written for name, written in after.items())


if __name__ == "__main__":
    main()
