"""The stages of a shot, in order: what each reads of the shot, which results it takes, and the function that makes it.

This is the table of contents of the project. `pipeline/run.py` walks it; the functions are imported only when they run,
so that listing or a dry run loads no solver. `reads` are dotted paths of `shot/params.py` ('*' any key, a leading '!' leaves a path out);
whatever a stage does not list here it cannot see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.digest import ROOT, file_digest
from pipeline.mesh_files import mesh_files
from shot import results
from shot.errors import MissingResource
from shot.frames import FrameFolder
from shot.params import Shot
from shot.results import Progress

WEIGHTS = ROOT / "assets" / "weights"


@dataclass(frozen=True)
class Work:
    """What a stage function gets besides its inputs."""

    shot: Shot  # trimmed to what the stage reads
    base: Path  # folder of the shot file, for relative asset paths
    folder: FrameFolder
    frames: Sequence[int]
    progress: Progress


@dataclass(frozen=True)
class Stage:
    """One row of the table. `span`: static (no frames), history (every frame from the first on, each from the one
    before), frames (each on its own)."""

    name: str
    module: str
    reads: tuple[str, ...]
    inputs: tuple[str, ...]
    span: Literal["static", "history", "frames"]
    libraries: tuple[str, ...]
    make: Callable[[Work, dict[str, Any]], Any]
    open: Callable[[FrameFolder], Any]
    assets: Callable[[Shot, Path], dict[str, Path]] = field(default=lambda shot, base: {})  # files that enter the key


def _build(work: Work, made: dict[str, Any]):
    from assets.building import build

    return build(work.shot, work.folder, work.base, work.progress)


def _shatter(work: Work, made: dict[str, Any]):
    from sim.fracture import shatter

    return shatter(work.shot, made["build"], work.folder, work.progress)


def _simulate(work: Work, made: dict[str, Any]):
    from sim.simulate import simulate

    fragments, bonds = made["shatter"]
    return simulate(work.shot, fragments, bonds, work.folder, work.frames, work.progress)


def pieces(made: dict[str, Any]) -> results.Fragments:
    """All that moves: the building's fragments, and the bodies that events bring in."""
    from sim.body import moved_pieces

    return moved_pieces(made["shatter"][0], made["simulate"])


def _shed(work: Work, made: dict[str, Any]):
    from neural.shed import shed

    return shed(work.shot, pieces(made), made["shatter"][1], made["simulate"], work.folder, work.frames, work.progress)


def _scatter(work: Work, made: dict[str, Any]):
    from sim.scatter import scatter

    return scatter(work.shot, pieces(made), made["simulate"], made["shed"], work.folder, work.frames, work.progress)


def _dust(work: Work, made: dict[str, Any]):
    from sim.dust import dust

    return dust(work.shot, pieces(made), made["simulate"], made["shed"], work.folder, work.frames, work.progress)


def _upsample(work: Work, made: dict[str, Any]):
    from neural.upsample import upsample

    weights = _upsample_weights(work.shot, work.base).get("weights")
    return upsample(work.shot, made["dust"], work.folder, work.frames, work.progress, weights)


def _draw(work: Work, made: dict[str, Any]):
    from render.draw import draw

    return draw(
        work.shot, pieces(made), made["shatter"][1], made["simulate"], made["shed"], made["scatter"], made["upsample"],
        work.folder, work.frames, work.progress,
    )


def _refine(work: Work, made: dict[str, Any]):
    from neural.refine import refine

    weights = _refine_weights(work.shot, work.base).get("weights")
    return refine(work.shot, made["draw"], work.folder, work.frames, work.progress, weights)


def _mesh_files(shot: Shot, base: Path) -> dict[str, Path]:
    return mesh_files(base / shot.building.file) if shot.building.kind == "mesh" else {}


def _upsample_weights(shot: Shot, base: Path) -> dict[str, Path]:
    return _shipped("dust_upsampler.onnx") if shot.dust.upsampler == "network" else {}


def _refine_weights(shot: Shot, base: Path) -> dict[str, Path]:
    if shot.refine.backend == "embedded":
        return _shipped("refiner.onnx")
    if shot.refine.backend == "diffusers" and (base / shot.refine.model).is_dir() and shot.refine.model:
        return {"model": base / shot.refine.model}
    return {}


def _shipped(name: str) -> dict[str, Path]:
    path = WEIGHTS / name
    if not path.is_file():
        raise MissingResource(f"{path} is missing: train it with `make train`, or choose another backend")
    return {"weights": path}


def _fragments_and_bonds(folder: FrameFolder) -> tuple[results.Fragments, results.Bonds]:
    return results.Fragments.load(folder), results.Bonds.load(folder)


SOLVER = ("numpy", "scipy", "taichi")
STRENGTH = (
    "density", "young", "poisson", "tension", "compression", "cohesion", "friction_angle", "fracture_energy", "weibull", "steel", "unit",
)
OF_FLIGHT = ("debris.bounce", "debris.friction", "debris.drag", "debris.steps")
OF_UPSAMPLING = ("dust.upsample", "dust.upsampler", "dust.detail")

STAGES: tuple[Stage, ...] = (
    Stage(
        "build", "assets.building", ("building",), (), "static", ("numpy", "trimesh", "manifold3d"),
        _build, results.Building.load, _mesh_files,
    ),
    Stage(
        "shatter", "sim.fracture", ("fracture", "!fracture.shrink", *(f"materials.*.{name}" for name in STRENGTH)), ("build",),
        "static", ("numpy", "scipy", "manifold3d"), _shatter, _fragments_and_bonds,
    ),
    Stage(
        "simulate", "sim.simulate",
        ("sim", "events", "fracture.shrink", "materials.*.friction", "materials.*.compression", "materials.*.density"), ("shatter",),
        "history", SOLVER, _simulate, results.Motion,
    ),
    Stage(
        "shed", "neural.shed",
        ("debris", *(f"!{name}" for name in OF_FLIGHT), "materials.*.grain", "materials.*.fractal", "materials.*.fracture_energy"),
        ("shatter", "simulate"), "history", ("numpy",), _shed, results.Shed,
    ),
    Stage(
        "scatter", "sim.scatter", (*OF_FLIGHT, "sim.gravity", "sim.sleep_speed", "sim.sleep_time"), ("shatter", "simulate", "shed"),
        "history", SOLVER, _scatter, results.Debris,
    ),
    Stage(
        "dust", "sim.dust", ("dust", *(f"!{name}" for name in OF_UPSAMPLING), "sim.gravity"), ("shatter", "simulate", "shed"),
        "history", SOLVER, _dust, results.Dust,
    ),
    Stage(
        "upsample", "neural.upsample", OF_UPSAMPLING, ("dust",), "history", (*SOLVER, "onnxruntime"),
        _upsample, results.Dust, _upsample_weights,
    ),
    Stage(
        "draw", "render.draw",
        ("frames", "camera", "light", "look", "materials.*.albedo", "materials.*.albedo_inside", "materials.brick.unit"),
        ("shatter", "simulate", "shed", "scatter", "upsample"), "frames", ("numpy", "scipy", "taichi", "pyrender", "PyOpenGL"),
        _draw, results.Guides,
    ),
    Stage(
        "refine", "neural.refine", ("refine", "light.sun", "light.sky", "light.ground_bounce"), ("draw",), "frames",
        ("numpy", "taichi", "onnxruntime", "torch", "diffusers"),
        _refine, results.Refined, _refine_weights,
    ),
)
DELIVERY = ("output", "camera", "refine")  # what `deliver` reads; it writes into the take's folder, not into the store
STAGE_NAMES = (*(stage.name for stage in STAGES), "deliver")


def asset_digests(files: dict[str, Path]) -> dict[str, str]:
    """Digest of each file, or of every file in each folder; weights over 64 MB by size, first and last megabyte."""
    return {name: _folder_digest(path) if path.is_dir() else file_digest(path) for name, path in files.items()}


def _folder_digest(folder: Path) -> str:
    from pipeline.digest import digest

    rows = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = path.stat().st_size
        if size < 1 << 26:
            rows.append((str(path.relative_to(folder)), size, file_digest(path)))
        else:
            with open(path, "rb") as handle:
                head = handle.read(1 << 20)
                handle.seek(-(1 << 20), 2)
                rows.append((str(path.relative_to(folder)), size, digest((head + handle.read()).hex())))
    return digest(rows)
