"""States that cannot be, found after every step and named before anything of them is stored.

In: a Collapse after (or in the middle of) a step, its frame. Out: nothing, or an error that says frame, step, fragment, its member and
material, and the likely cause. Refused are numbers that are not finite, speeds and energies that nothing explains, and strides so long that
the broadphase would have to search half the world. Strides beyond a piece's own size, and turns that the solver cuts short, are told.

The limits are bounds, not models: a state that passes can still be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shot.errors import MissingResource, SimulationFailed
from shot.params import Shot
from shot.results import GROUND, Fragments, Motion
from sim.blast import blast_speed
from sim.collapse import Collapse
from sim.column import column_read
from sim.event import push
from sim.ground_motion import ground_speed
from sim.layout import AWAKE
from sim.solve import SLACK, TURN_MAX
from sim.state import contacts_read
from sim.world import Poses, fragments_read

SPEED_MARGIN = 4.0  # times the speed of a fall from the top; pieces thrown by levers reach twice that speed
ENERGY_MARGIN = 4.0  # times what falling gave, pushes did, and lifting all pieces by their size would take
SEARCH_MAX = 5e8  # visits of the broadphase to entries of its grid in a step: a second or two
TURN_NOTICE = 0.9  # of the turn at which the solver stops a body in a step
LIGHT = 1e-3  # of the median mass: such pieces are the first to be thrown


def guard(c: Collapse, shot: Shot, frame: int) -> None:
    """Refuse a state that cannot be; note long strides in c.counts. Raises SimulationFailed."""
    poses = fragments_read(c.world)
    finite_check(c, shot, frame, poses)
    speed_check(c, shot, frame, poses)
    stride_check(c, shot, frame, poses)


def finite_check(c: Collapse, shot: Shot, frame: int, poses: Poses) -> None:
    """All poses, velocities and lattice displacements are finite numbers."""
    motion = np.concatenate([poses.position, poses.rotation, poses.velocity, poses.angular_velocity], axis=1)
    bad = np.flatnonzero(~np.isfinite(np.concatenate([motion, c.elastic.u, c.elastic.v], axis=1)).all(axis=1))
    if len(bad):
        where = suspect(c, bad)
        part = "its motion" if not np.isfinite(motion[where]).all() else "the stress inside its cluster"
        others = len(bad) - 1
        raise SimulationFailed(
            f"{when(c, shot, frame)}: {named(c.fragments, where)} is not finite: {part}"
            f"{f', with {others} more of its body or neighbours' if others else ''}; {cause(c, shot, where)}"
        )


def speed_check(c: Collapse, shot: Shot, frame: int, poses: Poses) -> None:
    """No piece is faster than a fall from the top, what gravity gave it since, and all events at once can explain."""
    height = float(np.ptp(c.fragments.position[:, 1])) + float(np.max(c.fragments.size))
    duration = c.step * c.h
    pushed = sum(float(np.linalg.norm(force)) for force in c.plan.force) * duration
    pushed += c.entries.fastest + ground_speed(c.ground) + blast_speed(c.blasts, c.fragments.mass)
    limit = SPEED_MARGIN * (np.sqrt(2.0 * max(shot.sim.gravity, 1.0) * height) + shot.sim.gravity * duration + pushed)
    speed = np.linalg.norm(poses.velocity, axis=1)
    if speed.max(initial=0.0) > limit:
        where = int(np.argmax(speed))
        raise SimulationFailed(
            f"{when(c, shot, frame)}: {named(c.fragments, where)} flies at {speed[where]:.0f} m/s, more than {limit:.0f} m/s can be "
            f"explained; {cause(c, shot, where)}"
        )


def stride_check(c: Collapse, shot: Shot, frame: int, poses: Poses) -> None:
    """A step is short enough for what moves in it. Refused is what the broadphase could not search; the rest goes into c.counts."""
    awake = poses.state == AWAKE
    if not awake.any():
        return
    size = np.asarray(c.fragments.size, float)
    stride = np.where(awake, c.h * np.linalg.norm(poses.velocity, axis=1) / size, 0.0)
    turn = np.where(awake, c.h * np.linalg.norm(poses.angular_velocity, axis=1), 0.0)
    fastest, spinner = int(np.argmax(stride)), int(np.argmax(turn))
    if stride[fastest] > c.counts.stride[0]:
        c.counts.stride = float(stride[fastest]), fastest
    if turn[spinner] > TURN_NOTICE * TURN_MAX and turn[spinner] > c.counts.turn[0]:
        c.counts.turn = float(turn[spinner]), spinner
    if search_cost(c, poses) > SEARCH_MAX:
        path = stride[fastest] * size[fastest]
        raise SimulationFailed(
            f"{when(c, shot, frame)}: a step of {1e3 * c.h:.3g} ms is too long: {named(c.fragments, fastest)} moves {path:.3g} m in it, "
            f"{stride[fastest]:.0f} times its size; {advice(shot.sim.steps_scale, stride[fastest])}; {cause(c, shot, fastest)}"
        )


def advice(scale: int, factor: float) -> str:
    """What sim.steps_scale makes a step shorter by this factor."""
    wanted = scale * int(np.ceil(factor))
    return f"sim.steps_scale = {wanted} would follow it" if wanted <= 16 else "no sim.steps_scale would follow it: lower what drives it"


def search_cost(c: Collapse, poses: Poses) -> float:
    """Visits to grid entries that the next step's broadphase will make (sim/broadphase.py): entries squared over buckets."""
    hulls, work = c.world.hulls, c.world.work
    if work is None:
        return 0.0
    owner = hulls.fragment
    box = (column_read(hulls.array["upper"]) - column_read(hulls.array["lower"])).astype(float)
    out = SLACK * c.world.length_scale + 0.5 * c.h * np.linalg.norm(poses.angular_velocity[owner], axis=1) * np.linalg.norm(box, axis=1)
    path = box + c.h * np.abs(poses.velocity[owner].astype(float)) + 2.0 * out[:, None]
    return float(np.prod(path / work.cell + 1.0, axis=1).sum()) ** 2 / (work.mask + 1)


def strides_told(c: Collapse, frame: int) -> list[str]:
    """Warnings of a frame about steps that were long for what moved in them."""
    told, scale = [], c.sim.steps_scale
    (stride, fastest), (turn, spinner) = c.counts.stride, c.counts.turn
    if stride > 1.0:
        told.append(f"frame {frame}: {named(c.fragments, fastest)} moves {stride:.1f} times its size in a step; {advice(scale, stride)}")
    if turn > 0.0:
        told.append(
            f"frame {frame}: {named(c.fragments, spinner)} spins by {turn:.2f} rad in a step; above {TURN_MAX:g} the solver cuts its spin; "
            f"{advice(scale, max(2.0, turn / TURN_MAX))}"
        )
    return told


def broken_off(c: Collapse, shot: Shot, frame: int, error: Exception) -> Exception:
    """The error to raise for one that ended a step in its middle."""
    if isinstance(error, MemoryError):
        return MissingResource(
            f"{when(c, shot, frame, c.step + 1)}: {error}: raise fracture.piece, or sim.steps_scale if pieces fly far in a step, "
            "or use a machine with more memory; frames before are kept"
        )
    before = c.world.snapshot["body"] if c.world.snapshot else c.world.body.array  # what it was before the step spread it
    after = c.world.body.array
    motion = np.concatenate([column_read(after["x"]), column_read(after["v"]), column_read(before["v"])], axis=1)
    bad = np.flatnonzero(~np.isfinite(motion[c.world.label]).all(axis=1))
    if not len(bad):
        ring = np.flatnonzero(c.elastic.lively) if c.elastic.lively.any() else np.arange(c.fragments.count)
        return SimulationFailed(
            f"{when(c, shot, frame, c.step + 1)}: the stress inside a cluster cannot be solved ({error}), that of "
            f"{named(c.fragments, int(ring[0]))} or of one of {len(ring) - 1} more pieces: look for bonds with next to no area or stiffness"
        )
    where = suspect(c, bad)
    return SimulationFailed(
        f"{when(c, shot, frame, c.step + 1)}: {named(c.fragments, where)} left the finite numbers with {len(bad) - 1} more; "
        f"{cause(c, shot, where)}"
    )


def frame_check(c: Collapse, shot: Shot, frame: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Nothing that a frame stores is other than finite, records and energies too, and nothing moves on energy that never was there."""
    bonds = c.bonds.fragment_a
    owner = {
        "break": bonds[arrays["break_bond"]], "bond": bonds, "impact": arrays["impact_fragment"][:, 0], "crush": arrays["crush_fragment"],
        "position": None, "rotation": None, "velocity": None, "angular": None,
    }
    for name, values in arrays.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(np.atleast_1d(values)))[0][0])
            rows = owner.get(name.split("_")[0], ())
            fragment = row if rows is None else int(rows[row]) if len(rows) else -1
            of = f" of {named(c.fragments, fragment)}" if fragment >= 0 else ""
            raise SimulationFailed(f"{when(c, shot, frame)}: {name}{of} is not finite")
    energy = dict(zip(Motion.LEDGER, arrays["ledger"].tolist(), strict=True))
    given = max(energy["work"] - energy["potential"], 0.0) + float(c.ledger.weight.sum()) * c.world.length_scale
    if energy["kinetic"] > ENERGY_MARGIN * given:
        moving = c.fragments.mass * np.square(arrays["velocity"].astype(float)).sum(axis=1)
        where = int(np.argmax(moving))
        raise SimulationFailed(
            f"{when(c, shot, frame)}: {energy['kinetic']:.3g} J are in motion where falling and pushes gave {given:.3g} J at most, most "
            f"of it in {named(c.fragments, where)}; {cause(c, shot, where)}"
        )


def when(c: Collapse, shot: Shot, frame: int, step: int | None = None) -> str:
    """'frame 1002, step 2 of 3 (0.028 s)'."""
    step = c.step if step is None else step
    return f"frame {frame}, step {(step - 1) % shot.steps_per_frame + 1} of {shot.steps_per_frame} ({step * c.h:.3f} s)"


def named(fragments: Fragments, fragment: int) -> str:
    """'fragment 17 (ground.column.3, concrete, 812 kg)'."""
    element = fragments.element_name[int(fragments.element[fragment])]
    material = fragments.material_name[int(fragments.material[fragment])]
    return f"fragment {fragment} ({element}, {material}, {fragments.mass[fragment]:.3g} kg)"


def suspect(c: Collapse, bad: np.ndarray) -> int:
    """Of the fragments that went wrong, the one that most likely began: pushed hardest, else fastest before, else lightest."""
    array = c.world.snapshot["body"] if c.world.snapshot else c.world.body.array
    speed = np.nan_to_num(np.linalg.norm(column_read(array["v"])[c.world.label].astype(float), axis=1), nan=np.inf, posinf=np.inf)
    pushed = np.linalg.norm(push(c.plan, max(c.step - 1, 0), c.fragments.count), axis=1)
    order = np.lexsort((bad, c.fragments.mass[bad], -speed[bad], -np.minimum(pushed[bad], 1e300)))
    return int(bad[order[0]])


@dataclass(frozen=True)
class Pressed:
    """The hardest contact of a body in the last step."""

    force: float  # [N]
    other: int  # fragment or GROUND


def cause(c: Collapse, shot: Shot, fragment: int) -> str:
    """What most likely did it, in words, with the parameter to look at."""
    pushed = max(float(np.linalg.norm(push(c.plan, step, c.fragments.count)[fragment])) for step in {max(c.step - 1, 0), c.step})
    if pushed > 10.0 * max(shot.sim.gravity, 1.0):
        return f"likely cause: a push event of {pushed:.3g} N/kg acts on it"
    mass, median = float(c.fragments.mass[fragment]), float(np.median(c.fragments.mass))
    if mass < LIGHT * median:
        return f"likely cause: it is a sliver, {mass / median:.1e} of the median mass: see the piece in the model, or raise fracture.piece"
    hit = hardest(c, fragment)
    if hit is not None:
        other = "the ground" if hit.other == GROUND else named(c.fragments, hit.other)
        return f"likely cause: its contact with {other}, {hit.force:.3g} N: do they overlap in the model? else raise sim.contact_iterations"
    return "no push, no contact and no unusual mass explains it: try sim.steps_scale = 2, and keep the shot for a report"


def hardest(c: Collapse, fragment: int) -> Pressed | None:
    """The contact that pressed a fragment's body most in the last step."""
    contacts = contacts_read(c.world, c.h)
    label = c.world.label
    touches = (label[contacts.fragment] == label[fragment]) & (contacts.fragment >= 0)
    rows = np.flatnonzero(touches.any(axis=1))
    force = np.linalg.norm(contacts.impulse[rows], axis=1) / c.h
    rows, force = rows[np.isfinite(force)], force[np.isfinite(force)]
    if not len(rows):
        return None
    worst = rows[int(np.argmax(force))]
    a, b = contacts.fragment[worst].tolist()
    return Pressed(float(force.max()), b if label[a] == label[fragment] else a)
