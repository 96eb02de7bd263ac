"""What swings inside a cluster goes on as the motion of the parts that come loose from it."""

from __future__ import annotations

import numpy as np
import pytest

from shot.params import Event, Fracture, Material, Shot, Sim
from sim.collapse import collapse_create
from sim.respond import body_motion, particle_speed, sway_given
from sim.step import step
from sim.world import bodies_read
from tests.beams import bar
from tests.box_motion import boxes


def momenta(motion: np.ndarray, fragments) -> tuple[np.ndarray, np.ndarray]:
    """Momentum (F, 3) and angular momentum about the origin (F, 3) of fragments in motion (F, 6)."""
    p = fragments.mass[:, None] * motion[:, :3]
    return p, np.cross(fragments.position, p) + np.einsum("fij,fj->fi", fragments.inertia, motion[:, 3:])


def test_parts_share_out_the_sway():
    """Parts of a held cluster take sum m v and sum r x m v + I w of their own, those of a free one none in sum, what stays none."""
    rng = np.random.default_rng(4)
    fragments = boxes(rng.uniform(-3, 3, (9, 3)), rng.uniform(0.3, 1.0, (9, 3)))
    sway = rng.normal(size=(9, 6))
    old, new = np.array([0, 0, 0, 0, 4, 4, 4, 4, 8]), np.array([0, 0, 2, 2, 4, 4, 6, 6, 8])
    old_free, new_free = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1], bool), np.array([0, 0, 1, 1, 1, 1, 1, 1, 1], bool)
    given = sway_given(sway, np.full(9, 99.0), fragments, old, old_free, new, new_free)
    assert not given[[0, 1, 8]].any()
    (p, angular), (p_sway, angular_sway) = momenta(given, fragments), momenta(sway, fragments)
    part = slice(2, 4)
    assert p[part].sum(0) == pytest.approx(p_sway[part].sum(0), rel=1e-12)
    assert angular[part].sum(0) == pytest.approx(angular_sway[part].sum(0), rel=1e-12)
    parts = slice(4, 8)
    assert np.abs(p[parts].sum(0)).max() < 1e-9 * np.abs(p_sway[parts]).sum() and np.abs(p[4:6].sum(0)).max() > 1.0
    assert np.abs(angular[parts].sum(0)).max() < 1e-9 * np.abs(angular_sway[parts]).sum()
    body, v, w = body_motion(given, new, fragments.mass)
    assert body.tolist() == [2, 4, 6]
    assert fragments.mass[part].sum() * v[0] == pytest.approx(p[part].sum(0)) and np.array_equal(w[0], given[2, 3:])


def test_no_part_leaves_faster_than_its_material_bears():
    """f_c / sqrt(rho E) = 30 MPa / sqrt(2400 kg/m3 30 GPa) = 3.54 m/s for concrete; parts of a free cluster still sum to none."""
    fragments, bonds = bar((6, 1, 1), 3.0, 0.5, Material(steel=0.0, compression=30e6, young=30e9, density=2400.0, weibull=0.0))
    most = particle_speed(bonds, fragments)
    assert most == pytest.approx(30e6 / np.sqrt(2400.0 * 30e9), rel=1e-6)
    sway = np.zeros((6, 6))
    sway[:, 1] = 50.0, 1.0, -2.0, 0.0, 1.0, 0.0
    old, new, free = np.zeros(6, int), np.array([0, 1, 1, 1, 1, 1]), np.ones(6, bool)
    held = sway_given(sway, most, fragments, old, ~free, new, free)
    assert held[0, 1] == pytest.approx(most[0]) and held[1:, 1].mean() == pytest.approx(0.0, abs=0.5)
    p, _ = momenta(sway_given(sway, most, fragments, old, free, new, free), fragments)
    assert np.abs(p.sum(0)).max() < 1e-9 * np.abs(p).sum() and 0.5 * most[0] < p[0, 1] / fragments.mass[0] < most[0]


def test_a_struck_cantilever_flies_off_with_its_swing(taichi):
    """Hit sideways for one step and cut off two steps later, a cantilever keeps the momenta that its lattice had, to f32's 1e-5."""
    fragments, bonds = bar((8, 1, 1), 4.0, 0.4, Material(steel=0.0), built_in=True)
    hit = Event(kind="push", frame=1002, frames=1, lower=(-99, -99, -99), upper=(99, 99, 99), members=(), force=(0.0, 0.0, 40.0))
    cut = Event(kind="cut", frame=1003, lower=(-99, -99, -99), upper=(99, 99, 99), members=())
    sim = Sim(gravity=0.0, break_rounds=0, buckling=False)
    c = collapse_create(Shot(events=(hit, cut), sim=sim, fracture=Fracture(shrink=0.01), fps=72.0), fragments, bonds)
    while c.held.any():
        p, angular = (rows.sum(0) for rows in momenta(c.elastic.v, fragments))
        assert c.step < 50
        step(c)
    bodies = bodies_read(c.world)
    free = bodies.mass > 0
    mass, arm = bodies.mass[free, None].astype(float), bodies.com[free]
    assert np.linalg.norm(p) > 1.0
    assert (mass * bodies.v[free]).sum(0) == pytest.approx(p, rel=1e-5, abs=1e-5 * float(np.linalg.norm(p)))
    spin = np.einsum("fij,fj->fi", fragments.inertia, bodies.w.astype(float))[free]
    whole = (np.cross(arm, mass * bodies.v[free]) + spin).sum(0)
    assert whole == pytest.approx(angular, rel=1e-4, abs=1e-5 * float(np.linalg.norm(angular)))
