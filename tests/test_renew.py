"""Points chosen once more within a step: what turns or rolls on after a hit is met where it then is, and free pieces gain no momentum."""

from __future__ import annotations

import numpy as np
import pytest

from bench.contact import Scene, fragments_of, place

H, PAIRS, STEPS = 1 / 60, 150, 24
pytestmark = pytest.mark.usefixtures("taichi")


def thrown(draw: np.random.Generator) -> Scene:
    """Pairs of round hulls far from each other: one at rest, one thrown at it at 3 to 10 m/s, both spinning at up to 20 rad/s."""
    hulls = []
    for _ in range(2 * PAIRS):
        p = draw.normal(size=(14, 3))
        hulls.append(p / np.linalg.norm(p, axis=1, keepdims=True) * draw.uniform(0.2, 0.38, 3))
    spot = 12.0 * np.stack([np.arange(PAIRS) % 13, 2 + np.arange(PAIRS) // 169, np.arange(PAIRS) // 13], axis=1)
    away = draw.normal(size=(PAIRS, 3))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    aside = np.cross(away, draw.normal(size=(PAIRS, 3)))
    position = np.concatenate([spot, spot + 1.2 * away + draw.uniform(0, 0.25, (PAIRS, 1)) * aside])
    velocity = np.concatenate([np.zeros((PAIRS, 3)), -draw.uniform(3, 10, (PAIRS, 1)) * away])
    return Scene(fragments_of(position, hulls), velocity=velocity)


def run(seed: int):
    """Deepest overlap of each pair at any step, as a share of the smaller piece; change of the momentum and of the angular momentum of each
    pair about its centre, as a share of the sum of their sizes at first (2, PAIRS)."""
    from sim.column import column_read
    from sim.solve import contact_step
    from sim.world import Settings, bodies_read, bodies_write

    draw = np.random.default_rng(seed)
    scene = thrown(draw)
    world = place(scene)
    now = bodies_read(world)
    spin = draw.normal(size=now.w.shape)
    bodies_write(world, now.x, now.q, now.v, spin * draw.uniform(0, 20, (len(spin), 1)) / np.linalg.norm(spin, axis=1, keepdims=True))
    mass, size = scene.fragments.mass, np.minimum(scene.fragments.size[:PAIRS], scene.fragments.size[PAIRS:])
    centre = (mass[:PAIRS, None] * now.x[:PAIRS] + mass[PAIRS:, None] * now.x[PAIRS:]) / (mass[:PAIRS] + mass[PAIRS:])[:, None]

    def momenta():
        b = bodies_read(world)
        arm = b.x - np.tile(centre, (2, 1))
        linear = mass[:, None] * b.v
        angular = np.cross(arm, linear) + column_read(world.body.array["spin"])
        return np.stack([linear[:PAIRS] + linear[PAIRS:], angular[:PAIRS] + angular[PAIRS:]]), np.stack([linear, angular])

    before, each = momenta()
    scale = np.linalg.norm(each[:, :PAIRS], axis=2) + np.linalg.norm(each[:, PAIRS:], axis=2)
    deepest = np.zeros(PAIRS)
    for _ in range(STEPS):
        contact_step(world, H, Settings(0.0, 20, 0.6, 0.0, 0.5))
        table, n = world.contact[world.contact_now].array, world.contact_count
        pair, count = column_read(table["pair"], n), column_read(table["count"], n)
        depth = np.where(np.arange(4)[None] < count[:, None], -column_read(table["separation"])[: 4 * n].reshape(n, 4), 0).max(axis=1)
        both = pair[:, 1] >= 0
        np.maximum.at(deepest, pair[both, 0] % PAIRS, depth[both])
    after, _ = momenta()
    return deepest / size, np.linalg.norm(after - before, axis=2) / scale


def test_no_pair_of_thrown_hulls_is_deep(monkeypatch):
    """Without the second look some of 150 collisions are a tenth of a piece deep (12 %), with it none a twentieth (3.4 %); momentum and
    angular momentum of the pairs are kept as well: what 95 % of them lose at most (4 and 8 %, of few sweeps) grows by no fifth."""
    from sim import solve

    deepest, lost = run(1)
    monkeypatch.setattr(solve, "rows_look", lambda world, work, into, tune, pairs, order: order)
    before, lost_before = run(1)
    assert before.max() > 0.1 and deepest.max() < 0.05
    assert (np.quantile(lost, 0.95, axis=1) < 1.2 * np.quantile(lost_before, 0.95, axis=1)).all()
