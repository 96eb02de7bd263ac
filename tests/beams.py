"""Beams, shafts and columns of boxes, loaded until they part: shared by the verification of stress and of fracture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shot.params import Material, Sim
from shot.results import BOND_BROKEN, GROUND, Bonds, Fragments
from sim.bond import Breakage, bonds_fail, sections, stiffness_left
from sim.cluster import bonds_inside, clusters
from sim.respond import Elastic, respond
from sim.stress import lattice_build, lattice_soften
from tests.structures import boxes

GRAVITY = 9.81


def bar(mesh: tuple[int, int, int], length: float, depth: float, material: Material, built_in: bool = False) -> tuple[Fragments, Bonds]:
    """A square bar along x in `mesh` boxes, its lower edge at the origin; `built_in` ties the faces at x = 0 to the ground."""
    nx, ny, nz = mesh
    cells = np.array([(i, j, k) for i in range(nx) for j in range(ny) for k in range(nz)])
    dx, dy, dz = length / nx, depth / ny, depth / nz
    fragments, bonds = boxes(cells, (dx, dy, dz), material, ground=built_in, grounded=cells[:, 0] == 0)
    foot = bonds.fragment_b == GROUND
    bonds.centroid[foot] = fragments.position[bonds.fragment_a[foot]] - [dx / 2, 0, 0]
    bonds.normal[foot], bonds.axis[foot] = [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    bonds.area[foot], bonds.length[foot] = dy * dz, dx / 2
    bonds.second_moment[foot], bonds.reach[foot] = [dy * dz**3 / 12, dz * dy**3 / 12], [dz / 2, dy / 2]
    return fragments, bonds


def slice_of(fragments: Fragments, x: float) -> np.ndarray:
    """Fragments whose centres lie nearest to x."""
    distance = np.abs(fragments.position[:, 0] - x)
    return np.flatnonzero(distance < distance.min() + 1e-6)


def shear_load(fragments: Fragments, depth: float, stations: list[tuple[float, float]]) -> np.ndarray:
    """(F, 6) vertical forces (x [m], N up) on the boxes nearest to each x, spread over the depth as a beam's shear is: by a parabola."""
    load = np.zeros((fragments.count, 6))
    half = float(np.ptp(fragments.vertex[:8, 1])) / 2
    for x, force in stations:
        rows = slice_of(fragments, x)
        top, low = (np.clip((fragments.position[rows, 1] + side) / depth, 0.0, 1.0) for side in (half, -half))
        share = (3 * top**2 - 2 * top**3) - (3 * low**2 - 2 * low**3)
        load[rows, 1] += force * share / share.sum()
    return load


def torque_load(fragments: Fragments, depth: float, x: float, torque: float) -> np.ndarray:
    """(F, 6) torque [N m] about the bar's axis on the boxes nearest to x, growing with the distance from it."""
    rows = slice_of(fragments, x)
    arm = fragments.position[rows] - [0, depth / 2, depth / 2]
    arm[:, 0] = 0.0
    own = float((np.ptp(fragments.vertex[:8, 1:], axis=0).astype(float) ** 2).sum()) / 12
    polar = (arm**2).sum() + own * len(rows)
    load = np.zeros((fragments.count, 6))
    load[rows, :3] = torque / polar * np.cross([1.0, 0.0, 0.0], arm)
    load[rows, 3] = torque / polar * own
    return load


@dataclass(frozen=True)
class Parted:
    """How a structure came apart under a growing load."""

    factor: float  # of the load under which it did
    x: np.ndarray  # [m] of the bonds that let go
    y: np.ndarray  # [m]
    softened: int  # bonds that had softened before


def load_until_it_parts(fragments: Fragments, bonds: Bonds, load: np.ndarray, factors: np.ndarray, sim: Sim | None = None) -> Parted | None:
    """Raise `load` (F, 6) through `factors`, quasi-static, with rounds of breaking as in sim/step.py, until it is in other parts."""
    sim = sim or Sim()
    count, every = fragments.count, np.ones(fragments.count, bool)
    lattice, section, breakage = lattice_build(fragments, bonds), sections(bonds, sim), Breakage.none(bonds.count)
    label, held = clusters(bonds, breakage.state, count)
    for factor in factors:
        while True:
            inside = bonds_inside(bonds, breakage.state, label, held)
            response = respond(lattice, Elastic.still(count), label, held, inside, every, factor * load, 1.0, sim, False)
            assert response is not None
            failure = bonds_fail(section, breakage, bonds, response.bond, response.strain, sim, count)
            if not len(failure.changed):
                break
            lattice_soften(lattice, failure.changed, stiffness_left(section, breakage, failure.changed))
            now = clusters(bonds, breakage.state, count)
            if not all(np.array_equal(p, q) for p, q in zip(now, (label, held), strict=True)):
                gone = bonds.centroid[breakage.state == BOND_BROKEN]
                return Parted(float(factor), gone[:, 0], gone[:, 1], int(np.count_nonzero(breakage.worst > 1.0)))
    return None


def recorded(record_property, expected: float, got: float, tolerance: float, what: str = "") -> None:
    """Write a comparison into the report of the checks and hold it."""
    record_property(f"expected {what}".strip(), f"{expected:.4g}")
    record_property("got", f"{got:.4g} ({got / expected - 1:+.1%})")
    record_property("tolerance", f"{tolerance:.0%}")
    assert abs(got / expected - 1) <= tolerance, f"expected {expected:.4g} {what}, got {got:.4g}"
