"""A bonded building beside engines that have breakable joints: does it stand, how wrong is its stress, and what does its collapse cost?

    python -m bench.peers --install              once: the peers, from PyPI, into an environment of their own in the cache folder
    python -m bench.bonded                       ten storeys, about 5 000 fragments: half an hour of CPU
    python -m bench.bonded --storeys 3 --engines demolish rapier --frames 30

One concrete frame with slabs and core (our own building and shatter), the same hulls and bonds for everybody, steps of 1/60 s, one thread.
Peers hold each bond by a fixed joint that breaks by a force and a torque: our tensile and bending capacity there, or twice what exact
statics puts on it if that is more, so that with the right forces nothing breaks while the building stands. Numbers behind a name are
solver iterations, else they are the engine's default.

    stands    nothing happens for `--stand` frames, in the first half of which the host breaks no joint, for peers start unstressed:
              joints that broke, greatest sinking of a fragment
    stress    forces of the joints at the end of that, against the lattice solved by a sparse factor: relative error of |F| over the half
              of the bonds that carry most, median and 95 % quantile, moments likewise. Ours: the solver that steps use, cold
    falls     columns, core and walls of the ground floor are gone from the first frame: CPU ms a frame, the mean of `--frames`; how far
              the roof came down; joints that broke

Reading forces and removing joints is the host's work and not timed. Of PhysX the binding tells neither forces nor breaks: a joint counts
as broken where its two sides are APART apart. A joint network of rigid bodies has no elasticity: where statics does not determine the
forces, an engine's are whatever its iteration stops at.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.contact import Scene
from bench.peer.scenes import PeerScene, peer_scene
from bench.peers import ROOT, missing, peers_python
from pipeline.run import run
from shot.load import shot_load
from shot.params import Event, Shot
from shot.results import GROUND, Bonds, Fragments
from shot.rotation import rotate
from sim.bond import sections
from sim.cluster import bonds_inside, clusters
from sim.collapse import fragments_reduced
from sim.erect import weight_of
from sim.event import bonds_cut, rubble, schedule
from sim.stress import bond_strains, lattice_build, system_build, system_solve

PIECE = 0.9  # [m] of ten storeys makes 4 950 fragments
APART = 0.02  # [m]
CUT = Event(kind="cut", frame=1002, lower=(-50, 0, -50), upper=(50, 2.7, 50), members=("column", "core", "wall", "infill"))
ENGINES = ("demolish", "rapier", "rapier32", "rapier128", "physx", "physx64", "physx255", "pybullet")
LIMIT = 1200  # [s] of waiting for one run
FIRST = 10  # frames of Bullet alone, whose time a frame is too long for more


@dataclass(frozen=True)
class Building:
    """The standing building and what exact statics says of it."""

    shot: Shot
    fragments: Fragments
    bonds: Bonds
    force: np.ndarray  # (B) [N]
    moment: np.ndarray  # (B) [N m]
    ours: tuple[np.ndarray, np.ndarray]  # the same by the solver that steps use


@dataclass(frozen=True)
class Row:
    """One engine; nan and -1 where it does not tell."""

    version: str
    spurious: int
    sunk: float  # [mm]
    force: tuple[float, float]  # relative error, median and 95 %
    moment: tuple[float, float]
    standing: float  # [ms] a frame
    falling: float  # [ms] a frame
    lowered: float  # [m]
    broken: int


def main() -> None:
    """All engines, one table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--storeys", type=int, default=10)
    ask.add_argument("--piece", type=float, default=PIECE)
    ask.add_argument("--engines", nargs="+", default=list(ENGINES), help="rapier, physx, pybullet with or without iterations; demolish")
    ask.add_argument("--frames", type=int, default=150, help="of the fall")
    ask.add_argument("--stand", type=int, default=60, help="frames of standing")
    ask.add_argument("--cache", type=Path, default=None)
    given = ask.parse_args()
    building = building_made(given.storeys, given.piece, given.cache)
    print(f"{building.fragments.count} fragments, {building.bonds.count} bonds; {given.stand} frames standing, {given.frames} falling\n")
    print("| engine | breaks while it stands | sinks mm | error of force, median / 95 % | of moment | CPU ms a frame standing "
          "| falling | over ours | roof came down m | bonds broke |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    ours = float("nan")
    for name in given.engines:
        row = ours_row(building, given) if name == "demolish" else peer_row(name, building, given)
        if isinstance(row, str):
            print(f"| {name} | {row} | | | | | | | | |", flush=True)
            continue
        ours = row.falling if name == "demolish" else ours
        error = [" / ".join("-" if np.isnan(e) else f"{100 * e:.3g} %" for e in pair) for pair in (row.force, row.moment)]
        print(f"| {name} ({row.version}) | {row.spurious} | {row.sunk:.0f} | {error[0]} | {error[1]} | {row.standing:.0f} "
              f"| {row.falling:.0f} | {row.falling / ours:.2f} | {row.lowered:.1f} | {row.broken} |", flush=True)


def building_made(storeys: int, piece: float, cache: Path | None) -> Building:
    """Frame, slabs and core, every fragment one convex hull."""
    wanted = (f"building.storeys={storeys}", f"fracture.piece={piece}", "building.facade=0", "building.infill=0", "events=[]", "fps=60",
              "fracture.strength_scale=1.0", "frames=1000")
    loaded = shot_load("apartment_block", wanted, ROOT / "assets" / "shots")
    with tempfile.TemporaryDirectory() as folder:
        fragments, bonds = run(loaded, None, "shatter", Path(folder), cache).results["shatter"]
    exact = statics(loaded.shot, fragments, bonds, direct=True)
    return Building(loaded.shot, fragments, bonds, *exact, ours=statics(loaded.shot, fragments, bonds, direct=False))


def statics(shot: Shot, fragments: Fragments, bonds: Bonds, direct: bool) -> tuple[np.ndarray, np.ndarray]:
    """(B) [N] force and (B) [N m] moment of every bond under the building's weight, first order: by a sparse factor, or as steps do."""
    lattice = lattice_build(fragments, bonds)
    state = np.zeros(bonds.count, np.int8)
    label, held = clusters(bonds, state, fragments.count)
    inside = bonds_inside(bonds, state, label, held)
    load = weight_of(fragments, held, shot.sim.gravity)
    system = system_build(lattice, label, held, inside, 1.0, 0.0, fragments.count if direct else shot.sim.stress_direct)
    u, rows = np.zeros((fragments.count, 6)), system.fragment
    u[rows] = system_solve(system, load[rows], u[rows], shot.sim.stress_tolerance, shot.sim.stress_iterations)[0]
    q = lattice.stiffness * bond_strains(lattice, np.arange(bonds.count), u) * inside[:, None]
    return np.linalg.norm(q[:, :3], axis=1), np.linalg.norm(q[:, 3:], axis=1)


def errors(building: Building, force: np.ndarray, moment: np.ndarray) -> list[tuple[float, float]]:
    """Median and 95 % quantile of the relative errors of both."""
    found = []
    for exact, got in ((building.force, force), (building.moment, moment)):
        loaded = exact >= np.median(exact)
        error = np.abs(got - exact)[loaded] / exact[loaded]
        found.append((float(np.median(error)), float(np.quantile(error, 0.95))))
    return found


def ours_row(building: Building, given: argparse.Namespace) -> Row:
    """Our own steps, in this process."""
    from shot.device import taichi_open

    taichi_open("cpu", 1)
    from importlib.metadata import version

    ours_run(building, (CUT,), 2)  # kernels are compiled or loaded
    _, steady, _, held, sunk = ours_run(building, (), given.stand)
    _, ms, roof, broken, _ = ours_run(building, (CUT,), given.frames)
    force, moment = errors(building, *building.ours)
    return Row(f"demolish {version('demolish')}", held, 1e3 * sunk, force, moment, float(steady.mean()), float(ms.mean()), roof, broken)


def ours_run(building: Building, events: tuple[Event, ...], frames: int) -> tuple[Any, np.ndarray, float, int, float]:
    """Some frames of the building under events: the state, CPU ms of each, how far its roof came down, bonds broken, deepest sinking."""
    from shot.results import BOND_INTACT
    from sim.collapse import Records, collapse_create
    from sim.step import step
    from sim.world import fragments_read

    shot = building.shot.model_copy(update={"events": events})
    c, ms = collapse_create(shot, building.fragments, building.bonds), np.zeros(frames)
    cut = int(np.count_nonzero(bond_is_cut(building))) if events else 0
    for frame in range(frames):
        c.records = Records()
        clock = time.process_time_ns()
        for _ in range(shot.steps_per_frame):
            step(c)
        ms[frame] = (time.process_time_ns() - clock) / 1e6
    place = fragments_read(c.world).position
    fell = building.fragments.position[:, 1] - place[:, 1]
    return c, ms, lowered(building, place), int(np.count_nonzero(c.breakage.state != BOND_INTACT)) - cut, float(fell.max())


def lowered(building: Building, position: np.ndarray) -> float:
    """[m] that the highest tenth of the fragments came down, median."""
    rest = building.fragments.position[:, 1]
    top = rest >= np.quantile(rest, 0.9)
    return float(np.median((rest - position[:, 1])[top]))


def bond_is_cut(building: Building) -> np.ndarray:
    """(B) bool."""
    plan = schedule((CUT,), building.shot.first, building.shot.fps, building.shot.steps_per_frame, building.fragments, building.bonds)
    gone = np.zeros(building.bonds.count, bool)
    gone[np.concatenate([bonds_cut(plan, step) for step in range(10)])] = True
    return gone


def peer_row(name: str, building: Building, given: argparse.Namespace) -> Row | str:
    """One of the peers, standing and falling."""
    engine = name.rstrip("0123456789")
    if lacks := missing(engine):
        return lacks
    rounds = int(name[len(engine) :] or 0)
    frames = (FIRST, FIRST) if engine == "pybullet" else (given.stand, given.frames)
    stand = peer_run(engine, rounds, building, np.zeros(building.bonds.count, bool), frames[0], (), frames[0] // 2)
    fall = peer_run(engine, rounds, building, bond_is_cut(building), frames[1], (CUT,), 0)
    if isinstance(stand, str) or isinstance(fall, str):
        return stand if isinstance(stand, str) else str(fall)
    sunk = 1e3 * float((building.fragments.position - stand["position"])[:, 1].max())
    told = bool((stand["broken"] >= 0).all())
    counts = [int(r["broken"].sum()) if told else opened(building, r) for r in (stand, fall)]
    force, moment = errors(building, stand["force"], stand["torque"])
    return Row(str(stand["version"]), counts[0], sunk, force, moment, float(stand["ms"].mean()), float(fall["ms"].mean()),
               lowered(building, fall["position"]), counts[1])


def peer_run(
    engine: str, rounds: int, building: Building, gone: np.ndarray, frames: int, events: tuple[Event, ...], whole: int
) -> dict[str, np.ndarray] | str:
    """The building without the bonds that are `gone` (B); a string says why nothing came back."""
    fragments = fragments_reduced(building.fragments, rubble(events, building.fragments))
    kept, b = np.flatnonzero(~gone), building.bonds
    section = sections(b, building.shot.sim)
    pull = np.maximum(b.tension * b.area, section.bars[:, 0])
    bend = np.maximum(section.flexure * b.tension[:, None] * section.modulus, section.bars[:, 4:]).max(axis=1)
    scene: dict[str, Any] = asdict(shrunk(peer_scene(Scene(fragments)), building.shot.fracture.shrink)) | {
        "bond_a": b.fragment_a[kept], "bond_b": np.where(b.fragment_b == GROUND, -1, b.fragment_b)[kept], "bond_point": b.centroid[kept],
        "bond_force": np.maximum(pull, 2.0 * building.force)[kept], "bond_torque": np.maximum(bend, 2.0 * building.moment)[kept],
        "iterations": np.array(rounds),
    }
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "scene.npz", Path(folder) / "out.npz"
        np.savez(source, **scene)
        command = [peers_python(), ROOT / "bench" / "peer" / "jointed.py", engine, source, out, frames, whole]
        words: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        try:
            done = subprocess.run([str(c) for c in command], check=False, timeout=LIMIT, **words)
        except subprocess.TimeoutExpired:
            return f"no end in {LIMIT} s"
        if done.returncode or not out.exists():
            return f"failed ({done.returncode}): {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
        with np.load(out) as data:
            got = {k: data[k] for k in data.files}
    if not np.isfinite(got["position"]).all():
        return "left the finite numbers"
    return got | {"kept": kept}


def shrunk(scene: PeerScene, share: float) -> PeerScene:
    """Hulls smaller by this share about their centres, as our solver has them."""
    each = np.diff(scene.vertex_start)
    centre = np.add.reduceat(scene.vertex, scene.vertex_start[:-1]) / each[:, None]
    centre = np.repeat(centre, each, axis=0)
    return replace(scene, vertex=centre + (1 - share) * (scene.vertex - centre), half=(1 - share) * scene.half)


def opened(building: Building, got: dict[str, np.ndarray]) -> int:
    """Joints whose two sides are apart."""
    b, kept, rest = building.bonds, got["kept"], building.fragments.position
    sides = []
    for fragment in (b.fragment_a[kept], b.fragment_b[kept]):
        arm = rotate(got["rotation"][fragment], b.centroid[kept] - rest[fragment])
        sides.append(np.where((fragment == GROUND)[:, None], b.centroid[kept], got["position"][fragment] + arm))
    return int(np.count_nonzero(np.linalg.norm(sides[0] - sides[1], axis=1) > APART))


if __name__ == "__main__":
    main()
