"""Events that act through forces: thrown and driven bodies, ground motion, charges, decay; against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from shot.errors import ShotError
from shot.frames import FrameFolder
from shot.load import shot_load
from shot.params import Charge, Collider, Event, Ground, Material, Materials, Projectile, Shot, Sim
from shot.results import BOND_BROKEN, BOND_INTACT, MEMBER_KINDS, PARKED, Motion, progress_silent
from tests.structures import boxes, frame

STONE = Material(friction=0.5, steel=0.0)
G = 9.81


def shot_of(*events, frames=50, **sim):
    """A shot of small structures of one material; sim.friction_ground 0.5 like the blocks'."""
    given = {"friction_ground": 0.5, "rolling": 0.0} | sim
    return Shot(frames=frames, events=events, sim=Sim.model_validate(given), materials=Materials(concrete=STONE))


def block(size=(1.0, 1.0, 1.0), at=(0.0, 0.0, 0.0)):
    """One loose box with its lower corner at a place."""
    return boxes(np.array([(0, 0, 0)]), size, STONE, ground=False, origin=at)


@pytest.fixture
def run(taichi):
    """Collapse of a shot and a structure after some steps, watched after each."""
    from sim.collapse import collapse_create
    from sim.step import step

    def advanced(shot, structure, steps, watch=lambda c: None):
        c = collapse_create(shot, *structure)
        for _ in range(steps):
            step(c)
            watch(c)
        return c

    return advanced


def ledger_of(c) -> dict[str, float]:
    """The nine energies now, by name."""
    from sim.simulate import frame_arrays

    return dict(zip(Motion.LEDGER, frame_arrays(c)["ledger"], strict=True))


def velocity(c):
    """(F, 3) of all fragments."""
    from sim.world import fragments_read

    return fragments_read(c.world).velocity.astype(float)


def position(c):
    """(F, 3) of all fragments."""
    from sim.world import fragments_read

    return fragments_read(c.world).position


def residual_of(c):
    """[J] that the ledger fails to close by."""
    from sim.ledger import residual

    return float(residual(np.array(list(ledger_of(c).values()))))


@pytest.mark.parametrize("shape", ["ball", "box"])
def test_projectile_hits_a_free_block(run, shape):
    """Plastic impact: both go on at v = m1 v1 / (m1 + m2), the energy 1/2 m1 m2 / (m1 + m2) v1^2 is gone, nothing is left over."""
    thrown = Projectile(frame=1001, position=(-3.0, 2.5, 0.0), velocity=(10.0, 0.0, 0.0), size=(1.0, 1.0, 1.0), shape=shape)
    c = run(shot_of(thrown, gravity=0.0), block(at=(-0.5, 2.0, -0.5)), 40)
    m2, m1 = c.fragments.mass
    volume = 1.0 if shape == "box" else np.pi / 6.0
    assert m1 == pytest.approx(Materials().steel.density * volume, rel=2e-3)
    assert (c.fragments.mass @ velocity(c)) == pytest.approx([m1 * 10.0, 0.0, 0.0], rel=1e-5, abs=1e-3 * m1)
    assert velocity(c)[:, 0] == pytest.approx(m1 * 10.0 / (m1 + m2), rel=1e-3)
    book = ledger_of(c)
    assert book["work"] == pytest.approx(0.5 * m1 * 100.0, rel=1e-6)
    assert book["contact"] + book["crushing"] + book["friction"] == pytest.approx(0.5 * m1 * m2 / (m1 + m2) * 100.0, rel=1e-3)
    assert abs(residual_of(c)) < 1e-4 * book["work"]


def test_projectile_waits_out_of_reach(run):
    """Before its frame it is parked and at rest, a block falls through its place undisturbed; at its frame it is at its position."""
    waiting = Projectile(frame=1004, position=(3.0, 3.72, 0.0), velocity=(5.0, 1.0, 0.0), size=(0.5, 0.5, 0.5), spin=(0.0, 2.0, 0.0))
    falling = block(at=(2.5, 4.0, -0.5))
    free = Projectile(frame=1004, position=(30.0, 4.0, 0.0), velocity=(5.0, 1.0, 0.0), size=(0.5, 0.5, 0.5))
    near, far = (run(shot_of(event), falling, 8) for event in (waiting, free))
    assert (position(near)[0] == position(far)[0]).all() and position(near)[1, 1] == pytest.approx(PARKED + 3.72)
    assert position(near)[0, 1] - 0.5 < 3.72 + 0.25  # it fell into its place
    assert ledger_of(near)["work"] == 0.0 and abs(residual_of(near)) < 1e-3 * abs(ledger_of(near)["potential"])
    c = run(shot_of(free), falling, 9)
    assert position(c)[1] == pytest.approx(free.position) and velocity(c)[1] == pytest.approx(free.velocity)
    c = run(shot_of(free), falling, 9 + 36)
    t, h = 0.5, 1 / 72
    assert position(c)[1] - free.position == pytest.approx([2.5, t - 0.5 * G * t * (t + h), 0.0], abs=1e-3)  # implicit Euler's fall


def test_projectile_breaks_what_it_hits(run):
    """Thrown at the middle of a wall that stands it goes through; slowly it is stopped. Bonds break by the contact forces alone."""
    wall = boxes(np.array([(0, j, k) for j in range(4) for k in range(5)]), (0.2, 0.6, 0.6), STONE, origin=(0, 0, -1.5))
    broken = []
    for speed in (0.5, 25.0):
        thrown = Projectile(frame=1001, position=(-1.0, 1.5, 0.0), velocity=(speed, 0.0, 0.0), size=(0.6, 0.6, 0.6))
        c = run(shot_of(thrown, gravity=0.0), wall, 180 if speed < 1 else 20)
        broken.append(int((c.breakage.state == BOND_BROKEN).sum()))
        assert (velocity(c)[-1, 0] > 1.0) == (speed > 1.0)
    assert broken[0] == 0 < broken[1]


@pytest.mark.parametrize("share", [0.9, 1.5])
def test_ground_motion_slides_a_block(run, share):
    """A loose block stays on the ground while a < mu g; beyond it slides back at a - mu g, as seen from the ground."""
    mu = 0.5
    c = run(shot_of(Ground(frame=1001, amplitude=share * mu * G, frequency=0.0, duration=9.0, ramp=0.0)), block((2.0, 0.5, 2.0)), 72)
    slid = -max(share - 1.0, 0.0) * mu * G
    assert velocity(c)[0, 0] == pytest.approx(slid, abs=0.02 * mu * G)
    assert position(c)[0, 0] - 1.0 == pytest.approx(0.5 * slid, abs=0.02 * mu * G)
    assert abs(residual_of(c)) < 2e-3 * c.fragments.mass[0] * G  # of the work of a fall by 2 mm


def test_ground_motion_bends_a_column(run):
    """A cantilever under constant ground acceleration a carries the shear m a and the moment sum m_i a h_i at its foot (static limit)."""
    from sim.stress import bond_strains

    a, side, count = 0.5, 0.5, 8
    column = boxes(np.array([(0, j, 0) for j in range(count)]), (side, side, side), STONE, origin=(-side / 2, 0, -side / 2))
    shaken = Ground(frame=1001, amplitude=a, frequency=0.0, duration=60.0, ramp=0.05)
    c = run(shot_of(shaken, break_rounds=0, buckling=False), column, 72 * 8)
    bonds = c.bonds
    foot = int(np.flatnonzero(bonds.fragment_b < 0)[0])
    q = (c.lattice.stiffness[[foot]] * bond_strains(c.lattice, np.array([foot]), c.elastic.u))[0]
    mass, height = c.fragments.mass, c.fragments.position[:, 1]
    assert np.hypot(q[1], q[2]) == pytest.approx(a * mass.sum(), rel=1e-2)
    assert np.hypot(q[4], q[5]) == pytest.approx(a * float(mass @ (height - bonds.centroid[foot, 1])), rel=1e-2)
    assert (c.breakage.state == BOND_INTACT).all()


def test_ground_motion_starts_at_its_frame(run):
    """Nothing moves, not by a bit, before it; the envelope starts and ends at zero and reaches its amplitude between."""
    from sim.ground_motion import envelope, ground_acceleration, shaking

    shaken = Ground(frame=1005, amplitude=20.0, frequency=3.0, duration=1.0, direction=(0.0, 0.0, -2.0))
    places: list[np.ndarray] = []
    c = run(shot_of(shaken), frame(1, 1, 1, STONE, piece=1.5), 9, lambda c: places.append(position(c)))
    assert all((place == places[0]).all() for place in places) and not c.elastic.v.any() and not c.elastic.lively.any()
    assert [envelope(p, 0.25) for p in (0.0, 0.125, 0.25, 0.5, 1.0)] == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.0])
    history = np.array([ground_acceleration(shaking((shaken,), 1001, 3, 1 / 72), step) for step in range(100)])
    assert not history[:9].any() and not history[9 + 72 :].any() and not history[:, :2].any()
    assert np.abs(history[:, 2]).max() == pytest.approx(20.0, rel=0.01)
    wave = history[30:60, 2]
    t = (np.arange(30, 60) - 9 + 0.5) / 72
    assert wave == pytest.approx(-20.0 * np.cos(6 * np.pi * t), abs=1e-9)


def test_ground_motion_breaks_a_frame(run):
    """A frame that stands under its weight loses bonds when the ground shakes hard, and none when it shakes gently."""
    broken = [
        int((run(shot_of(Ground(frame=1001, amplitude=a, frequency=4.0, duration=1.0, ramp=0.1)), frame(2, 1, 1, STONE), 72).breakage.state
             != BOND_INTACT).sum())
        for a in (0.05, 40.0)
    ]  # fmt: skip
    assert broken[0] == 0 < broken[1]


def test_collider_pushes_with_friction_at_its_own_speed(run):
    """A box driven at 2 m/s takes a block along at 2 m/s, pressing with mu m g; its work is friction's and the block's energy."""
    from sim.world import forces_read

    mu = 0.5
    driven = Collider(path=((1001, -1.6, 0.25, 0.5), (1061, 3.4, 0.25, 0.5)), size=(1.0, 0.4, 0.8), shape="box")
    seen: list[np.ndarray] = []
    slippery = shot_of(driven).model_copy(update={"materials": Materials(concrete=STONE, steel=Material(friction=0.0))})
    c = run(slippery, block((1.0, 0.5, 1.0)), 150, lambda c: seen.append(forces_read(c.world)[0][-1].astype(float)))
    m = c.fragments.mass[0]
    assert velocity(c)[:, 0] == pytest.approx(2.0, rel=1e-3)
    assert position(c)[1] == pytest.approx([-1.6 + 2.0 * 150 / 72, 0.25, 0.5], abs=1e-6)
    assert -np.mean([f[0] for f in seen[-40:]]) == pytest.approx(mu * m * G, rel=0.02)
    book = ledger_of(c)
    way = position(c)[0, 0] - 0.5
    assert book["friction"] == pytest.approx(mu * m * G * way, rel=0.03)
    assert book["work"] == pytest.approx(-sum(f[0] for f in seen) * 2.0 / 72, rel=1e-6)
    assert abs(residual_of(c)) < 1e-3 * book["work"]


def test_collider_wakes_sleepers_and_rests(run):
    """It drives into a sleeping block, which wakes and moves; when its path ends it is at rest, and so is the block soon."""
    driven = Collider(path=((1001, -2.0, 0.25, 0.5), (1013, -2.0, 0.25, 0.5), (1037, 0.5, 0.25, 0.5)), size=(1.0, 0.4, 0.8), shape="box")
    states: list[int] = []
    c = run(shot_of(driven, sleep_time=0.3), block((1.0, 0.5, 1.0)), 170, lambda c: states.append(int(fragments_state(c)[0])))
    from sim.layout import ASLEEP

    assert states[35] == ASLEEP and position(c)[0, 0] > 1.45 and states[-1] == ASLEEP
    assert not velocity(c).any() and position(c)[1, 0] == 0.5


def fragments_state(c) -> np.ndarray:
    """(F) states of the bodies of all fragments."""
    from sim.world import fragments_read

    return fragments_read(c.world).state


def test_collider_breaks_what_holds_to_the_ground(run):
    """Both are immovable to the solver: the force grows to what crushes, the lattice breaks, and the collider passes at its speed."""
    wall = boxes(np.array([(0, j, k) for j in range(4) for k in range(5)]), (0.2, 0.6, 0.6), STONE, origin=(0, 0, -1.5))
    driven = Collider(path=((1001, -1.0, 1.5, 0.0), (1049, 1.5, 1.5, 0.0)), size=(0.6, 0.6, 0.6))
    c = run(shot_of(driven), wall, 144)
    assert (c.breakage.state == BOND_BROKEN).sum() > 4 and position(c)[-1, 0] == pytest.approx(1.5)
    assert position(c)[:-1, 0].max() > 1.0 and ledger_of(c)["work"] > 0


def test_charge_gives_a_wall_the_impulse_of_its_law(taichi):
    """A wall facing a charge gets the sum of i(R) cos dA along its normal, within the rays' noise; what is behind gets nothing."""
    from sim.blast import blast_force, blasts, reflected_impulse

    d, half = 3.0, 2.0
    tiles, few = (np.array([(0, j, k) for j in range(n) for k in range(n)]) for n in (4, 2))
    front = boxes(tiles, (0.3, 1.0, 1.0), STONE, ground=False, origin=(d, 1.0, -half))
    behind = boxes(few, (0.3, 0.8, 0.8), STONE, ground=False, origin=(d + 1, 2.2, -0.8))
    from sim.body import _chained

    both = _chained([front[0], behind[0]], front[0].material_name, front[0].element_name)
    charge = Charge(centre=(0.0, 3.0, 0.0), tnt=20.0, frame=1001, pulse=0.02)
    blast = blasts((charge,), both, 1001, 3, 1 / 72)
    upright = np.tile([1.0, 0.0, 0.0, 0.0], (both.count, 1))
    total = np.sum([blast_force(blast, step, both.position, upright) for step in range(6)], axis=0) / 72
    g = (np.arange(400) + 0.5) / 400 * 2 * half - half
    y, z = np.meshgrid(g, g)
    R = np.sqrt(d**2 + y**2 + z**2)
    expected = float((reflected_impulse(R, 20.0) * d / R).sum() * (2 * half / 400) ** 2)
    assert total[:16, 0].sum() == pytest.approx(expected, rel=0.02)
    assert np.abs(total[:16, 1:].sum(axis=0)).max() < 0.02 * expected
    assert not total[16:].any()
    assert not blast_force(blast, 30, both.position, upright).any()


def test_charge_law_joins_the_products_momentum():
    """Close in the fit is within 35 % of W sqrt(2 E) over the half sphere, E = 4.5 MJ/kg; it scales with the cube root of the charge."""
    from sim.blast import reflected_impulse

    for W in (1.0, 125.0):
        R = 0.1 * np.cbrt(W)
        assert reflected_impulse(np.array(R), W) == pytest.approx(W * np.sqrt(2 * 4.5e6) / (2 * np.pi * R**2), rel=0.35)
    assert reflected_impulse(np.array(10.0), 1000.0) == pytest.approx(10 * reflected_impulse(np.array(1.0), 1.0))
    assert reflected_impulse(np.array(41.0), 1.0) == 0.0


def test_charge_throws_a_block(run):
    """A loose block takes off with the impulse over its mass, and the work booked is the energy it has."""
    charge = Charge(centre=(-3.0, 2.5, 0.5), tnt=20.0, frame=1001, radius=0.0)
    c = run(shot_of(charge, gravity=0.0), block(at=(0.0, 2.0, 0.0)), 12)
    from sim.blast import reflected_impulse

    v = velocity(c)[0]
    R = 3.0
    assert v[0] == pytest.approx(float(reflected_impulse(np.array(R * 1.02), 20.0)) / c.fragments.mass[0], rel=0.06)
    assert ledger_of(c)["work"] - ledger_of(c)["integrator"] == pytest.approx(0.5 * c.fragments.mass[0] * float(v @ v), rel=1e-3)


def test_charge_shatters_around_it(run):
    """Strength is gone at the charge and whole at the radius, linearly, for good."""
    bar = boxes(np.array([(i, 0, 0) for i in range(8)]), (0.5, 0.5, 0.5), STONE)
    charge = Charge(centre=(0.0, 0.25, 0.25), tnt=0.001, frame=1002, radius=2.0, shatter=0.8)
    c = run(shot_of(charge), bar, 12)
    far = np.linalg.norm(c.bonds.centroid - np.array(charge.centre), axis=1)
    assert c.breakage.strength == pytest.approx(1.0 - 0.8 * np.maximum(1.0 - far / 2.0, 0.0))


def test_fire_spreads_from_a_ball(taichi):
    """Weakening grows evenly over its duration, later and less with the distance from the ball's centre."""
    from sim.event import schedule, strength_left

    bar = boxes(np.array([(i, 0, 0) for i in range(9)]), (1.0, 1.0, 1.0), STONE, kind=np.full(9, MEMBER_KINDS.index("beam")), ground=False)
    fire = Event(kind="weaken", frame=1002, frames=2, lower=(0.0, -4.0, -4.0), upper=(8.0, 5.0, 5.0), region="ball", members=(), amount=0.5,
                 falloff=0.5, delay=0.25)
    plan = schedule((fire,), 1001, 24.0, 3, *bar)
    far = np.abs(np.arange(1, 9) - 4.0)
    late = np.ceil(far * 0.25 * 72)
    y = (0.5 - 0.5) / 4.5
    part = np.sqrt((far / 4.0) ** 2 + 2 * y**2)
    inside = part <= 1.0
    for step in (0, 3, 20, 60, 200):
        grown = np.clip((step + 1 - late) / 6.0, 0.0, 1.0)
        expected = np.where(inside, 1.0 - 0.5 * (1.0 - 0.5 * part) * grown, 1.0)
        assert strength_left(plan, step, 8) == pytest.approx(expected)


def test_events_that_reach_nothing_are_told(taichi, caplog):
    """A cut beside the building and a push on members it does not have are told by number, what they miss and that nothing comes of it."""
    from sim.event import schedule

    beside = Event(kind="cut", frame=1002, lower=(50.0, 0.0, 50.0), upper=(60.0, 9.0, 60.0), members=())
    beams = Event(kind="push", frame=1002, lower=(-9.0, 0.0, -9.0), upper=(9.0, 9.0, 9.0), members=("beam", "slab"), force=(1.0, 0.0, 0.0))
    for events in ((beside,), (Ground(frame=1002), beams)):
        schedule(events, 1001, 24.0, 3, *block())
    schedule((beams.model_copy(update={"members": ()}),), 1001, 24.0, 3, *block())
    assert [record.getMessage() for record in caplog.records] == [
        "events.0: no bond of any kind lies where the cut acts: it does nothing",
        "events.1: no piece of beam or slab lies where the push acts: it does nothing",
    ]


def test_resume_in_the_middle_of_every_event(taichi, tmp_path):
    """Cut off while a body flies, one is driven, the ground shakes and a charge presses, a run ends with the same hashes."""
    from sim.simulate import simulate

    events = (
        Projectile(frame=1004, position=(-3.0, 2.0, 0.0), velocity=(12.0, 0.0, 0.0), size=(0.8, 0.8, 0.8)),
        Collider(path=((1003, 4.5, 1.2, 0.0), (1012, 1.5, 1.2, 0.0)), size=(0.8, 0.8, 0.8)),
        Ground(frame=1002, amplitude=6.0, frequency=3.0, duration=1.0),
        Charge(frame=1007, centre=(0.0, 1.0, -4.0), tnt=5.0, pulse=0.1),
        Event(kind="weaken", frame=1004, frames=8, lower=(-9, 0, -9), upper=(9, 9, 9), members=(), amount=0.5),
    )
    structure = frame(1, 1, 1, STONE, piece=1.5)
    hashes = []
    for parts in ((1012,), (1005, 1008, 1012)):
        for last in parts:
            shot = shot_of(*events, frames=12, checkpoint=1)
            motion = simulate(shot, *structure, FrameFolder(tmp_path / str(len(parts))), range(1001, last + 1), progress_silent)
        hashes.append([int(motion.frame(f)["hash"]) for f in range(1001, 1013)])
    assert hashes[0] == hashes[1] and len(set(hashes[0])) == 12
    assert motion.bodies is not None and motion.bodies.element_name == ("event00/projectile", "event01/collider")
    assert motion.frame(1003)["position"][-2, 1] < 0.5 * PARKED < 0 < motion.frame(1003)["position"][-1, 1]


def test_entering_bodies_come_along_their_way():
    """Between the frame before and the first that shows a body it moves by its velocity, and has turned as it is; others are untouched."""
    from shot.entering import entered

    upright = np.tile([1, 0, 0, 0], (2, 1)).astype(np.float32)
    before = {"position": np.array([[0, 1, 0], [2, PARKED + 3, 0]], np.float32), "rotation": upright}
    now = {"position": np.array([[0, 2, 0], [2, 3, 0]], np.float32), "rotation": upright,
           "velocity": np.array([[0, 24, 0], [12, 0, 0]], np.float32)}
    moved = entered(before, now, 1 / 24)
    assert moved["position"].tolist() == [[0, 1, 0], [1.5, 3, 0]] and before["position"][1, 1] < 0
    assert entered(now, now, 1 / 24)["position"] is now["position"]


@pytest.mark.parametrize(("event", "told"), [
    ("{kind='projectile', position=[0, 3, 0]}", r"events\.0\.velocity is missing, which a projectile needs"),
    ("{kind='projectile', position=[0, 3, 0], velocity=[900, 0, 0]}", r"events\.0\.velocity.*at most 150 m/s"),
    ("{kind='projectile', position=[0, 3, 0], velocity=[9, 0, 0], velocty=3}", r"velocty: no such .*did you mean events\.0\.velocity"),
    ("{kind='projectile', position=[0, 3, 0], velocity=[9, 0, 0], material='cheese'}", r"events\.0\.material.*concrete.*steel"),
    ("{kind='projectil'}", r"events\.0\.kind = 'projectil': should be one of cut, .*projectile"),
    ("{kind='collider', path=[[1005, 0, 0, 0], [1003, 0, 0, 0]]}", r"events\.0\.path.*frames must ascend"),
    ("{kind='ground', direction=[0, 0, 0]}", r"events\.0\.direction.*not zero"),
    ("{kind='charge', tnt=5}", r"events\.0\.centre is missing, which a charge needs"),
    ("{lower=[0, 0]}", r"events\.0\.lower\.2 is missing"),
])  # fmt: skip
def test_mistakes_are_named(tmp_path, event, told):
    """Before any work, in one sentence, by key."""
    path = tmp_path / "shot.toml"
    path.write_text(f"events = [{event}]\n")
    with pytest.raises(ShotError, match=told):
        shot_load(path)


def test_bodies_must_start_outside(run):
    """A body inside the standing building, or in the ground, is refused with the element's name, before the first step."""
    inside = Collider(path=((1001, 0.0, 0.5, 0.0),), size=(0.3, 0.3, 0.3))
    with pytest.raises(ShotError, match=r"events\.0: the collider starts 0\.\d\d m deep inside "):
        run(shot_of(inside), block(at=(-0.5, 0.0, -0.5)), 0)
    low = Projectile(position=(5.0, 0.2, 0.0), velocity=(0.0, 0.0, 0.0), size=(1.0, 1.0, 1.0))
    with pytest.raises(ShotError, match=r"events\.0: the projectile starts 0\.30 m deep in the ground"):
        run(shot_of(low), block(), 0)
    run(shot_of(low.model_copy(update={"position": (1.51, 0.51, 0.5)})), block(), 0)
