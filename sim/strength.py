"""Stiffness and strength of bonds from the two materials they join.

In: material, member kind and stable name of both sides of each bond. Out: the material columns of Bonds. The weaker side counts;
stiffness is the harmonic mean (two halves in series). Frame joints are scaled by `joint_scale`, edges of facade and infill panels
by `facade_fixing`. Joints inside a wall of masonry have the mortar's strength instead of the bricks', head joints a share of it;
stiffness and the cap on compression stay the wall's. Each of the three strengths gets its own Weibull factor with mean 1,
(-ln u)^(1/m) / gamma(1 + 1/m) (Weibull 1951), hashed from the bond's name, so that its scatter does not depend on what else stands
in the building.
Does not model bars one by one: `steel` is the share of the section that they fill.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gamma

from shot.errors import ShotError, nearest
from shot.hashing import hashed, uniform
from shot.params import Fracture, Material, Materials
from shot.results import MEMBER_KINDS

NO_MORTAR, BED, HEAD = 0, 1, 2
PANEL_KINDS = np.isin(MEMBER_KINDS, ("facade", "infill"))  # hung or walled in: no bars cross their edges

SCALARS = (
    "density", "young", "poisson", "tension", "compression", "cohesion", "friction_angle", "fracture_energy", "weibull", "steel",
)  # of a Material, as far as mass and strength go


def material_columns(materials: Materials, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The properties that SCALARS names, as arrays over `names`. Raises ShotError for a material the shot does not have."""
    rows = [material_row(materials, name) for name in names]
    return {key: np.array([getattr(row, key) for row in rows], float) for key in SCALARS}


def material_row(materials: Materials, name: str) -> Material:
    """A material by name. Raises ShotError if the shot does not have it."""
    row = getattr(materials, name, None)
    if not isinstance(row, Material):
        known = list(type(materials).model_fields)
        raise ShotError(f"materials.{name} is not in the shot{nearest(name, known)} (has {', '.join(known)})")
    return row


def bond_strengths(
    fracture: Fracture,
    column: dict[str, np.ndarray],
    seed: int,
    material: np.ndarray,
    kind: np.ndarray,
    joint: np.ndarray,
    mortar: np.ndarray,
    name: np.ndarray,
) -> dict[str, np.ndarray]:
    """Columns young .. steel of Bonds for material (B, 2) and kind (B, 2) of the sides, joint (B) bool, mortar (B): NO_MORTAR,
    BED or HEAD, and name (B) u64.

    A bond to the ground has its own fragment on both sides: the foundation is as strong as what stands on it.
    """
    def side(key: str) -> np.ndarray:
        return column[key][material]  # (B, 2)

    young = side("young")
    shear = young / (2.0 * (1.0 + side("poisson")))
    panel = PANEL_KINDS[kind].any(axis=1)
    factor = np.where(joint, np.where(panel, fracture.facade_fixing, fracture.joint_scale), 1.0) * fracture.strength_scale
    weaker = np.argmin(side("tension"), axis=1)
    modulus = side("weibull")[np.arange(len(weaker)), weaker]
    filled = np.select([mortar == BED, mortar == HEAD], [1.0, fracture.mortar.head], 0.0)
    body = {key: side(key).min(axis=1) for key in ("tension", "compression", "cohesion", "friction_angle", "fracture_energy")}
    laid = {
        "tension": fracture.mortar.tension * filled,
        "cohesion": fracture.mortar.cohesion * filled,
        "friction_angle": np.full(len(filled), fracture.mortar.friction_angle),
        "fracture_energy": fracture.mortar.fracture_energy * filled,
    }
    body |= {key: np.where(mortar == NO_MORTAR, body[key], value) for key, value in laid.items()}
    strengths = {
        key: body[key] * factor * weibull(seed, modulus, name, lane) for lane, key in enumerate(("tension", "compression", "cohesion"))
    }
    return {
        "young": _harmonic(young),
        "shear": _harmonic(shear),
        **strengths,
        "friction": np.tan(np.radians(body["friction_angle"])),
        "fracture_energy": body["fracture_energy"],
        "steel": np.where(joint & panel | (mortar != NO_MORTAR), 0.0, side("steel").min(axis=1)),
    }


def _harmonic(pair: np.ndarray) -> np.ndarray:
    """Harmonic mean of the two columns."""
    return 2.0 * pair.prod(axis=1) / pair.sum(axis=1)


def weibull(seed: int, modulus: np.ndarray, name: np.ndarray, lane: int) -> np.ndarray:
    """Factors with mean 1 and Weibull modulus (B); exactly 1 where the modulus is 0."""
    m = np.where(modulus > 0.0, modulus, math.inf)
    return (-np.log(uniform(seed, "bond.strength", name, lane))) ** (1.0 / m) / gamma(1.0 + 1.0 / m)


def bond_names(a: np.ndarray, b: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """u64 names from (member, piece in member) of both sides (B, 2) and the number of the plane among those of the pair (B).

    Built from what the two members are, not from where they come in the building's list of pieces.
    """
    with np.errstate(over="ignore"):
        name = hashed(0, "bond.member", a[:, 0], 0) + hashed(0, "bond.piece", a[:, 1], 0)
        name = hashed(0, "bond.side", name, 0) + hashed(0, "bond.member", b[:, 0], 1) + hashed(0, "bond.piece", b[:, 1], 1)
        return hashed(0, "bond.plane", name + hashed(0, "bond.plane", plane, 1), 0)
