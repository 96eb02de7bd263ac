"""The whole state of a collapse, and how it is made, saved, restored and digested.

In: a shot's sim, events and materials, fragments and bonds. Out: a Collapse, which sim/step.py advances. What is constant comes from the
inputs; what changes is `world` (rigid bodies), `breakage` (bonds), `elastic` (lattice), `label`, `held`, `ledger` and `step`.
A saved state continues bit-identically: caches (lattice blocks, systems) are functions of it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from shot.params import Shot, Sim
from shot.results import GROUND, Bonds, Fragments
from sim.blast import Blasts, blasts
from sim.body import bodies_of, start_check, with_bodies
from sim.bond import Breakage, Section, sections, stiffness_left
from sim.cluster import bonds_inside, clusters, hinges_between
from sim.entry import Entries, enter, entries, fixed_at, park
from sim.erect import relief, safety, weight_of
from sim.event import Schedule, rubble, schedule
from sim.ground_motion import Shaking, shaking
from sim.ledger import Ledger
from sim.respond import Elastic, bond_capacity, particle_speed
from sim.state import world_load, world_save
from sim.stress import Lattice, lattice_build, lattice_soften
from sim.world import Settings, World, bodies_split, world_create

log = logging.getLogger(__name__)
NOTICE_ENERGY = 1e-3  # impacts and crushes below this share of lifting a middling fragment by its size are not recorded


@dataclass
class Records:
    """What happened since the last frame was written; one list entry per step that had any."""

    breaks: list[dict[str, np.ndarray]] = field(default_factory=list)
    impacts: list[dict[str, np.ndarray]] = field(default_factory=list)
    crushes: list[dict[str, np.ndarray]] = field(default_factory=list)


@dataclass
class Counts:
    """How hard the solver worked, for the log; no part of the state."""

    solves: int = 0
    iterations: int = 0
    contacts: int = 0
    capped: int = 0  # bonds still overloaded when the rounds of their step ran out
    stalled: int = 0  # cluster solves that missed the tolerance
    stride: tuple[float, int] = (0.0, -1)  # farthest that a fragment moved in a step, in its sizes, and which
    turn: tuple[float, int] = (0.0, -1)  # [rad] farthest turn in a step beyond what the solver follows, and whose


@dataclass
class Collapse:
    """Everything a step needs."""

    fragments: Fragments
    bonds: Bonds
    sim: Sim
    settings: Settings
    plan: Schedule
    ground: Shaking
    blasts: Blasts
    entries: Entries
    section: Section
    lattice: Lattice
    world: World
    breakage: Breakage
    elastic: Elastic
    ledger: Ledger
    h: float  # [s]
    rounds: int  # of breaking in a step: in a given time a crack may pass a given number of bonds, whatever h
    label: np.ndarray  # (F) i32
    held: np.ndarray  # (F) bool: its cluster holds to the ground
    inside: np.ndarray  # (B) bool: bonds within a cluster
    capacity: np.ndarray  # (F) [N] of the weakest bond around a fragment
    particle_speed: np.ndarray  # (F) [m/s] at most that an elastic wave gives
    strong: np.ndarray  # (F) [J] elastic energy of its bonds at their strength
    notice: float  # [J] least energy of an impact or crush that is recorded
    hinge: np.ndarray  # (J) bonds that the solver has as joints
    touched: np.ndarray  # (F) bool: its bonds were changed since the last solve
    step: int = 0
    idle: np.ndarray | None = None  # (F, 3) pushes of the last step if it changed nothing: with the same ones the next will not either
    records: Records = field(default_factory=Records)
    counts: Counts = field(default_factory=Counts)


def collapse_create(shot: Shot, fragments: Fragments, bonds: Bonds) -> Collapse:
    """The structure at rest, before the first step, its lattice under its own weight; bodies of the events behind its fragments.

    Raises ShotError if a body starts inside something."""
    fragments = with_bodies(fragments, bodies_of(shot.events, fragments, shot.materials))
    start_check(shot.events, fragments)
    sim, count = shot.sim, fragments.count
    h = 1.0 / (shot.fps * shot.steps_per_frame)
    materials = [getattr(shot.materials, name) for name in fragments.material_name]
    friction = np.array([m.friction for m in materials])[fragments.material]
    section, lattice = sections(bonds, sim), lattice_build(fragments, bonds)
    breakage = Breakage.none(bonds.count)
    label, held = clusters(bonds, breakage.state, count)
    inside = bonds_inside(bonds, breakage.state, label, held)
    world = world_create(fragments_reduced(fragments, rubble(shot.events, fragments)), friction, shot.fracture.shrink)
    bodies = entries(shot.events, fragments, shot.first, shot.steps_per_frame, h)
    bodies_split(world, label, held | fixed_at(bodies, 0, count))
    park(world, bodies, 0)
    compression = np.array([m.compression for m in materials])[fragments.material]
    size = np.asarray(fragments.size, float)
    collapse = Collapse(
        fragments=fragments,
        bonds=bonds,
        sim=sim,
        settings=Settings(
            sim.gravity, sim.contact_iterations, sim.friction_ground, sim.sleep_speed, sim.sleep_time, sim.rolling, sim.crush_residual,
            sim.stiction,
        ),
        plan=schedule(shot.events, shot.first, shot.fps, shot.steps_per_frame, fragments, bonds),
        ground=shaking(shot.events, shot.first, shot.steps_per_frame, h),
        blasts=blasts(shot.events, fragments, shot.first, shot.steps_per_frame, h),
        entries=bodies,
        section=section,
        lattice=lattice,
        world=world,
        breakage=breakage,
        elastic=Elastic.still(count),
        ledger=Ledger.start(fragments, sim.gravity),
        h=h,
        rounds=max(1, round(sim.break_rounds * h / max(sim.impact_time, h))) if sim.break_rounds else 0,
        label=label,
        held=held,
        inside=inside,
        capacity=bond_capacity(bonds, count),
        particle_speed=particle_speed(bonds, fragments),
        strong=_strength_energy(bonds, section, count),
        notice=NOTICE_ENERGY * float(np.median(fragments.mass)) * max(sim.gravity, 1.0) * float(np.median(size)),
        hinge=np.zeros(0, np.int64),
        touched=np.zeros(count, bool),
    )
    world.crush_set(compression * weakest_section(fragments))
    collapse.ledger.weight[bodies.fragment[bodies.driven]] = 0.0  # their fall does no work: they are led
    collapse.ledger.add(work=enter(world, bodies, 0))
    erect(collapse)
    return collapse


def weakest_section(fragments: Fragments) -> np.ndarray:
    """(F) [m2] volume over the longest side of the box with the same volume, mass and principal moments."""
    trace = np.trace(fragments.inertia, axis1=1, axis2=2)
    least = np.linalg.eigvalsh(fragments.inertia)[:, 0]  # m (b^2 + c^2) / 12, a the longest
    return fragments.volume / np.sqrt(np.maximum(6.0 * (trace - 2.0 * least) / fragments.mass, 1e-12))


def erect(c: Collapse) -> None:
    """Let the structure carry its weight as built: strains at rest, so that the first frame has no jolt."""
    c.lattice.offset[:], c.elastic.u[:] = relief(c.lattice, c.section, c.label, c.held, c.inside, c.fragments, c.sim)
    c.elastic.load[:] = weight_of(c.fragments, c.held, c.sim.gravity)
    factor, bond, used = safety(c.lattice, c.section, c.label, c.held, c.inside, c.fragments, c.elastic.u, c.sim)
    if bond >= 0:
        name = c.fragments.element_name[int(c.fragments.element[c.bonds.fragment_a[bond]])]
        log.info("at rest bonds carry up to %.0f %% of their strength; %.2f times the weight breaks one, at %s", 100 * used, factor, name)


def collapse_save(c: Collapse) -> dict[str, np.ndarray]:
    """All arrays that a run needs to go on; keys are stable."""
    arrays = {f"world.{name}": np.asarray(value) for name, value in world_save(c.world).items()}
    arrays |= {f"bond.{name}": value for name, value in vars(c.breakage).items()}
    arrays |= {f"elastic.{name}": value for name, value in vars(c.elastic).items()}
    arrays |= {"ledger": c.ledger.total.copy(), "bars": np.array(c.ledger.bars), "step": np.array(c.step), "touched": c.touched}
    return arrays


def collapse_load(c: Collapse, arrays: Mapping[str, np.ndarray]) -> None:
    """Continue from `collapse_save`; `c` was created from the same inputs."""
    world_load(c.world, {name[6:]: value for name, value in arrays.items() if name.startswith("world.")})
    for part, prefix in ((c.breakage, "bond."), (c.elastic, "elastic.")):
        for name in vars(part):
            setattr(part, name, arrays[prefix + name].copy())
    c.ledger.total[:], c.ledger.bars = arrays["ledger"], float(arrays["bars"])
    c.step, c.touched, c.idle = int(arrays["step"]), arrays["touched"].copy(), None
    c.label, c.held = clusters(c.bonds, c.breakage.state, c.fragments.count)
    c.inside = bonds_inside(c.bonds, c.breakage.state, c.label, c.held)
    c.hinge = hinges_between(c.bonds, c.breakage.state, c.inside)
    every = np.arange(c.bonds.count)
    lattice_soften(c.lattice, every, stiffness_left(c.section, c.breakage, every))


def collapse_digest(c: Collapse) -> int:
    """u64 of the complete state."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(collapse_save(c).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return int.from_bytes(digest.digest(), "little")


def fragments_reduced(fragments: Fragments, lost: np.ndarray) -> Fragments:
    """Fragments with hulls smaller by a share (F) of their size."""
    keep = np.repeat(1.0 - lost[fragments.hull_fragment], np.diff(fragments.hull_vertex_start))
    return replace(fragments, hull_vertex=(fragments.hull_vertex * keep[:, None]).astype(np.float32))


def _strength_energy(bonds: Bonds, section: Section, count: int) -> np.ndarray:
    """(F) [J] half the elastic energy of the bonds around each fragment when their tension reaches its strength."""
    energy = 0.25 * (bonds.tension * bonds.area) ** 2 / section.stiffness[:, 0]
    inner = bonds.fragment_b != GROUND
    return np.bincount(bonds.fragment_a, energy, count) + np.bincount(bonds.fragment_b[inner], energy[inner], count)
