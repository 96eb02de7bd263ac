"""Every parameter does something: it changes the result of the stage that declares it, and of no earlier one.

What counts is what a picture or a later stage is made of: arrays of the frames, decoded pixels of what is delivered. Not counted:
digests of the solver's whole state, states kept for resuming, texts, and the provenance that every delivered file carries.
"""

from __future__ import annotations

import hashlib
import typing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.digest import ROOT, shot_part
from pipeline.run import run
from pipeline.stages import STAGE_NAMES, STAGES
from shot.frames import Arrays
from shot.load import param_rows, shot_load
from shot.params import Shot

TINY = ROOT / "tests" / "shots" / "tiny_frame.toml"
LONG_ENOUGH = "frames=26"  # the upper storeys have hit the ground: hinges turn, pieces crush, grind and fall asleep
WANTED = [1024, 1025]  # two frames, for what a picture takes from the one before; the one after them is simulated too
NAMELESS = {"name", "extends"}  # they name folders and files, no picture
BY_ITS_OWN_TESTS = {  # need a diffusion pipeline, a GPU or weights that a test makes on the spot: tests/test_diffusers_backend.py
    "refine.strength", "refine.prompt", "refine.negative", "refine.guidance", "refine.model", "refine.controls",
    "refine.control_scale", "refine.device",
}
PUSH = ["events.0.kind=push", "events.0.force=[0, 0, 40]", "events.0.frame=1002"]
CORE = ["building.bays_x=2", "building.bays_z=2", "building.core=true"]
BAYS = ["building.bays_x=4"]
WALL = ["building.kind=mesh", f"building.file={ROOT / 'assets' / 'meshes' / 'wall.obj'}", "fracture.piece=2"]
PLAIN = [*WALL[:2], "building.material=plain", "fracture.piece=0.8", *PUSH, "events.0.members=[]", "events.0.frames=4"]  # on its face
STEEL = [*PLAIN, "building.material=steel", "materials.steel.tension=3e6", "materials.steel.compression=30e6",
         "materials.steel.cohesion=4.7e6", "materials.steel.fracture_energy=100", "materials.steel.young=3e10"]  # as weak as concrete
WEAKEN = ["events.0.kind=weaken", "events.0.upper=[4, 2.7, 3]"]
CHARGE = ["events=[{kind='charge', frame=1003, centre=[2.6, 0.5, 2.6], tnt=5, pulse=0.02, front=200}]"]
BALL = ["events=[{kind='projectile', frame=1003, position=[4.5, 1.5, 1.8], velocity=[-20, 0, 0], size=[1, 1.2, 0.8], shape='box'}]"]
DRIVEN = ["events=[{kind='collider', path=[[1003, 4.5, 1.5, 1.8], [1012, 0, 1.5, 1.8]]}]"]
SHAKEN = ["events=[{kind='ground', frame=1003, duration=0.5, amplitude=20, frequency=3}]"]
HOUSE = ["building.kind=mesh", f"building.file={ROOT / 'assets' / 'meshes' / 'house.glb'}", "building.unit=cm", "building.up=z"]
CONTEXT: dict[str, list[str]] = {  # what must be set for a parameter to matter at all
    "building.core": CORE, "building.core_thickness": CORE, "building.door_width": CORE, "building.door_height": CORE,
    "building.facade": BAYS, "building.file": WALL, "building.unit": WALL, "building.up": WALL, "building.material": WALL,
    "building.hole_limit": HOUSE, "building.shell_thickness": [*HOUSE, "building.hole_limit=0"],
    "events.0.force": PUSH, "events.0.frames": PUSH, "events.0.amount": ["events.0.kind=weaken"],
    "events.0.falloff": WEAKEN, "events.0.region": WEAKEN,
    **{f"events.0.{name}": CHARGE for name in ("centre", "tnt", "radius", "shatter", "pulse", "front")},
    **{f"events.0.{name}": BALL for name in ("shape", "size", "heading", "material", "position", "velocity", "spin", "mass")},
    "events.0.path": DRIVEN, **{f"events.0.{name}": SHAKEN for name in ("amplitude", "frequency", "duration", "ramp", "direction")},
    "sim.stress_tolerance": ["sim.stress_direct=0"], "sim.stress_iterations": ["sim.stress_direct=0"],
    "output.motion_blur": ["camera.move=[20, 0, 0]"], "sim.sleep_speed": ["sim.sleep_time=0.1"], "sim.sleep_time": ["sim.sleep_speed=1.0"],
    **{f"materials.facade.{name}": ["materials.facade.tension=3e4", "materials.facade.compression=3e5"] for name in ("grain", "friction")},
    "look.dust_steps": ["dust.cell=0.5"],  # no stride is shorter than a cell
    **{row["key"]: PLAIN for row in param_rows() if row["key"].startswith("materials.plain.")},
    **{row["key"]: STEEL for row in param_rows() if row["key"].startswith("materials.steel.")},
}
OTHER: dict[str, str] = {  # a changed value where the rule below finds none, or one at which a limit is reached
    "building.kind": "mesh", "building.file": str(ROOT / "assets" / "meshes" / "school.obj"), "building.material": "brick",
    "building.hole_limit": "0.0", "events.0.members": '["beam"]', "events.0.kind": "weaken",
    "sim.hinge_rotation": "0.001", "sim.hinge_opening": "0.0001", "sim.steel_yield": "1e8", "sim.break_rounds": "1",
    "sim.stress_iterations": "5", "sim.sleep_speed": "1.0", "sim.stress_direct": "0",
    "events.0.path": "[[1003, 4.5, 1.5, 1.8], [1010, 0, 1.5, 1.8]]", "events.0.position": "[4.5, 1.9, 1.8]", "events.0.mass": "2000.0",
    "events.0.velocity": "[-24, 0, 0]", "events.0.material": '"concrete"', "events.0.direction": "[0, 0, 1]", "events.0.heading": "30.0",
    "events.0.shape": '"ball"', "events.0.centre": "[2.4, 0.7, 2.7]",
    "debris.limit": "20", "debris.kinetic_share": "1e-4", "debris.share": "1e-4", "dust.iterations": "2", "look.dust_steps": "8",
    "look.ambient_cells": "28", "output.sheet_columns": "1",
}
OF_ALL = {"seed": "shatter", "first": "simulate", "fps": "simulate", "frames": "simulate"}  # the first stage whose content they change
KEPT_STATES = {"sim.checkpoint"}  # changes which states are kept for resuming, and no frame


def leaves() -> list[str]:
    """Dotted keys of all parameters."""
    return [row["key"] for row in param_rows() if row["key"] not in NAMELESS]


def owner(key: str) -> str:
    """The first stage that reads a parameter."""
    flat = "events" if key.startswith("events.") else key
    for stage in STAGES:
        if flat in shot_part(Shot(), stage.reads) and flat not in OF_ALL:
            return stage.name
    return OF_ALL.get(flat, "deliver")


def changed(key: str, shot: Shot) -> str:
    """Another legal value of a parameter, as TOML."""
    if key in OTHER:
        return OTHER[key]
    here: typing.Any = shot
    model: typing.Any = None
    for part in key.split("."):
        model, here = here, here[int(part)] if part.isdigit() else getattr(here, part)
    field = type(model).model_fields[key.rpartition(".")[2]]
    choices = [c for c in typing.get_args(field.annotation) if isinstance(c, str)]
    if choices:
        return next(c for c in choices if c != here)
    if isinstance(here, bool):
        return "false" if here else "true"
    low = next((getattr(m, name) for m in field.metadata for name in ("ge", "gt") if hasattr(m, name)), None)
    high = next((m.le for m in field.metadata if hasattr(m, "le")), None)
    if isinstance(here, int):
        return str(here + 1 if high is None or here + 1 <= high else here - 1)
    if isinstance(here, float):
        value = here * 1.3 + (0.1 if here == 0 else 0.0)
        if high is not None and value > high:
            value = (here + (high if here < high else low or 0.0)) / 2
        return repr(value)
    if isinstance(here, tuple):
        return str([v * 1.3 + 0.1 for v in here])
    raise AssertionError(f"{key}: no rule for {here!r}")


def test_declared_once_and_by_the_right_stage():
    """Each section belongs to its stage; only stated parts go to a later one."""
    first = {"building": "build", "fracture": "shatter", "materials": "shatter", "sim": "simulate", "events": "simulate", "debris": "shed",
             "dust": "dust", "camera": "draw", "light": "draw", "look": "draw", "refine": "refine", "output": "deliver"}
    for key in leaves():
        section = key.partition(".")[0]
        if section in first:
            assert STAGE_NAMES.index(owner(key)) >= STAGE_NAMES.index(first[section]), key


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all comparisons, so that unchanged stages are made once."""
    return tmp_path_factory.mktemp("store")


def made(overrides: list[str], last: str, store: Path, out: Path, wanted: list[int] | None = WANTED) -> dict[str, Path]:
    """Folder of every stage's result up to `last`; the delivery's is the take."""
    done = run(shot_load(TINY, [LONG_ENOUGH, *overrides]), wanted, last, out, store)
    found = {name: store / name / key for name, key in done.keys.items()}
    return found | ({"deliver": out} if last == "deliver" else {})


def stored(folder: Path) -> dict[str, str]:
    """Digest of every file of a result."""
    return {p.name: hashlib.blake2b(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir()) if p.name != "manifest.json"}


def seen(folder: Path, states: bool = False) -> dict[str, str]:
    """Digest of every array that a picture or a later stage is made of; with `states`, of those kept for resuming."""
    arrays: dict[str, np.ndarray] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and ".delivered" not in p.parts):
        name = str(path.relative_to(folder))
        if path.suffix == ".npz" and path.name.startswith("state") == states:
            arrays |= {f"{name}/{key}": array for key, array in Arrays(path.read_bytes()).items() if key != "hash"}
        elif path.suffix in (".exr", ".png"):
            arrays |= image_channels(path, name)
        elif path.suffix == ".mp4":
            arrays |= film_frames(path, name)
    return {key: f"{a.dtype}{a.shape}{hashlib.blake2b(a.tobytes()).hexdigest()}" for key, a in arrays.items()}


def image_channels(path: Path, name: str) -> dict[str, np.ndarray]:
    """Pixels of an EXR or PNG by channel, without its header."""
    if path.suffix == ".png":
        return {name: np.asarray(Image.open(path))}
    import OpenEXR

    with OpenEXR.File(str(path), separate_channels=True) as file:
        return {f"{name}/{channel}": np.array(content.pixels) for channel, content in file.channels().items()}


def film_frames(path: Path, name: str) -> dict[str, np.ndarray]:
    """Decoded pictures of a film."""
    import av

    with av.open(str(path)) as film:
        return {f"{name}/{k}": frame.to_ndarray(format="rgb24") for k, frame in enumerate(film.decode(video=0))}


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key in leaves() if key not in BY_ITS_OWN_TESTS])
def test_parameter_changes_its_stage_and_none_before(key: str, store: Path, tmp_path: Path, record_property):
    """Other arrays or pixels from the declaring stage, the same bytes from every stage before it."""
    stage = owner(key)
    if key == "frames":
        store = tmp_path / "store"  # a longer shot leaves more frames in results of the same key, which would count as a difference
    context = [*CONTEXT.get(key, []), "refine.backend=" + ("embedded" if stage == "refine" else "none")]
    wanted = None if key == "frames" else WANTED  # all that there are
    base = made(context, stage, store, tmp_path / "a", wanted)
    before = {name: stored(base[name]) for name in STAGE_NAMES[: STAGE_NAMES.index(stage)] if name in base}
    one, kept = seen(base[stage], key in KEPT_STATES), seen(base[stage])  # a longer shot adds frames to the same folder
    value = changed(key, shot_load(TINY, [LONG_ENOUGH, *context]).shot)
    other = made([*context, *(WALL[1:] if key == "building.kind" else []), f"{key}={value}"], stage, store, tmp_path / "b", wanted)
    for earlier in STAGE_NAMES[: STAGE_NAMES.index(stage)]:
        was, now = before.get(earlier, {}), stored(other[earlier]) if earlier in other else {}
        if key == "frames":  # a longer shot has more frames and keeps later states
            was, now = ({n: d for n, d in files.items() if not n.startswith("state") and n in was} for files in (was, now))
        assert was == now, f"{key} changes {earlier}, before {stage}"
    two = seen(other[stage], key in KEPT_STATES)
    if key in KEPT_STATES:
        assert kept == seen(other[stage]), f"{key} changes a frame"
    differing = [name for name in one.keys() | two.keys() if one.get(name) != two.get(name)]
    assert differing, f"{key} = {value} does nothing in {stage}"
    told = value.replace(str(ROOT), ".")
    record_property(f"with {told}, arrays that differ:", f"{len(differing)} of {len(one.keys() | two.keys())}")
