"""When a bond fails, and what is left of it: section stresses, softening, hinges.

In: section forces q = (N, V1, V2, T, M1, M2) of bonds (sim/stress.py), their sections and strengths. Out: utilisation U (1 = fails) with
its mode, and what failing does: soften, hinge or break.

Plain section, elastic stress at the extreme fibre, s = N/A +- m, and mean shear t = V/(kA) + T r/J; m_i = |M_i| c_i/I_i and
m = max(m_1, m_2) + corner min(m_1, m_2):
    tension      s_max / (f_t F),  F = 1 + (phi - 1) m / (m + max(N, 0)/A)
    compression  -s_min / f_c
    shear        t / (c + max(-N/A, 0) tan phi)                     Mohr-Coulomb; f_t is its tension cut-off, f_c its cap
A face is farthest from both axes at once in the corners of a rectangle only: corner = A / (2 c1 c2) - 1 is 1 there and 0 for a rhombus;
up to 15 % too much on a disc, 25 % on a hexagon. The sum of both would make a square with axes along its diagonals half as strong.
A crack that softens lets the fibre behind it catch up, so a section bends more than it pulls: phi = 1 + 1 / (0.85 + 4.5 d / l_ch) of
flexural over tensile strength, d = 2 c the depth of the face, l_ch = E G_f / f_t^2 (Petersson 1981; Planas, Guinea and Elices 1995).
Large or brittle sections have phi = 1; where several bonds span a member the rest of its size effect comes from their softening.
Reinforced section (share of bars rho, yield f_y), plastic hinge capacities instead of the first crack, which bars bridge at once:
    N_y = rho A f_y,  M_y = (rho/2) A f_y (0.8 depth)                half of the bars on each side, lever arm 0.8 of the depth
    tension      N/max(f_t A, N_y) + sum |M|/M_t                     M_t = max(phi f_t W, M_y); under pressure M_t + |N| c (1 - |N|/N_c)
    compression  |N|/N_c + sum |M| / (1.5 W f_c),  N_c = A (f_c + rho f_y)

Softening is scalar damage with linear softening, regularised by the fracture energy (crack band: Bazant and Oh 1983). With k the
utilisation that the whole bond would have, k_u = 2 E G_f / (f_t^2 L): stress falls from 1 at k = 1 to 0 at k_u. A bond with
k_u <= 1, which is concrete above 0.7 m, snaps back: it breaks at once and books G_f A.
A reinforced bond that fails in tension, bending or shear becomes a hinge: bars only. Between two clusters the contact solver
carries it (joints); inside one cluster the lattice does, with a secant stiffness that keeps it at yield. A compression failure breaks
the bond; the energy of crushing is noted for dust and debris.

No interaction of shear with bending, no buckling of bars, no fatigue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shot.params import Sim
from shot.results import BOND_BROKEN, BOND_HINGED, BOND_INTACT, GROUND, Bonds
from sim.stress import bond_stiffness

TENSION, COMPRESSION, SHEAR = 0, 1, 2
LEVER = 0.8  # lever arm of the bars over the depth of the section
SHEAR_PEAK = 1.2  # 1/k: shear that counts over the mean, rectangle
FLEXURE = (0.85, 4.5)  # of the size effect: small sections bend 1 + 1/0.85 times what they pull
PLASTIC_SHAPE = 1.5  # plastic over elastic section modulus of a rectangle
WORST = 0.9  # share of the worst utilisation around it above which a bond may fail this round
NOTICE = 1.05  # softening and yielding go on in steps of at least this factor, so that rounds end


@dataclass(frozen=True)
class Section:
    """Capacities of every bond at full strength; all (B)."""

    area: np.ndarray
    reach: np.ndarray  # (B, 2) [m]
    modulus: np.ndarray  # (B, 2) [m3]
    corner: np.ndarray  # how much of the lesser bending counts where the greater is felt most
    flexure: np.ndarray  # (B, 2) phi: bending over tensile strength
    twist: np.ndarray  # [1/m3] shear stress per torque
    tension: np.ndarray  # [Pa]
    compression: np.ndarray  # [Pa] of concrete
    cohesion: np.ndarray  # [Pa]
    friction: np.ndarray
    steel: np.ndarray  # bool
    bars: np.ndarray  # (B, 6) [N, N m] yield of the bars in each row
    stiffness: np.ndarray  # (B, 6) [N/m, N m] of the whole bond
    bar_stiffness: np.ndarray  # (B, 6) of its bars alone: rho E_s / E of the whole
    ultimate: np.ndarray  # k_u
    fracture: np.ndarray  # [J] G_f A
    crushing: np.ndarray  # [J] of a compression failure


@dataclass
class Breakage:
    """What has happened to every bond so far; all (B)."""

    state: np.ndarray  # u8
    worst: np.ndarray  # f64 greatest k, 1 until it softens; of a hinge: strain of its bars over their yield strain
    closed: np.ndarray  # bool: a hinge whose crack was pressed shut when it last changed
    strength: np.ndarray  # f64 share of strength left by events
    damage: np.ndarray  # f64 0 whole, 1 gone

    @classmethod
    def none(cls, count: int) -> Breakage:
        """All bonds whole."""
        return cls(np.full(count, BOND_INTACT, np.uint8), np.ones(count), np.zeros(count, bool), np.ones(count), np.zeros(count))


@dataclass(frozen=True)
class Failure:
    """Bonds that changed in one round, each list ascending."""

    broken: np.ndarray  # bonds that part
    hinged: np.ndarray
    softened: np.ndarray
    crushed: np.ndarray  # bonds of `broken` that failed in compression
    fracture: float  # [J] spent in opening cracks

    @property
    def changed(self) -> np.ndarray:
        """All whose stiffness changed: broken, hinged, softened."""
        return np.concatenate([self.broken, self.hinged, self.softened])


def sections(bonds: Bonds, sim: Sim) -> Section:
    """Capacities of every bond."""
    reach = np.maximum(bonds.reach, 1e-9)
    modulus = bonds.second_moment / reach
    torsion = bonds.area**4 / (40.0 * bonds.second_moment.sum(axis=1))
    small, large = reach.min(axis=1), reach.max(axis=1)
    radius = 2.0 * small / (1.0 + 0.4 * small / large)  # 2 c (thin strip) to 0.71 side (square): Saint-Venant's peak within 2 %
    pull = bonds.steel * bonds.area * sim.steel_yield
    bend = 0.5 * pull[:, None] * LEVER * 2.0 * reach
    dowel = pull / np.sqrt(3.0)
    bars = np.stack([pull, dowel, dowel, 0.5 * dowel * LEVER * reach.sum(axis=1), bend[:, 0], bend[:, 1]], axis=1)
    fracture = bonds.fracture_energy * bonds.area
    stiffness = bond_stiffness(bonds)
    own = (bonds.young * bonds.fracture_energy / bonds.tension**2)[:, None]  # l_ch
    return Section(
        area=bonds.area, reach=reach, modulus=modulus,
        corner=np.clip(bonds.area / (2.0 * reach.prod(axis=1)) - 1.0, 0.0, 1.0),
        flexure=1.0 + own / (FLEXURE[0] * own + FLEXURE[1] * 2.0 * reach),
        twist=radius / torsion, tension=bonds.tension, compression=bonds.compression,
        cohesion=bonds.cohesion, friction=bonds.friction, steel=bonds.steel > 0, bars=bars,
        stiffness=stiffness, bar_stiffness=stiffness * (bonds.steel * sim.steel_young / bonds.young)[:, None],
        ultimate=2.0 * bonds.young * bonds.fracture_energy / (bonds.tension**2 * bonds.length),
        fracture=fracture, crushing=sim.crush_ratio * fracture,
    )


def utilisation(section: Section, bond: np.ndarray, q: np.ndarray, strength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n) U and its mode for bonds (n) with section forces q (n, 6) and share of strength left (n)."""
    A, W, c = section.area[bond], section.modulus[bond], section.reach[bond]
    f_t, f_c = section.tension[bond] * strength, section.compression[bond] * strength
    bars, steel = section.bars[bond] * strength[:, None], section.steel[bond]
    N, V, T, M = q[:, 0], np.hypot(q[:, 1], q[:, 2]), np.abs(q[:, 3]), np.abs(q[:, 4:])
    push = np.maximum(-N, 0.0)
    m = M / W
    m1, m2 = m.T  # two columns one by one: numpy's reductions over so short an axis take ten times as long
    bend = np.maximum(m1, m2) + section.corner[bond] * np.minimum(m1, m2)
    flexure = section.flexure[bond]
    phi = (m1 * flexure[:, 0] + m2 * flexure[:, 1]) / np.maximum(m1 + m2, 1e-300)
    gradient = (phi - 1.0) * bend / np.maximum(bend + np.maximum(N, 0.0) / A, 1e-300)

    plain_tension = (N / A + bend) / (f_t * (1.0 + gradient))
    plain_compression = (bend - N / A) / f_c

    N_c = A * f_c + bars[:, 0]
    held = push * (1.0 - np.minimum(push / N_c, 1.0))
    M_t = np.maximum(flexure * f_t[:, None] * W, bars[:, 4:]) + held[:, None] * c
    bar_tension = np.maximum(N, 0.0) / np.maximum(f_t * A, bars[:, 0]) + M[:, 0] / M_t[:, 0] + M[:, 1] / M_t[:, 1]
    bar_compression = push / N_c + bend / (PLASTIC_SHAPE * f_c)

    shear = (SHEAR_PEAK * V / A + T * section.twist[bond]) / (section.cohesion[bond] * strength + push / A * section.friction[bond])
    pull, press = np.where(steel, bar_tension, plain_tension), np.where(steel, bar_compression, plain_compression)
    U = np.maximum(np.maximum(pull, press), shear)
    return U, np.where(pull == U, TENSION, np.where(press == U, COMPRESSION, SHEAR))


def worst_first(U: np.ndarray, a: np.ndarray, b: np.ndarray, count: int) -> np.ndarray:
    """(n) bool: bonds with U > 1 and at least WORST of the greatest U among bonds that share a fragment."""
    peak = np.zeros(count)
    np.maximum.at(peak, a, U)
    inner = b != GROUND
    np.maximum.at(peak, b[inner], U[inner])
    around = np.maximum(peak[a], np.where(inner, peak[b], 0.0))
    return (U > 1.0) & (WORST * around <= U)


def bonds_fail(
    section: Section, breakage: Breakage, bonds: Bonds, bond: np.ndarray, strain: np.ndarray, sim: Sim, count: int
) -> Failure:
    """One round of failing over the bonds (n) of the solved lattice with strains (n, 6): relative displacements of their two sides.

    Updates `breakage`; `stiffness_left` then says what the lattice keeps."""
    before = breakage.worst[bond]
    k, mode, U = _demand(section, breakage, bond, strain)
    fails = worst_first(U, bonds.fragment_a[bond], bonds.fragment_b[bond], count)

    crushed = fails & (mode == COMPRESSION)
    hinges = fails & ~crushed & section.steel[bond]
    softens = fails & ~crushed & ~hinges & (k < section.ultimate[bond])
    over, torn = _bars_strained(section, breakage, bond, strain, sim)
    parts = (fails & ~hinges & ~softens) | torn
    yields = (over > NOTICE * before) & ~torn
    opens = (fails & ~crushed) & ~softens  # its crack goes through

    fracture = float(np.sum(_crack_energy(section, bond[softens], k[softens]) - _crack_energy(section, bond[softens], before[softens])))
    fracture += float(np.sum(section.fracture[bond[opens]] - _crack_energy(section, bond[opens], before[opens])))

    breakage.worst[bond[softens]] = k[softens]
    breakage.worst[bond[hinges]] = 1.0
    breakage.worst[bond[yields]] = over[yields]
    breakage.closed[bond[hinges | yields]] = strain[hinges | yields, 0] < 0.0
    breakage.state[bond[hinges]] = BOND_HINGED
    breakage.state[bond[parts]] = BOND_BROKEN
    changed = bond[softens | hinges | yields | parts]
    breakage.damage[changed] = 1.0 - _share_left(section, breakage, changed)
    return Failure(bond[parts], bond[hinges | yields], bond[softens], bond[crushed], fracture)


def overloaded(section: Section, breakage: Breakage, bond: np.ndarray, strain: np.ndarray) -> int:
    """How many of the bonds are beyond their strength."""
    return int(np.count_nonzero(_demand(section, breakage, bond, strain)[2] > 1.0))


def stiffness_left(section: Section, breakage: Breakage, bond: np.ndarray) -> np.ndarray:
    """(n, 6) what the lattice keeps of bonds (n): whole, softened, bars at their secant, or nothing. Closed hinges keep their axial row."""
    hinged = breakage.state[bond] == BOND_HINGED
    base = np.where(hinged[:, None], section.bar_stiffness[bond], section.stiffness[bond])
    left = base * np.where(hinged, 1.0 / breakage.worst[bond], _share_left(section, breakage, bond))[:, None]
    left[:, 0] = np.where(hinged & breakage.closed[bond], section.stiffness[bond, 0], left[:, 0])
    return left


def _demand(section: Section, breakage: Breakage, bond: np.ndarray, strain: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n) utilisation k that the whole bond would have under its strain, its mode, and U > 1 where an intact bond must give more."""
    k, mode = utilisation(section, bond, section.stiffness[bond] * strain, np.maximum(breakage.strength[bond], 1e-9))
    reached = np.where(breakage.worst[bond] > 1.0, NOTICE * breakage.worst[bond], 1.0)
    return k, mode, np.where(breakage.state[bond] == BOND_INTACT, k / reached, 0.0)


def _share_left(section: Section, breakage: Breakage, bond: np.ndarray) -> np.ndarray:
    """(n) share of the section that still works: 1 - damage. A hinge counts for half, less as its bars yield."""
    k, k_u, state = breakage.worst[bond], section.ultimate[bond], breakage.state[bond]
    soft = np.where(k > 1.0, np.clip((k_u - k) / np.maximum((k_u - 1.0) * k, 1e-9), 0.0, 1.0), 1.0)
    return np.select([state == BOND_BROKEN, state == BOND_HINGED], [0.0, 0.5 / k], soft)


def _bars_strained(section, breakage, bond, strain, sim) -> tuple[np.ndarray, np.ndarray]:
    """(n) how many times their yield strain the bars of hinges inside a cluster are strained, and (n) bool which of them rupture."""
    over, torn = np.zeros(len(bond)), np.zeros(len(bond), bool)
    some = np.flatnonzero(breakage.state[bond] == BOND_HINGED)
    bond, strain = bond[some], strain[some]
    force = np.abs(section.bar_stiffness[bond] * strain)
    force[:, 0] = np.where(strain[:, 0] > 0, force[:, 0], 0.0)  # a closed crack presses on concrete, not on bars
    limit = np.maximum(section.bars[bond] * breakage.strength[bond, None], 1e-9)
    over[some] = np.maximum(np.sqrt(((force / limit) ** 2).sum(axis=1)), 1.0)
    torn[some] = (np.linalg.norm(strain[:, 3:], axis=1) > sim.hinge_rotation) | (strain[:, 0] > sim.hinge_opening)
    return over, torn


def _crack_energy(section: Section, bond: np.ndarray, k: np.ndarray) -> np.ndarray:
    """(n) [J] spent on the crack of a bond that has been to k: area under the softening law less its elastic part."""
    k_u = section.ultimate[bond]
    stress = np.clip((k_u - k) / np.maximum(k_u - 1.0, 1e-9), 0.0, 1.0)
    return section.fracture[bond] * np.where((k_u > 1.0) & (k > 1.0), np.clip((k - stress) / k_u, 0.0, 1.0), 0.0)
