"""What breaks, in which order, and what it costs: criterion, softening, hinges, worst-first, clusters, events."""

from __future__ import annotations

import numpy as np
import pytest

from shot.params import Event, Material, Sim
from shot.results import BOND_BROKEN, BOND_HINGED, BOND_INTACT, GROUND, MEMBER_KINDS
from sim.bond import COMPRESSION, SHEAR, TENSION, Breakage, bonds_fail, sections, stiffness_left, utilisation, worst_first
from sim.cluster import bonds_inside, clusters, hinges_between
from sim.event import bonds_cut, push, schedule, strength_left
from sim.stress import bond_stiffness
from tests.structures import boxes

CONCRETE, BRICK = Material(steel=0.0), Material(young=4e9, tension=0.25e6, compression=6e6, cohesion=0.35e6, fracture_energy=20, steel=0.0)
REINFORCED = Material(steel=0.015)
SIM = Sim()
LENGTH = 30e9 * 100 / 3e6**2  # l_ch of CONCRETE [m]
FLEXURE = 1 + 1 / (0.85 + 4.5 * 1.0 / LENGTH)  # of its cube of 1 m: bending over tensile strength


def pair(material=CONCRETE, side=1.0):
    """Two cubes and the bond between them."""
    return boxes(np.array([(0, 0, 0), (1, 0, 0)]), (side, side, side), material, ground=False)


def demand(material, q, strength=1.0):
    """U and mode of the pair's bond under section forces q."""
    _, bonds = pair(material)
    U, mode = utilisation(sections(bonds, SIM), np.array([0]), np.array([q], float), np.array([strength]))
    return float(U[0]), int(mode[0])


def test_plain_section():
    """Pure tension f_t A, bending phi f_t b h^2 / 6, compression f_c A, shear c A / 1.2 each give U = 1 in their mode."""
    for q, mode in (
        ([3e6, 0, 0, 0, 0, 0], TENSION), ([0, 0, 0, 0, FLEXURE * 3e6 / 6, 0], TENSION), ([0, 0, 0, 0, 0, -FLEXURE * 3e6 / 6], TENSION),
        ([-30e6, 0, 0, 0, 0, 0], COMPRESSION), ([0, 4.7e6 / 1.2, 0, 0, 0, 0], SHEAR), ([0, 0, -4.7e6 / 1.2, 0, 0, 0], SHEAR),
    ):
        U, got = demand(CONCRETE, q)
        assert pytest.approx(1.0, rel=1e-9) == U and got == mode


@pytest.mark.parametrize(("sides", "over"), [(4, 0.0), (6, 0.25), (400, 0.15)])
def test_bending_does_not_depend_on_the_axes(sides, over):
    """A polygon bent about any axis fails at f_t in its farthest corner; hexagons and discs a little before. 1 % longer one way, so that
    a square has its principal axes along its diagonals."""
    from dataclasses import replace

    from sim.section import sections_of

    _, bonds = pair(replace_energy(CONCRETE))
    angle = 2 * np.pi * np.arange(sides) / sides
    polygon = np.stack([np.zeros(sides), 1.01 * np.cos(angle), np.sin(angle)], axis=1)
    face = sections_of([[polygon]], np.array([[1.0, 0.0, 0.0]]))
    bonds = replace(bonds, area=face.area, axis=face.axis, second_moment=face.second_moment, reach=face.reach)
    first, second = face.axis[0], np.cross([1.0, 0.0, 0.0], face.axis[0])
    for turn in np.linspace(0.0, np.pi, 37):
        axis = np.array([0.0, np.cos(turn), np.sin(turn)])
        stress = np.abs(np.cross(axis, polygon)[:, 0]).max() / face.second_moment[0].mean()
        q = np.array([[0.0, 0.0, 0.0, 0.0, axis @ first, axis @ second]]) * CONCRETE.tension / stress
        U = utilisation(sections(bonds, SIM), np.array([0]), q, np.ones(1))[0][0]
        assert 0.97 <= U <= 1.03 + over


def replace_energy(material: Material) -> Material:
    """The same with next to no fracture energy: no size effect."""
    return material.model_copy(update={"fracture_energy": 1e-6})


def test_pressure_holds_a_shear_crack():
    """Mohr-Coulomb: tau_max = c + p tan(phi); pressure also closes a bending crack."""
    p = 5e6
    tau = (4.7e6 + p * np.tan(np.radians(37))) / 1.2
    assert demand(CONCRETE, [-p, tau, 0, 0, 0, 0])[0] == pytest.approx(1.0, rel=1e-9)
    assert demand(CONCRETE, [-p, 0, 0, 0, (FLEXURE * 3e6 + p) / 6, 0])[0] == pytest.approx(1.0, rel=1e-9)


def test_weakened_strength_scales_all_modes():
    """Half the strength doubles U in tension and compression."""
    for q in ([1e6, 0, 0, 0, 0, 0], [-1e7, 0, 0, 0, 0, 0]):
        assert demand(CONCRETE, q, 0.5)[0] == pytest.approx(2 * demand(CONCRETE, q)[0])


def test_bars_bridge_the_first_crack():
    """Reinforced: N_y = rho A f_y; M_y = rho/2 A f_y 0.8 h, beyond the cracking moment; pressure raises it."""
    assert demand(REINFORCED, [0.015 * 500e6, 0, 0, 0, 0, 0])[0] == pytest.approx(1.0)
    yield_moment = 0.5 * 0.015 * 500e6 * 0.8
    assert demand(REINFORCED, [0, 0, 0, 0, yield_moment, 0])[0] == pytest.approx(1.0)
    assert demand(REINFORCED, [-3e6, 0, 0, 0, yield_moment, 0])[0] < 0.8


def stretch(material, side, k, breakage=None):
    """One round on the pair's bond pulled to k times its strength."""
    fragments, bonds = pair(material, side)
    section = sections(bonds, SIM)
    breakage = breakage or Breakage.none(1)
    strain = np.zeros((1, 6))
    strain[0, 0] = k * material.tension * side**2 / bond_stiffness(bonds)[0, 0]
    return bonds_fail(section, breakage, bonds, np.array([0]), strain, SIM, fragments.count), breakage, section


def test_large_concrete_breaks_at_once():
    """k_u = 2 E G_f / (f_t^2 L) < 1 for 1 m concrete: it parts at U > 1 and books G_f A."""
    failure, breakage, section = stretch(CONCRETE, 1.0, 1.01)
    assert section.ultimate[0] < 1
    assert breakage.state[0] == BOND_BROKEN and failure.fracture == pytest.approx(100.0)
    assert not len(stretch(CONCRETE, 1.0, 0.99)[0].changed)


def test_softening_spends_the_fracture_energy():
    """Brick pulled apart in small steps: work of the softening force minus what it holds = G_f A within 2 %, whatever the piece."""
    for side in (0.2, 0.4):
        breakage, spent, work, last = Breakage.none(1), 0.0, 0.0, 0.0
        k_u = stretch(BRICK, side, 0.5)[2].ultimate[0]
        assert k_u > 3
        peak = BRICK.tension * side**2
        slack = peak / (BRICK.young * side)  # elongation at k = 1
        for k in np.arange(0.01, k_u * 1.06, 0.01):
            failure, breakage, section = stretch(BRICK, side, k, breakage)
            spent += failure.fracture
            force = float(stiffness_left(section, breakage, np.array([0]))[0, 0]) * k * slack
            work += 0.5 * (force + last) * 0.01 * slack
            last = force
        assert breakage.state[0] == BOND_BROKEN
        assert spent == pytest.approx(20.0 * side**2, rel=1e-9)
        assert work == pytest.approx(20.0 * side**2, rel=0.05)


def test_reinforced_tension_hinges_and_compression_crushes():
    """Bars survive tension; a compression failure breaks the bond and notes crush_ratio G_f A as crushing."""
    fragments, bonds = pair(REINFORCED)
    section = sections(bonds, SIM)
    for k, state in ((8e6, BOND_HINGED), (-40e6, BOND_BROKEN)):
        breakage = Breakage.none(1)
        strain = np.array([[k / section.stiffness[0, 0], 0, 0, 0, 0, 0]])
        failure = bonds_fail(section, breakage, bonds, np.array([0]), strain, SIM, fragments.count)
        assert breakage.state[0] == state
        assert len(failure.crushed) == (k < 0) and section.crushing[0] == pytest.approx(SIM.crush_ratio * 100.0)
    assert len(failure.crushed) == 1


def test_hinge_inside_a_cluster_yields_then_tears():
    """Secant stiffness keeps the bars at yield force; beyond hinge_opening they part."""
    fragments, bonds = pair(REINFORCED)
    section, breakage = sections(bonds, SIM), Breakage.none(1)
    breakage.state[0] = BOND_HINGED
    opening = 20 * section.bars[0, 0] / section.bar_stiffness[0, 0]
    ask = (section, breakage, bonds, np.array([0]))
    bonds_fail(*ask, np.array([[opening, 0, 0, 0, 0, 0]]), SIM, fragments.count)
    assert stiffness_left(section, breakage, np.array([0]))[0, 0] * opening == pytest.approx(section.bars[0, 0])
    assert bonds_fail(*ask, np.array([[1.01 * SIM.hinge_opening, 0, 0, 0, 0, 0]]), SIM, fragments.count).broken.tolist() == [0]


def test_worst_goes_first():
    """Of overloaded bonds that share a fragment only those near the worst fail; distant ones do not wait for each other."""
    a, b = np.array([0, 1, 2, 5]), np.array([1, 2, 3, 6])
    U = np.array([3.0, 1.5, 1.4, 1.1])
    assert worst_first(U, a, b, 7).tolist() == [True, False, True, True]
    assert worst_first(np.array([0.9, 0.8]), a[:2], b[:2], 7).tolist() == [False, False]


def test_clusters_and_hinges():
    """Labels are lowest indices over intact bonds; a hinge between two parts is a joint, inside one it belongs to the lattice."""
    _, bonds = boxes(np.array([(i, j, 0) for i in range(2) for j in range(3)]), (1, 1, 1), REINFORCED)
    state = np.full(bonds.count, BOND_INTACT, np.uint8)
    across = (bonds.fragment_b != GROUND) & (np.abs(bonds.normal[:, 0]) > 0.5)
    state[across] = BOND_HINGED
    label, held = clusters(bonds, state, 6)
    assert label.tolist() == [0, 0, 0, 3, 3, 3] and held.all()
    inside = bonds_inside(bonds, state, label, held)
    assert hinges_between(bonds, state, inside).tolist() == np.flatnonzero(across).tolist()
    state[across & (bonds.centroid[:, 1] > 1)] = BOND_INTACT
    label, held = clusters(bonds, state, 6)
    inside = bonds_inside(bonds, state, label, held)
    assert label.tolist() == [0] * 6 and len(hinges_between(bonds, state, inside)) == 0 and inside.all()
    state[bonds.fragment_b == GROUND] = BOND_BROKEN
    assert not clusters(bonds, state, 6)[1].any()


def test_events_reach_their_bonds_in_time():
    """Boxes, kinds, first step, rolling delay, gradual weakening, and pushes that end."""
    kind = np.array([MEMBER_KINDS.index("column")] * 4 + [MEMBER_KINDS.index("slab")] * 4)
    fragments, bonds = boxes(np.array([(4 * i, j, 0) for j in range(2) for i in range(4)]), (1, 1, 1), CONCRETE, kind=kind)
    cut = Event(kind="cut", frame=1003, upper=(1e3, 0.5, 1e3), delay=0.25)
    plan = schedule((cut,), 1001, 24, 3, fragments, bonds)
    foot = np.flatnonzero(bonds.fragment_b == GROUND)
    assert plan.target[0].tolist() == foot.tolist()
    first = (1003 - 1 - 1001) * 3
    distance = np.linalg.norm(bonds.centroid[foot] - [0.5, 0.5, 0.5], axis=1)
    assert plan.step[0].tolist() == [first + int(np.ceil(0.25 * d * 72 - 1e-9)) for d in distance]
    assert sorted(np.concatenate([bonds_cut(plan, s) for s in range(400)]).tolist()) == foot.tolist()
    assert not len(schedule((Event(upper=(1e3, 0.5, 1e3), members=("slab",)),), 1001, 24, 3, fragments, bonds).target[0])

    weaken = Event(kind="weaken", frame=1001, frames=2, members=("slab",), upper=(1e3, 9.0, 1e3), amount=0.5)
    plan = schedule((weaken,), 1001, 24, 3, fragments, bonds)
    slab = kind[bonds.fragment_a] == MEMBER_KINDS.index("slab")
    slab |= np.where(bonds.fragment_b == GROUND, False, kind[bonds.fragment_b] == MEMBER_KINDS.index("slab"))
    for step, left in ((0, 1 - 0.5 / 6), (5, 0.5), (100, 0.5)):
        assert strength_left(plan, step, bonds.count)[slab] == pytest.approx(left)
        assert (strength_left(plan, step, bonds.count)[~slab] == 1).all()

    shove = Event(kind="push", frame=1002, frames=1, members=(), upper=(1e3, 9.0, 1e3), force=(2.0, 0.0, 0.0))
    plan = schedule((shove,), 1001, 24, 3, fragments, bonds)
    assert [bool(push(plan, s, 8).any()) for s in range(5)] == [True, True, True, False, False]
