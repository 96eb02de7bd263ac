"""The table of stages says what each stage reads: no more, or it would be made anew for nothing; no less, or it would see defaults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pipeline.run
from pipeline.digest import ALWAYS, ROOT, shot_part
from pipeline.plan import Step
from pipeline.stages import STAGE_NAMES
from shot.load import shot_load
from shot.params import Shot, Table

SHOTS = ("tiny_frame", "tiny_wall", "tiny_mesh")  # between them they take every branch that the default job can take
BRANCHES = {
    "tiny_frame": ["refine.backend=embedded", "building.bays_x=2", "building.bays_z=2", "building.core=true"],
    "tiny_wall": ["refine.backend=none", "sim.stress_direct=0",
                  "events=[{kind='projectile', frame=1002, position=[0, 2, 3], velocity=[0, 0, -30], size=[0.5, 0.5, 0.5]}]"],
    "tiny_mesh": ["refine.backend=none", "building.hole_limit=0"],
}
NOT_HERE = {  # read where a diffusion pipeline or a GPU is: tests/test_diffusers_backend.py
    "refine.strength", "refine.prompt", "refine.negative", "refine.guidance", "refine.model", "refine.controls", "refine.control_scale",
}


def leaves(table: Any, prefix: str = "") -> Iterator[tuple[Table, str, str]]:
    """(table, name of a value in it, dotted key) of every value of a shot; those of a list of tables carry the list's key."""
    for name in type(table).model_fields:
        value, key = table.__dict__[name], f"{prefix}{name}"
        if isinstance(value, Table):
            yield from leaves(value, f"{key}.")
        else:
            yield table, name, key


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Keys that each stage looked at in any of the shots, watched while it ran."""
    found: dict[str, set[str]] = {name: set() for name in STAGE_NAMES}
    watched: dict[tuple[int, str], tuple[str, str]] = {}
    kept: list[Any] = []  # so that no id is used again

    def watching(self: Table, name: str) -> Any:
        at = watched.get((id(self), name))
        if at is not None:
            found[at[0]].add(at[1])
        return object.__getattribute__(self, name)

    def planned(*arguments: Any) -> list[Step]:
        steps = plan(*arguments)
        kept.append(steps)
        for step in steps:
            watched.update({(id(table), name): (step.stage.name, key) for table, name, key in leaves(step.shot)})
        return steps

    plan = pipeline.run.plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "__getattribute__", watching)
        patch.setattr(pipeline.run, "plan", planned)
        for name in SHOTS:
            loaded = shot_load(ROOT / "tests" / "shots" / f"{name}.toml", ["frames=4", *BRANCHES[name]])
            folder: Path = tmp_path_factory.mktemp(name)
            last = "refine" if loaded.shot.refine.backend == "embedded" else "draw"
            pipeline.run.run(loaded, None, last, folder / "take", folder / "store")
    return found


@pytest.mark.parametrize("stage", STAGE_NAMES[:-1])
def test_stage_reads_what_it_declares(read: dict[str, set[str]], stage: str):
    """Values looked at while a stage runs are those of its row, material by material counted once."""
    def general(keys: set[str]) -> set[str]:
        return {".".join("*" if k == 1 and key.startswith("materials.") else part for k, part in enumerate(key.split("."))) for key in keys}

    row = next(s for s in pipeline.run._stages() if s.name == stage)
    declared, looked = general(set(shot_part(Shot(), row.reads))), general(read[stage])
    assert looked <= declared, f"{stage} reads {sorted(looked - declared)}, which it does not declare, so it sees the defaults"
    unread = declared - looked - NOT_HERE - set(ALWAYS)
    assert not unread, f"{stage} declares {sorted(unread)} and does not read it: a change makes it anew for nothing"
