"""One time step of a collapse: the whole physics, in order.

In: a Collapse (sim/collapse.py). Out: the same, h later, with what broke, hit and crushed in its records.

A rigid cluster that hits the ground would stop dead, all of it, even where the next instant tears it apart. So breaking is decided inside
the step: solve contact with the clusters as they are, stress them with the contact forces, break the worst bonds, and, where a cluster
came apart, take the step back and solve it again with the parts. A part whose support gave way keeps its momentum.
"""

from __future__ import annotations

import numpy as np

from shot.results import BOND_BROKEN, BOND_INTACT, GROUND
from sim.blast import blast_force, blast_until
from sim.bond import bonds_fail, overloaded, stiffness_left
from sim.cluster import bonds_inside, clusters, hinges_between
from sim.collapse import Collapse
from sim.entry import arrive, enter, entry_until, fixed_at, lead, work_done
from sim.event import bonds_cut, push, strength_left
from sim.ground_motion import ground_acceleration, ground_until
from sim.joint import Joints, joints_read, joints_set
from sim.record import Broken, breaks_of, crushes_of, impacts_of
from sim.respond import Response, accept, body_loads, body_motion, contact_loads, load_changed, respond, sway_given, wake
from sim.solve import contact_step
from sim.state import contacts_read, state_restore, state_snapshot
from sim.stress import bond_strains, lattice_soften
from sim.world import bodies_kick, bodies_rouse, bodies_split, energy_read, forces_read, fragments_read

HINGE_SHARE = 1 / 3  # of each yield force: the joint's rows yield one by one, and |N|/N_y + |M1|/M1_y + |M2|/M2_y must stay below 1


def step(c: Collapse) -> bool:
    """Advance by c.h. False if nothing moved, broke or rang."""
    broken = Broken()
    events_act(c, broken)  # cuts and weakening that are due
    pushed = push(c.plan, c.step, c.fragments.count)
    if c.idle is not None and not c.touched.any() and np.array_equal(pushed, c.idle):
        c.step += 1
        return False
    hinges_tear(c, broken)  # bars that were bent or pulled too far
    given, kicked = regroup(c)  # what hangs together now is one body
    c.elastic.v -= given
    driven = drive(c, pushed)  # pushes, ground motion, blasts; colliders get their speed
    state_snapshot(c.world)
    answers, asked, regrouped, again = [], c.elastic.load.copy(), True, 0.0
    c.touched |= c.elastic.lively
    for round_ in range(c.rounds + 1):
        if regrouped:
            move(c, driven)  # contact, joints, gravity: all bodies by h
            load = loads(c, driven)
        response = strain(c, load, asked, answers)  # the lattice of every cluster that is not at peace
        if response is None:
            break
        answers.append(response)
        if round_ == c.rounds:
            c.counts.capped += overloaded(c.section, c.breakage, response.bond, response.strain)
            break
        if not fail(c, response, broken):  # worst first
            break
        regrouped = apart(c)
        if regrouped:
            state_restore(c.world)
            _, again = regroup(c)
    settle(c, answers, load)
    c.ledger.add(work=kicked + again)  # that loads had done on the sway
    write_down(c, broken)
    c.step += 1
    come_in(c)  # bodies whose moment it is
    c.idle = pushed if c.world.still is not None and not (answers or broken.bond or directed(c)) else None
    return c.idle is None


def events_act(c: Collapse, broken: Broken) -> None:
    """Cut and weaken what the schedule reaches in this step."""
    cut = bonds_cut(c.plan, c.step)
    cut = cut[c.breakage.state[cut] != BOND_BROKEN]
    part(c, cut, broken)
    strength = strength_left(c.plan, c.step, c.bonds.count)
    changed = np.flatnonzero(strength != c.breakage.strength)
    touch(c, changed)
    c.breakage.strength = strength
    if np.isin(changed, c.hinge).any():
        joints_set(c.world, joints_of(c, c.hinge))


def hinges_tear(c: Collapse, broken: Broken) -> None:
    """Break hinges between bodies whose bars were turned or pulled beyond what they bear."""
    joints = joints_read(c.world)
    turned, opened = np.linalg.norm(joints.plastic[:, 3:], axis=1), np.linalg.norm(joints.plastic[:, :3], axis=1)
    torn = (turned > c.sim.hinge_rotation) | (opened > c.sim.hinge_opening)
    torn &= c.breakage.state[joints.bond] != BOND_BROKEN
    part(c, joints.bond[torn].astype(np.int64), broken)


def regroup(c: Collapse) -> tuple[np.ndarray, float]:
    """Give the solver the bodies and joints that the bonds make now; the sway (F, 6) that those took along which came loose, and its
    energy [J]."""
    old, old_free = c.world.label, ~c.world.fixed
    c.label, c.held = clusters(c.bonds, c.breakage.state, c.fragments.count)
    c.inside = bonds_inside(c.bonds, c.breakage.state, c.label, c.held)
    bodies_split(c.world, c.label, c.held | fixed_at(c.entries, c.step, c.fragments.count))
    given = sway_given(c.elastic.v, c.particle_speed, c.fragments, old, old_free, c.label, ~c.world.fixed)
    kicked = bodies_kick(c.world, *body_motion(given, c.label, c.fragments.mass)) if given.any() else 0.0
    hinge = hinges_between(c.bonds, c.breakage.state, c.inside)
    if not np.array_equal(hinge, c.hinge):
        c.hinge = hinge
        joints_set(c.world, joints_of(c, hinge))
    return given, kicked


def joints_of(c: Collapse, bond: np.ndarray) -> Joints:
    """Bonds between bodies of which only the bars are left."""
    limit = HINGE_SHARE * c.section.bars[bond] * np.maximum(c.breakage.strength[bond], 1e-3)[:, None]
    b = c.bonds
    # shear at the hinge bends the next section over the length of the piece: it must not yield there either
    limit[:, 1:3] = np.minimum(limit[:, 1:3], limit[:, :3:-1] / b.length[bond, None])
    return Joints(
        bond.astype(np.int32), b.fragment_a[bond], b.fragment_b[bond], b.centroid[bond], b.normal[bond], b.axis[bond],
        c.section.bar_stiffness[bond], limit,
    )


def directed(c: Collapse) -> bool:
    """True until all that acts on the building beside pushes is over: before that, every step is taken."""
    return c.step <= 1 + max(ground_until(c.ground), blast_until(c.blasts), entry_until(c.entries))


def drive(c: Collapse, pushed: np.ndarray) -> np.ndarray:
    """(F, 3) [m/s2] what acts on every fragment in this step beside gravity, pushes (F, 3) included; sleepers that feel it wake.

    Ground motion and blasts reach the lattice however little of it each fragment feels: it adds up."""
    shaken = ground_acceleration(c.ground, c.step)
    driven = pushed - shaken
    c.touched |= c.held & bool(shaken.any() or ground_acceleration(c.ground, c.step - 1).any())
    if c.blasts.event:
        poses = fragments_read(c.world)
        blast = blast_force(c.blasts, c.step, poses.position, poses.rotation) / c.fragments.mass[:, None]
        c.touched |= blast.any(axis=1)
        driven += blast
    if driven.any():
        bodies_rouse(c.world, np.abs(driven).max(axis=1) > 0.0)
    lead(c.world, c.entries, c.step)
    return driven


def move(c: Collapse, driven: np.ndarray) -> None:
    """All bodies by h under contact, joints, gravity and what drives them (F, 3)."""
    contact_step(c.world, c.h, c.settings, driven if driven.any() else None)
    arrive(c.world, c.entries, c.step)
    c.counts.contacts += 1


def come_in(c: Collapse) -> None:
    """Free the bodies that come in before the next step, and put them at their start."""
    if (c.entries.step == c.step).any():
        bodies_split(c.world, c.label, c.held | fixed_at(c.entries, c.step, c.fragments.count))
        c.ledger.add(work=enter(c.world, c.entries, c.step))


def loads(c: Collapse, driven: np.ndarray) -> np.ndarray:
    """(F, 6) all that loads the lattice, in rest axes."""
    poses = fragments_read(c.world)
    force, moment = forces_read(c.world)
    body = body_loads(c.fragments, c.label, c.held, poses.rotation, poses.angular_velocity, c.sim.gravity, driven)
    return body + contact_loads(force, moment, poses.rotation)


def strain(c: Collapse, load: np.ndarray, asked: np.ndarray, answers: list[Response]) -> Response | None:
    """Solve the lattice of every cluster that rings, that was touched, or whose load differs from what was last `asked` (F, 6)."""
    f = c.fragments
    changed = load_changed(load, asked, c.capacity, f.size, c.label, c.held, f.mass, c.sim.gravity)
    wanted = wake(c.label, c.touched | changed)
    c.touched[:] = False
    asked[wanted] = load[wanted]
    response = respond(c.lattice, c.elastic, c.label, c.held, c.inside, wanted, load, c.h, c.sim, c.sim.dynamic, answers)
    if response is not None:
        c.counts.solves += 1
        c.counts.iterations += response.iterations
        c.counts.stalled += response.stalled
    return response


def fail(c: Collapse, response: Response, broken: Broken) -> bool:
    """Soften, hinge and break the worst bonds of a response. False if all hold."""
    failure = bonds_fail(c.section, c.breakage, c.bonds, response.bond, response.strain, c.sim, c.fragments.count)
    c.ledger.add(fracture=failure.fracture)
    changed = failure.changed
    if not len(changed):
        return False
    stored = 0.5 * (c.lattice.stiffness[response.bond] * response.strain**2).sum(axis=1)
    broken.note(failure.broken, stored[np.searchsorted(response.bond, failure.broken)])
    broken.crush(failure.crushed, c.section.crushing[failure.crushed])
    lattice_soften(c.lattice, changed, stiffness_left(c.section, c.breakage, changed))
    touch(c, changed)
    return True


def apart(c: Collapse) -> bool:
    """True if the bonds now make other bodies, or other joints, than the solver has."""
    label, held = clusters(c.bonds, c.breakage.state, c.fragments.count)
    inside = bonds_inside(c.bonds, c.breakage.state, label, held)
    hinge = hinges_between(c.bonds, c.breakage.state, inside)
    return not (np.array_equal(label, c.label) and np.array_equal(held, c.held) and np.array_equal(hinge, c.hinge))


def settle(c: Collapse, answers: list[Response], load: np.ndarray) -> None:
    """Keep what the lattice answered."""
    accept(c.elastic, answers, load, c.strong, c.h, c.sim.dynamic)


def write_down(c: Collapse, broken: Broken) -> None:
    """Book the step's energies and record breaks, impacts and crushes."""
    poses = fragments_read(c.world)
    time = (c.step + 1) * c.h
    contacts = contacts_read(c.world, c.h)
    crushes, taken = crushes_of(broken, contacts, c.bonds, c.fragments, c.notice, time)
    c.records.breaks.append(breaks_of(broken, c.bonds, c.fragments, poses, time))
    c.records.impacts.append(impacts_of(contacts, c.notice, time))
    c.records.crushes.append(crushes)
    c.ledger.take(energy_read(c.world))
    c.ledger.add(crushing=taken, contact=-taken, work=work_done(c.world, c.entries, c.step))


def part(c: Collapse, bond: np.ndarray, broken: Broken) -> None:
    """Break bonds outright, with the elastic energy they hold."""
    if not len(bond):
        return
    stored = 0.5 * (c.lattice.stiffness[bond] * bond_strains(c.lattice, bond, c.elastic.u) ** 2).sum(axis=1)
    broken.note(bond, np.where(c.inside[bond], stored, 0.0))
    c.ledger.add(fracture=float(np.sum(c.section.fracture[bond[c.breakage.state[bond] == BOND_INTACT]])))
    c.breakage.state[bond] = BOND_BROKEN
    c.breakage.damage[bond] = 1.0
    lattice_soften(c.lattice, bond, np.zeros((len(bond), 6)))
    touch(c, bond)


def touch(c: Collapse, bond: np.ndarray) -> None:
    """Mark the fragments of bonds: their lattice has changed."""
    c.touched[c.bonds.fragment_a[bond]] = True
    b = c.bonds.fragment_b[bond]
    c.touched[b[b != GROUND]] = True
