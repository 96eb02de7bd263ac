"""What happens to the building on purpose, bond by bond: cuts, weakening, pushes, and what a charge shatters by itself.

In: the events of a shot, fragments, bonds. Out: a Schedule, which answers for any step which bonds are cut, what share of strength
is left, and what acceleration acts. It depends on the step number alone, so a resumed run needs no memory of it.
Ground motion is in sim/ground_motion.py, the pressure of charges in sim/blast.py, bodies in sim/entry.py.

An event of frame f acts from the first step of the interval that ends with frame f: f is the first frame that shows it. `delay` times
the distance from the box's lower corner (clipped to the structure), or from a ball's centre, puts parts of it off: a rolling
sequence, a fire. Weakening and pushes fall off along that distance by `falloff`, evenly to the far end of the region.
A cut or weakening takes bonds whose centroid lies in the region and that hold at least one fragment of the listed kinds.
A cut is a drilled charge: pieces of those kinds whose centre lies in the region lose `rubble` of their size as bodies, or the building
would go on standing on its cut columns, block on block.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shot.params import AnyEvent, Charge, Event
from shot.results import GROUND, MEMBER_KINDS, Bonds, Fragments

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """Per event: kind, the bonds or fragments it acts on, the step at which each is reached, how long it lasts, and how hard."""

    kind: tuple[str, ...]
    target: tuple[np.ndarray, ...]  # bonds, or fragments of a push
    step: tuple[np.ndarray, ...]  # first step that feels it, per target
    duration: tuple[int, ...]  # [steps]
    amount: tuple[np.ndarray, ...]  # per target
    force: tuple[np.ndarray, ...]  # (3) [m/s2]


def schedule(
    events: Sequence[AnyEvent], first: int, fps: float, steps_per_frame: int, fragments: Fragments, bonds: Bonds
) -> Schedule:
    """Resolve regions, kinds and times of all events that act on bonds or members. Told are those that reach none."""
    columns: list[list] = [[], [], [], [], [], []]
    for k, event in enumerate(events):
        start = step_first(event.frame, first, steps_per_frame)
        if isinstance(event, Event):
            target, distance, share = _reached(event, fragments, bonds)
            if not len(target):
                what, kinds = "piece" if event.kind == "push" else "bond", " or ".join(event.members) or "any kind"
                log.warning("events.%d: no %s of %s lies where the %s acts: it does nothing", k, what, kinds, event.kind)
            late = np.ceil(event.delay * distance * fps * steps_per_frame - 1e-9).astype(np.int64)
            amount = (event.amount if event.kind == "weaken" else 1.0) * share
            values = event.kind, target, start + late, event.frames * steps_per_frame, amount, np.array(event.force)
        elif isinstance(event, Charge) and event.radius > 0:
            distance = np.linalg.norm(bonds.centroid - np.array(event.centre), axis=1)
            target = np.flatnonzero(distance < event.radius)
            late = (distance[target] / event.front * fps * steps_per_frame).astype(np.int64)
            values = "weaken", target, start + late, 1, event.shatter * (1.0 - distance[target] / event.radius), np.zeros(3)
        else:
            continue
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return Schedule(*(tuple(column) for column in columns))


def step_first(frame: int, first: int, steps_per_frame: int) -> int:
    """First step of the interval that ends with a frame."""
    return max(frame - 1 - first, 0) * steps_per_frame


def rubble(events: Sequence[AnyEvent], fragments: Fragments) -> np.ndarray:
    """(F) share of its size that each fragment loses as a body, because a cut will reach it."""
    lost = np.zeros(fragments.count)
    for event in events:
        if isinstance(event, Event) and event.kind == "cut":
            wanted = _of_kinds(event, fragments) & _inside(event, fragments.position)
            lost[wanted] = np.maximum(lost[wanted], event.rubble)
    return lost


def bonds_cut(plan: Schedule, step: int) -> np.ndarray:
    """Bonds that a cut reaches in this step, ascending and unique."""
    hit = [target[start == step] for kind, target, start in zip(plan.kind, plan.target, plan.step, strict=True) if kind == "cut"]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *hit]))


def strength_left(plan: Schedule, step: int, count: int) -> np.ndarray:
    """(B) share of strength left in this step; a weakening grows evenly over its duration and stays."""
    left = np.ones(count)
    for k, kind in enumerate(plan.kind):
        if kind == "weaken":
            progress = np.clip((step + 1 - plan.step[k]) / plan.duration[k], 0.0, 1.0)
            left[plan.target[k]] *= 1.0 - plan.amount[k] * progress
    return left


def push(plan: Schedule, step: int, count: int) -> np.ndarray:
    """(F, 3) [m/s2] acceleration that pushes give in this step."""
    acceleration = np.zeros((count, 3))
    for k, kind in enumerate(plan.kind):
        if kind == "push":
            active = (plan.step[k] <= step) & (step < plan.step[k] + plan.duration[k])
            acceleration[plan.target[k][active]] += plan.amount[k][active, None] * plan.force[k]
    return acceleration


def _reached(event: Event, fragments: Fragments, bonds: Bonds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bonds, or fragments of a push, that an event acts on; their distance [m] from where it starts; and what share arrives there."""
    wanted = _of_kinds(event, fragments)
    place = fragments.position
    if event.kind != "push":
        place = bonds.centroid
        wanted = wanted[bonds.fragment_a] | np.where(bonds.fragment_b == GROUND, False, wanted[bonds.fragment_b])
    target = np.flatnonzero(wanted & _inside(event, place))
    lower, upper = np.array(event.lower), np.array(event.upper)
    if event.region == "ball":
        origin = 0.5 * (lower + upper)
        part = np.sqrt((((place[target] - origin) / np.maximum(0.5 * (upper - lower), 1e-12)) ** 2).sum(axis=1))
    else:
        built = fragments.position[fragments.built]
        low, high = built.min(axis=0), built.max(axis=0)
        origin = np.clip(lower, low, high)
        part = np.linalg.norm(place[target] - origin, axis=1) / max(float(np.linalg.norm(np.clip(upper, low, high) - origin)), 1e-12)
    distance = np.linalg.norm(place[target] - origin, axis=1)
    return target, distance, 1.0 - event.falloff * np.minimum(part, 1.0)


def _of_kinds(event: Event, fragments: Fragments) -> np.ndarray:
    """(F) bool: members of the building that an event names."""
    named = [k for k, kind in enumerate(MEMBER_KINDS) if kind != "body" and (not event.members or kind in event.members)]
    return np.asarray(np.isin(fragments.kind, named))


def _inside(event: Event, place: np.ndarray) -> np.ndarray:
    """(N) bool: points (N, 3) in an event's region."""
    lower, upper = np.array(event.lower), np.array(event.upper)
    inside = ((place >= lower) & (place <= upper)).all(axis=1)
    if event.region == "ball":
        inside &= (((place - 0.5 * (lower + upper)) / np.maximum(0.5 * (upper - lower), 1e-12)) ** 2).sum(axis=1) <= 1.0
    return np.asarray(inside, bool)
