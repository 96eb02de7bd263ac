"""What a whole job costs on this machine, and how still it ends.

    python -m bench.job apartment_block            the main job on an empty store
    python -m bench.job wall --preview             any shot, with -s key=value
    python -m bench.job apartment_block --store F  the end of what store F already holds

Runs `demolish run` on an empty store in a process of its own and prints wall and CPU seconds, the highest memory of all its processes
together (proportional set size: what they share counts once), seconds until the first picture, seconds of each stage, the share of
pieces that still move in the last twelve frames, and what the energy ledger fails to close by. `--store` keeps the store, or measures
the end of what is already there. Linux only: no other system tells what processes share. Memory is read twice a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from pipeline.digest import ROOT
from pipeline.preview import preview_of
from pipeline.run import run
from shot.load import shot_load
from shot.results import Motion
from sim.ledger import residual

LAST = 12  # frames
SLOW, FAST = 0.05, 0.5  # [m/s]


def memory(process: psutil.Process) -> float:
    """[MB] proportional set size of a process and all that it started."""
    total = 0
    with contextlib.suppress(psutil.Error):  # it has just ended
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_full_info().pss
    return total / 2**20


def job_run(words: list[str], store: Path, out: Path) -> None:
    """Run the job and print what it took. Raises SystemExit with its exit code if it fails."""
    command = [sys.executable, "-P", str(ROOT / "cli.py"), "run", *words, "-o", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DEMOLISH_CACHE": str(store)}
    begun, peak, first = time.monotonic(), 0.0, 0.0
    process = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, memory(process))
        if not first and next(out.rglob("*.[0-9]*.png"), None):
            first = time.monotonic() - begun
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(process.returncode)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"wall {time.monotonic() - begun:.0f} s, CPU {used.ru_utime + used.ru_stime:.0f} s, peak {peak:.0f} MB in all processes together")
    print(f"first picture after {first:.1f} s")
    told = json.loads(next(out.rglob("run.json")).read_text())
    print("seconds: " + ", ".join(f"{stage} {spent:.0f}" for stage, spent in told["seconds"].items()))


def end_print(motion: Motion, frames: list[int]) -> None:
    """What moves in the last frames, and what the ledger leaves open."""
    speed = np.array([np.linalg.norm(motion.frame(frame)["velocity"], axis=1) for frame in frames[-LAST:]])
    print(f"last {len(speed)} frames: faster than {SLOW * 100:g} cm/s "
          f"{(speed > SLOW).mean():.2%} of the pieces ({(speed[0] > SLOW).mean():.2%} to {(speed[-1] > SLOW).mean():.2%}), "
          f"than {FAST:g} m/s {(speed > FAST).mean():.2%}, median {np.median(speed) * 1e3:.2f} mm/s")
    ledger = np.array([motion.frame(frame)["ledger"] for frame in (frames[0], frames[-1])])
    freed = -float(np.diff(ledger[:, Motion.LEDGER.index("potential")])[0])
    print(f"energy: {freed / 1e6:.3g} MJ set free, {residual(ledger)[-1] / max(freed, 1e-9):.2%} of it not closed")


def main() -> None:
    """One job, five lines."""
    parser = argparse.ArgumentParser(description="Cost of a whole job, and how still it ends.")
    parser.add_argument("shot", nargs="?", default="wall")
    parser.add_argument("--preview", action="store_true")
    parser.add_argument("--store", type=Path, default=None)
    parser.add_argument("-s", dest="overrides", action="append", default=[])
    options = parser.parse_args()
    loaded = shot_load(options.shot, options.overrides, ROOT / "assets" / "shots")
    loaded = preview_of(loaded)[0] if options.preview else loaded
    words = [options.shot, *["--preview"] * options.preview, *[word for value in options.overrides for word in ("-s", value)]]
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or Path(folder) / "store"
        if not (store / "simulate").is_dir():
            job_run(words, store, Path(folder) / "out")
        end_print(run(loaded, None, "simulate", root=store).results["simulate"], list(loaded.shot.frame_range))


if __name__ == "__main__":
    main()
