"""Bad states, planted: each is refused by name or handled, and none is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from assets.building import mesh_building
from shot.errors import MissingResource, ShotError, SimulationFailed
from shot.frames import FrameFolder
from shot.params import Building, Event, Fracture, Shot
from shot.results import progress_silent
from sim.cover import reduced
from sim.fracture import shatter
from tests.collapse_scene import LOOSE, digests, play, shot
from tests.structures import boxes
from tests.test_mesh_import import box, written

ROOT = Path(__file__).resolve().parent.parent
EVERYTHING = Event(frame=1002, lower=(-99, -1, -99), upper=(99, 99, 99), members=(), rubble=0.0)
WHEN = r"frame 1004, step 2 of 3 \(0.111 s\)"  # step 8 of 1/72 s
NAME = rf"{WHEN}: fragment 25 \(25, concrete, 25.3 kg\)"
SMALL = r"moves \d.\d times its size in a step; sim.steps_scale = \d would"
LIGHT = "pieces weigh less than 0.0001 of the median, the least 0.0024 kg, of member .*sliver"


def motion(c, column: str, value: float, fragment: int = 25) -> None:
    """Write one number into the motion of a fragment's body."""
    from sim.column import column_read, column_write

    rows = column_read(c.world.body.array[column])
    rows[c.world.label[fragment], 0] = value
    column_write(c.world.body.array[column], rows)


def lattice(c) -> None:
    """An infinite displacement in the stress solve."""
    c.elastic.u[5, 1] = np.inf


def record(c) -> None:
    """A crush of fragment 5 that took an energy that is no number."""
    c.records.crushes.append({"crush_time": np.zeros(1), "crush_fragment": np.array([5]), "crush_energy": np.array([np.nan])})


def everything(c) -> None:
    """All loose blocks at 30 m/s: each below what a fall explains, together more than all that fell."""
    from sim.world import bodies_read, bodies_write

    b = bodies_read(c.world)
    v = b.v.copy()
    v[LOOSE:, 1] = 30.0
    bodies_write(c.world, b.x, b.q, v, b.w)


PLANTED = {
    "nan velocity": (lambda c: motion(c, "v", np.nan), f"{NAME} is not finite: its motion.*likely cause|no push"),
    "infinite place": (lambda c: motion(c, "x", np.inf), f"{NAME} is not finite: its motion"),
    "infinite stress": (lattice, rf"{WHEN}: fragment 5 \(5, concrete, 64.8 kg\) is not finite: the stress inside its cluster"),
    "absurd speed": (lambda c: motion(c, "v", 1e4), f"{NAME} flies at 10000 m/s, more than .* m/s can be explained"),
    "no energy for it": (everything, r"frame 1004, step 3 of 3.*J are in motion where falling and pushes gave.*fragment \d+ \("),
    "record": (record, r"frame 1004, step 3 of 3 .*crush_energy of fragment 5 \(5, concrete, 64.8 kg\) is not finite"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_after_a_step(taichi, tmp_path, monkeypatch, name):
    """Refused with frame, step, fragment, member, material; that frame is not there, those before are, and running again ends as if nothing
    had been: with the bytes of a run that nothing disturbed."""
    from sim import simulate, step

    plant, says = PLANTED[name]

    def planted(c):
        moved = step.step(c)
        if c.step == 8:
            plant(c)
        return moved

    with monkeypatch.context() as patch:
        patch.setattr(simulate, "step", planted)
        with pytest.raises(SimulationFailed, match=says) as caught:
            play(tmp_path, 5)
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.glob("frame.*.npz")) == ["frame.1001.npz", "frame.1002.npz", "frame.1003.npz"]
    assert not list(tmp_path.glob("*1004*"))
    again = []
    frames = play(tmp_path, 5, progress=again.append)
    assert len(frames) == 5 and all(np.isfinite(f["velocity"]).all() for f in frames)
    if name == "nan velocity":
        assert digests(frames) == digests(play(tmp_path / "whole", 5))


def test_planted_inside_a_step(taichi, tmp_path, monkeypatch):
    """What leaves the finite numbers within a step, and a stress matrix without inverse, are named the same way."""
    from scipy.sparse import bsr_matrix

    from sim import simulate, step, stress

    add = stress.Factors.add

    def poisoned(c):
        if c.step == 2:
            motion(c, "v", np.nan)
        return step.step(c)

    def without_inverse(c):
        if c.step == 18:
            monkeypatch.setattr(stress.Factors, "add", singular)
        return step.step(c)

    def singular(*_):
        return add(stress.Factors(), bsr_matrix((np.zeros((1, 6, 6)), [0], [0, 1])), np.zeros(1))

    with monkeypatch.context() as patch:
        patch.setattr(simulate, "step", poisoned)
        with pytest.raises(SimulationFailed, match=r"frame 1002, step 3 of 3 .*: fragment 25 \(25, concrete, .*left the finite numbers"):
            play(tmp_path / "inside", 5)
    monkeypatch.setattr(simulate, "step", without_inverse)
    with pytest.raises(SimulationFailed, match=r"frame 1008, step 1 of 3 .*cannot be solved .*singular.*fragment \d+ \("):
        play(tmp_path / "singular", 8)


def test_step_too_long_from_the_command_line(tmp_path):
    """A push that carries pieces through half the world in a step: one line, exit code 1, nothing of that frame in the store."""
    (tmp_path / "push.toml").write_text(f"""
name = "push"
extends = "{ROOT}/tests/shots/tiny_wall.toml"
frames = 4
[building]
file = "{ROOT}/assets/meshes/wall.obj"
[[events]]
kind = "push"
frame = 1002
frames = 4
lower = [-3.0, 1.5, -1.0]
upper = [3.0, 4.0, 1.0]
members = []
force = [1e5, 1e5, -1e5]
""")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DEMOLISH_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-P", str(ROOT / "cli.py"), "run", str(tmp_path / "push.toml"), "--to", "simulate", "-q"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("demolish: frame 1002, step "), done.stderr
    for word in ("is too long", "(wall, brick, ", "times its size", "lower what drives it", "a push event of 1.73e+05 N/kg"):
        assert word in last
    assert [p.name for p in (tmp_path / "cache").glob("simulate/*/frame.*.npz")] == ["frame.1001.npz"]


def test_long_strides_are_told(taichi, tmp_path, caplog, monkeypatch):
    """A piece that moves more than its size in a step, or spins farther than the solver follows: a warning with the setting to change."""
    from sim import simulate, step
    from sim.world import bodies_read, bodies_write

    def thrown(c):
        if c.step == 1:
            b = bodies_read(c.world)
            v, w = b.v.copy(), b.w.copy()
            v[24, 1], v[25, 1], w[25, 1] = 24.0, 5.0, 80.0
            bodies_write(c.world, b.x, b.q, v, w)
        return step.step(c)

    monkeypatch.setattr(simulate, "step", thrown)
    monkeypatch.setattr("sim.soundness.ENERGY_MARGIN", 1e3)
    play(tmp_path, 2)
    told = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert any(_found(rf"fragment 24 \(24, concrete, .*{SMALL}", t) for t in told), told
    assert any(_found(r"fragment 25 .*spins by 0.8\d rad in a step; above 0.8 .* cuts its spin; .*scale = 2", t) for t in told), told


def imported(tmp_path, piece: float, **nodes: trimesh.Trimesh):
    """Building, fragments and bonds of a model, and a shot that breaks every bond of it at once."""
    building = mesh_building(Building(kind="mesh", file=written(tmp_path, "model.glb", **nodes).name), tmp_path)
    asked = Shot(frames=10, building=Building(kind="mesh", file="model.glb"), fracture=Fracture(piece=piece), events=(EVERYTHING,))
    fragments, bonds = shatter(asked, building, FrameFolder(tmp_path / "shatter"), progress_silent)
    return building, fragments, bonds, asked


def fastest(tmp_path, asked, fragments, bonds) -> np.ndarray:
    """Speed of the fastest piece in each frame [m/s]."""
    from sim.simulate import simulate

    motion = simulate(asked, fragments, bonds, FrameFolder(tmp_path / "motion"), asked.frame_range, progress_silent)
    return np.array([np.linalg.norm(motion.frame(f)["velocity"], axis=1).max() for f in asked.frame_range])


OVERLAPS = {
    "one in the other": ({"big": box((4, 3, 4)), "small": box((2, 2, 2), at=(2.5, 0, 1))}, "small lies in big with 6 m3, 75 % of it"),
    "twice": ({"a": box((2, 3, 2)), "b": box((2, 3, 2), at=(0.001, 0, 0.001))}, "b lies in a.*is it in the model twice"),
    "column through a slab": ({"slab": box((4, 0.3, 4), at=(0, 2.0, 0)), "column": box((0.5, 2.6, 0.5), at=(1.5, 0, 1.5))}, ""),
}


@pytest.mark.parametrize("name", OVERLAPS)
def test_overlapping_imports_do_not_explode(taichi, tmp_path, caplog, name):
    """Overlaps are cut away from the smaller body, the deep ones told by name; with every bond broken at once nothing is faster than what
    fell for that long (one step more: the event's own)."""
    nodes, told = OVERLAPS[name]
    building, fragments, bonds, asked = imported(tmp_path, 1.2, **nodes)
    union = trimesh.boolean.union(list(nodes.values()), engine="manifold").volume
    assert fragments.volume.sum() == pytest.approx(union, rel=1e-6)
    assert (not told and not building.report["warnings"]) or any(r.message and _found(told, r.message) for r in caplog.records)
    speed = fastest(tmp_path, asked, fragments, bonds)
    elapsed = np.arange(len(speed)) / 24
    assert np.all(speed <= 9.81 * elapsed + 0.05), speed


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


SLIVERS = {
    "foil": (box((3, 2, 1e-4), at=(0, 0, 0.3)), ""),
    "chip": (box((1e-2, 1e-2, 1e-2), at=(1, 2.0, 0.1)), LIGHT),
    "speck": (box((1e-3, 1e-3, 1e-3), at=(1, 2.0, 0.1)), "sliver: a body of 1e-09 m3 is too small, and was dropped"),
    "thinner than a weld": (box((3, 2, 1e-6), at=(0, 0, 0.3)), "sliver: a shell of 4 faces could not be made solid"),
}


@pytest.mark.parametrize("name", SLIVERS)
def test_slivers_of_imports(taichi, tmp_path, caplog, name):
    """Slivers beside a wall: dropped and told, or kept and told; volumes sum to 1e-6 and nothing is thrown."""
    sliver, told = SLIVERS[name]
    wall = box((3, 2, 0.3))
    _, fragments, bonds, asked = imported(tmp_path, 0.9, wall=wall, sliver=sliver)
    assert fragments.volume.sum() == pytest.approx(wall.volume + sliver.volume, rel=1e-6) or name == "thinner than a weld"
    assert not told or any(_found(told, r.message) for r in caplog.records)
    speed = fastest(tmp_path, asked, fragments, bonds)
    assert np.all(speed <= 9.81 * np.arange(len(speed)) / 24 + 0.05), speed


def test_piece_without_mass_is_refused(tmp_path, monkeypatch):
    """A piece that a cut left without volume names its member and material before anything is made of it."""
    from sim import fracture
    from sim.adjacency import Piece

    cut = fracture.member_pieces

    def flat(asked, building, member):
        own = cut(asked, building, member)
        sheet = own[0].vertex * [1.0, 1.0, 0.0]
        return [*own, Piece(member, sheet, own[0].loop, own[0].own, own[0].other, own[0].hull)]

    monkeypatch.setattr(fracture, "member_pieces", flat)
    says = r"member 0 \(wall, concrete\): a piece of it has volume 0 m3 and mass 0 kg"
    with pytest.raises(ShotError, match=says), np.errstate(all="ignore"):
        imported(tmp_path, 0.9, wall=box((3, 2, 0.3)))


def test_member_that_its_pieces_do_not_fill_is_refused(tmp_path, monkeypatch):
    """A lost piece names the member that lacks it."""
    from sim import fracture

    cut = fracture.member_pieces
    monkeypatch.setattr(fracture, "member_pieces", lambda *a: cut(*a)[1:])
    with pytest.raises(ShotError, match=r"member 0 \(wall, concrete\): its pieces differ from its 1.8 m3 by \d"):
        imported(tmp_path, 0.9, wall=box((3, 2, 0.3)))


def test_round_hulls_keep_few_corners(taichi):
    """A skewed cone, whose lowest and highest points are four, is thinned all the same; a hull with more edges than contact lists is
    refused by name."""
    from dataclasses import replace

    from sim.hull import hull_table

    turn = 2 * np.pi * np.arange(300) / 300
    rim = np.outer(np.cos(turn), [1, -1, 0]) / np.sqrt(2) + np.outer(np.sin(turn), [1, 1, -2]) / np.sqrt(6)
    cone = np.concatenate([rim, [[3, 3, 3]]])
    assert len(reduced(cone)) <= 48
    one, _ = boxes(np.zeros((1, 3)), (1, 1, 1), shot().materials.concrete)
    with pytest.raises(ShotError, match=r"fragment 0 \(0\): hull 0 has \d+ edges, at most 512"):
        hull_table(replace(one, hull_vertex=cone.astype(np.float32), hull_vertex_start=np.array([0, 301], np.int32)), 0.0)


def heap(count: int):
    """Boxes all at one place, none bonded."""
    return boxes(np.zeros((count, 3)), (0.5, 0.5, 0.5), shot().materials.concrete, ground=False, origin=(0, 3, 0))


def test_contacts_grow_or_name_the_memory(taichi, tmp_path, monkeypatch):
    """Sixty boxes in one place touch in all their pairs, more than the list was made for; where memory ends the frame is named."""
    from sim import world
    from sim.simulate import simulate
    from sim.solve import contact_step
    from sim.world import Settings, world_create

    fragments, _ = heap(60)
    bodies = world_create(fragments, np.full(60, 0.6), 0.01)
    room = bodies.contact[0].size
    contact_step(bodies, 1 / 60, Settings(9.81, 4, 0.6, 0.05, 0.5))
    assert bodies.contact_count == 60 * 59 // 2 > room
    monkeypatch.setattr(world, "memory", lambda: 1e6)
    asked = Shot(frames=3)
    with pytest.raises(MissingResource, match=r"frame 1002, step 1 of 3 .*: \d+ pairs of pieces may touch.*raise fracture.piece"):
        simulate(asked, *heap(60), FrameFolder(tmp_path), asked.frame_range, progress_silent)
    assert not (tmp_path / "frame.1002.npz").exists()


@pytest.mark.slow
def test_a_million_contacts(taichi, record_property):
    """710 boxes in one place: every pair is found, each with four points, more colours than a mask has bits, and nobody is thrown."""
    from sim.column import column_read
    from sim.solve import contact_step
    from sim.world import Settings, bodies_read, world_create

    fragments, _ = heap(710)
    fragments.position[:] += np.random.default_rng(1).uniform(-0.1, 0.1, (710, 3))
    bodies = world_create(fragments, np.full(710, 0.6), 0.01)
    for _ in range(2):
        contact_step(bodies, 1 / 60, Settings(9.81, 4, 0.6, 0.05, 0.5))
    points = int(column_read(bodies.contact[bodies.contact_now].array["count"], bodies.contact_count).sum())
    record_property("contact points", points)
    assert bodies.contact_count == 710 * 709 // 2 and points > 1_000_000
    assert np.linalg.norm(bodies_read(bodies).v, axis=1).max() < 9.81 * 2 / 60 + 0.05
