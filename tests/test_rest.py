"""Contacts between sleepers leave the list of a step (sim/rest.py), and nobody can tell."""

import numpy as np
import pytest

import sim.rest
from bench.contact import Scene, boxes, place
from bench.scaling import block
from sim.column import column_read, column_write
from sim.layout import ASLEEP
from sim.solve import contact_step
from sim.state import contacts_read, state_restore, state_snapshot, world_load, world_save
from sim.world import Settings, World, bodies_read, bodies_rouse, bodies_split, forces_read

pytestmark = pytest.mark.usefixtures("taichi")
H, BRICKS, FIXED_BRICKS = 1 / 60, 64, 6
USUAL = Settings(9.81, 10, 0.6, 0.05, 0.3)
THROWN, ROUSED, SPLIT, STEPS = 60, 75, 90, 110


def bricks(height: float = 5.0) -> World:
    """A block of bricks, some of the lowest held, and one that falls on it once the others sleep."""
    b = block(BRICKS).fragments
    position = np.vstack([b.position, [0.5, height, 0.3]])
    world = place(Scene(boxes(position, np.tile([0.25, 0.125, 0.125], (len(position), 1)))))
    fixed = np.zeros(world.count, bool)
    fixed[:FIXED_BRICKS] = True
    bodies_split(world, np.arange(world.count), fixed)
    return world


def disturb(world: World, step: int) -> None:
    """What happens to the block: the fallen brick is thrown up again, one is woken, one loses its hold."""
    some = np.arange(world.count) == BRICKS // 2
    if step == ROUSED:
        bodies_rouse(world, some)
    if step == SPLIT:
        fixed = world.fixed.copy()
        fixed[2] = False
        bodies_split(world, world.label, fixed)
    if step == THROWN:
        x = column_read(world.body.array["x"])
        x[-1, 1] += 2.0
        column_write(world.body.array["x"], x)
        bodies_rouse(world, np.arange(world.count) == world.count - 1)
        world.still = None


def seen(world: World) -> dict[str, np.ndarray]:
    """All that a step leaves behind."""
    contacts = {f"read_{k}": v for k, v in vars(contacts_read(world, H)).items()}
    return world_save(world) | contacts | dict(zip(("force", "moment"), forces_read(world), strict=True))


def played(fewest: int, monkeypatch, resumed: bool = False) -> tuple[list[dict], list[int]]:
    """Every step of the scene, and how many rows were laid aside; each step taken twice, with a step back between."""
    monkeypatch.setattr(sim.rest, "FEWEST", fewest)
    world, steps, aside = bricks(), [], []
    for step in range(STEPS):
        disturb(world, step)
        if resumed:
            saved, world = world_save(world), bricks()
            world_load(world, saved)
        state_snapshot(world)
        contact_step(world, H, USUAL)
        if step % 3 == 0:
            state_restore(world)
            contact_step(world, H, USUAL)
        steps.append(seen(world))
        aside.append(int(world.laid.live.sum()))
    return steps, aside


def test_no_bit_tells_what_was_laid_aside(monkeypatch):
    """Poses, forces, saved rows and contacts of every step are those of a solver that keeps all rows in its list."""
    whole, none = played(10**9, monkeypatch)
    parted, aside = played(8, monkeypatch)
    assert max(none) == 0 and max(aside) > 100
    assert sum(b < a for a, b in zip(aside, aside[1:], strict=False)) >= 3, "no rows went back"
    for step, (one, other) in enumerate(zip(whole, parted, strict=True)):
        unlike = [k for k in one if not np.array_equal(one[k], other[k])]
        assert not unlike, (step, unlike)


def test_saved_in_every_step_it_goes_on_with_the_same_bits(monkeypatch):
    """A run that is saved and loaded before each step lays nothing aside and ends the same."""
    whole, _ = played(8, monkeypatch)
    loaded, _ = played(8, monkeypatch, resumed=True)
    for k in ("body_x", "body_q", "body_v", "contact_pair", "contact_force_n", "contact_penalty"):
        assert np.array_equal(whole[-1][k], loaded[-1][k]), k


def test_list_holds_only_what_moves(monkeypatch):
    """Beside a block asleep a falling brick has an empty list: nothing of the block is copied or visited."""
    monkeypatch.setattr(sim.rest, "FEWEST", 1)
    world = bricks(90.0)
    for _ in range(240):
        contact_step(world, H, USUAL)
    assert (bodies_read(world).state == ASLEEP).sum() == BRICKS - FIXED_BRICKS
    assert world.laid.live.sum() > 100 and world.contact_count == 0
    assert world.work is not None and column_read(world.work.grid["still"]).sum() > BRICKS - 16 - BRICKS // 8


def test_a_sleeper_at_its_crushing_limit_is_crushed_no_further(monkeypatch):
    """Crushing is overlap lost by motion: a point that carries just its limit, between two that do not move, adds nothing."""
    monkeypatch.setattr(sim.rest, "FEWEST", 10**9)
    world = place(Scene(boxes([[0, 0.25, 0], [0, 0.75, 0], [9, 60, 0]], [[0.25] * 3] * 3)))
    for _ in range(90):
        contact_step(world, H, USUAL)
    assert (bodies_read(world).state[:2] == ASLEEP).all()
    table = world.contact[world.contact_now].array
    pressed = column_read(table["force_n"]).reshape(-1, 4)
    bears = np.where(pressed[:, 0] < 0, -pressed[:, 0], np.inf)
    column_write(table["crush"], np.stack([bears, np.zeros(len(bears))], axis=1))
    column_write(table["separation"], np.full(pressed.size, -1e-3))
    for _ in range(5):
        contact_step(world, H, USUAL)
    assert (pressed[:2, 0] < 0).all() and (bodies_read(world).state[:2] == ASLEEP).all()
    assert world_save(world)["fragment_crush"][:, 1].max() == 0 and world_save(world)["contact_crushed"].max() == 0


def test_a_hit_on_pairs_of_sleepers_is_bounded():
    """A hundred tonnes at 30 m/s beside eighty sleepers two by two: what each hands on to the other dies out.

    A margin on every hand-over instead of once made a part in a thousand more of it in turn, up to the end of the numbers."""
    pairs = 40
    at = [[2.0 * (k % 8), 0.25 + 0.5 * level, 2.0 * (k // 8)] for k in range(pairs) for level in (0, 1)]
    world = place(Scene(boxes([*at, [0.0, 12.0, 0.0]], [[0.25] * 3] * 2 * pairs + [[0.6] * 3], np.array([2400.0] * 2 * pairs + [6e4]))))
    with np.errstate(over="raise"):
        for step in range(120):
            contact_step(world, H, USUAL)
            if step == 60:
                assert world.laid.live.sum() == 2 * pairs
                v = column_read(world.body.array["v"])
                v[-1] = [0.0, -30.0, 0.0]
                column_write(world.body.array["v"], v)
    asleep = bodies_read(world).state[:-1] == ASLEEP
    assert not asleep[:2].any() and asleep[2:].all()
