"""Which load changes the lattice of a building is solved for."""

import numpy as np

from shot.params import Event, Fracture, Material, Shot, Sim
from sim.collapse import collapse_create
from sim.respond import NOTICE_LOAD
from sim.step import step
from tests.structures import frame


def test_a_wind_that_no_fragment_notices_bends_the_building(taichi):
    """A sideways push of 4 m/s2: less than 1 % of any bond's strength on each fragment, 0.4 of the building's weight together. The bond
    forces of the feet must add up to it, sum V = m a, at rest within what is noticed, 1 % of the weight."""
    fragments, bonds = frame(2, 1, 1, Material(steel=0.01), piece=0.5)
    push = Event(kind="push", frame=1002, frames=200, lower=(-99, -1, -99), upper=(99, 99, 99), members=(), force=(4.0, 0.0, 0.0))
    shot = Shot(events=(push,), sim=Sim(break_rounds=0, buckling=False, dynamic=False), fracture=Fracture(shrink=0.01))
    c = collapse_create(shot, fragments, bonds)
    assert (4.0 * fragments.mass < NOTICE_LOAD * c.capacity).all()
    step(c)
    foot = np.flatnonzero(bonds.fragment_b < 0)
    a = bonds.fragment_a[foot]
    strain = np.einsum("bij,bj->bi", c.lattice.strain_a[foot], c.elastic.u[a]) * -1.0 - c.lattice.offset[foot]
    q = c.lattice.stiffness[foot] * strain
    carried = np.einsum("bi,bij->bj", q[:, :3], c.lattice.strain_a[foot, :3, :3]).sum(axis=0)
    mass = fragments.mass.sum()
    np.testing.assert_allclose(np.abs(carried[0]), 4.0 * mass, atol=NOTICE_LOAD * 9.81 * mass)
