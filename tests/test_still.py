# pyright: basic, reportInvalidTypeForm=false
"""What does not move costs nothing and keeps its bits; prepared launches do what plain calls do."""

import numpy as np
import pytest

from bench.contact import place, stack
from bench.standing import LOWER, UPPER
from shot.params import AnyEvent, Charge, Collider, Event, Fracture, Ground, Material, Projectile, Shot, Sim
from sim.collapse import Collapse, collapse_create, collapse_digest
from sim.launch import Launch
from sim.layout import ASLEEP
from sim.step import step
from sim.world import Settings, bodies_read, bodies_write, world_digest
from tests.structures import frame

SLEEPY = Settings(9.81, 20, 0.6, 0.05, 0.1)
H = 1 / 60


def standing(*events: AnyEvent) -> Collapse:
    """A frame of two storeys under events."""
    shot = Shot(sim=Sim(), fracture=Fracture(shrink=0.0), events=events)
    return collapse_create(shot, *frame(2, 1, 1, Material(steel=0.02)))


def steps(c: Collapse, count: int) -> list[bool]:
    """What each step said of itself."""
    return [step(c) for _ in range(count)]


def test_standing_building_is_left_alone(taichi, monkeypatch):
    """Nothing happens: two steps find that out, those behind them do not reach the solvers, and the clock goes on."""
    c = standing()
    said = steps(c, 3)
    assert not said[-1]
    monkeypatch.setattr("sim.step.move", None)  # a step that wants to move would fail
    assert steps(c, 5) == [False] * 5
    assert c.step == 8


def test_idle_steps_are_those_that_would_have_been(taichi):
    """Left alone or computed, a building that a push shakes for a while and a weakening reaches later comes to the same bits."""
    push = Event(kind="push", frame=1006, frames=2, force=(30.0, 0.0, 0.0), lower=LOWER, upper=UPPER)
    weaken = Event(kind="weaken", frame=1012, frames=2, amount=0.3, lower=LOWER, upper=UPPER)
    lazy, busy = standing(push, weaken), standing(push, weaken)
    rested = 0
    for _ in range(45):
        rested += not step(lazy)
        busy.idle = busy.world.still = None
        step(busy)
        assert collapse_digest(lazy) == collapse_digest(busy)
    assert 5 < rested < 40


@pytest.mark.parametrize("event", [
    Ground(kind="ground", frame=1003, amplitude=2.0, frequency=4.0, duration=0.2),
    Charge(kind="charge", frame=1003, centre=(40.0, 0.0, 0.0), tnt=1.0),
    Projectile(kind="projectile", frame=1003, shape="box", size=(1.0, 1.0, 1.0), position=(30.0, 0.501, 0.0), velocity=(0.05, 0.0, 0.0)),
    Collider(kind="collider", path=((1001, 30.0, 1.0, 0.0), (1006, 20.0, 1.0, 0.0))),
])  # fmt: skip
def test_idle_again_when_all_is_over(taichi, event: AnyEvent):
    """Behind the end of a shake, a blast, a throw or a collider's path a building rests without steps, and with the bits of all steps."""
    lazy, busy = standing(event), standing(event)
    said = []
    for _ in range(90):
        said.append(step(lazy))
        busy.idle = busy.world.still = None
        step(busy)
        assert collapse_digest(lazy) == collapse_digest(busy)
    assert all(said[:10]) and not any(said[-5:])


def test_sleepers_are_left_alone_until_hit(taichi):
    """Cubes that sleep cost no step; the same bits as with steps; a cube that is thrown wakes the solver."""
    from sim.solve import contact_step

    lazy, busy = place(stack(4)), place(stack(4))
    for _ in range(90):
        contact_step(lazy, H, SLEEPY)
        busy.still = None
        contact_step(busy, H, SLEEPY)
    assert world_digest(lazy) == world_digest(busy)
    assert (bodies_read(lazy).state == ASLEEP).all()
    assert lazy.still is not None
    kept = lazy.contact_now
    contact_step(lazy, H, SLEEPY)
    assert lazy.contact_now == kept  # no list of contacts was written
    for world in (lazy, busy):
        b = bodies_read(world)
        v = b.v.copy()
        v[3] = 1.0, 0.0, 0.0
        bodies_write(world, b.x, b.q, v, b.w)
        contact_step(world, H, SLEEPY)
    assert world_digest(lazy) == world_digest(busy)
    assert bodies_read(lazy).x[3, 0] > 1e-3


def test_other_settings_are_not_still(taichi):
    """A step of another length is a new question."""
    from sim.solve import contact_step

    world = place(stack(2))
    for _ in range(90):
        contact_step(world, H, SLEEPY)
    assert world.still is not None and world.still[:2] == (H, SLEEPY)
    contact_step(world, H / 2, SLEEPY)
    assert world.still is not None and world.still[:2] == (H / 2, SLEEPY)


def test_launch_is_the_plain_call(taichi):
    """Launched again and again with other numbers, a kernel does what its plain calls do."""
    ti = taichi
    pack = ti.types.argpack(a=ti.types.ndarray(dtype=ti.f32, ndim=1), b=ti.types.ndarray(dtype=ti.f32, ndim=1))

    @ti.kernel
    def add(S: pack, n: ti.i32, x: ti.f32):
        for i in range(n):
            S.a[i] += x * S.b[i]

    a, b = ti.ndarray(ti.f32, 6), ti.ndarray(ti.f32, 6)
    a.fill(0.0)
    b.fill(1.0)
    launch = Launch(add, pack(a=a, b=b))
    for n, x in ((2, 1.0), (5, 0.5), (3, 2.0)):
        launch(n, x)
    np.testing.assert_allclose(a.to_numpy(), [3.5, 3.5, 2.5, 0.5, 0.5, 0.0])


@pytest.mark.parametrize("direct", [True, False])
def test_statics_of_a_column(direct):
    """Exact forces of `bench.bonded`: the lowest bonds of a frame carry its weight."""
    from bench.bonded import statics
    from shot.results import GROUND

    fragments, bonds = frame(3, 1, 1, Material())
    force, _ = statics(Shot(), fragments, bonds, direct)
    foot = bonds.fragment_b == GROUND
    assert foot.sum() == 4
    assert force[foot].sum() == pytest.approx(9.81 * fragments.mass.sum(), rel=2e-3)
