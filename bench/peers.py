"""Our contact solver beside Rapier, PhysX and Bullet: the same hulls, the same frames, the same measure of overlap, in one run.

    python -m bench.peers --install              once: the peers, from PyPI, into an environment of their own in the cache folder
    python -m bench.peers                        a1000, b1000 and pile: a few CPU minutes
    python -m bench.peers --full                 also a5000 and b4000
    python -m bench.peers --scenes pile --engines demolish rapier --frames 120

Prints a markdown table a scene. Every engine runs in a fresh process of its own and reports its process CPU time, all threads, around
the step alone; runs are taken in turn, so that a busy machine slows them alike. Compare ratios, and only at the overlap beside them.
Steps of 1/60 s and the engine's defaults for everybody (rapier4: four steps of 1/240 s), ours as in shot/params.py
(demolish10 and demolish5: so many sweeps in place of its own number). Overlap is measured on the last poses by separating axes
(bench/peer/overlap.py). Collapses are chaotic, so each engine ends in its own heap: figures of one scene are samples, not limits.
DEMOLISH_PEERS_PYTHON names another Python that has the peers; an engine that is not installed is said to be so. Not measured:
speed-up by threads, GPU solvers, overlap on the way. The ground is a thick fixed box: in Rapier 0.36 hulls sink 0.4 m into a half-space.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.peer.overlap import overlaps_measure
from bench.peer.scenes import SCENES, PeerScene, peer_scene, scene_write
from pipeline.digest import ROOT
from pipeline.store import cache_folder

PACKAGES = {
    "rapier": ("rapier3d",), "rapier4": ("rapier3d",), "pybullet": ("pybullet",),
    "physx": ("ovphysx", "ovstage", "physx-usd-schemas", "newton-usd-schemas"),
}
ENGINES = ("demolish", *PACKAGES)
OURS = ("demolish", "demolish10", "demolish5")
USUAL = ("a1000", "b1000", "pile")
MOVING = 0.05  # [m/s]
LIMIT = 3600  # [s] of waiting for one run


@dataclass(frozen=True)
class Row:
    """What one engine did in one scene; times in ms of process CPU a frame, lengths in mm."""

    version: str
    mean: float
    last: float  # median of the last quarter
    pairs: int  # that overlap
    depth: tuple[float, float, float]  # mean over those pairs, 99th percentile, greatest
    ground: float  # deepest corner under the ground
    moving: float  # share of bodies
    lowered: float  # share of bodies a metre or more under their start


def peers_python() -> Path:
    """The Python that has the peers, there or not."""
    named = os.environ.get("DEMOLISH_PEERS_PYTHON")
    if named:
        return Path(named)
    return cache_folder() / "peers" / "bin" / "python"


def peers_install() -> None:
    """Make the peers' environment; a package without a wheel for this machine is left out, with a word."""
    python = peers_python()
    if not python.exists():
        venv.create(python.parent.parent, with_pip=True)
    for packages in dict.fromkeys([("numpy",), *PACKAGES.values()]):
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *packages], check=False)
        print(f"{' '.join(packages)}: {'installed' if done.returncode == 0 else 'NOT installed'}", flush=True)


def missing(engine: str) -> str:
    """Why the engine cannot run here, or nothing."""
    if engine not in PACKAGES:
        return ""
    python = peers_python()
    if not python.exists():
        return "not installed (python -m bench.peers --install)"
    ask = "import importlib.metadata as m, sys; [m.version(p) for p in sys.argv[1:]]"
    if subprocess.run([python, "-c", ask, *PACKAGES[engine]], capture_output=True, check=False).returncode:
        return f"not installed ({' '.join(PACKAGES[engine])})"
    return ""


def row(engine: str, scene: PeerScene, source: Path, frames: int, threads: int, most: int) -> Row | str:
    """Run one engine, measure its last poses; a string says why there is no row."""
    out = source.with_name(f"{engine}.npz")
    out.unlink(missing_ok=True)
    peer = [peers_python(), ROOT / "bench" / "peer" / "engines.py"]
    command = [*(peer if engine in PACKAGES else [sys.executable, "-m", "bench.peer.ours"]), engine, source, out, frames, threads]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    if engine in PACKAGES:
        env.pop("PYTHONPATH")
    try:
        done = subprocess.run(
            [str(c) for c in command], cwd=ROOT, env=env, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return f"no end in {LIMIT} s"
    if done.returncode or not out.exists():
        return f"failed ({done.returncode}): {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
    got = np.load(out)
    if not (np.isfinite(got["position"]).all() and np.isfinite(got["rotation"]).all()):
        return "left the finite numbers"
    depth, ground, share = overlaps_measure(scene, got["position"], got["rotation"], most)
    shown = depth if len(depth) else np.zeros(1)
    ms = got["ms"]
    return Row(
        version=str(got["version"]), mean=float(ms.mean()), last=float(np.median(ms[-max(1, len(ms) // 4) :])),
        pairs=round(len(depth) / share), depth=(1e3 * shown.mean(), 1e3 * np.quantile(shown, 0.99), 1e3 * shown.max()),
        ground=1e3 * ground.max(), moving=float((got["speed"] > MOVING).mean()),
        lowered=float((scene.position[:, 1] - got["position"][:, 1] > 1).mean()),
    )


def middle(rows: list[Row | str]) -> Row | str:
    """Repeats of one run: median of the times; poses are the same each time or the last is shown."""
    good = [r for r in rows if isinstance(r, Row)]
    if not good:
        return rows[-1]
    return replace(good[-1], mean=float(np.median([r.mean for r in good])), last=float(np.median([r.last for r in good])))


def table(name: str, scene: PeerScene, frames: int, threads: int, rows: dict[str, Row | str]) -> str:
    """The rows of a scene in markdown."""
    lines = [
        f"\n**{name}**: {scene.count} bodies, {len(scene.vertex) / scene.count:.1f} corners each, {frames} frames, {threads} thread(s)\n",
        "| engine | CPU ms/frame mean | last quarter | of Rapier: mean, last | overlap mean / p99 / max mm (pairs) | ground mm "
        "| moving | lowered |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = rows.get("rapier")
    for engine, r in rows.items():
        if isinstance(r, str):
            lines.append(f"| {engine} | {r} | | | | | | |")
            continue
        ratio = f"{r.mean / base.mean:.2f}, {r.last / base.last:.2f}" if isinstance(base, Row) else "-"
        depth = " / ".join(f"{d:.1f}" for d in r.depth)
        lines.append(
            f"| {engine} ({r.version}) | {r.mean:.1f} | {r.last:.1f} | {ratio} | {depth} ({r.pairs}) | {r.ground:.0f} | {r.moving:.2f} | "
            f"{r.lowered:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the scenes and print their tables."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--scenes", nargs="+", choices=list(SCENES), default=list(USUAL))
    ask.add_argument("--full", action="store_true", help="all scenes, also the large ones")
    ask.add_argument("--engines", nargs="+", choices=[*OURS, *PACKAGES], default=list(ENGINES))
    ask.add_argument("--frames", type=int, default=0, help="of 1/60 s; 0 for the scene's own")
    ask.add_argument("--threads", type=int, default=1, help="for those that have them")
    ask.add_argument("--repeats", type=int, default=1, help="medians of the times over so many runs, engines in turn")
    ask.add_argument("--pairs", type=int, default=6000, help="most pairs whose overlap is measured")
    ask.add_argument("--install", action="store_true", help="make the peers' environment and stop")
    given = ask.parse_args()
    if given.install:
        peers_install()
        return
    lacking = {e: missing(e) for e in given.engines}
    for name in list(SCENES) if given.full else given.scenes:
        build, usual = SCENES[name]
        frames = given.frames or usual
        scene = peer_scene(build())
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "scene.npz"
            scene_write(scene, source)
            found: dict[str, list[Row | str]] = {e: [] for e in given.engines}
            for turn in range(given.repeats):
                for engine in given.engines:
                    print(f"{name}: {engine}, run {turn + 1} of {given.repeats}", file=sys.stderr, flush=True)
                    found[engine].append(lacking[engine] or row(engine, scene, source, frames, given.threads, given.pairs))
        print(table(name, scene, frames, given.threads, {e: middle(r) for e, r in found.items()}), flush=True)


if __name__ == "__main__":
    main()
