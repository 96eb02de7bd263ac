"""Scenes that every engine of `bench.peers` gets: one convex hull a body, ground y <= 0, friction 0.6, no restitution.

In: a name (SCENES). Out: a `PeerScene`, which `scene_write` saves for the engines' processes. Metres, kilograms, seconds, y up.

    a1000, a5000   a hollow square tower of bricks in running bond (10 to a side, 25 or 50 courses, 2 mm joints), and a ball of 100
                   or 400 t that flies into it at 32 or 43 m/s; the ball is an icosahedron split once (42 corners): a hull for everybody
    b1000, b4000   Voronoi cells of a jittered grid, shrunk to 0.9 and spread to 1.1, fall one metre: about 18 corners each
    pile           1000 boxes of 0.3 to 0.6 m at random attitudes fall on a heap (bench/contact.py)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull, KDTree, Voronoi

from bench.contact import Scene, boxes, fragments_of, pile
from shot.results import Fragments

DENSITY = 2000.0
FRICTION = 0.6
MERGE = 0.16  # Voronoi corners closer than this become one


@dataclass(frozen=True)
class PeerScene:
    """Bodies as plain arrays; corners are relative to the centre of mass."""

    position: np.ndarray  # (F, 3) centre of mass
    rotation: np.ndarray  # (F, 4) w x y z
    velocity: np.ndarray  # (F, 3)
    mass: np.ndarray  # (F)
    inertia: np.ndarray  # (F, 3, 3) about the centre of mass
    vertex: np.ndarray  # (V, 3)
    vertex_start: np.ndarray  # (F + 1)
    face: np.ndarray  # (T, 3) triangles of the hulls, outward, indices from each hull's first vertex
    face_start: np.ndarray  # (F + 1)
    half: np.ndarray  # (F, 3) half-extents of an axis-aligned box, nan for other hulls
    friction: float

    @property
    def count(self) -> int:
        """Bodies."""
        return len(self.position)


def peer_scene(scene: Scene) -> PeerScene:
    """A contact scene as plain arrays. Scenes of clusters are not handled."""
    f = scene.fragments
    faces, half = [], np.full((f.count, 3), np.nan)
    for i in range(f.count):
        p = f.hull_vertex[f.hull_vertex_start[i] : f.hull_vertex_start[i + 1]].astype(float)
        hull = ConvexHull(p)
        a, b, c = (p[hull.simplices[:, k]] for k in range(3))
        inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), hull.equations[:, :3]) < 0
        faces.append(np.where(inward[:, None], hull.simplices[:, ::-1], hull.simplices))
        h = np.ptp(p, axis=0) / 2
        if len(p) == 8 and np.allclose(np.abs(p), h, atol=1e-5):
            half[i] = h
    count = f.count
    return PeerScene(
        position=f.position,
        rotation=np.tile([1.0, 0, 0, 0], (count, 1)) if scene.rotation is None else scene.rotation,
        velocity=np.zeros((count, 3)) if scene.velocity is None else scene.velocity,
        mass=f.mass, inertia=f.inertia, vertex=f.hull_vertex, vertex_start=f.hull_vertex_start,
        face=np.concatenate(faces).astype(np.int32), face_start=np.concatenate([[0], np.cumsum([len(t) for t in faces])]),
        half=half, friction=FRICTION,
    )


def scene_write(scene: PeerScene, path: Path) -> None:
    """Save for the engines' processes."""
    np.savez(path, **asdict(scene))


def fragments_of_peer(scene: PeerScene) -> Fragments:
    """The same bodies for our solver."""
    hulls = [scene.vertex[scene.vertex_start[i] : scene.vertex_start[i + 1]].astype(float) for i in range(scene.count)]
    volume = [ConvexHull(p).volume for p in hulls]
    return fragments_of(scene.position, hulls, scene.mass / np.array(volume))


def tower(courses: int, radius: float, mass: float, velocity: tuple[float, float]) -> Scene:
    """Four walls of ten bricks a course, pinwheel corners, joints half a brick apart from course to course; a ball flies at it."""
    n = 10
    s = n + 0.5
    place, half = [], []
    for c in range(courses):
        for i in range(n):
            for along, (u, v) in ((0, (i + 0.5, 0.25)), (1, (s - 0.25, i + 0.5)), (0, (i + 1, s - 0.25)), (1, (0.25, i + 1))):
                turned = bool(c % 2)
                x, z = (v, u) if turned else (u, v)
                place.append([x - s / 2, 0.5 * (c + 0.5), z - s / 2])
                half.append([0.498, 0.25, 0.248] if (along == 0) != turned else [0.248, 0.25, 0.498])
    bricks = boxes(place, half, DENSITY)
    hulls = [bricks.hull_vertex[8 * i : 8 * i + 8].astype(float) for i in range(len(place))]
    ball = icosphere() * radius
    start = [-s / 2 - radius - 1, radius + 0.5, -1]
    density = np.append(np.full(len(place), DENSITY), mass / ConvexHull(ball).volume)
    motion = np.zeros((len(place) + 1, 3))
    motion[-1] = [velocity[0], 0, velocity[1]]
    return Scene(fragments_of(np.array([*place, start]), [*hulls, ball], density), velocity=motion)


def icosphere() -> np.ndarray:
    """(42, 3) corners of an icosahedron and the middles of its edges, on the unit sphere."""
    g = (1 + 5**0.5) / 2
    p = np.array([q for a in (-1, 1) for b in (-g, g) for q in ([0, a, b], [a, b, 0], [b, 0, a])])
    near = [(i, j) for i in range(12) for j in range(i) if np.linalg.norm(p[i] - p[j]) < 2.01]
    p = np.vstack([p, [(p[i] + p[j]) / 2 for i, j in near]])
    return p / np.linalg.norm(p, axis=1, keepdims=True)


def cells(nx: int, ny: int, nz: int) -> Scene:
    """Voronoi cells of a jittered nx x nz x ny grid (ny high), loosened, one metre above the ground."""
    draw = np.random.default_rng(1)
    i, j, k = np.meshgrid(*(np.arange(-1, n + 1) for n in (nx, nz, ny)), indexing="ij")
    seed = np.stack([i, j, k], axis=-1).reshape(-1, 3)
    inner = np.flatnonzero(((seed >= 0) & (seed < [nx, nz, ny])).all(axis=1))
    diagram = Voronoi(seed + 0.5 + draw.uniform(-0.35, 0.35, seed.shape))
    pair = KDTree(diagram.vertices).query_pairs(MERGE, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pair)), (pair[:, 0], pair[:, 1])), shape=(len(diagram.vertices),) * 2)
    _, group = connected_components(graph, directed=False)
    lowest = np.full(group.max() + 1, len(group))
    np.minimum.at(lowest, group, np.arange(len(group)))
    hulls, place = [], []
    for cell in inner:
        p = diagram.vertices[np.unique(lowest[group[diagram.regions[diagram.point_region[cell]]]])]
        hulls.append(0.9 * (p - p.mean(axis=0)))
        place.append(_centroid(p))
    centre = np.array(place)
    centre = 1.1 * (centre - [nx / 2, nz / 2, 0]) + [0, 0, 1]
    upright = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)  # z up to y up, right-handed
    return Scene(fragments_of(centre @ upright.T, [p @ upright.T for p in hulls], DENSITY))


def _centroid(p: np.ndarray) -> np.ndarray:
    """Centre of volume of the hull of p."""
    inner = p.mean(axis=0)
    a, b, c = (p[ConvexHull(p).simplices[:, k]] for k in range(3))
    six = np.abs(np.einsum("ij,ij->i", a - inner, np.cross(b - inner, c - inner)))
    return ((a + b + c + inner) / 4 * six[:, None]).sum(axis=0) / six.sum()


SCENES: dict[str, tuple[Callable[[], Scene], int]] = {  # how to build, frames of 1/60 s
    "a1000": (lambda: tower(25, 3.0, 100e3, (30, 12)), 240),
    "a5000": (lambda: tower(50, 6.0, 400e3, (40, 16)), 240),
    "b1000": (lambda: cells(10, 10, 10), 300),
    "b4000": (lambda: cells(20, 10, 20), 300),
    "pile": (lambda: pile(1000), 240),
}
