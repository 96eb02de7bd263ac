"""Seeds: the size law against quadrature, mass and energy bounds of every event, independence of events."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from box_motion import boxes, chain, frame_arrays, motion_write
from scipy import integrate, stats

from neural import size_law
from neural.shed import seeds_make, shed
from neural.shed_log import Events, frame_events
from shot.frames import FrameFolder
from shot.hashing import uniform
from shot.params import Shot
from shot.results import GROUND, Bonds, Fragments, Motion, Seeds, Shed, progress_silent

FPS = 24.0


def shot_with(**debris) -> Shot:
    """A shot with changed debris parameters, checked."""
    return Shot.model_validate({"debris": debris})


def log_frames(rng: np.random.Generator, fragment_count: int, events: int) -> list[dict[str, np.ndarray]]:
    """A rest frame and two frames with breaks, impacts and crushes of widely spread energies."""
    centre = np.stack([np.arange(fragment_count) * 1.2, np.full(fragment_count, 3.0), np.zeros(fragment_count)], axis=1)
    frames = [frame_arrays(centre)]
    for k in (1, 2):
        time = (k - 1 + rng.random(events)) / FPS
        velocity = rng.normal(0, 5, (fragment_count, 3))
        bond = rng.permutation(fragment_count)[: min(events, fragment_count)] if k == 1 else np.zeros(0, int)
        a = rng.integers(0, fragment_count, events)
        b = np.where(rng.random(events) < 0.4, GROUND, (a + 1) % fragment_count)
        frames.append(
            frame_arrays(
                centre + k, velocity=velocity,
                break_time=time[: len(bond)] * 0.9995, break_bond=bond, break_energy=10 ** rng.uniform(-1, 4, len(bond)),
                break_position=centre[bond], break_normal=np.tile([0, 1, 0], (len(bond), 1)),
                break_velocity=rng.normal(0, 1, (len(bond), 3)),
                impact_time=time, impact_fragment=np.stack([a, b], axis=1), impact_position=centre[a] + [0.5, -0.5, 0.2],
                impact_normal=np.tile([0, -1, 0], (events, 1)), impact_impulse=np.ones(events),
                impact_energy=10 ** rng.uniform(0, 5, events), impact_velocity=rng.normal(0, 6, (events, 3)),
                crush_time=time[:3] * 0.999, crush_fragment=a[:3], crush_energy=10 ** rng.uniform(3, 6, 3),
            )
        )  # fmt: skip
    return frames


def events_read(motion: Motion, fragments: Fragments, bonds: Bonds, frames: range) -> Events:
    """The events of several frames."""
    pairs = [(motion.frame(max(frame - 1, 1001)), motion.frame(frame), (frame - 1002) / FPS) for frame in frames]
    parts = [frame_events(before, now, fragments, bonds, Shot().debris, start, FPS) for before, now, start in pairs]
    return Events(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Events)})


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Forty boxes of two materials and some 200 events: fragments, bonds, motion and events."""
    rng = np.random.default_rng(5)
    fragments = boxes(np.zeros((40, 3)), rng.uniform(0.4, 1.5, (40, 3)), material=("concrete", "brick"))
    bonds = chain(fragments)
    motion = motion_write(tmp_path_factory.mktemp("motion"), log_frames(rng, 40, 80))
    return fragments, bonds, motion, events_read(motion, fragments, bonds, range(1001, 1004))


@pytest.mark.parametrize("fractal", [1.9, 2.0, 2.5, 2.89])
def test_size_law_integrals(fractal):
    """Count, surface and volume of n(r) = D r^(-D-1) equal numeric quadrature to 1e-9, also through D = 2."""
    lower, upper = 3e-4, 0.05
    for function, moment in (
        (size_law.count_between, lambda r: 1.0),
        (size_law.surface_between, lambda r: 4 * np.pi * r**2),
        (size_law.volume_between, lambda r: 4 / 3 * np.pi * r**3),
    ):
        numeric, _ = integrate.quad(
            lambda x, m=moment: m(np.exp(x)) * fractal * np.exp(-fractal * x), np.log(lower), np.log(upper), epsrel=1e-12
        )
        assert function(lower, upper, fractal) == pytest.approx(numeric, rel=1e-9)


def test_worked_example():
    """1 kJ at eta 0.1 and 2 gamma = 100 J/m2 makes 1 m2; D = 2.5, 0.1 to 100 mm: S/V = 949 1/m, so 2.5 kg of concrete (upsample.md 5)."""
    surface = size_law.specific_surface(1e-4, 0.1, 2.5)
    assert surface == pytest.approx(949, rel=1e-3)
    assert 2400 * 0.1 * 1000 / 100 / surface == pytest.approx(2.5, rel=0.02)
    assert size_law.volume_share(0, 4e-3, 1e-4, 0.1, 2.5) == pytest.approx((4e-3**0.5 - 1e-4**0.5) / (0.1**0.5 - 1e-4**0.5), rel=1e-12)


@pytest.mark.parametrize("fractal", [2.0, 2.5])
def test_inverse_distribution(fractal):
    """20 000 hashed draws follow F(r) = (a^-D - r^-D) / (a^-D - b^-D), and by mass r^(3-D): Kolmogorov-Smirnov p > 1 %."""
    u, (a, b) = uniform(7, "test", np.arange(20000)), (0.01, 0.05)
    by_count = stats.kstest(size_law.radius_quantile(u, a, b, fractal), lambda r: (a**-fractal - r**-fractal) / (a**-fractal - b**-fractal))
    k = 3 - fractal
    by_mass = stats.kstest(size_law.radius_mass_quantile(u, a, b, fractal), lambda r: (r**k - a**k) / (b**k - a**k))
    assert by_count.pvalue > 0.01 and by_mass.pvalue > 0.01


def test_largest_radius_is_the_whole_budget():
    """The largest piece weighs what its area affords in all: V(r) = A / (S/V); large areas stop at the grain, tiny ones at the smallest."""
    area = np.array([1e-12, 1e-4, 0.1, 1e4])
    radius = size_law.largest_radius(area, 5e-6, 0.05, 2.5)
    middle = slice(1, 3)
    volume = area[middle] / size_law.specific_surface(5e-6, radius[middle], 2.5)
    assert volume == pytest.approx(4 / 3 * np.pi * radius[middle] ** 3, rel=1e-9)
    assert radius[0] == pytest.approx(5e-6) and radius[3] == pytest.approx(0.05)


def mass_of(seeds: Seeds, fragments, event: np.ndarray, count: int) -> np.ndarray:
    """Mass (E) of pieces and grit by event."""
    density = (fragments.mass / fragments.volume)[seeds.source]
    one = density * 4 / 3 * np.pi * seeds.radius.astype(float) ** 3 * seeds.weight
    return np.bincount(event, weights=one, minlength=count)


def test_mass_closes_for_every_event(scene):
    """pieces + grit + dust = event_mass within f64 rounding, for every event, and dust is never negative."""
    fragments, _, _, events = scene
    seeds, event = seeds_make(Shot(), fragments, events)
    total = mass_of(seeds, fragments, event, len(seeds.event_mass)) + seeds.dust_mass
    assert total == pytest.approx(seeds.event_mass, rel=1e-12)
    assert (seeds.dust_mass >= 0).all() and (seeds.event_mass > 0).all()
    assert len(seeds.radius) > 300 and (seeds.radius > 0.01).sum() > 100


def test_mass_is_what_the_energy_buys(scene):
    """Free of caps, an event's mass is rho A_new / (S/V) on its own size range and never makes more surface than eta E / (2 gamma)."""
    fragments, _, _, events = scene
    shot = shot_with(share=1.0)
    single = pick(events, np.flatnonzero((events.side[:, 1] < 0) & (events.kind == 1)))
    seeds, _ = seeds_make(shot, fragments, single)
    for k in range(single.count):
        material = getattr(shot.materials, fragments.material_name[fragments.material[single.side[k, 0]]])
        area = single.fracture[k] / material.fracture_energy
        largest = float(size_law.largest_radius(area, 5e-6, material.grain / 2, material.fractal))
        mass = 2400 * area / size_law.specific_surface(5e-6, largest, material.fractal)
        row = np.argmin(np.abs(seeds.dust_time - single.time[k]))
        assert seeds.event_mass[row] == pytest.approx(mass, rel=1e-6)


def test_energy_that_breaks_material(scene):
    """Cracks spend min(E, max(G_f A, comminution E)); impacts and crushing the comminution share."""
    _, bonds, _, events = scene
    breaks = events.kind == 0
    e = events.energy[breaks]
    assert events.fracture[breaks] == pytest.approx(np.minimum(e, np.maximum(20.0, 0.02 * e)), rel=1e-6)
    assert events.fracture[~breaks] == pytest.approx(0.02 * events.energy[~breaks], rel=1e-6)


def test_points_of_a_hit_are_one_event(tmp_path):
    """An impact logged as eight points over the steps of a frame sheds what one point of their energy does; a far point is another hit."""
    fragments = boxes([[0, 0.5, 0]], [[1, 1, 1]])
    seen = []
    for name, n, away in (("one", 1, 0), ("eight", 8, 0), ("two", 8, 1)):
        offset = 0.01 * np.arange(n)[:, None] * [1, 0, 0] + [0.3, 0, 0.3]
        offset[: n // 2 * away] *= -1
        log = {
            "impact_time": (0.2 + 0.1 * np.arange(n)) / FPS, "impact_fragment": [[0, GROUND]] * n, "impact_position": offset,
            "impact_normal": [[0, -1, 0]] * n, "impact_impulse": np.ones(n), "impact_energy": np.full(n, 8e3 / n),
            "impact_velocity": [[1, -3, 0]] * n,
        }  # fmt: skip
        motion = motion_write(tmp_path / name, [frame_arrays(fragments.position), frame_arrays(fragments.position, **log)])
        events = events_read(motion, fragments, chain(fragments), range(1001, 1003))
        seen.append((events, seeds_make(Shot(), fragments, events)[0]))
    (one, shed_one), (eight, shed_eight), (two, _) = seen
    assert (one.count, eight.count, two.count) == (1, 1, 2)
    assert one.identity == eight.identity and shed_one.event_mass == pytest.approx(shed_eight.event_mass, rel=1e-6)
    assert shed_one.radius == pytest.approx(shed_eight.radius, rel=1e-4)


def test_kinetic_budget(scene):
    """Debris carries at most kinetic_share of the event's energy relative to the fragment, spin included; some events reach the limit."""
    fragments, _, _, events = scene
    shot = shot_with(spread=5.0, limit=200000)
    single = pick(events, np.flatnonzero(events.side[:, 1] < 0))
    seeds, event = seeds_make(shot, fragments, single)
    order = np.argsort(single.time, kind="stable")
    inherited = single.velocity[order, 0]
    density = (fragments.mass / fragments.volume)[seeds.source]
    mass = density * 4 / 3 * np.pi * seeds.radius.astype(float) ** 3 * seeds.weight
    speed2 = np.sum((seeds.velocity - inherited[event]) ** 2, axis=1) + 0.4 * (seeds.radius * np.linalg.norm(seeds.spin, axis=1)) ** 2
    dust2 = np.sum((seeds.dust_velocity - inherited) ** 2, axis=1)
    kinetic = np.bincount(event, weights=0.5 * mass * speed2, minlength=len(order)) + 0.5 * seeds.dust_mass * dust2
    ratio = kinetic / (0.1 * seeds.event_energy)
    assert ratio.max() < 1.0001 and ratio.max() > 0.98


def test_fragment_sheds_no_more_than_its_share(scene):
    """Over the shot no fragment loses more than debris.share of its mass, and the cap binds here."""
    fragments, _, _, events = scene
    single = pick(events, np.flatnonzero(events.side[:, 1] < 0))
    most = 1e-4
    seeds, _ = seeds_make(shot_with(share=most, efficiency=10.0), fragments, single)
    free, _ = seeds_make(shot_with(share=1.0, efficiency=10.0), fragments, single)
    fragment = single.side[np.argsort(single.time, kind="stable"), 0]
    time = np.sort(single.time)
    row = np.searchsorted(time, seeds.dust_time)
    shed_mass = np.bincount(fragment[row], weights=seeds.event_mass, minlength=fragments.count)
    assert (shed_mass <= most * fragments.mass * (1 + 1e-9)).all()
    assert free.event_mass.sum() > 2 * seeds.event_mass.sum()


def pick(events: Events, keep: np.ndarray) -> Events:
    """A selection of events."""
    return Events(**{f.name: getattr(events, f.name)[keep] for f in fields(Events)})


def test_one_event_does_not_change_the_others(scene):
    """Seeds of the other events are the same bits with and without one more event, wherever it stands in the log."""
    fragments, _, _, events = scene
    shot = shot_with(share=1.0, limit=1000000)
    all_seeds, event = seeds_make(shot, fragments, events)
    gone = 17
    fewer, _ = seeds_make(shot, fragments, pick(events, np.delete(np.arange(events.count), gone)))
    rank = np.flatnonzero(all_seeds.dust_time == events.time[gone])[0]
    stay = event != rank
    assert 0 < stay.sum() < len(stay)
    for name in ("time", "position", "velocity", "spin", "radius", "weight", "source"):
        assert np.array_equal(getattr(all_seeds, name)[stay], getattr(fewer, name)), name


def test_limit_keeps_the_mass(scene):
    """With a limit, at most that many entries remain and carry the mass of all; the largest pieces keep weight 1."""
    fragments, _, _, events = scene
    free, free_event = seeds_make(shot_with(limit=1000000), fragments, events)
    limit = len(free.time) // 2
    few, few_event = seeds_make(shot_with(limit=limit), fragments, events)
    assert len(few.time) == limit
    assert mass_of(few, fragments, few_event, 1000).sum() == pytest.approx(mass_of(free, fragments, free_event, 1000).sum(), rel=1e-6)
    assert few.weight[np.argmax(few.radius)] == 1.0 and few.radius.max() == free.radius.max()
    assert np.array_equal(few.dust_mass, free.dust_mass)
    none, _ = seeds_make(shot_with(limit=0), fragments, events)
    assert len(none.time) == 0 and none.dust_mass.sum() > 0


def test_number_of_pieces_follows_the_law(scene):
    """Over many events the number of drawn pieces is the law's mean within 3 %, though single events round up or down."""
    fragments, _, _, events = scene
    one = pick(events, np.flatnonzero((events.kind == 0) & (events.side[:, 1] >= 0))[:1])
    many = Events(**{f.name: np.repeat(getattr(one, f.name), 4000, axis=0) for f in fields(Events)})
    many = replace(many, identity=np.arange(4000, dtype=np.uint64), energy=np.full(4000, 30.0), fracture=np.full(4000, 30.0))
    heavy = replace(fragments, material=np.zeros_like(fragments.material), mass=fragments.volume * 2400 * 1.0)
    seeds, _ = seeds_make(shot_with(share=1.0, limit=1000000), heavy, replace(many, side=many.side * 0 + [0, GROUND]))
    area = 30.0 / 100.0
    largest = float(size_law.largest_radius(area, 5e-6, 0.05, 2.5))
    volume = area / size_law.specific_surface(5e-6, largest, 2.5)
    mean = volume / size_law.volume_between(5e-6, largest, 2.5) * size_law.count_between(0.01, largest, 2.5)
    drawn = (seeds.radius >= 0.01).sum()
    assert 0.2 < mean < 5
    assert drawn == pytest.approx(4000 * mean, rel=0.03)


def test_place_and_direction(scene):
    """Pieces of a crack start at the rim of its polygon and leave outwards within 40 degrees; nothing starts below the ground."""
    fragments, _, _, events = scene
    one = pick(events, np.flatnonzero((events.kind == 0) & (events.side[:, 1] >= 0))[:1])
    one = replace(one, energy=np.array([1e6]), fracture=np.array([2e4]), velocity=np.zeros((1, 2, 3)), side=one.side * 0 + [0, GROUND])
    seeds, _ = seeds_make(shot_with(share=1.0), fragments, one)
    arm = seeds.position - one.position[0]
    half = np.sqrt(0.2) / 2
    flat = np.abs(arm[:, [0, 2]]).max(axis=1) - seeds.radius
    assert flat == pytest.approx(half, abs=1e-5)
    out = np.where(np.abs(arm[:, :1]) > np.abs(arm[:, 2:]), np.sign(arm[:, :1]) * [1, 0, 0], np.sign(arm[:, 2:]) * [0, 0, 1])
    cosine = np.sum(seeds.velocity * out, axis=1) / np.linalg.norm(seeds.velocity, axis=1)
    assert cosine.min() > np.cos(np.radians(40)) - 1e-5 and cosine.min() < 0.8
    grounded = pick(events, np.flatnonzero(events.ground))
    on_ground, _ = seeds_make(Shot(), fragments, replace(grounded, position=grounded.position * [1, 0, 1]))
    assert (on_ground.position[:, 1] >= on_ground.radius * 0.999).all()


def test_stage_resumes_and_repeats(scene, tmp_path):
    """The stage gives sorted seeds; made frame by frame, gone on with, or at once, they are the same bytes."""
    fragments, bonds, motion, _ = scene
    once, parts, shot = FrameFolder(tmp_path / "a"), FrameFolder(tmp_path / "b"), shot_with(share=1e-5, efficiency=10.0, limit=500)
    seeds = shed(shot, fragments, bonds, motion, once, range(1001, 1004), progress_silent).until(1001, 1003)
    for frame in (1001, 1002, 1003, 1003):
        shed(shot, fragments, bonds, motion, parts, [frame], progress_silent)
    assert len(seeds.time) and (np.diff(seeds.time) >= 0).all() and (np.diff(seeds.dust_time) >= 0).all()
    for frame in (1001, 1002, 1003):
        assert (once.path / f"frame.{frame}.npz").read_bytes() == (parts.path / f"frame.{frame}.npz").read_bytes()


def test_spent_and_drawn_count_over_frames(scene, tmp_path):
    """`spent` sums to the mass shed and binds at debris.share across frames; a frame takes its part of what is left of the limit."""
    fragments, bonds, motion, _ = scene
    share, limit, folder = 1e-5, 500, FrameFolder(tmp_path / "a")

    def made(folder: FrameFolder, **debris) -> Shed:
        return shed(shot_with(efficiency=10.0, **debris), fragments, bonds, motion, folder, [1003], progress_silent)

    result, free = made(folder, share=share, limit=limit), made(FrameFolder(tmp_path / "b"), share=1.0, limit=10**6)
    spent = folder.get_frame(1003)["spent"]
    assert spent.sum() == pytest.approx(result.until(1001, 1003).event_mass.sum(), rel=1e-12)
    assert spent.max() / fragments.mass[spent.argmax()] <= share * (1 + 1e-12)
    assert free.frame(1003).event_mass.sum() > 2 * result.frame(1003).event_mass.sum()
    drawn = 0
    for frame in (1001, 1002, 1003):
        count = len(result.frame(frame).time)
        assert count <= np.ceil((limit - drawn) * (1 - np.exp(-1 / (1.5 * 24)))) <= len(free.frame(frame).time) or frame == 1001
        drawn += count
    assert int(folder.get_frame(1003)["drawn"]) == drawn


def test_until_grows_in_place(scene, tmp_path):
    """Seeds until a frame begin with those until every earlier one, whichever was asked for first."""
    fragments, bonds, motion, _ = scene
    result = shed(Shot(), fragments, bonds, motion, FrameFolder(tmp_path / "a"), [1003], progress_silent)
    whole = result.until(1001, 1003)
    for last in (1002, 1003, 1001):
        part = result.until(1001, last)
        for name in ("time", "radius", "dust_mass"):
            assert np.array_equal(getattr(whole, name)[: len(getattr(part, name))], getattr(part, name))
    assert len(result.until(1001, 1002).time) < len(whole.time)


def test_nothing_happens(tmp_path):
    """A shot without events sheds nothing and fails nowhere."""
    fragments = boxes(np.zeros((3, 3)), np.ones((3, 3)))
    motion = motion_write(tmp_path / "motion", [frame_arrays(np.zeros((3, 3)))] * 2)
    folder = FrameFolder(tmp_path / "out")
    seeds = shed(Shot(), fragments, chain(fragments), motion, folder, range(1001, 1003), progress_silent).until(1001, 1002)
    assert len(seeds.time) == 0 and len(seeds.event_mass) == 0
