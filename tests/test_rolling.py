"""Rolling resistance: what presses on a piece turns it back, and never past rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.contact import Scene, boxes, place
from tests.test_contact import G, H, run, settings

pytestmark = pytest.mark.usefixtures("taichi")


def spinning_box(spin: float):
    """A box on the ground, without friction, turning about the vertical."""
    world = place(Scene(boxes([[0, 0.25, 0]], [[0.25, 0.25, 0.25]])), 0.0)
    b = run(world, 30, settings(friction=0.0))
    from sim.world import bodies_write

    bodies_write(world, b.x, b.q, b.v * 0, np.array([[0.0, spin, 0.0]]))
    return world


def test_spin_decays_as_a_constant_moment_and_stops():
    """dw/dt = -rolling size m g / I with I = m (a^2 + b^2) / 12; then exactly at rest. 2 % for the contact force's own ripple."""
    lever, size = 0.1, 0.5  # the median size of one box is its side
    how = replace(settings(friction=0.0), rolling=lever)
    world = spinning_box(6.0)
    first, steps = run(world, 5, how).w[0, 1], 10
    last = run(world, steps, how).w[0, 1]
    rate = lever * size * G / (2 * size**2 / 12)
    assert (first - last) / (steps * H) == pytest.approx(rate, rel=0.02)
    assert abs(run(world, 60, how).w[0, 1]) < 1e-3


@pytest.mark.parametrize(("push", "steps"), [(1.0, 120), (4.0, 12)])
def test_held_below_the_resistance_and_turned_by_the_rest_above(push, steps):
    """Two cubes of one body, pushed by +-a m in z at x = +-0.25 m: 2 m a 0.25 m against rolling size 2 m g.

    Below, nothing turns, in any number of steps; above, dw/dt = (their difference) / I, I = 2 m (2 0.5^2 / 12 + 0.25^2), within 2 %:
    in 12 steps it has turned by 0.1 rad, and the push lost 0.5 % of its arm."""
    from sim.solve import contact_step
    from sim.world import bodies_read

    lever, size = 0.1, 0.5
    how = replace(settings(friction=0.0), rolling=lever)
    scene = boxes([[-0.25, 0.25, 0], [0.25, 0.25, 0]], [[0.25] * 3] * 2)
    world = place(Scene(scene, label=np.zeros(2, np.int32), fixed=np.zeros(2, bool)), 0.0)
    run(world, 30, how)
    for _ in range(steps):
        contact_step(world, H, how, np.array([[0, 0, push], [0, 0, -push]]))
    moment, held = 2 * push * 0.25, lever * size * 2 * G
    body = bodies_read(world)
    if moment < held:
        assert 2 * abs(body.q[0, 2]) < 1e-5 * steps and abs(body.w[0, 1]) < 1e-5 / H
    else:
        rate = (moment - held) / (2 * (2 * size**2 / 12 + 0.25**2))
        turned = 2 * np.arctan2(abs(body.q[0, 2]), body.q[0, 0])
        assert abs(body.w[0, 1]) == pytest.approx(rate * steps * H, rel=0.02)
        assert turned == pytest.approx(0.5 * rate * steps * (steps + 1) * H**2, rel=0.02)


def test_free_spin_is_untouched():
    """Nothing presses on a piece in the air: w is kept."""
    world = place(Scene(boxes([[0, 50, 0]], [[0.25] * 3])))
    from sim.world import bodies_read, bodies_write

    b = bodies_read(world)
    bodies_write(world, b.x, b.q, b.v, np.array([[0.0, 3.0, 0.0]]))
    assert run(world, 30, replace(settings(gravity=0.0), rolling=0.5)).w[0, 1] == pytest.approx(3.0, rel=1e-6)


def test_pieces_on_uneven_undersides_lie_still():
    """Sixty prisms whose five to eight lower corners are up to 12 mm out of a plane: after 4 s they lie on three or four of them.

    Where the points of a manifold were chosen anew by depth and spread alone, corners took turns and three in five rocked for ever."""
    from bench.contact import Scene, fragments_of, place
    from sim.solve import contact_step
    from sim.world import Settings, bodies_read

    rng, hulls, speed = np.random.default_rng(0), [], []
    for k in range(60):
        angle = 2 * np.pi * np.arange(5 + k % 4) / (5 + k % 4)
        ring = np.stack([0.3 * np.cos(angle), np.zeros(len(angle)), 0.3 * np.sin(angle)], axis=1)
        lower = ring + np.stack([0 * angle, -0.2 + rng.uniform(-6e-3, 6e-3, len(angle)), 0 * angle], axis=1)
        hulls.append(np.concatenate([lower, 0.8 * ring + [0, 0.2, 0]]))
    world = place(Scene(fragments_of(np.array([[k % 10, 0.215, k // 10] for k in range(60)], float), hulls)))
    for _ in range(432):
        contact_step(world, 1 / 72, Settings(9.81, 20, 0.6, 0.0, 0.5))
        body = bodies_read(world)
        speed.append(np.linalg.norm(body.v, axis=1) + 0.3 * np.linalg.norm(body.w, axis=1))
    assert (np.array(speed[-144:]) > 0.01).mean() < 0.01
