"""A manifold that is used again says what a new one would: same pairs, same depth up to the motion that it is kept for."""

import numpy as np
import pytest

from bench.contact import Scene, boxes, place, rubble

H = 1 / 60
pytestmark = pytest.mark.usefixtures("taichi")


def rows_of(world):
    """Per pair (a, b): depth of its deepest point [m], 0 if it has none; and the frames that its rows were made for."""
    from sim.column import column_read

    table, n = world.contact[world.contact_now].array, world.contact_count
    pair, count = column_read(table["pair"], n), column_read(table["count"], n)
    separation = column_read(table["separation"])[: 4 * n].reshape(n, 4)
    nearest = np.where(np.arange(4)[None] < count[:, None], separation, np.inf).min(axis=1)
    return pair, count, nearest, np.hstack([column_read(table["between"], n), column_read(table["twist"], n)])


def both_ways(world, how):
    """One step taken twice from the same state, with manifolds used again where they may be, then all new; it goes on with the first."""
    from sim.column import column_read, column_write
    from sim.solve import contact_step
    from sim.state import state_restore, state_snapshot

    before = rows_of(world)
    state_snapshot(world)
    twist = world.contact[world.contact_now].array["twist"]
    held = column_read(twist)
    column_write(twist, 0 * held)  # what a row does not know it was made for is made anew
    contact_step(world, H, how)
    new = rows_of(world)
    state_restore(world)
    column_write(twist, held)
    contact_step(world, H, how)
    now = rows_of(world)
    known = {tuple(p): tuple(q) for p, q in zip(before[0], before[3], strict=True) if q[3:].any()}
    again = np.array([tuple(q) == known.get(tuple(p)) for p, q in zip(now[0], now[3], strict=True)], bool)
    assert np.array_equal(now[0], new[0])
    return now, new, again


def test_manifolds_used_again_are_those_made_new():
    """Sixty hulls fall on a heap: what is taken over, with points or as apart, agrees with what would be made instead.

    Points that are kept follow their hulls by up to `keep`, and another corner may have come nearer by as much: the deepest point
    differs by no more. What is known to be apart is so: no point is missed."""
    from sim.solve import tuning
    from sim.world import Settings

    how = Settings(9.81, 10, 0.6, 0.0, 0.5)
    world = place(rubble(60))
    keep, slack = tuning(world, H, how).keep, tuning(world, H, how).slack
    touching = apart = 0
    for _ in range(180):
        now, new, again = both_ways(world, how)
        held = again & (now[1] > 0)
        touching += int(held.sum())
        apart += int((again & (now[1] == 0)).sum())
        assert not new[1][again & (now[1] == 0)].any()
        nearest = np.minimum([now[2][held], new[2][held]], slack)  # new ones end there
        assert np.abs(nearest[0] - nearest[1]).max(initial=0.0) < 1.01 * keep
    assert touching > 2000 and apart > 2000


@pytest.mark.parametrize("turned", [False, True])
def test_what_has_moved_is_met_anew(turned):
    """A box on another is shifted, or turned, between two steps: by half of `keep` its points stay, by twice as much they are new."""
    from sim.solve import contact_step, tuning
    from sim.world import Settings, bodies_read, bodies_write

    how = Settings(0.0, 10, 0.6, 0.0, 0.5)
    half = 0.3
    for share, stays in ((0.5, True), (2.0, False)):
        world = place(Scene(boxes([[0, 1, 0], [0.05, 1 + 2 * half + 0.001, 0.02]], [[half] * 3] * 2)))
        contact_step(world, H, how)
        way = share * tuning(world, H, how).keep
        b = bodies_read(world)
        x, q = b.x.copy(), b.q.copy()
        if turned:
            angle = way / (half * np.sqrt(3))
            q[1] = [np.cos(angle / 2), 0.0, np.sin(angle / 2), 0.0]
        else:
            x[1, 0] += way
        bodies_write(world, x, q, 0 * x, 0 * x)
        _, _, again = both_ways(world, how)
        assert again.any() == stays
