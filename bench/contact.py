"""Contact scenes with known trouble in them, and what a step of them costs.

    python -m bench.contact --scene pile --n 4000 --steps 240

prints CPU milliseconds per step (process time: all threads), overlap and residual speeds; `--every` prints on the way. Scenes are
those of the solver comparison: stack, wall, heavy (a cube of `--n` times the mass on five cubes), slab (a 10 000 t plate on 200 boxes),
compound (720 cubes as one body on rubble), pile (boxes), rubble (random hulls of about 12 vertices), poly (hulls of 24 vertices),
brick (30 m/s at a thin wall).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull

from shot.results import Fragments

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
DENSITY = 2400.0


@dataclass
class Scene:
    """Fragments and how they start."""

    fragments: Fragments
    rotation: np.ndarray | None = None  # (F, 4)
    velocity: np.ndarray | None = None  # (F, 3)
    label: np.ndarray | None = None  # (F) clusters
    fixed: np.ndarray | None = None  # (F)


def fragments_of(position: np.ndarray, hulls: list[np.ndarray], density: np.ndarray | float = DENSITY) -> Fragments:
    """Fragments with one convex hull each. hulls: (V, 3) relative to any point; they are re-centred on their centre of mass, placed at
    position (F, 3)."""
    count = len(hulls)
    volume, inertia, local = np.zeros(count), np.zeros((count, 3, 3)), []
    for f, points in enumerate(hulls):
        hull = ConvexHull(points)
        inner = points[hull.vertices].mean(axis=0)
        a, b, c = (points[hull.simplices[:, k]] - inner for k in range(3))
        six = np.abs(np.einsum("ij,ij->i", a, np.cross(b, c)))
        com = ((a + b + c) / 4 * six[:, None]).sum(axis=0) / six.sum()
        s = a + b + c
        second = (np.einsum("i,ij,ik->jk", six, s, s) + sum(np.einsum("i,ij,ik->jk", six, p, p) for p in (a, b, c))) / 120
        volume[f] = six.sum() / 6
        second -= volume[f] * np.outer(com, com)
        inertia[f] = np.trace(second) * np.eye(3) - second
        local.append((points[hull.vertices] - inner - com).astype(np.float32))
    density = np.broadcast_to(density, count)
    start = np.concatenate([[0], np.cumsum([len(p) for p in local])]).astype(np.int32)
    zero = np.zeros(count, np.int32)
    vertex = np.concatenate(local)
    return Fragments(
        position=np.asarray(position, float), volume=volume, mass=volume * density, inertia=inertia * density[:, None, None],
        size=np.cbrt(volume).astype(np.float32), member=zero, kind=zero.astype(np.int8), element=zero, material=zero.astype(np.int16),
        vertex=vertex, vertex_start=start, face=np.zeros((0, 3), np.int32), face_start=np.zeros(count + 1, np.int32),
        face_interior=np.zeros(0, bool), hull_vertex=vertex, hull_vertex_start=start, hull_fragment=np.arange(count, dtype=np.int32),
        material_name=("concrete",), element_name=("piece",),
    )


def boxes(position, half, density: np.ndarray | float = DENSITY) -> Fragments:
    """Axis-aligned boxes of half-extents (F, 3)."""
    return fragments_of(np.asarray(position, float), [CORNERS * h for h in np.asarray(half, float)], density)


def stack(n: int) -> Scene:
    """n half-metre cubes."""
    return Scene(boxes([[0, 0.25 + 0.5 * i, 0] for i in range(n)], [[0.25] * 3] * n))


def wall(n: int) -> Scene:
    """n rows of 25 bricks in bond."""
    place = [[0.51 * (c + 0.5 * (r % 2)) - 6.375, 0.1 + 0.2 * r, 0] for r in range(n) for c in range(25)]
    return Scene(boxes(place, [[0.25, 0.1, 0.125]] * len(place)))


def heavy(n: int) -> Scene:
    """Five cubes under a metre cube of n times their mass."""
    place = [[0, 0.25 + 0.5 * i, 0] for i in range(5)] + [[0, 3.0, 0]]
    half = [[0.25] * 3] * 5 + [[0.5] * 3]
    return Scene(boxes(place, half, np.array([DENSITY] * 5 + [DENSITY * n / 8])))


def slab(_n: int) -> Scene:
    """A 10 000 t plate on 200 boxes."""
    draw = np.random.default_rng(2)
    half = np.round(draw.uniform(0.12, 0.2, (200, 3)), 2)
    i = np.arange(200)
    place = np.stack([0.6 * (i % 20 - 9.5), np.full(200, 0.25), 0.6 * (i // 20 - 4.5)], axis=1)
    place[:, [0, 2]] += draw.uniform(-0.1, 0.1, (200, 2))
    angle = draw.uniform(0, 3, 200)
    q = np.stack([np.cos(angle), 0 * angle, np.sin(angle), 0 * angle], axis=1)
    plate = np.array([6.5, 1.0, 3.5])
    density = np.append(np.full(200, DENSITY), 1e7 / (8 * plate.prod()))
    scene = boxes(np.vstack([place, [0, 2.5, 0]]), np.vstack([half, plate]), density)
    return Scene(scene, rotation=np.vstack([q, [1, 0, 0, 0]]))


def compound(_n: int) -> Scene:
    """720 cubes as one body, 2 m/s down onto 200 boxes."""
    draw = np.random.default_rng(3)
    below = slab(0).fragments
    q = draw.normal(size=(920, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    q[200:] = [1, 0, 0, 0]
    cube = np.array([[-4.4 + 0.8 * x, 1.6 + 0.8 * y, -2 + 0.8 * z] for y in range(10) for z in range(6) for x in range(12)])
    half = np.ptp(below.hull_vertex.reshape(-1, 8, 3)[:200], axis=1) / 2
    scene = boxes(np.vstack([below.position[:200], cube]), np.vstack([half, np.full((720, 3), 0.4)]))
    velocity = np.zeros((920, 3))
    velocity[200:] = [0, -2, 0]
    label = np.arange(920)
    label[200:] = 200
    return Scene(scene, q, velocity, label.astype(np.int32), np.zeros(920, bool))


def lattice(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """n places in a tall block, random rotations, the generator."""
    draw = np.random.default_rng(seed)
    side = int(np.ceil((n / 2.5) ** (1 / 3)))
    i = np.arange(n)
    place = np.stack([0.75 * (i % side - side / 2), 0.6 + 0.75 * (i // side**2), 0.75 * (i // side % side - side / 2)], axis=1)
    place[:, [0, 2]] += draw.uniform(-0.05, 0.05, (n, 2))
    q = draw.normal(size=(n, 4))
    return place, q / np.linalg.norm(q, axis=1, keepdims=True), draw


def pile(n: int) -> Scene:
    """n boxes fall on a heap."""
    place, q, draw = lattice(n, 1)
    return Scene(boxes(place, np.round(draw.uniform(0.15, 0.3, (n, 3)), 2)), q)


def rubble(n: int) -> Scene:
    """n random hulls of about 12 vertices fall on a heap."""
    place, q, draw = lattice(n, 1)
    hulls = []
    for _ in range(n):
        p = draw.normal(size=(14, 3))
        hulls.append(p / np.linalg.norm(p, axis=1, keepdims=True) * draw.uniform(0.2, 0.38, 3))
    return Scene(fragments_of(place, hulls), q)


def poly(n: int) -> Scene:
    """n boxes with every corner cut (24 vertices) fall on a heap."""
    place, q, _ = lattice(n, 1)
    corner = CORNERS * [0.25, 0.22, 0.2]
    cut = np.concatenate([corner * np.where(np.arange(3) == k, 0.7, 1.0) for k in range(3)])
    return Scene(fragments_of(place, [cut] * n), q)


def brick(n: int) -> Scene:
    """A brick flies at n m/s at a fixed wall 0.1 m thick."""
    scene = boxes([[0, 1.5, 0], [-3, 1.5, 0.3]], [[0.05, 1.5, 1.5], [0.12, 0.05, 0.06]])
    velocity = np.array([[0, 0, 0], [n, 0, 0]], float)
    return Scene(scene, None, velocity, np.arange(2, dtype=np.int32), np.array([True, False]))


SCENES = {
    "stack": (stack, 30), "wall": (wall, 20), "heavy": (heavy, 1000), "slab": (slab, 0), "compound": (compound, 0), "pile": (pile, 1000),
    "rubble": (rubble, 1000), "poly": (poly, 300), "brick": (brick, 30),
}


def overlaps(world) -> np.ndarray:
    """Depth of every pressed point at the start of the last step [m]."""
    contact = world.contact[world.contact_now].array
    n = world.contact_count
    count = contact["count"].to_numpy()[:n]
    used = np.arange(4)[None] < count[:, None]
    depth = -(contact["separation"].to_numpy()[: 4 * n].reshape(n, 4) - contact["gap"].to_numpy()[:n, None])
    return np.maximum(depth[used], 0) if used.any() else np.zeros(1)


def place(scene: Scene, friction: float = 0.6):
    """A World with the scene's bodies."""
    from sim.world import bodies_read, bodies_split, bodies_write, world_create

    count = scene.fragments.count
    world = world_create(scene.fragments, np.full(count, friction), 0.0)
    if scene.label is not None and scene.fixed is not None:
        bodies_split(world, scene.label, scene.fixed)
    now = bodies_read(world)
    q = now.q if scene.rotation is None else scene.rotation
    v = now.v if scene.velocity is None else scene.velocity
    bodies_write(world, now.x, q, v, now.w)
    return world


def main() -> None:
    """Run one scene and print its figures."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--scene", choices=sorted(SCENES), default="pile")
    ask.add_argument("--n", type=int, default=0, help="size of the scene; 0 for its usual one")
    ask.add_argument("--steps", type=int, default=240)
    ask.add_argument("--every", type=int, default=60)
    ask.add_argument("--iterations", type=int, default=10)
    ask.add_argument("--sleep", type=float, default=0.05, help="sleep speed [m/s]; 0 keeps all awake")
    ask.add_argument("--threads", type=int, default=0)
    ask.add_argument("--save", default="", help="write the last poses and hulls to this npz")
    given = ask.parse_args()
    from shot.device import taichi_open

    taichi_open("cpu", given.threads)
    from sim.solve import contact_step
    from sim.world import Settings, bodies_read, fragments_read, world_digest

    build, usual = SCENES[given.scene]
    world = place(build(given.n or usual))
    settings = Settings(9.81, given.iterations, 0.6, given.sleep, 0.5)
    clock = time.process_time()
    contact_step(world, 1 / 60, settings)
    print(f"{given.scene}: {world.count} fragments; first step {time.process_time() - clock:.2f} CPU s (compiles)")
    deepest = 0.0
    clock = time.process_time()
    for step in range(1, given.steps):
        contact_step(world, 1 / 60, settings)
        if step % 3 == 0 and given.steps <= 400:
            pause = time.process_time()
            deepest = max(deepest, float(overlaps(world).max()))
            clock += time.process_time() - pause
        if step % given.every == given.every - 1:
            ms = (time.process_time() - clock) / given.every * 1e3
            b = bodies_read(world)
            free = b.state >= 2
            speed = np.linalg.norm(b.v[free], axis=1)
            depth = overlaps(world)
            print(
                f"step {step + 1:4d}  {ms:7.2f} CPU ms/step  rows {world.contact_count:6d}  points {len(depth):6d}  "
                f"overlap p50 {np.median(depth):.5f} p99 {np.quantile(depth, 0.99):.5f} max {depth.max():.4f} run {deepest:.4f}  "
                f"speed p50 {np.median(speed):.5f} p99 {np.quantile(speed, 0.99):.4f} max {speed.max():.4f}  "
                f"asleep {int((b.state == 3).sum())}/{int(free.sum())}  {world_digest(world):016x}"
            )
            clock = time.process_time()
    if given.save:
        poses = fragments_read(world)
        f = world_fragments = build(given.n or usual).fragments
        np.savez(given.save, position=poses.position, rotation=poses.rotation, state=poses.state,
                 hull_vertex=world_fragments.hull_vertex, hull_vertex_start=f.hull_vertex_start)


if __name__ == "__main__":
    main()
