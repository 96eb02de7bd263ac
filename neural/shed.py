"""Shed: what the collapse breaks off besides the fragments, from the energy of every break, impact and crush.

In: Motion's log, Fragments, Bonds; `shot.debris`, `shot.materials`. Out: Shed: drawn pieces, grit and airborne dust, frame by frame.
The budget is energy: the share that breaks material (`shed_log.py`) buys new surface, the size law (`size_law.py`) turns surface
into mass and splits it by size (diameters in the shot file): above `visible` pieces, each drawn; between `visible` and
`dust_below` grit, one parcel for each side of an event, whose weight says how many grains it stands for; below `dust_below`
airborne dust, one entry for each event.

Mass closes for every event: pieces + grit + dust = event_mass, to the last bits of f64. The number of pieces is the law's mean,
rounded up or down by a hashed number, their sizes are stratified draws, and grit takes the rest, so no mass is lost to rounding.
It never exceeds what the energy pays for, nor, summed over the shot, `share` of the fragment. The ground sheds nothing.
A frame does not know what is still to come, so it may take its part of what is left of `limit`: two thirds in SPENDING seconds. Above that
a priority sample is kept (Duffield, Lund, Thorup 2007; pieces by r^2, grit by mass, grit at most a quarter while pieces
want the room): the weights of the kept grow so that the mass of the frame is kept, that of one event only in the mean.
`limit` 0 keeps the dust alone.

Pieces start at the rim of a crack, where they can be seen to leave, around a contact, or on a crushed fragment, in a 40 degree cone about
the way out (ejecta leave a closing gap in its plane), at the fragment's own velocity plus `spread` times the speed of the sides,
Rayleigh distributed, faster where small, slowed as a whole until kinetic energy, spin included, is at most `kinetic_share` of the event's.
Does not model: pieces shed later by other pieces, rebound inside the crack, moisture, paint or steel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from neural import size_law
from neural.shed_log import BREAK, CRUSH, IMPACT, Events, frame_events
from shot.errors import ShotError
from shot.frames import FrameFolder, FrameWriter
from shot.hashing import hashed, uniform
from shot.params import Debris, Shot
from shot.results import Bonds, Fragments, Motion, Progress, Seeds, Shed

CONE = np.tan(np.radians(40.0))  # half angle of the ejecta about the way out: 20 to 40 degrees in the sources of research/upsample.md 6.3
SPIN_KINETIC = 1.1  # kinetic energy with spin over without: 1 + 2/5 r^2 w^2 / v^2 at w = v / (2 r)
SPENDING = 1.5  # [s] in which all but 1/e of the rest of `limit` may be taken: about as long as a building of ten storeys falls
DRAWN_MOST = 50  # candidates drawn per kept piece before the smallest ones count as grit: bounds memory


@dataclass(frozen=True)
class Sides:
    """S sides of events that shed, in the order of the log: event by event, a before b."""

    event: np.ndarray  # (S) i64
    fragment: np.ndarray  # (S) i32
    velocity: np.ndarray  # (S, 3) f64 [m/s]
    identity: np.ndarray  # (S) u64
    energy: np.ndarray  # (S) f64 [J] share of the event's energy
    density: np.ndarray  # (S) f64 [kg/m3]
    fractal: np.ndarray  # (S) f64
    largest: np.ndarray  # (S) f64 [m] largest radius the budget affords
    mass: np.ndarray  # (S) f64 [kg] all it sheds


@dataclass(frozen=True)
class Grains:
    """Pieces and grit before they are put into Seeds."""

    side: np.ndarray  # (N) i64
    identity: np.ndarray  # (N) u64
    radius: np.ndarray  # (N) f64 [m], representable in f32
    weight: np.ndarray  # (N) f64, representable in f32
    mass: np.ndarray  # (N) f64 [kg] with weight


def shed(
    shot: Shot, fragments: Fragments, bonds: Bonds, motion: Motion, folder: FrameFolder, frames: Sequence[int], progress: Progress
) -> Shed:
    """Secondary pieces, grit and dust of every frame from the first to the last of `frames`, going on after those that are there."""
    span = range(shot.first, max(frames) + 1)
    done = folder.frames_done(span)
    spent, drawn, before = np.zeros(fragments.count), 0, None
    if done:
        arrays, before = folder.get_frame(span[done - 1]), motion.frame(span[done - 1])
        spent, drawn = arrays["spent"].copy(), int(arrays["drawn"])
    for frame in span[:done]:
        progress(frame)
    with FrameWriter(folder, progress) as writer:
        for frame in span[done:]:
            now = motion.frame(frame)
            events = frame_events(before or now, now, fragments, bonds, shot.debris, (frame - shot.first - 1) / shot.fps, shot.fps)
            most = int(np.ceil((shot.debris.limit - drawn) * -np.expm1(-1.0 / (SPENDING * shot.fps))))
            seeds, _ = seeds_make(shot, fragments, events, most, spent)
            before, drawn = now, drawn + len(seeds.time)
            arrays = {field.name: getattr(seeds, field.name) for field in fields(Seeds)}
            writer.put(frame, {**arrays, "spent": spent.copy(), "drawn": np.array(drawn, np.int64)})
    return Shed(folder)


def seeds_make(
    shot: Shot, fragments: Fragments, events: Events, most: int | None = None, spent: np.ndarray | None = None
) -> tuple[Seeds, np.ndarray]:
    """Seeds of a list of events, and the index into event_mass (P) i64 of each piece. Dust entries are one for each event_mass.

    `most` pieces and grit parcels, debris.limit by default. `spent` (F) [kg] is what fragments have shed before; added to in place."""
    debris = shot.debris
    most = debris.limit if most is None else most
    sides = _budgets(shot, fragments, events, np.zeros(fragments.count) if spent is None else spent)
    floor, dust_below = _piece_floor(sides, debris, most), 0.5 * debris.dust_below
    dust = sides.mass * size_law.volume_share(0.0, dust_below, 0.5 * debris.size_min, sides.largest, sides.fractal)
    pieces = _pieces(shot.seed, sides, debris, floor, sides.mass - dust, most)
    drawn = _sum(sides.event.size, pieces.side, pieces.mass)
    grit = _grit(shot.seed, sides, dust_below, floor, sides.mass - dust - drawn)
    dust = np.maximum(sides.mass - drawn - _sum(sides.event.size, grit.side, grit.mass), 0.0)

    grains = _joined(pieces, grit)
    position, way = _launch(shot.seed, events, sides, grains)
    local, dust_local = _speeds(shot.seed, events, sides, debris, grains, way, dust)
    spin = _spin(shot.seed, grains, np.linalg.norm(local, axis=1))

    shed_event = np.unique(sides.event)
    kept, weight = _thinned(shot.seed, grains, len(pieces.side), most)
    order = kept[np.lexsort((kept, grains.side[kept], events.time[sides.event[grains.side[kept]]]))]
    side = grains.side[order]
    event_dust = _sum(events.count, sides.event, dust)[shed_event]
    event_mass = _sum(events.count, sides.event, sides.mass)[shed_event]
    dust_velocity = np.stack([_sum(events.count, sides.event, dust * (sides.velocity + dust_local)[:, k]) for k in range(3)], axis=1)
    by_time = np.lexsort((shed_event, events.time[shed_event]))
    shed_event = shed_event[by_time]
    event_dust, event_mass = event_dust[by_time], event_mass[by_time]
    rank = np.zeros(events.count, np.int64)
    rank[shed_event] = np.arange(len(shed_event))
    seeds = Seeds(
        time=events.time[sides.event[side]],
        position=position[order].astype(np.float32),
        velocity=(sides.velocity[side] + local[order]).astype(np.float32),
        spin=spin[order].astype(np.float32),
        radius=grains.radius[order].astype(np.float32),
        weight=weight[order].astype(np.float32),
        material=fragments.material[sides.fragment[side]].astype(np.int16),
        source=sides.fragment[side].astype(np.int32),
        dust_time=events.time[shed_event],
        dust_position=events.position[shed_event].astype(np.float32),
        dust_velocity=(dust_velocity[shed_event] / np.maximum(event_dust, 1e-300)[:, None]).astype(np.float32),
        dust_radius=np.sqrt(4.0 * events.extent[shed_event].prod(axis=1) / np.pi).astype(np.float32),
        dust_mass=event_dust,
        event_energy=events.energy[shed_event],
        event_mass=event_mass,
    )
    return seeds, rank[sides.event[side]]


def _budgets(shot: Shot, fragments: Fragments, events: Events, spent: np.ndarray) -> Sides:
    """Mass and largest radius that each side's share of the fracture energy buys; sides share it equally. Adds the mass to `spent` (F)."""
    debris = shot.debris
    table = [getattr(shot.materials, name) for name in fragments.material_name]
    for name, material in zip(fragments.material_name, table, strict=True):
        if material.grain <= debris.size_min:
            raise ShotError(f"materials.{name}.grain = {material.grain}: want more than debris.size_min = {debris.size_min}")
    event, which = np.nonzero(events.side >= 0)
    fragment = events.side[event, which]
    sides_of_event = (events.side >= 0).sum(axis=1)
    material = fragments.material[fragment]
    column = {key: np.array([getattr(m, key) for m in table])[material] for key in ("fracture_energy", "fractal", "grain")}
    density = fragments.mass[fragment] / fragments.volume[fragment]
    area = debris.efficiency * events.fracture[event] / sides_of_event[event] / column["fracture_energy"]
    smallest = 0.5 * debris.size_min
    largest = size_law.largest_radius(area, smallest, 0.5 * column["grain"], column["fractal"])
    some = largest > smallest * (1.0 + 1e-9)
    surface = size_law.specific_surface(smallest, np.where(some, largest, 2 * smallest), column["fractal"])
    mass = np.where(some, density * area / surface, 0.0)
    allowed = _allowed(mass, fragment, events.time[event], debris.share * fragments.mass * fragments.built - spent)
    largest = np.minimum(largest, np.cbrt(allowed / density / size_law.SPHERE))
    keep = some & (largest > smallest * (1.0 + 1e-9))
    spent += _sum(fragments.count, fragment[keep], allowed[keep])
    return Sides(
        event=event[keep], fragment=fragment[keep], velocity=events.velocity[event, which][keep],
        identity=hashed(0, "side", events.identity[event] ^ hashed(0, "which", which))[keep],
        energy=(events.energy[event] / sides_of_event[event])[keep], density=density[keep], fractal=column["fractal"][keep],
        largest=largest[keep], mass=allowed[keep],
    )  # fmt: skip


def _allowed(mass: np.ndarray, fragment: np.ndarray, time: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Masses (S) cut, in the order of time, where a fragment has shed all it may."""
    order = np.lexsort((np.arange(len(mass)), time, fragment))
    total = np.cumsum(mass[order])
    start = np.flatnonzero(np.diff(fragment[order], prepend=-1))
    base = np.repeat(total[start] - mass[order][start], np.diff(start, append=len(mass)))
    left = most[fragment[order]] - (total - base - mass[order])
    allowed = np.empty_like(mass)
    allowed[order] = np.clip(left, 0.0, mass[order])
    return allowed


def _expected(sides: Sides, floor: float, smallest: float) -> np.ndarray:
    """Mean number (S) of pieces coarser than a radius."""
    high = np.maximum(sides.largest, floor)
    per_volume = size_law.count_between(floor, high, sides.fractal) / size_law.volume_between(smallest, sides.largest, sides.fractal)
    return sides.mass / sides.density * per_volume


def _piece_floor(sides: Sides, debris: Debris, most: int) -> float:
    """Smallest radius drawn as a piece: half of `visible`, more only where that would be very many more candidates than `most`."""
    smallest, low = 0.5 * debris.size_min, max(0.5 * debris.visible, 0.5 * debris.dust_below)
    most = DRAWN_MOST * max(most, 1)
    if not len(sides.mass) or _expected(sides, low, smallest).sum() <= most:
        return low
    high = float(max(sides.largest.max(), low))
    for _ in range(40):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if _expected(sides, middle, smallest).sum() > most else (low, middle)
    return high


def _pieces(seed: int, sides: Sides, debris: Debris, floor: float, heaviest: np.ndarray, most: int) -> Grains:
    """Drawn pieces: stratified radii; the largest are left out where a side's pieces would weigh more than `heaviest` (S) [kg]."""
    mean = _expected(sides, floor, 0.5 * debris.size_min) if most else np.zeros(len(sides.mass))
    count = np.floor(mean + uniform(seed, "debris/count", sides.identity)).astype(np.int64)
    side, number, identity = _spread_out(sides.identity, count)
    u = (number + uniform(seed, "debris/size", identity)) / count[side]
    radius = size_law.radius_quantile(u, floor, np.maximum(sides.largest[side], floor), sides.fractal[side])
    radius = radius.astype(np.float32).astype(float)
    mass = sides.density[side] * size_law.SPHERE * radius**3
    total = np.cumsum(mass)
    first = np.cumsum(count) - count
    before = np.where(first > 0, total[np.maximum(first - 1, 0)] if len(total) else 0.0, 0.0)
    fits = total - before[side] <= heaviest[side] * (1.0 - 1e-9)
    return Grains(side[fits], identity[fits], radius[fits], np.ones(fits.sum()), mass[fits])


def _grit(seed: int, sides: Sides, dust_below: float, floor: float, mass: np.ndarray) -> Grains:
    """One parcel for each side: a radius drawn by mass from the grit's range, and the weight that carries all its mass."""
    side = np.flatnonzero((mass > 0) & (sides.largest > dust_below))
    upper = np.minimum(sides.largest[side], floor)
    identity = hashed(0, "grit", sides.identity[side])
    u, lower = uniform(seed, "debris/grit", identity), np.minimum(dust_below, upper)
    radius = size_law.radius_mass_quantile(u, lower, upper, sides.fractal[side])
    radius = radius.astype(np.float32).astype(float)
    one = sides.density[side] * size_law.SPHERE * radius**3
    weight = (mass[side] / one).astype(np.float32).astype(float)
    return Grains(side, identity, radius, weight, weight * one)


def _launch(seed: int, events: Events, sides: Sides, grains: Grains) -> tuple[np.ndarray, np.ndarray]:
    """Where each grain starts (N, 3) [m] and the unit direction (N, 3) it leaves in."""
    event = sides.event[grains.side]
    kind, n, t1, extent = events.kind[event][:, None], events.normal[event], events.axis[event], events.extent[event]
    t2 = np.cross(n, t1)
    u, v, w, z = (uniform(seed, "debris/place", grains.identity, lane)[:, None] for lane in range(4))
    h1, h2 = extent[:, :1], extent[:, 1:]

    # rim of the rectangle, by length: the first share of u runs along t1 at +-h2, the rest along t2 at +-h1
    along = h1 / (h1 + h2)
    sign = np.where(v < 0.5, -1.0, 1.0)
    on_first = u < along
    slide = np.where(on_first, 2.0 * u / np.maximum(along, 1e-12) - 1.0, 2.0 * (u - along) / np.maximum(1.0 - along, 1e-12) - 1.0)
    rim = np.where(on_first, slide * h1 * t1 + sign * h2 * t2, sign * h1 * t1 + slide * h2 * t2)
    rim_out = np.where(on_first, sign * t2, sign * t1)

    # half disc in front of the body
    angle = (2.0 * u - 1.0) * np.pi / 3.0
    fan_out = np.cos(angle) * t1 + np.sin(angle) * t2
    fan = fan_out * h1 * np.sqrt(v)

    # sphere of the fragment's size
    height, turn = 2.0 * u - 1.0, 2.0 * np.pi * v
    ball_out = np.concatenate([np.sqrt(1 - height**2) * np.cos(turn), height, np.sqrt(1 - height**2) * np.sin(turn)], axis=1)

    out = np.select([kind == BREAK, kind == IMPACT, kind == CRUSH], [rim_out, fan_out, ball_out])
    offset = np.select([kind == BREAK, kind == IMPACT, kind == CRUSH], [rim, fan, h1 * ball_out])
    # uniform over the disc that the cone cuts at unit distance
    across = np.cross(out, np.where(np.abs(out[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    other = np.cross(out, across)
    way = out + CONE * np.sqrt(w) * (np.cos(2.0 * np.pi * z) * across + np.sin(2.0 * np.pi * z) * other)
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    way[:, 1] = np.where(events.ground[event], np.abs(way[:, 1]), way[:, 1])
    radius = grains.radius[:, None]
    position = events.position[event] + offset + out * radius
    position[:, 1] = np.maximum(position[:, 1], grains.radius)
    return position, way


def _speeds(
    seed: int, events: Events, sides: Sides, debris: Debris, grains: Grains, way: np.ndarray, dust: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Velocities on top of the inherited one: of grains (N, 3) and of each side's dust (S, 3) [m/s], within the kinetic budget."""
    scale = debris.spread * events.speed[sides.event]
    rayleigh = np.sqrt(-np.log(uniform(seed, "debris/speed", grains.identity)))
    speed = scale[grains.side] * rayleigh * (grains.radius / (0.5 * debris.visible)) ** -debris.falloff
    # the dust of a hit is blown out of the gap; that of a crack or a crushed piece leaves on all sides alike
    blown = np.where((events.kind[sides.event] == IMPACT)[:, None], 0.5 * events.axis[sides.event], 0.0) * scale[:, None]
    kinetic = 0.5 * SPIN_KINETIC * _sum(len(sides.mass), grains.side, grains.mass * speed**2)
    kinetic += 0.5 * dust * np.einsum("ij,ij->i", blown, blown)
    slow = np.sqrt(np.minimum(1.0, debris.kinetic_share * sides.energy / np.maximum(kinetic, 1e-300)))
    return way * (speed * slow[grains.side])[:, None], blown * slow[:, None]


def _spin(seed: int, grains: Grains, speed: np.ndarray) -> np.ndarray:
    """Spin (N, 3) [rad/s] about a random axis, with a rim speed of half the piece's own."""
    height = 2.0 * uniform(seed, "debris/spin", grains.identity, 0) - 1.0
    turn = 2.0 * np.pi * uniform(seed, "debris/spin", grains.identity, 1)
    flat = np.sqrt(1.0 - height**2)
    return np.stack([flat * np.cos(turn), height, flat * np.sin(turn)], axis=1) * (speed / (2.0 * grains.radius))[:, None]


def _thinned(seed: int, grains: Grains, piece_count: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices kept, and the weight of every grain: at most `limit`, the mass of pieces and of grit each as before."""
    grit_count = len(grains.side) - piece_count
    grit_kept = min(grit_count, max(limit // 4, limit - piece_count))
    weight = grains.weight.copy()
    kept = []
    for part, most, importance in (
        (np.arange(piece_count), limit - grit_kept, grains.radius**2),
        (np.arange(piece_count, len(grains.side)), grit_kept, grains.mass),
    ):
        if len(part) <= most:
            kept.append(part)
            continue
        priority = importance[part] / uniform(seed, "debris/thin", grains.identity[part])
        ranked = part[np.argsort(-priority, kind="stable")]
        stay = np.sort(ranked[:most])
        threshold = np.sort(priority)[len(part) - most - 1]
        grow = np.maximum(1.0, threshold / importance[stay])
        mass, some = grains.mass[stay] * grow, grow > 1.0
        wanted = grains.mass[part].sum() - mass[~some].sum()
        grow[some] *= wanted / mass[some].sum() if some.any() else 1.0
        weight[stay] *= grow
        kept.append(stay)
    return np.concatenate(kept), weight


def _joined(a: Grains, b: Grains) -> Grains:
    return Grains(**{f.name: np.concatenate([getattr(a, f.name), getattr(b, f.name)]) for f in fields(Grains)})


def _spread_out(identity: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For counts (S): the side, the number within it and a u64 identity of each of the sum(count) items."""
    side = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(side)) - np.repeat(np.cumsum(count) - count, count)
    return side, number, hashed(0, "piece", identity[side] ^ hashed(0, "number", number))


def _sum(size: int, index: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Sums (size) of values by index, added in the order given."""
    return np.bincount(index, weights=value, minlength=size)
