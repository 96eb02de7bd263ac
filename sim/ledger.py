"""Where the energy is: kinetic, potential, elastic, and where it went.

In: bodies, the lattice, the solver's work terms of each step, what breaking spent. Out: the nine numbers of Motion.LEDGER, cumulative
since the first frame, each computed by its own means and none as a remainder; `residual` is what they fail to close by.

    kinetic + potential + elastic + friction + contact + fracture + crushing + integrator = work + residual

Elastic energy is that of the lattice under its loads. The rigid bodies do not sink by their elastic millimetres, so elastic energy has
no counterpart in `potential` and shows in the residual. The sway that a part takes along when it comes loose is work of the loads.
Crushing is what contact points take while they yield; fracture is the cracks' own energy and what hinges took and do not hold. Bonds
that fail in compression book nothing: what crushes there is booked where the pieces press on each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shot.results import Fragments, Motion
from shot.rotation import conjugate, rotate
from sim.stress import Lattice, bond_strains
from sim.world import EMPTY, FIXED, Bodies, Poses

SIGN = np.array([-1.0 if name == "work" else 1.0 for name in Motion.LEDGER])


@dataclass
class Ledger:
    """Cumulative energies [J] in the order of Motion.LEDGER."""

    total: np.ndarray
    height: np.ndarray  # (F) [m] rest heights
    weight: np.ndarray  # (F) [N]
    bars: float = 0.0  # [J] elastic energy of the hinges between bodies now

    @classmethod
    def start(cls, fragments: Fragments, gravity: float) -> Ledger:
        """Everything at rest: potential counts from here."""
        return cls(np.zeros(len(Motion.LEDGER)), np.array(fragments.position[:, 1]), fragments.mass * gravity)

    def add(self, **joules: float) -> None:
        """Book energies that only grow."""
        for name, value in joules.items():
            self.total[Motion.LEDGER.index(name)] += value

    def take(self, terms: dict[str, float]) -> None:
        """Book the contact solver's terms of a step: what hinges took and do not hold counts as fracture."""
        spent = terms["joints"] - (terms["elastic"] - self.bars)
        self.add(**{name: terms[name] for name in ("friction", "contact", "integrator", "work")}, fracture=spent)
        self.bars = terms["elastic"]

    def read(self, poses: Poses, bodies: Bodies, inertia: np.ndarray, lattice: Lattice, u: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """The nine numbers now; inertia (F, 3, 3) of bodies in rest axes, `inside` (B) bonds that store energy."""
        total = self.total.copy()
        total[Motion.LEDGER.index("kinetic")] = kinetic(bodies, inertia)
        total[Motion.LEDGER.index("potential")] = float(np.sum(self.weight * (poses.position[:, 1] - self.height)))
        bond = np.flatnonzero(inside)
        strain = bond_strains(lattice, bond, u)
        total[Motion.LEDGER.index("elastic")] = self.bars + 0.5 * float(np.sum(lattice.stiffness[bond] * strain**2))
        return total


def residual(ledger: np.ndarray) -> np.ndarray:
    """What rows (..., 9) fail to close by [J], against the first row's zero."""
    return np.asarray(ledger) @ SIGN


def kinetic(bodies: Bodies, inertia: np.ndarray) -> float:
    """[J] of all free bodies."""
    free = (bodies.state != EMPTY) & (bodies.state != FIXED)
    w = rotate(conjugate(bodies.q[free]), bodies.w[free].astype(float))
    linear = (bodies.mass[free].astype(float)[:, None] * bodies.v[free].astype(float) ** 2).sum()
    return 0.5 * float(linear + np.einsum("ni,nij,nj->", w, inertia[free], w))
