"""Every parameter does something: it changes the result of the stage that declares it, and of no earlier one."""

from __future__ import annotations

import hashlib
import typing
from pathlib import Path

import pytest

from pipeline.digest import ROOT, shot_part
from pipeline.run import run
from pipeline.stages import DELIVERY, STAGE_NAMES, STAGES
from shot.load import param_rows, shot_load
from shot.params import Shot

TINY = ROOT / "tests" / "shots" / "tiny_frame.toml"
NAMELESS = {"name", "extends"}  # they name folders and files, no picture
BY_ITS_OWN_TESTS = {  # need a diffusion pipeline, a GPU or weights that a test makes on the spot: tests/test_diffusers_backend.py
    "refine.strength", "refine.prompt", "refine.negative", "refine.guidance", "refine.model", "refine.controls",
    "refine.control_scale", "refine.device",
}
EVENT = ["events.0.kind=push", "events.0.force=[0, 0, 40]", "events.0.frame=1002"]
MESH = ["building.kind=mesh", f"building.file={ROOT / 'assets' / 'meshes' / 'wall.obj'}", "fracture.piece=2"]
CONTEXT: dict[str, list[str]] = {  # what must be set for a parameter to matter at all
    "building.file": MESH, "building.unit": MESH, "building.up": MESH, "building.material": MESH, "building.shell_thickness": MESH,
    "building.shell_gap": MESH, "events.0.force": EVENT, "events.0.frames": EVENT, "events.0.amount": ["events.0.kind=weaken"],
    "sim.stress_tolerance": ["sim.stress_direct=0"], "sim.stress_iterations": ["sim.stress_direct=0", "sim.stress_iterations=2"],
}
OTHER: dict[str, str] = {  # a changed value where the rule below finds none
    "building.kind": "mesh", "building.file": str(ROOT / "assets" / "meshes" / "school.obj"), "building.material": "brick",
    "events.0.members": '["beam"]', "events.0.kind": "weaken", "sim.stress_direct": "0",
}


def leaves() -> list[str]:
    """Dotted keys of all parameters."""
    return [row["key"] for row in param_rows() if row["key"] not in NAMELESS]


def owner(key: str) -> str:
    """The first stage that reads a parameter."""
    flat = "events" if key.startswith("events.") else key
    for stage in STAGES:
        if flat in shot_part(Shot(), stage.reads) and flat not in ("seed", "first", "fps"):
            return stage.name
    if flat in shot_part(Shot(), DELIVERY) and flat not in ("seed", "first", "fps"):
        return "deliver"
    return {"seed": "shatter", "first": "simulate", "fps": "simulate"}[flat]


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
    low = next((m.ge for m in field.metadata if hasattr(m, "ge")), next((m.gt for m in field.metadata if hasattr(m, "gt")), None))
    high = next((m.le for m in field.metadata if hasattr(m, "le")), None)
    if isinstance(here, int):
        return str(here + 1 if high is None or here + 1 <= high else here - 1)
    if isinstance(here, float):
        value = here * 1.3 + (0.1 if here == 0 else 0.0)
        value = value if high is None or value <= high else here * 0.7
        assert low is None or value >= low
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


def contents(overrides: list[str], last: str, store: Path, out: Path) -> dict[str, dict[str, str]]:
    """Digest of every file of every stage up to `last`."""
    loaded = shot_load(TINY, overrides)
    frames = list(loaded.shot.frame_range)
    done = run(loaded, frames[-2:], last, out, store)
    found = {}
    for name, key in done.keys.items():
        folder = store / name / key
        found[name] = {p.name: hashlib.blake2b(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir()) if p.name != "manifest.json"}
    if last == "deliver":
        found["deliver"] = {str(p.relative_to(out)): hashlib.blake2b(p.read_bytes()).hexdigest()
                            for p in sorted(out.rglob("*")) if p.is_file() and p.suffix in (".exr", ".png", ".mp4")}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key in leaves() if key not in BY_ITS_OWN_TESTS])
def test_parameter_changes_its_stage_and_none_before(key: str, store: Path, tmp_path: Path, request: pytest.FixtureRequest):
    """Other bytes from the declaring stage, the same bytes from every stage before it."""
    context = CONTEXT.get(key, [])
    if key.startswith("refine.") or owner(key) == "refine":
        context = [*context, "refine.backend=embedded"]
    else:
        context = [*context, "refine.backend=none"]
    stage = owner(key)
    base = contents(context, stage, store, tmp_path / "a")
    value = changed(key, shot_load(TINY, context).shot)
    extra = MESH[1:] if key == "building.kind" else []
    other = contents([*context, *extra, f"{key}={value}"], stage, store, tmp_path / "b")
    for earlier in STAGE_NAMES[: STAGE_NAMES.index(stage)]:
        assert base.get(earlier) == other.get(earlier), f"{key} changes {earlier}, before {stage}"
    assert base[stage] != other[stage], f"{key} = {value} does nothing in {stage}"
