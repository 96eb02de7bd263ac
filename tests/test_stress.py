"""The bond lattice against beam theory, and its solver against a sparse direct one (research/physics.md 4.3)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import spsolve

from shot.params import Material, Sim
from shot.results import GROUND
from sim.bond import Breakage, bonds_fail, sections, utilisation
from sim.respond import Elastic, Response
from sim.respond import respond as respond_or_none
from sim.stress import bond_strains, lattice_build, loads_balance, system_build, system_solve
from tests.structures import boxes, frame

CONCRETE = Material(steel=0.0, fracture_energy=0.1)  # brittle: utilisation times tensile strength is stress
GRAVITY = 9.81


def beam(count: int, size=(1.0, 1.0, 1.0), material: Material = CONCRETE):
    """Boxes in a row along x; the first one stands on a ground bond at its lower left face."""
    cells = np.stack([np.arange(count), np.zeros(count, int), np.zeros(count, int)], axis=1)
    fragments, bonds = boxes(cells, size, material, grounded=np.arange(count) == 0)
    ground = bonds.fragment_b == GROUND
    # turn the foot into a built-in end: the left face of the first box
    a, b = size[1], size[2]
    bonds.centroid[ground] = [0.0, a / 2, b / 2]
    bonds.normal[ground], bonds.axis[ground] = [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    bonds.area[ground], bonds.length[ground] = a * b, size[0] / 2
    bonds.second_moment[ground], bonds.reach[ground] = [a * b**3 / 12, b * a**3 / 12], [b / 2, a / 2]
    return fragments, bonds


def solved(fragments, bonds, load, tolerance=1e-8, limit=400):
    """Displacements (F, 6) and bond forces (B, 6) of a held structure."""
    lattice = lattice_build(fragments, bonds)
    count = fragments.count
    system = system_build(lattice, np.zeros(count, int), np.ones(count, bool), np.ones(bonds.count, bool), 1.0, 0.0)
    u, iterations, converged = system_solve(system, load, np.zeros((count, 6)), tolerance, limit)
    assert converged.all()
    return u, lattice.stiffness * bond_strains(lattice, np.arange(bonds.count), u), iterations


def respond(*question) -> Response:
    """The lattice's response where some bond is concerned."""
    response = respond_or_none(*question)
    assert response is not None
    return response


def weight(fragments):
    """Gravity (F, 6)."""
    load = np.zeros((fragments.count, 6))
    load[:, 1] = -GRAVITY * fragments.mass
    return load


def wall():
    """21 x 15 cubes around an opening eleven wide."""
    return boxes(np.array([(i, j, 0) for i in range(21) for j in range(15) if not (5 <= i < 16 and 3 <= j < 10)]), (1, 1, 1), CONCRETE)


def column(count):
    """A tower of cubes."""
    return boxes(np.array([(0, i, 0) for i in range(count)]), (1, 1, 1), CONCRETE)


@pytest.mark.parametrize(
    "make",
    [lambda: column(100), lambda: beam(30), wall, lambda: frame(6, 4, 3, CONCRETE)],
    ids=["column100", "cantilever30", "wall", "frame"],
)
def test_solver_against_direct(make):
    """All bond forces within 1 % (2-norm) of a sparse direct solution in at most 20 cold iterations."""
    fragments, bonds = make()
    lattice, count = lattice_build(fragments, bonds), fragments.count
    system = system_build(lattice, np.zeros(count, int), np.ones(count, bool), np.ones(bonds.count, bool), 1.0, 0.0)
    exact = np.asarray(spsolve(system.K.tocsc(), weight(fragments).ravel())).reshape(-1, 6)
    u, iterations, _ = system_solve(system, weight(fragments), np.zeros((count, 6)), 0.0, 20)
    every = np.arange(bonds.count)
    want = lattice.stiffness * bond_strains(lattice, every, exact)
    got = lattice.stiffness * bond_strains(lattice, every, u)
    assert iterations <= 20
    assert np.linalg.norm(got - want) < 0.01 * np.linalg.norm(want)


@pytest.mark.parametrize("mu", [0.0, 5184.0], ids=["static", "dynamic"])
def test_factor_equals_iteration(mu):
    """A wall split in two clusters: the factored A gives the iterated answer to the iteration's tolerance 1e-8, with any system between."""
    fragments, bonds = wall()
    lattice, count = lattice_build(fragments, bonds), fragments.count
    label = np.where(fragments.position[:, 0] < 10.5, 0, int(np.argmax(fragments.position[:, 0] > 10.5)))
    inside = (bonds.fragment_b < 0) | (label[bonds.fragment_a] == label[bonds.fragment_b])
    ask = (lattice, label, np.ones(count, bool), inside, 1.0, mu)
    factored, iterated = system_build(*ask, direct=count), system_build(*ask, direct=0)
    exact, none, _ = system_solve(factored, weight(fragments), np.zeros((count, 6)), 1e-8, 1)
    near, some, _ = system_solve(iterated, weight(fragments), np.zeros((count, 6)), 1e-8, 400)
    assert none == 0 < some
    error = (exact - near).ravel()
    energy = exact.ravel() @ factored.product(exact).ravel()
    assert error @ factored.product(error.reshape(-1, 6)).ravel() < 1e-14 * energy


def test_a_cluster_that_iteration_does_not_solve_is_factored():
    """Two towers, one beyond `direct`: the small one is exact at once, the other after one iteration too few, both to rounding."""
    cells = np.array([(0, i, 0) for i in range(60)] + [(3, i, 0) for i in range(20)])
    fragments, bonds = boxes(cells, (1, 1, 1), CONCRETE)
    lattice, load = lattice_build(fragments, bonds), np.zeros((80, 6))
    load[:, 0] = fragments.mass
    ask = (lattice, np.repeat([0, 60], [60, 20]), np.ones(80, bool), np.ones(bonds.count, bool), 1.0, 5184.0)
    exact, _, _ = system_solve(system_build(*ask, direct=80), load, np.zeros((80, 6)), 1e-12, 1)
    u, iterations, converged = system_solve(system_build(*ask, direct=20), load, np.zeros((80, 6)), 1e-12, 1)
    assert iterations == 1 and converged.all()
    np.testing.assert_allclose(u, exact, rtol=1e-9, atol=1e-9 * np.abs(exact).max())
    _, _, converged = system_solve(system_build(*ask, direct=0), load, np.zeros((80, 6)), 1e-12, 1)
    assert not converged[0]


def test_rigid_motion_strains_nothing():
    """K times any rigid motion is zero to rounding: the lattice has no hidden anchor."""
    cells = np.array([(i, j, k) for i in range(3) for j in range(3) for k in range(3)])
    fragments, bonds = boxes(cells, (0.7, 0.5, 0.9), CONCRETE, ground=False)
    lattice = lattice_build(fragments, bonds)
    turn, shift = np.array([0.3, -0.2, 0.5]), np.array([1.0, 2.0, -3.0])
    u = np.concatenate([shift + np.cross(turn, fragments.position), np.tile(turn, (fragments.count, 1))], axis=1)
    assert np.abs(bond_strains(lattice, np.arange(bonds.count), u)).max() < 1e-13


def test_column_base_stress():
    """sigma = rho g H = 0.471 MPa under 20 m of concrete; equilibrium is exact, so only the solver's tolerance remains."""
    fragments, bonds = column(20)
    _, q, _ = solved(fragments, bonds, weight(fragments))
    foot = np.flatnonzero(bonds.fragment_b == GROUND)[0]
    assert q[foot, 0] / bonds.area[foot] == pytest.approx(-2400 * GRAVITY * 20, rel=1e-6)


@pytest.mark.parametrize("count", [8, 16, 32])
def test_cantilever_tip_load(count):
    """delta = P L^3 / 3 E I + P L / k G A with an end-load at the last box's centre; the spring chain's error is about 2.2 (1/2N)^2."""
    length, depth = 8.0, 0.5
    fragments, bonds = beam(count, (length / count, depth, depth))
    load = np.zeros((count, 6))
    load[-1, 1] = -1e4
    u, q, _ = solved(fragments, bonds, load)
    arm = length - length / count / 2
    E, G, A, inertia = CONCRETE.young, CONCRETE.young / 2.4, depth**2, depth**4 / 12
    want = 1e4 * arm**3 / (3 * E * inertia) + 1e4 * arm / (5 / 6 * G * A)
    assert -u[-1, 1] == pytest.approx(want, rel=2.5 / (2 * count) ** 2 + 1e-4)
    section, root = sections(bonds, Sim()), np.flatnonzero(bonds.fragment_b == GROUND)
    U, _ = utilisation(section, root, q[root], np.ones(1))
    assert U[0] * CONCRETE.tension == pytest.approx(6 * 1e4 * arm / depth**3, rel=5e-4)  # sigma = 6 P L / b h^2


def test_cantilever_own_weight():
    """sigma = 3 rho g L^2 / h at the root; equilibrium again."""
    length, depth = 6.0, 0.3
    fragments, bonds = beam(20, (length / 20, depth, 0.4))
    _, q, _ = solved(fragments, bonds, weight(fragments))
    root = np.flatnonzero(bonds.fragment_b == GROUND)
    U, _ = utilisation(sections(bonds, Sim()), root, q[root], np.ones(1))
    assert U[0] * CONCRETE.tension == pytest.approx(3 * 2400 * GRAVITY * length**2 / depth, rel=5e-4)


def test_torsion():
    """Square shaft: twist T L / G J with J = 0.1406 a^4 and shear T / (0.208 a^3); our J is 7 % high, our peak shear within 3 %."""
    count, side = 10, 0.5
    fragments, bonds = beam(count, (0.6, side, side))
    load = np.zeros((count, 6))
    load[-1, 3] = 2e4
    u, q, _ = solved(fragments, bonds, load)
    assert u[-1, 3] == pytest.approx(2e4 * (0.6 * count - 0.3) / (CONCRETE.young / 2.4 * 0.1406 * side**4), rel=0.08)
    section, root = sections(bonds, Sim()), np.flatnonzero(bonds.fragment_b == GROUND)
    U, _ = utilisation(section, root, q[root], np.ones(1))
    assert U[0] * CONCRETE.cohesion == pytest.approx(2e4 / (0.208 * side**3), rel=0.03)


def test_three_point_bending_breaks_in_the_middle():
    """P_f = 2 b h^2 s_t / 3 L within 5 %; the middle bond fails and no other. The free beam's loads balance: no support needed."""
    count, length, depth = 20, 4.0, 0.4
    fragments, bonds = boxes(np.array([(i, 0, 0) for i in range(count)]), (length / count, depth, depth), CONCRETE, ground=False)
    span = length - length / count
    load = np.zeros((count, 6))
    load[0, 1] = load[-1, 1] = 0.5
    load[count // 2 - 1, 1] = load[count // 2, 1] = -0.5
    section = sections(bonds, Sim())
    lattice = lattice_build(fragments, bonds)
    # four-point with the inner loads one box apart: M = P/2 (span - box)/2
    want = 2 * depth * depth**2 * CONCRETE.tension / (3 * (span - length / count))
    for force, breaks in ((0.95 * want, 0), (1.05 * want, 1)):
        response = respond(
            lattice, Elastic.still(count), np.zeros(count, int), np.zeros(count, bool), np.ones(bonds.count, bool), np.ones(count, bool),
            force * load, 1.0, Sim(), False,
        )
        failure = bonds_fail(section, Breakage.none(bonds.count), bonds, response.bond, response.strain, Sim(), count)
        gone = np.concatenate([failure.broken, failure.softened])
        assert len(gone) == breaks
        if breaks:
            assert {int(bonds.fragment_a[gone[0]]), int(bonds.fragment_b[gone[0]])} == {count // 2 - 1, count // 2}


def test_mesh_independence():
    """The same cantilever in 1x, 2x, 4x pieces has the same bending stress at the root within 2 %: strength is per area."""
    stress = []
    for fine in (1, 2, 4):
        cells = np.array([(i, j, k) for i in range(8 * fine) for j in range(fine) for k in range(fine)])
        fragments, bonds = boxes(cells, (0.5 / fine, 0.5 / fine, 0.5 / fine), CONCRETE, grounded=cells[:, 0] == 0)
        ground = np.flatnonzero(bonds.fragment_b == GROUND)
        own = fragments.position[bonds.fragment_a[ground]]
        bonds.centroid[ground] = own - [0.25 / fine, 0, 0]
        bonds.normal[ground], bonds.axis[ground] = [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
        _, q, _ = solved(fragments, bonds, weight(fragments))
        top = np.abs(q[ground, 0]) / bonds.area[ground] + np.abs(q[ground, 5]) / (bonds.second_moment[ground, 1] / bonds.reach[ground, 1])
        top += np.abs(q[ground, 4]) / (bonds.second_moment[ground, 0] / bonds.reach[ground, 0])
        stress.append(top.max())
    assert max(stress) < 1.1 * min(stress)


def test_free_cluster_carries_its_inertia():
    """A rod pulled at one end: N falls linearly from F to 0 (inertia relief); gravity alone strains nothing."""
    count = 20
    fragments, bonds = boxes(np.array([(i, 0, 0) for i in range(count)]), (0.5, 0.5, 0.5), CONCRETE, ground=False)
    lattice, held = lattice_build(fragments, bonds), np.zeros(count, bool)
    ask = (lattice, Elastic.still(count), np.zeros(count, int), held, np.ones(bonds.count, bool), np.ones(count, bool))
    pull = np.zeros((count, 6))
    pull[-1, 0] = 1e5
    response = respond(*ask, pull, 1.0, Sim(stress_tolerance=1e-6), False)
    q = lattice.stiffness[response.bond] * response.strain
    assert q[:, 0] == pytest.approx(1e5 * (np.arange(count - 1) + 1) / count, rel=1e-3)
    response = respond(*ask, weight(fragments), 1.0, Sim(), False)
    assert np.abs(response.strain).max() < 1e-12


def test_loads_balance_leaves_no_resultant():
    """Relieved loads have no resultant force or moment."""
    fragments, bonds = boxes(np.array([(i, j, 0) for i in range(4) for j in range(2)]), (0.5, 0.7, 0.4), CONCRETE, ground=False)
    lattice = lattice_build(fragments, bonds)
    load = np.random.default_rng(1).normal(size=(8, 6))
    f = loads_balance(fragments.position, lattice.mass, np.array([0]), np.array([True]), load)
    assert np.abs(f[:, :3].sum(axis=0)).max() < 1e-12
    assert np.abs((f[:, 3:] + np.cross(fragments.position, f[:, :3])).sum(axis=0)).max() < 1e-12


def test_clusters_do_not_mix():
    """Two columns solved together give what each gives alone, to the tolerance."""
    one, bonds = column(12)
    both, both_bonds = boxes(np.array([(x, i, 0) for x in (0, 3) for i in range(12)]), (1, 1, 1), CONCRETE)
    u, _, _ = solved(one, bonds, weight(one))
    lattice = lattice_build(both, both_bonds)
    label = np.repeat([0, 12], 12)
    system = system_build(lattice, label, np.ones(24, bool), np.ones(both_bonds.count, bool), 1.0, 0.0)
    pair, _, _ = system_solve(system, weight(both), np.zeros((24, 6)), 1e-8, 400)
    assert pair[:12] == pytest.approx(u, rel=1e-6, abs=1e-12)
    assert pair[12:] == pytest.approx(u, rel=1e-6, abs=1e-12)


def test_sudden_load_doubles():
    """Weight applied at once swings a bar to twice its static sag (DLF = 2; 1 % for tau = h), at its period 4 L sqrt(rho/E)."""
    count = 40
    fragments, bonds = column(count)
    lattice, elastic = lattice_build(fragments, bonds), Elastic.still(count)
    every, held = np.ones(bonds.count, bool), np.ones(count, bool)
    load = weight(fragments)
    sim = Sim(impact_time=1e-9, stress_tolerance=1e-6)
    still = respond(lattice, elastic, np.zeros(count, int), held, every, held, load, 1.0, sim, False)
    period = 4 * count * np.sqrt(CONCRETE.density / CONCRETE.young)
    h, top = period / 400, []
    for _ in range(300):
        response = respond(lattice, elastic, np.zeros(count, int), held, every, held, load, h, sim, True)
        elastic.v, elastic.u = (response.u - response.u_before) / h, response.u
        top.append(-response.u[-1, 1])
    assert max(top) == pytest.approx(-2 * still.u[-1, 1], rel=0.03)
    assert (np.argmax(top) + 1) * h == pytest.approx(period / 2, rel=0.02)


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
def test_impulse_does_not_depend_on_the_step(parts):
    """An impulse J within one step of h = T/parts presses the foot of a stiff block with J/T; 1 % for its inertia."""
    fragments, bonds = boxes(np.array([(0, 0, 0)]), (0.5, 0.5, 0.5), CONCRETE)
    lattice, sim, one = lattice_build(fragments, bonds), Sim(stress_tolerance=1e-8), np.ones(1, bool)
    h, load = sim.impact_time / parts, np.zeros((1, 6))
    load[0, 1] = -1e3 / h
    response = respond(lattice, Elastic.still(1), np.zeros(1, int), one, one, one, load, h, sim, True)
    assert abs(lattice.stiffness[0, 0] * response.strain[0, 0]) == pytest.approx(1e3 / sim.impact_time, rel=0.01)
