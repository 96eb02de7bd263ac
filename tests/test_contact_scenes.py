"""The scenes that break contact solvers, long enough to see them creep, sway or sink; sleep off, twenty sweeps, 60 steps a second."""

from __future__ import annotations

import numpy as np
import pytest

from bench.contact import Scene, boxes, compound, heavy, overlaps, pile, place, poly, rubble, slab, stack, wall
from shot.params import Sim

H, SWEEPS = 1 / 60, 20
pytestmark = [pytest.mark.usefixtures("taichi"), pytest.mark.slow]


class Watched:
    """What a scene did: depths [m] in its last second, how far and how fast its bodies went in that second; and over the whole run the
    deepest overlap that arose [m], as a share of the smaller piece, and how many pairs were deeper than a tenth of it at any time.

    What overlaps where the scene places it (boxes turned at random into the ground and each other) counts only for what it gains."""

    def __init__(self, scene: Scene, seconds: float, gravity: float = 9.81, h: float = H, rolling: float = 0.0):
        from sim.solve import contact_step
        from sim.world import Settings, bodies_read

        self.world = place(scene)
        steps, last, places = round(seconds / h), round(1 / h), []
        self.run, self.share, self.depth, self.p99 = 0.0, 0.0, 0.0, 0.0
        deep, self.sizes = set(), np.append(scene.fragments.size, np.inf)
        for step in range(steps):
            contact_step(self.world, h, Settings(gravity, SWEEPS, 0.6, 0.0, 0.5, rolling))
            deep |= self.deepest_look(step == 0)
            if step >= steps - last:
                depth = overlaps(self.world)
                self.depth, self.p99 = max(self.depth, float(depth.max())), max(self.p99, float(np.quantile(depth, 0.99)))
                places.append(bodies_read(self.world).x.copy())
        self.deep = len(deep)
        body = bodies_read(self.world)
        free = body.state >= 2
        self.moved = np.linalg.norm(np.array(places)[:, free] - places[0][free], axis=2).max(axis=0)
        self.speed = np.linalg.norm(body.v[free], axis=1)
        self.size = float(np.median(scene.fragments.size))

    def deepest_look(self, first: bool) -> set[int]:
        """Take the deepest overlap of the step that just ended into `run` and `share`; keys of pairs deeper than a tenth of a piece."""
        contact, n = self.world.contact[self.world.contact_now].array, self.world.contact_count
        pair, count = contact["pair"].to_numpy()[:n].astype(np.int64), contact["count"].to_numpy()[:n]
        depth = contact["gap"].to_numpy()[:n, None] - contact["separation"].to_numpy()[: 4 * n].reshape(n, 4)
        depth = np.maximum(np.where(np.arange(4)[None] < count[:, None], depth, 0).max(axis=1), 0)
        key = pair[:, 0] << 32 | (pair[:, 1] + 1)
        if first:
            self.born = dict(zip(key[depth > 0].tolist(), depth[depth > 0].tolist(), strict=True))
        for row in np.flatnonzero(np.isin(key, list(self.born))):
            self.born[int(key[row])] = min(self.born[int(key[row])], depth[row])
            depth[row] -= self.born[int(key[row])]
        share = depth / np.minimum(self.sizes[pair[:, 0]], self.sizes[pair[:, 1]])
        self.run, self.share = max(self.run, float(depth.max())), max(self.share, float(share.max()))
        return set(key[share > 0.1].tolist())


def measured(record_property, seen: Watched) -> None:
    """Write the figures into the table of the checks."""
    text = f"run {seen.run * 1e3:.1f}, last second {seen.depth * 1e3:.2f}, moved median {np.median(seen.moved) * 1e3:.2f}"
    record_property("overlap and motion [mm]", f"{text}, max {seen.moved.max() * 1e3:.1f}")
    record_property("deepest over the run", f"{seen.share:.1%} of a piece, {seen.deep} pairs ever above 10 %")


def test_thirty_boxes_stand_still(record_property):
    """Overlap of the lowest contact g m 30 / k stays under 2 mm; nothing sways: a stack that leans has moved by millimetres in a second."""
    seen = Watched(stack(30), 5.0)
    measured(record_property, seen)
    assert seen.depth < 2e-3 and seen.moved.max() < 1e-4 and seen.share < 0.1


def test_brick_wall_stands(record_property):
    """500 bricks in bond: the median brick moves less than 1 mm in the last of 5 s."""
    seen = Watched(wall(20), 5.0)
    measured(record_property, seen)
    assert np.median(seen.moved) < 1e-3 and seen.depth < 2e-3 and seen.share < 0.1


@pytest.mark.parametrize("ratio", [1000, 10000])
def test_heavy_box_on_a_stack(record_property, ratio):
    """A cube of `ratio` times the mass on five: what local penalties lose to the mass ratio is carried by the multipliers."""
    seen = Watched(heavy(ratio), 4.0)
    measured(record_property, seen)
    assert seen.depth < 3e-3 and seen.moved.max() < 1e-3 and seen.share < 0.1


def test_slab_on_rubble(record_property):
    """10 000 t on 200 boxes of 20 to 100 kg."""
    seen = Watched(slab(0), 4.0)
    measured(record_property, seen)
    assert seen.depth < 3e-3 and np.median(seen.moved) < 1e-3 and seen.share < 0.1


def test_cluster_on_rubble(record_property):
    """720 cubes as one body land on the boxes at 2 m/s: 99 % of the contacts stay under 3 mm; a few boxes at its rim still turn over."""
    seen = Watched(compound(0), 5.0)
    measured(record_property, seen)
    record_property("p99 [mm]", round(seen.p99 * 1e3, 2))
    assert seen.p99 < 3e-3 and np.median(seen.moved) < 1e-3 and seen.share < 0.1


def test_hulls_of_many_vertices(record_property):
    """300 boxes with cut corners, 24 vertices each: when the heap has come down, 99 % of the contacts overlap by under 1 % of a piece; on
    the way, where pieces turn by 20 rad/s, none of the 1300 pairs by more than an eighth, and two at most by more than a tenth."""
    seen = Watched(poly(300), 6.0)
    measured(record_property, seen)
    record_property("p99 [mm]", round(seen.p99 * 1e3, 2))
    assert seen.p99 < 0.01 * seen.size and seen.share < 0.125 and seen.deep <= 2


def test_pile_of_four_thousand_hulls_rests(record_property):
    """With the rolling resistance of shots: 6 s after the drop 0.5 % of the bodies at most are faster than 2 cm/s, 99 % of the contacts
    overlap by under 0.5 % of a piece; of some 19 000 pairs not 40 were ever deeper than a tenth of one, and none by more than 0.4."""
    seen = Watched(rubble(4000), 6.0, rolling=Sim().rolling)
    measured(record_property, seen)
    moving = float((seen.speed > 0.02).mean())
    record_property("moving", f"{moving:.2%}")
    record_property("p99 [mm]", round(seen.p99 * 1e3, 2))
    assert moving < 0.005 and seen.p99 < 0.005 * seen.size and seen.deep < 40 and seen.share < 0.4


@pytest.mark.parametrize("build", [pile, rubble])
def test_a_thousand_pieces_fall(record_property, build):
    """1000 boxes or round hulls fall 12 m: of 5000 pairs that overlap two at most are ever deeper than a tenth of the smaller piece."""
    seen = Watched(build(1000), 4.0)
    measured(record_property, seen)
    assert seen.share < 0.15 and seen.deep <= 2


@pytest.mark.parametrize("speed", [30.0, 100.0])
def test_fast_ball_does_not_tunnel(record_property, speed):
    """A piece of a decimetre at 100 m/s covers 1.7 m a step; a fixed wall of 0.1 m stops it, on the side it came from."""
    from sim.solve import contact_step
    from sim.world import Settings, bodies_read

    for offset in np.linspace(0.0, 1.6, 7):  # where between two steps it would meet the wall
        scene = boxes([[0, 1.5, 0], [-3 - offset, 1.5, 0.3]], [[0.05, 1.5, 1.5], [0.12, 0.05, 0.06]])
        velocity = np.array([[0, 0, 0], [speed, 0, 0]])
        world = place(Scene(scene, None, velocity, np.arange(2, dtype=np.int32), np.array([True, False])))
        for _ in range(20):
            contact_step(world, H, Settings(9.81, SWEEPS, 0.6, 0.0, 0.5))
        assert bodies_read(world).x[1, 0] < -0.05, offset
    record_property("stopped", "7 of 7")


def test_larger_and_slower_is_the_same(record_property):
    """Froude: lengths x 10, masses x 1000, times x sqrt(10) repeat a pile: heights of the heap's bodies within 1 % of a piece."""
    from sim.solve import contact_step
    from sim.world import Settings, bodies_read

    base = boxes([[0.05 * (i % 3), 0.3 + 0.7 * i, 0.04 * (i % 2)] for i in range(12)], [[0.25, 0.2, 0.3]] * 12)
    large = boxes(base.position * 10, [[2.5, 2.0, 3.0]] * 12)
    ends = []
    for scene, h in ((base, H), (large, H * np.sqrt(10))):
        world = place(Scene(scene))
        for _ in range(120):
            contact_step(world, float(h), Settings(9.81, SWEEPS, 0.6, 0.0, 0.5))
        ends.append(bodies_read(world).x)
    apart = float(np.abs(ends[1] / 10 - ends[0]).max())
    record_property("apart [m]", round(apart, 5))
    assert apart < 0.01 * 0.5
