"""Structures loaded until they break, against formulas: at what load, where, in how many pieces' mesh, with what scatter.

References: Timoshenko, Strength of Materials (bending, torsion); Planas, Guinea and Elices (1995) for the size effect of concrete with
Petersson's softening (1981); Weibull (1951). Loads grow in steps of 1 %. `BRITTLE` has l_ch = E G_f / f_t^2 = 0.3 mm: a section fails
where its extreme fibre reaches its strength. Meshes have 1, 2, 4 and 8 times the fragments, the last two with two bonds over the depth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import gamma

from assets.building import build
from shot.frames import FrameFolder
from shot.load import shot_load
from shot.params import Event, Material, Materials, Shot, Sim
from shot.results import BOND_BROKEN, BOND_HINGED, BOND_INTACT, GROUND, progress_silent
from sim.fracture import shatter
from sim.strength import weibull
from tests.beams import GRAVITY, bar, load_until_it_parts, recorded, shear_load, torque_load
from tests.structures import frame

ROOT = Path(__file__).resolve().parent.parent
BRITTLE = Material(steel=0.0, weibull=0.0, fracture_energy=0.1)
PLAIN = Material(steel=0.0, weibull=0.0)
MESHES = pytest.mark.parametrize("mesh", [(20, 1, 1), (40, 1, 1), (40, 2, 1), (40, 2, 2)], ids=["1x", "2x", "4x", "8x"])
FACTORS = np.arange(0.7, 2.5, 0.01)


def tolerance(mesh) -> float:
    """One bond over the depth: statics alone decide, 5 % for load steps of 1 %. More: load finds its way through a lattice, 10 %."""
    return 0.05 if mesh[1] == 1 else 0.10


def bending(mesh, depth: float, material: Material, points: int):
    """How a beam of ten depths parts under three or four points, in P = 2 M / arm, M = f_t b h^2 / 6; inner loads and a box [m]."""
    length = 10 * depth
    fragments, bonds = bar(mesh, length, depth, material)
    box = length / mesh[0]
    centre = np.unique(fragments.position[:, 0].round(6))
    inner = centre[len(centre) // 2 - 1] if points == 3 else centre[np.argmin(np.abs(centre - 0.35 * length))]
    force = 2 * material.tension * depth**3 / 6 / (inner - centre[0])
    load = shear_load(fragments, depth, [(0.0, 0.5), (length, 0.5), (inner, -0.5), (length - inner, -0.5)])
    parted = load_until_it_parts(fragments, bonds, force * load, FACTORS)
    assert parted is not None
    return parted, inner, length - inner, box


@pytest.mark.slow
@MESHES
@pytest.mark.parametrize("points", [3, 4])
def test_bending(points, mesh, record_property):
    """Three- and four-point bending: M = f_t b h^2 / 6; it parts between the inner loads, a box more or less."""
    parted, left, right, box = bending(mesh, 0.3, BRITTLE, points)
    recorded(record_property, 1.0, parted.factor, tolerance(mesh), "of the formula")
    record_property("cracks at [m]", f"{parted.x.min():.3f} to {parted.x.max():.3f} of {left:.3f} to {right:.3f}")
    assert left - box <= parted.x.min() and parted.x.max() <= right + box


@pytest.mark.slow
@MESHES
def test_cantilever_tip_load(mesh, record_property):
    """P = b h^2 f_t / 6 L at its tip parts it at its root, within one box."""
    depth, length = 0.3, 6.0
    fragments, bonds = bar(mesh, length, depth, BRITTLE, built_in=True)
    box = length / mesh[0]
    force = BRITTLE.tension * depth**3 / 6 / (length - box / 2)
    parted = load_until_it_parts(fragments, bonds, shear_load(fragments, depth, [(length, -force)]), FACTORS)
    assert parted is not None
    recorded(record_property, 1.0, parted.factor, tolerance(mesh), "of the formula")
    assert parted.x.max() <= box


@pytest.mark.slow
@MESHES
def test_cantilever_breaking_length(mesh, record_property):
    """L = sqrt(f_t h / 3 rho g) breaks under its own weight, at its root; n times the gravity on L is once on L sqrt(n)."""
    depth = 0.3
    length = float(np.sqrt(BRITTLE.tension * depth / (3 * BRITTLE.density * GRAVITY)))
    fragments, bonds = bar(mesh, length, depth, BRITTLE, built_in=True)
    load = np.zeros((fragments.count, 6))
    load[:, 1] = -GRAVITY * fragments.mass
    parted = load_until_it_parts(fragments, bonds, load, FACTORS)
    assert parted is not None
    recorded(record_property, length, length * float(np.sqrt(parted.factor)), tolerance(mesh), "m")
    assert parted.x.max() <= length / mesh[0]


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(20, 1, 1), (40, 1, 1), (20, 2, 2), (40, 2, 2), (80, 4, 4)], ids=["1x", "2x", "4x", "8x", "64x"])
def test_torsion(mesh, record_property):
    """A square shaft in free flight, twisted at both ends, shears at T = 0.208 a^3 c (Saint-Venant)."""
    depth, length = 0.3, 3.0
    fragments, bonds = bar(mesh, length, depth, BRITTLE)
    torque = 0.208 * depth**3 * BRITTLE.cohesion
    load = torque_load(fragments, depth, length, torque) + torque_load(fragments, depth, 0.0, -torque)
    parted = load_until_it_parts(fragments, bonds, load, FACTORS)
    assert parted is not None
    recorded(record_property, 1.0, parted.factor, tolerance(mesh), "of the formula")


@pytest.mark.slow
@MESHES
def test_column_crushes(mesh, record_property):
    """H = f_c / rho g crushes the foot under its own weight, within one box."""
    height = BRITTLE.compression / (BRITTLE.density * GRAVITY)
    fragments, bonds = bar(mesh, 3.0, 0.3, BRITTLE, built_in=True)
    load = np.zeros((fragments.count, 6))
    load[:, 0] = -GRAVITY * fragments.mass * height / 3.0
    parted = load_until_it_parts(fragments, bonds, load, FACTORS)
    assert parted is not None
    recorded(record_property, height, height * parted.factor, 0.05, "m")
    assert parted.x.max() <= 3.0 / mesh[0]


@pytest.mark.slow
@pytest.mark.parametrize("points", [3, 4])
@pytest.mark.parametrize("mesh", [(20, 1, 1), (40, 1, 1), (40, 2, 1), (40, 2, 2), (80, 4, 4)], ids=["1x", "2x", "4x", "8x", "64x"])
@pytest.mark.parametrize("depth", [0.1, 0.3, 1.0])
def test_size_effect(depth, mesh, points, record_property):
    """Flexural over tensile strength 1 + 1 / (0.85 + 4.5 d / l_ch), G_f = 100 N/m, within 10 %: softening goes in steps of 5 %."""
    length = PLAIN.young * PLAIN.fracture_energy / PLAIN.tension**2
    parted, left, right, box = bending(mesh, depth, PLAIN, points)
    recorded(record_property, 1 + 1 / (0.85 + 4.5 * depth / length), parted.factor, 0.10, "f_fl / f_t")
    assert left - box <= parted.x.min() and parted.x.max() <= right + box


@pytest.mark.slow
def test_bars_sag_where_plain_concrete_snaps(taichi, tmp_path, record_property):
    """A portal whose beam is struck: plain it falls; with ductile bars it hinges and stays, its greatest sag that of a rigid-plastic beam.

    Hinges at both ends and half a metre from the middle hold M = M_y / 3 each (sim/step.py). With a mode that is 1 in the middle metre and
    falls to 0 over 1.8 m, energy gives w = W / (4 M / 1.8 - m g 2.8), W = m (v 2.8)^2 / 2 / 2.2; 25 % for elastic strain and the
    first instants, when it is not yet a mechanism."""
    from sim.simulate import simulate

    side, push, fps, frames = 0.4, 500.0, 120, 81
    drops = {}
    for steel in (0.0, 0.01):
        material = Material(steel=steel, weibull=0.0)
        strike = Event(kind="push", frame=1003, lower=(-9, 2.5, -1), upper=(9, 3.5, 1), members=("beam",), force=(0, -push, 0))
        shot = Shot(
            fps=fps, frames=frames, events=(strike,), materials=Materials(concrete=material), sim=Sim(hinge_rotation=0.5, hinge_opening=0.2)
        )
        fragments, bonds = frame(1, 1, 0, material, bay=5.0, side=side)
        motion = simulate(shot, fragments, bonds, FrameFolder(tmp_path / str(steel)), shot.frame_range, progress_silent)
        beam = fragments.position[:, 1] > 2.9
        sag = [float((fragments.position[:, 1] - motion.frame(f)["position"][:, 1])[beam].max()) for f in shot.frame_range]
        state = motion.frame(1000 + frames)["bond_state"]
        drops[steel] = max(sag)
        if steel:
            assert (state == BOND_HINGED).any() and not (state == BOND_BROKEN).any()
            assert abs(sag[-1] - sag[-20]) < 1e-3
        else:
            assert (state == BOND_BROKEN).any() and sag[-1] > 1.0
            record_property("plain falls [m]", f"{sag[-1]:.2f}")
    mass, moment = 2400 * side**2, 0.5 * 0.01 * side**2 * Sim().steel_yield * 0.8 * side / 3
    energy = mass * (push / fps * 2.8) ** 2 / 2 / 2.2
    recorded(record_property, energy / (4 * moment / 1.8 - mass * GRAVITY * 2.8), drops[0.01], 0.25, "m of sag with bars")


@pytest.mark.parametrize("modulus", [5.0, 8.0, 10.0])
def test_strengths_are_weibull(modulus, record_property):
    """20 000 hashed factors against F = 1 - exp(-(Gamma(1 + 1/m) x)^m): Kolmogorov-Smirnov distance below 1.63 / sqrt(n), its 1 % point.

    Whatever the order, and whatever other bonds there are, a bond's factor is the same; seeds and the three strengths are independent."""
    count = 20_000
    name = np.arange(count).astype(np.uint64) * np.uint64(977)
    draw = {(seed, lane): weibull(seed, np.full(count, modulus), name, lane) for seed in (1, 2) for lane in range(3)}
    distances = []
    for factor in draw.values():
        distances.append(distance(factor, modulus))
    record_property("1 % point", f"{1.63 / np.sqrt(count):.4f}")
    record_property("got at most", f"{max(distances):.4f}")
    assert max(distances) < 1.63 / np.sqrt(count)
    correlation = np.abs(np.corrcoef(list(draw.values())) - np.eye(6)).max()
    assert correlation < 4 / np.sqrt(count)
    order = np.random.default_rng(0).permutation(count)[: count // 3]
    assert (weibull(1, np.full(len(order), modulus), name[order], 0) == draw[1, 0][order]).all()


def distance(factor: np.ndarray, modulus: float) -> float:
    """Kolmogorov and Smirnov's distance of a sample from Weibull's distribution with mean 1."""
    cdf = 1 - np.exp(-((gamma(1 + 1 / modulus) * np.sort(factor)) ** modulus))
    rank = np.arange(len(factor) + 1) / len(factor)
    return float(np.maximum(rank[1:] - cdf, cdf - rank[:-1]).max())


def shattered(name: str, folder: Path, *overrides: str):
    """Shot, fragments and bonds of a bundled shot."""
    loaded = shot_load(ROOT / "assets" / "shots" / f"{name}.toml", list(overrides))
    building = build(loaded.shot, FrameFolder(folder / "building"), loaded.base, progress_silent)
    return loaded.shot, *shatter(loaded.shot, building, FrameFolder(folder / "pieces"), progress_silent)


@pytest.mark.slow
def test_strengths_of_a_building_are_weibull(tmp_path, record_property):
    """The bonds inside concrete members of a real shot are such a sample too, m = 10."""
    shot, fragments, bonds = shattered("apartment_block", tmp_path)
    concrete = fragments.material == fragments.material_name.index("concrete")
    inside = ~bonds.joint & (bonds.fragment_b != GROUND) & concrete[bonds.fragment_a]
    factor = bonds.tension[inside] / (shot.materials.concrete.tension * shot.fracture.strength_scale)
    got = distance(factor, shot.materials.concrete.weibull)
    record_property("bonds", int(inside.sum()))
    record_property("1 % point", f"{1.63 / np.sqrt(inside.sum()):.4f}")
    record_property("got", f"{got:.4f}")
    assert got < 1.63 / np.sqrt(inside.sum())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["column_cut", "apartment_block"])
def test_safety_factor(taichi, name, tmp_path, record_property):
    """A building breaks first at the multiple of its weight that it reports at rest, within 5 %: pushed down by the rest, whole steps."""
    from sim.collapse import collapse_create
    from sim.erect import safety
    from sim.step import step

    shot, fragments, bonds = shattered(name, tmp_path, "sim.dynamic=false")
    shot = shot.model_copy(update={"events": ()})
    c = collapse_create(shot, fragments, bonds)
    factor, first, used = safety(c.lattice, c.section, c.label, c.held, c.inside, c.fragments, c.elastic.u, c.sim)
    record_property("reported factor", f"{factor:.3f}")
    record_property("greatest utilisation at rest", f"{used:.3f}")
    changed = {}
    for share in (0.95, 1.05):
        extra = Event(
            kind="push", frame=1002, frames=9, lower=(-1e3, -1e3, -1e3), upper=(1e3, 1e3, 1e3), members=(),
            force=(0.0, -(share * factor - 1) * shot.sim.gravity, 0.0),
        )
        c = collapse_create(shot.model_copy(update={"events": (extra,)}), fragments, bonds)
        step(c)
        changed[share] = np.flatnonzero((c.breakage.state != BOND_INTACT) | (c.breakage.worst > 1.0))
        record_property(f"bonds failed at {share}", len(changed[share]))
    assert len(changed[0.95]) == 0
    assert first in changed[1.05]
