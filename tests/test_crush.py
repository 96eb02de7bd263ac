"""Contact that yields: a fragment bears what its section bears, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from bench.contact import Scene, boxes, place

G, H, HALF = 9.81, 1 / 144, 0.25
pytestmark = pytest.mark.usefixtures("taichi")


def pressed(load: float, speed: float, bears: float):
    """A cube of half a metre that bears `bears` [N] on the ground, under a metre cube of `load` [kg] that comes down at `speed`."""
    scene = boxes([[0, HALF, 0], [0, 2 * HALF + 0.5, 0]], [[HALF] * 3, [0.5] * 3], np.array([2400.0, load]))
    world = place(Scene(scene, velocity=np.array([[0, 0, 0], [0, -speed, 0]])))
    world.crush_set(np.array([bears, 1e12]))
    return world


def advance(world, steps):
    """Heights and energies of every step."""
    from sim.solve import contact_step
    from sim.world import Settings, bodies_read

    height, energy = [], []
    for _ in range(steps):
        contact_step(world, H, Settings(G, 20, 0.6, 0.0, 0.5))
        height.append(bodies_read(world).x[:, 1])
        energy.append(dict(world.energy))
    return np.array(height), energy


@pytest.mark.parametrize("speed", [2.0, 3.5])
def test_crushing_stops_a_load_by_its_strength(speed):
    """s = M v^2 / 2 (F - M g); implicit Euler with end velocities falls short by v h / 2 at most, the carried overlap is below 2 mm."""
    load, bears = 2e4, 1e6
    world = pressed(load, speed, bears)
    height, energy = advance(world, 144)
    fall = height[-1, 1] - (2 * HALF + 0.5)
    assert -fall == pytest.approx(load * speed**2 / (2 * (bears - load * G)), abs=speed * H / 2 + 2e-3)
    spent = sum(e["contact"] for e in energy)
    assert spent == pytest.approx(0.5 * load * speed**2 - load * G * fall, rel=0.04)
    assert np.ptp(height[-36:, 1]) < 1e-3  # it rests in what it crushed and is not pushed out again


def test_strong_fragment_is_not_crushed():
    """The same load laid down: M g is a fifth of the strength, nothing yields, and the load stays where it is."""
    world = pressed(2e4, 0.0, 1e6)
    height, _ = advance(world, 72)
    assert world.contact[world.contact_now].array["crushed"].to_numpy()[: world.contact_count].max() == 0
    assert abs(height[-1, 1] - (2 * HALF + 0.5)) < 2e-3


def test_impact_force_does_not_follow_the_step():
    """A rigid stop takes M v / h; a stop by crushing takes the strength at every step size."""
    from sim.solve import contact_step
    from sim.world import Settings, forces_read

    for h in (1 / 72, 1 / 288):
        world = pressed(2e4, 3.5, 1e6)
        peak = 0.0
        for _ in range(round(0.05 / h)):
            contact_step(world, h, Settings(G, 20, 0.6, 0.0, 0.5))
            peak = max(peak, float(np.linalg.norm(forces_read(world)[0][1])))
        assert peak == pytest.approx(1e6, rel=1e-3)


@pytest.mark.parametrize("parts", [1, 2, 8])
def test_crushing_takes_the_same_energy_in_long_and_short_steps(parts):
    """M v^2 / 2 + M g x = F int_0^x s / v, s and v of sim/crush.py; end velocities fall short by v h / 2 at most."""
    from sim.crush import CONFINED
    from sim.solve import CRUSH_DEPTH, CRUSH_PACKED, contact_step
    from sim.world import Settings, bodies_read

    load, speed, bears, r, h = 4e4, 6.0, 4e7, 0.05, 1 / (72 * parts)
    world = place(Scene(boxes([[0, HALF, 0]], [[HALF] * 3], np.array([load / 0.125])), velocity=np.array([[0, -speed, 0]])))
    world.crush_set(np.array([bears]))
    for _ in range(round(0.5 / h)):
        contact_step(world, h, Settings(G, 20, 0.6, 0.0, 0.5, 0.0, r))
    d, p = CRUSH_DEPTH * world.length_scale, CRUSH_PACKED * world.length_scale
    x = np.linspace(0.0, p, 20001)
    bearing = np.maximum(1 - x / d, r) / np.maximum(np.minimum(2 - 2 * x / p, 1), r / CONFINED)
    spent = bears * np.concatenate([[0.0], np.cumsum(0.5 * (bearing[1:] + bearing[:-1]) * np.diff(x))])
    depth = x[np.argmax(spent >= load * (0.5 * speed**2 + G * x))]
    assert 0.6 * p < depth < p  # it lost its strength and packs again
    assert HALF - bodies_read(world).x[0, 1] == pytest.approx(depth, abs=speed * h / 2 + 2e-3)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_crushing_takes_the_same_energy_wherever_in_the_step_it_begins(share):
    """M v^2 / 2 = F x, s = v = 1, behind a gap of a share of v h: t, then. End velocities fall short by h (v + t F / M) / 2."""
    from sim.solve import contact_step
    from sim.world import Settings, bodies_read

    load, speed, bears, h = 4e4, 6.0, 7e6, 1 / 144
    gap = share * speed * h
    world = place(Scene(boxes([[0, HALF + gap, 0]], [[HALF] * 3], np.array([load / 0.125])), velocity=np.array([[0, -speed, 0]])))
    world.crush_set(np.array([bears]))
    for _ in range(36):
        contact_step(world, h, Settings(0.0, 20, 0.6, 0.0, 0.5, 0.0, 1.0))
    short = 0.5 * h * (speed + share * h * bears / load)
    assert HALF - bodies_read(world).x[0, 1] == pytest.approx(load * speed**2 / (2 * bears) - 0.5 * short, abs=0.5 * short + 1e-3)


def test_crushed_state_is_carried_and_saved():
    """What was crushed is part of the saved state: a reloaded world goes on with the same bits."""
    from sim.solve import contact_step
    from sim.state import world_load, world_save
    from sim.world import Settings, world_digest

    how = Settings(G, 20, 0.6, 0.0, 0.5)
    world, again = pressed(2e4, 5.0, 1e6), pressed(2e4, 5.0, 1e6)
    for _ in range(8):
        contact_step(world, H, how)
    saved = world_save(world)
    assert saved["contact_crushed"].max() > 0.05
    world_load(again, saved)
    for _ in range(8):
        contact_step(world, H, how)
        contact_step(again, H, how)
    assert world_digest(world) == world_digest(again)


def test_crushed_concrete_keeps_its_residual_strength():
    """A load between the residual and the full strength is carried; where it comes down with a blow it sinks until the pieces pack."""
    from sim.solve import contact_step
    from sim.world import Settings, bodies_read

    load, bears = 5e4, 1e6  # half the strength at rest
    for speed, stands in ((0.0, True), (2.0, False)):
        world = pressed(load, speed, bears)
        for _ in range(144):
            contact_step(world, H, Settings(G, 20, 0.6, 0.0, 0.5, 0.0, 0.2))
        assert (bodies_read(world).x[1, 1] > 2 * HALF + 0.5 - 5e-3) == stands


def test_crushed_piece_rests_on_what_it_touches_with():
    """Forty round pieces land at 10 m/s and crush by a third: all their corners are under the ground, few bear. They lie still after 4 s.

    With the four points spread over all that is under the ground, most of which only the crushed part would reach, two in three rocked
    at 3 cm/s for ever."""
    from bench.contact import fragments_of
    from sim.solve import contact_step
    from sim.world import Settings, bodies_read

    rng = np.random.default_rng(0)
    ray = rng.normal(size=(40, 14, 3))
    hulls = list(ray / np.linalg.norm(ray, axis=2)[:, :, None] * [0.3, 0.25, 0.2])
    at = np.array([[2.0 * (k % 8), 0.01 - hull[:, 1].min(), 2.0 * (k // 8)] for k, hull in enumerate(hulls)])
    scene = Scene(fragments_of(at, hulls), velocity=np.tile([0.0, -10.0, 0.0], (40, 1)))
    world = place(scene)
    world.crush_set(120.0 * G * np.asarray(scene.fragments.mass))
    speed = []
    for _ in range(360):
        contact_step(world, 1 / 72, Settings(G, 20, 0.6, 0.0, 0.5, 0.0, 0.05))
        speed.append(np.linalg.norm(bodies_read(world).v, axis=1))
    assert world.contact[world.contact_now].array["crushed"].to_numpy()[: world.contact_count].min() > 0.08
    assert (np.array(speed[-72:]) > 0.02).mean() < 0.03
