"""Stress in clusters of bonded fragments: the elastic lattice K u = f and what solves it.

In: fragments and bonds at rest, the stiffness left in each bond, loads on fragments. Out: six displacements per fragment
and, per bond, the section forces q = (N, V1, V2, T, M1, M2) in the bond's own axes (normal, axis, normal x axis), tension positive.

    s = S_b u_b - S_a u_a,  S = [[R, -R [r]x], [0, R]],  r = bond centroid - fragment centre,  R = rows (normal, axis, normal x axis)
    q = diag(k) (s - s0),   k = (E A, gG A, gG A, G J, E I1, E I2) / L          face springs: spring-bond lattice, AEM
    g: 5/6 along a chain (Timoshenko), 2 in a lattice: fragments turn freely, so a shear strain falls to equal halves on the faces
       across it and the faces along it, two springs in a row; then modulus and, in irregular cells, uniform stress are (nearly) those
       of the solid (Bolander and Saito 1998), where 5/6 makes a panel 2.4 times too soft and its stresses uneven by a quarter
    s0: strain of the building as it was built (`sim/erect.py`), zero for most bonds
    K = sum S^T diag(k) S   ground bonds have no b: a Dirichlet support
    P-delta: f gains -K_g u, the moments of bond forces whose levers r have turned (`sway_loads`)
    A = kappa K + mu M      kappa = 1, mu = 0: static;  kappa = tau/h, mu = 1/h^2: one damped implicit step (sim/respond.py)

Everything lives in rest axes: a cluster is rigid, so its frame is the rest frame whatever its pose.

Solver: a small cluster is factored (sim/factor.py): in a collapse slender members and half-broken sections take the iteration 40 to
110 rounds, and the factor of a thousand fragments costs 15 ms. A round of breaking changes a few rows of A, so earlier factors are
borrowed: conjugate gradients with them as preconditioner take 2 iterations in the median; clusters that BORROW_LIMIT do not solve are
factored after all. Beyond: conjugate gradients on all large clusters, each with its own scalars and its own stop, on two levels and
without a matrix (sim/deflation.py). Aggregates are grown once on the rest graph; those that a crack cuts fall into their connected
parts, so that no hierarchy has to be rebuilt.

Second order goes to the right side: A keeps its factor while forces change, and u = K^-1 (f - K_g u) repeated converges below the
buckling load and grows above it, as a column does. No lateral buckling by moments, no bond that is stiffer closed than open. Sums
have fixed order and no threaded BLAS is called, so the bits do not depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import scipy.sparse as sparse

from shot.results import GROUND, Bonds, Fragments
from shot.rotation import cross
from sim.assembly import rigid_motion, stiffness_matrix, strains, turned
from sim.deflation import TwoLevel, two_level
from sim.factor import Factors, elimination_rank
from sim.springs import Springs, springs_of

SHEAR_CHAIN = 5 / 6  # shear spring over G: Timoshenko's coefficient of a rectangle
SHEAR_LATTICE = 2.0  # the same where the fragments' turning is shared with bonds on their other faces
AGGREGATE = 6  # fragments at most; 12 took twice the iterations, for half the coarse factor
AGGREGATE_HOPS = 1  # from its seed: iterations grow with the bonds in a row, which slender parts have most of
BORROW_LEAST = 64  # fragments; a factor of fewer costs no more than a few iterations
BORROW_SIZE = 3  # largest factor, over the rows that are wanted of it, that is worth borrowing
BORROW_LIMIT = 8  # iterations with borrowed factors that cost about as much as a new one
BORROW_TOLERANCE = 0.1  # times the tolerance: a stale factor takes loose parts for held ones, r.z then underestimates the error
RESCUE = 10_000  # fragments; a factor of so many is 100 to 200 MB
FREE_SHIFT = 1e-10  # mass shift of static free clusters against the stiffest fragment: far below their lowest mode


@dataclass
class Lattice:
    """The bond lattice. `stiffness` and the blocks change as bonds soften; the rest is fixed at rest."""

    a: np.ndarray  # (B) fragment
    b: np.ndarray  # (B) fragment or GROUND
    strain_a: np.ndarray  # (B, 6, 6) S_a
    strain_b: np.ndarray  # (B, 6, 6) S_b, zero for ground bonds
    stiffness: np.ndarray  # (B, 6) [N/m, N m] what is left of k
    whole: np.ndarray  # (B, 6) k of the intact bond
    block: np.ndarray  # (3, B, 6, 6) S_a^T k S_a, -S_a^T k S_b, S_b^T k S_b
    mass: np.ndarray  # (F, 6, 6) [kg, kg m2]
    position: np.ndarray  # (F, 3) [m]
    box: np.ndarray  # (F) aggregate on the rest graph
    box_rank: np.ndarray  # (F) place of its box in an elimination order of the boxes
    rank: np.ndarray  # (F) place in an elimination order of the rest graph
    frame: np.ndarray  # (B, 15) axes R, r of the bond's a, r of its b [m], zero for ground bonds
    offset: np.ndarray  # (B, 6) s0: strain at which the bond carries nothing
    end_first: np.ndarray  # (F + 1) i32 first bond end of each fragment
    end_bond: np.ndarray  # (E) i32
    end_side: np.ndarray  # (E) i32 0 the bond's a, 1 its b
    end_other: np.ndarray  # (E) i32 the fragment on its other side, or GROUND
    version: int = 0  # counts changes of stiffness
    last: tuple | None = None  # the last system and what it was built for
    pool: Pool | None = None  # factors that may be borrowed

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """First end of each fragment, its bond, side, other fragment."""
        return self.end_first, self.end_bond, self.end_side, self.end_other


def lattice_build(fragments: Fragments, bonds: Bonds) -> Lattice:
    """The lattice of the intact structure."""
    a, b = bonds.fragment_a.astype(np.int64), bonds.fragment_b.astype(np.int64)
    position = np.asarray(fragments.position, float)
    axes = np.stack([bonds.normal, bonds.axis, cross(bonds.normal, bonds.axis)], axis=1)
    arm_a, arm_b = bonds.centroid - position[a], np.where((b != GROUND)[:, None], bonds.centroid - position[b], 0.0)
    strain_a = _strain(axes, arm_a)
    strain_b = np.where((b != GROUND)[:, None, None], _strain(axes, arm_b), 0.0)
    whole = bond_stiffness(bonds)
    count = len(position)
    mass = np.zeros((count, 6, 6))
    mass[:, range(3), range(3)] = fragments.mass[:, None]
    mass[:, 3:, 3:] = fragments.inertia
    end_bond = np.concatenate([np.arange(len(a)), np.flatnonzero(b != GROUND)])
    end_side = np.r_[np.zeros(len(a), int), np.ones(np.count_nonzero(b != GROUND), int)]
    end_fragment = np.where(end_side == 0, a[end_bond], b[end_bond])
    order = np.lexsort((end_side, end_bond, end_fragment))
    end_other = np.where(end_side == 0, b[end_bond], a[end_bond])
    end_first = np.searchsorted(end_fragment[order], np.arange(count + 1))
    first, bond, side, other = (np.asarray(x, np.int32) for x in (end_first, end_bond[order], end_side[order], end_other[order]))
    inner, box = b != GROUND, _aggregates(a, b, position)
    result = Lattice(
        a, b, strain_a, strain_b, whole.copy(), whole, np.zeros((3, len(a), 6, 6)), mass, position, box,
        elimination_rank(count, box[a[inner]], box[b[inner]])[box], elimination_rank(count, a[inner], b[inner]),
        np.concatenate([axes.reshape(-1, 9), arm_a, arm_b], axis=1), np.zeros((len(a), 6)), first, bond, side, other,
    )
    _blocks_update(result, np.arange(len(a)))
    return result


def lattice_soften(lattice: Lattice, bond: np.ndarray, stiffness: np.ndarray) -> None:
    """Set what is left of the stiffness (n, 6) of some bonds (n)."""
    lattice.stiffness[bond] = stiffness
    lattice.version += 1
    _blocks_update(lattice, bond)


def lattice_forget(lattice: Lattice) -> None:
    """Drop the factors that were kept to be borrowed, and what borrowed them: from here on the answers depend on the state alone."""
    if lattice.pool is not None:
        lattice.pool.clear()
    if lattice.last is not None and not all(lent.own for _, lent in lattice.last[0].lenders):
        lattice.last = None


def bond_stiffness(bonds: Bonds) -> np.ndarray:
    """(B, 6) [N/m, N m] springs of the faces. J by Saint-Venant's A^4 / (40 Ip): 7 % high on a square, 2 % on a disc."""
    polar = bonds.second_moment.sum(axis=1)
    torsion = bonds.area**4 / (40.0 * polar)
    shear = (SHEAR_CHAIN + (SHEAR_LATTICE - SHEAR_CHAIN) * backing(bonds)).T * bonds.shear * bonds.area
    rows = [bonds.young * bonds.area, *shear, bonds.shear * torsion, *(bonds.young[:, None] * bonds.second_moment).T]
    return np.stack(rows, axis=1) / bonds.length[:, None]


def backing(bonds: Bonds) -> np.ndarray:
    """(B, 2) how far bonds belong to a lattice along their axis and normal x axis: 0 in a chain, 1 where both of their fragments have
    bonds facing that way on at least one side, in proportion to volumes A L (a cell inside a lattice has twice that)."""
    a, b = bonds.fragment_a.astype(np.int64), bonds.fragment_b.astype(np.int64)
    inner, volume = b != GROUND, bonds.area * bonds.length
    facing = volume[:, None, None] * bonds.normal[:, :, None] * bonds.normal[:, None, :]
    around = np.zeros((int(max(a.max(initial=-1), b.max(initial=-1))) + 1, 3, 3))
    np.add.at(around, a, facing)
    np.add.at(around, b[inner], facing[inner])
    across = np.stack([bonds.axis, cross(bonds.normal, bonds.axis)], axis=1)
    share = np.einsum("bki,ebij,bkj->ebk", across, np.stack([around[a], around[np.where(inner, b, a)]]), across)
    return np.clip(share.min(axis=0) / volume[:, None], 0.0, 1.0)


def bond_strains(lattice: Lattice, bond: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(n, 6) s - s0, relative displacement and rotation of the two sides of some bonds; u (F, 6) of all fragments."""
    return strains(bond, lattice.a, lattice.b, lattice.frame, lattice.offset, u)


def prestress(lattice: Lattice, bond: np.ndarray) -> np.ndarray:
    """(F, 6) what some bonds put on their fragments at u = 0: S^T k s0, to be added to the loads."""
    bond = bond[lattice.offset[bond].any(axis=1)]
    q = lattice.stiffness[bond] * lattice.offset[bond]
    f = np.zeros((len(lattice.position), 6))
    np.add.at(f, lattice.a[bond], -np.einsum("bij,bi->bj", lattice.strain_a[bond], q))
    inner = lattice.b[bond] != GROUND
    np.add.at(f, lattice.b[bond[inner]], np.einsum("bij,bi->bj", lattice.strain_b[bond[inner]], q[inner]))
    return f


def sway_loads(lattice: Lattice, bond: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(F, 6) -K_g u, what the forces of some bonds add once their fragments have turned: zero without u (F, 6) or without force.

    A rotation theta moves the end of a lever r by theta x r + theta x (theta x r) / 2. The second term times the bond's force Q is energy,
    and its gradient the moment H theta,  H = (r Q^T + Q r^T) / 2 - (Q . r) 1,  taken at b and off a. A chain of rigid links this way has
    the energy 1/2 sum N L theta^2 of a beam under N, and Euler's load with an error of (1/N)^2. Bond axes do not turn, which is
    wrong by N / k_s L, the shear strain at buckling; moments of second order (lateral and torsional buckling) are left out.
    """
    q = lattice.stiffness[bond] * bond_strains(lattice, bond, u)
    return turned(bond, lattice.a, lattice.b, lattice.frame, q, u)


@dataclass
class Pool:
    """Factors of systems of one form; for each fragment its row in the newest that has it."""

    kappa: float
    mu: float
    rank: np.ndarray  # (F) order of elimination
    row: np.ndarray  # (F) i32, or -1
    factors: Factors

    def clear(self) -> None:
        """Nothing to borrow from here on; a system that has its own factor keeps it until the next one is made."""
        self.row[:] = -1

    def add(self, system: System, fresh: np.ndarray) -> None:
        """Factor the rows `fresh` (n) bool of a system, whole clusters; forget factors that nobody needs any more."""
        fragment, rows = system.fragment[fresh], self.factors.rows
        self.row[fragment] = -1
        needed = np.bincount(self.row[self.row >= 0], minlength=rows)
        kept = self.factors.keep(np.array([needed[begin:end].any() for begin, end in self.factors.span]))
        self.row = np.where(self.row >= 0, np.r_[kept, np.int32(-1)][self.row], np.int32(-1))
        of = system if fresh.all() else system.of(fresh)
        self.row[fragment] = self.factors.add(of.K, self.rank[fragment], of.M, of.kappa, of.mu)


@dataclass
class Borrowed:
    """Rows in a pool's factors: exact if they are of this system, else near enough to precondition it."""

    pool: Pool
    own: bool  # one factor, of this system
    place: np.ndarray  # (n) i32


@dataclass
class System:
    """A = kappa K + mu M of some clusters, with what solves it. Rows are sorted by cluster, then by fragment."""

    fragment: np.ndarray  # (n)
    start: np.ndarray  # (m) first row of each cluster
    lattice: Lattice
    held: np.ndarray  # (B) bool: its bonds
    M: np.ndarray  # (n, 6, 6)
    kappa: float
    mu: float
    rescue: bool  # factor clusters that iteration does not solve
    inverse: Borrowed | TwoLevel | None = None  # of A
    part: list[tuple[System, np.ndarray]] = field(default_factory=list)  # in place of an inverse: small and large clusters, their rows

    @property
    def counts(self) -> np.ndarray:
        """(m) fragments of each cluster."""
        return np.diff(np.r_[self.start, len(self.fragment)])

    @cached_property
    def springs(self) -> Springs:
        """Its bonds as they are when first asked for."""
        return springs_of(self.fragment, self.held, self.lattice.ends, self.lattice.stiffness, self.lattice.frame)

    @cached_property
    def K(self) -> sparse.bsr_matrix:  # noqa: N802 the paper's letter
        """Its stiffness as it is when first asked for, which is at once where factors are made of it."""
        return stiffness_matrix(self.fragment, self.held, *self.lattice.ends, self.lattice.block)

    @property
    def lenders(self) -> list[tuple[System, Borrowed]]:
        """The parts that have factors of a pool."""
        return [(one, one.inverse) for one in (self, *(part for part, _ in self.part)) if isinstance(one.inverse, Borrowed)]

    def stiff(self, u: np.ndarray) -> np.ndarray:
        """K u, (n, 6)."""
        return self.springs.product(u)

    def inertial(self, u: np.ndarray) -> np.ndarray:
        """M u, (n, 6)."""
        return np.einsum("nij,nj->ni", self.M, u)

    def product(self, u: np.ndarray) -> np.ndarray:
        """A u, (n, 6)."""
        return self.kappa * self.stiff(u) + self.mu * self.inertial(u)

    def of(self, some: np.ndarray) -> System:
        """The system of the rows `some` (n) bool alone, whole clusters, without an inverse."""
        place, kept = np.cumsum(some) - 1, np.flatnonzero(some)
        start = place[self.start[some[self.start]]]
        return System(self.fragment[kept], start, self.lattice, self.held, self.M[kept], self.kappa, self.mu, self.rescue)


def system_of(
    lattice: Lattice, cluster: np.ndarray, wanted: np.ndarray, held: np.ndarray, kappa: float, mu: float, direct: int
) -> System:
    """`system_build`, or the system of the last call if it would be the same. Borrows factors of earlier ones: see `lattice_forget`."""
    ask = (lattice.version, cluster, wanted, held & wanted[lattice.a], kappa, mu, direct)
    if lattice.last is None or not all(np.array_equal(x, y) for x, y in zip(ask, lattice.last[1], strict=True)):
        if lattice.pool is None or (lattice.pool.kappa, lattice.pool.mu) != (kappa, mu):
            lattice.pool = _pool(lattice, kappa, mu)
        lattice.last = system_build(lattice, cluster, wanted, held, kappa, mu, direct, lattice.pool), tuple(np.copy(x) for x in ask)
    else:
        for part, lent in lattice.last[0].lenders:  # may be borrowed again, as if they had just been made
            lent.pool.row[part.fragment] = lent.place
    return lattice.last[0]


def system_build(
    lattice: Lattice, cluster: np.ndarray, wanted: np.ndarray, held: np.ndarray, kappa: float, mu: float, direct: int = 0,
    pool: Pool | None = None,
) -> System:
    """The system of the clusters `wanted` (F) bool, over bonds `held` (B) bool; `cluster` (F) are their labels. Solved by
    sparse factors, their own or those of `pool`, where a cluster has up to `direct` fragments, by two-level conjugate gradients beyond.

    Bonds in `held` must join fragments of one cluster. With mu = 0 a tiny mass shift keeps free clusters regular; their loads must
    balance (see `loads_balance`), so that the shift moves nothing."""
    fragment = np.flatnonzero(wanted)
    fragment = fragment[np.argsort(cluster[fragment], kind="stable")]
    label = cluster[fragment]
    start = np.flatnonzero(np.r_[True, label[1:] != label[:-1]])
    system = System(fragment, start, lattice, held & wanted[lattice.a], lattice.mass[fragment], kappa, mu, direct > 0)
    if mu == 0.0:
        own = system.K.data[system.K.indptr[:-1], :3, :3]
        stiffest = float(np.max(np.trace(own, axis1=1, axis2=2), initial=0.0)) / 3
        system.mu = FREE_SHIFT * kappa * stiffest / float(np.min(system.M[:, 0, 0])) + 1e-12
    small = np.repeat(system.counts <= direct, system.counts)
    if small.all():
        _lend(system, pool or _pool(lattice, kappa, system.mu))
    elif not small.any():
        _two_level(system)
    else:
        system.part = [(system.of(rows), np.flatnonzero(rows)) for rows in (small, ~small)]
        _lend(system.part[0][0], pool or _pool(lattice, kappa, system.mu))
        _two_level(system.part[1][0])
    return system


def _lend(system: System, pool: Pool) -> None:
    """Solve a system with the factors of a pool, and new ones where those do not fit."""
    begin = np.array([span[0] for span in pool.factors.span] + [pool.factors.rows])
    row = pool.row[system.fragment]
    part = np.where(row >= 0, np.searchsorted(begin, row, side="right") - 1, len(begin) - 1)
    asked = np.bincount(part, minlength=len(begin))
    fair = np.r_[np.diff(begin), np.inf] <= BORROW_SIZE * asked
    fresh = np.logical_or.reduceat(~fair[part], system.start) | (len(row) < BORROW_LEAST)
    system.inverse = _borrowed(system, pool, np.repeat(fresh, system.counts))


def _two_level(system: System) -> None:
    """Solve a system by iteration."""
    lattice, rows = system.lattice, system.fragment
    system.inverse = two_level(
        system.springs, system.M, lattice.position[rows], lattice.box[rows], lattice.box_rank[rows], system.kappa, system.mu
    )


def system_solve(
    system: System, f: np.ndarray, u: np.ndarray, tolerance: float, limit: int
) -> tuple[np.ndarray, int, np.ndarray]:
    """Solve A u = f from a guess: (n, 6) solution, iterations, (m) bool clusters that converged.

    Stops per cluster when the energy norm of the error, estimated as r.z, is below `tolerance` of the energy of the solution. With
    a factor of A the guess is not needed and no iteration is made; clusters that borrowed factors do not solve get their own, and so do
    those of up to RESCUE fragments that iteration does not solve, unless the system was built without any factors."""
    if system.part:
        u, converged, iterations, begins = u.copy(), np.zeros(len(system.start), bool), 0, np.zeros(len(f), bool)
        for part, rows in system.part:
            u[rows], made, done = system_solve(part, f[rows], u[rows], tolerance, limit)
            begins[:] = False
            begins[rows] = True
            converged[begins[system.start]] = done
            iterations = max(iterations, made)
        return u, iterations, converged
    inverse = system.inverse
    if isinstance(inverse, Borrowed):
        factors = inverse.pool.factors
        if inverse.own:
            return factors.solve(inverse.place, f), 0, np.ones(len(system.start), bool)
        form = system.K, system.M, system.kappa, system.mu
        u, iterations, converged = factors.gradients(
            inverse.place, *form, system.start, f, u, BORROW_TOLERANCE * tolerance, BORROW_LIMIT
        )
        if not converged.all():
            late = np.repeat(~converged, system.counts)
            inverse = system.inverse = _borrowed(system, inverse.pool, late)
            u[late] = factors.solve(inverse.place[late], f[late])
        return u, iterations, np.ones(len(system.start), bool)
    assert inverse is not None
    u, iterations, converged = inverse.gradients(system.start, f, u, tolerance, limit)
    late = ~converged & (system.counts <= RESCUE) & system.rescue
    if late.any():
        rows, lone = np.repeat(late, system.counts), Factors()
        alone = system.of(rows)
        u[rows] = lone.solve(lone.add(alone.K, system.lattice.rank[alone.fragment], alone.M, system.kappa, system.mu), f[rows])
    return u, iterations, converged | late


def _pool(lattice: Lattice, kappa: float, mu: float) -> Pool:
    """Without factors."""
    return Pool(kappa, mu, lattice.rank, np.full(len(lattice.position), -1, np.int32), Factors())


def _borrowed(system: System, pool: Pool, fresh: np.ndarray) -> Borrowed:
    """Factor the rows `fresh` (n) bool, whole clusters, into the pool, and take all others from it."""
    if fresh.any():
        pool.add(system, fresh)
    return Borrowed(pool, bool(fresh.all()), pool.row[system.fragment])


def rigid_part(position: np.ndarray, mass: np.ndarray, start: np.ndarray, free: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(n, 6) the rigid motion of each free cluster whose momentum equals that of p (n, 6) [kg m/s, kg m2/s]; zero in held clusters.

    position (n, 3), mass (n, 6, 6), rows of cluster k from start[k]; free (m) bool."""
    return rigid_motion(position, mass, start, free, p)


def loads_balance(position: np.ndarray, mass: np.ndarray, start: np.ndarray, free: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Inertia relief: loads (n, 6) minus M times the rigid acceleration that they give each free cluster. Held clusters keep theirs."""
    return f - np.einsum("nij,nj->ni", mass, rigid_part(position, mass, start, free, f))


def _strain(axes: np.ndarray, r: np.ndarray) -> np.ndarray:
    """S (B, 6, 6) of bonds with axes (B, 3, 3) at lever arms r (B, 3)."""
    S = np.zeros((len(r), 6, 6))
    S[:, :3, :3] = S[:, 3:, 3:] = axes
    S[:, :3, 3:] = cross(r[:, None, :], axes)  # row . (theta x r) = (r x row) . theta
    return S


def _blocks_update(lattice: Lattice, bond: np.ndarray) -> None:
    Sa, Sb, k = lattice.strain_a[bond], lattice.strain_b[bond], lattice.stiffness[bond][:, :, None]
    lattice.block[0, bond] = Sa.transpose(0, 2, 1) @ (k * Sa)
    lattice.block[1, bond] = -Sa.transpose(0, 2, 1) @ (k * Sb)
    lattice.block[2, bond] = Sb.transpose(0, 2, 1) @ (k * Sb)


def _aggregates(a: np.ndarray, b: np.ndarray, position: np.ndarray) -> np.ndarray:
    """(F) aggregate of each fragment on the rest graph: grown from the lowest free fragment, nearest neighbours first."""
    count = len(position)
    inner = b != GROUND
    ends, others = np.concatenate([a[inner], b[inner]]), np.concatenate([b[inner], a[inner]])
    order = np.lexsort((others, ends))
    ends, others = ends[order], others[order]
    first = np.searchsorted(ends, np.arange(count + 1))
    box = np.full(count, -1)
    for seed in range(count):
        if box[seed] >= 0:
            continue
        box[seed] = seed
        members = ring = [seed]
        for _ in range(AGGREGATE_HOPS):
            near = [int(other) for here in ring for other in others[first[here] : first[here + 1]] if box[other] < 0]
            near = sorted(set(near), key=lambda f: (float(((position[f] - position[seed]) ** 2).sum()), f))
            ring = near[: AGGREGATE - len(members)]
            box[ring] = seed
            members = members + ring
    return box
