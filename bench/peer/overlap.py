"""How deep convex hulls stand in each other: one exact geometric measure for every engine.

In: hulls in their final poses. Out: depths [m] of the pairs that overlap.

Separating axes (Gottschalk et al. 1996): the face normals of both hulls and the cross products of their edges contain the axis of
least overlap, hence of the shortest translation that parts them; that length is the depth. Contact margins and skins of an engine do
not count.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull

from bench.peer.scenes import PeerScene
from shot.rotation import rotate
from sim.pairs import box_pairs


def overlaps_measure(scene: PeerScene, position: np.ndarray, rotation: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Depths (P) of overlapping pairs among at most `most` pairs of boxes that touch, drawn alike for everybody, depth (F) under the
    ground, and the share of pairs that was looked at. position (F, 3), rotation (F, 4) w x y z."""
    span = [slice(a, b) for a, b in zip(scene.vertex_start[:-1], scene.vertex_start[1:], strict=True)]
    world = [rotate(np.tile(rotation[i], (s.stop - s.start, 1)), scene.vertex[s].astype(float)) + position[i] for i, s in enumerate(span)]
    lower, upper = np.array([w.min(axis=0) for w in world]), np.array([w.max(axis=0) for w in world])
    pairs = box_pairs(lower, upper)
    share = min(1.0, most / max(1, len(pairs)))
    if share < 1:
        pairs = pairs[np.sort(np.random.default_rng(0).choice(len(pairs), most, replace=False))]
    shape: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for i in np.unique(pairs):
        normal, edge = axes_of(scene.vertex[span[i]].astype(float))
        shape[i] = rotate(np.tile(rotation[i], (len(normal), 1)), normal), rotate(np.tile(rotation[i], (len(edge), 1)), edge)
    depth = np.array([depth_of(world[a], world[b], shape[a], shape[b]) for a, b in pairs])
    return depth[depth > 0], np.maximum(0, -lower[:, 1]), share


def axes_of(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit face normals (N, 3) and edge directions (E, 3) of a hull, each direction once: triangles of one plane are one face."""
    hull = ConvexHull(points)
    normal = hull.equations[:, :3]
    edge = []
    for t, around in enumerate(hull.neighbors):
        for k, u in enumerate(around):
            if u > t and normal[t] @ normal[u] < 1 - 1e-7:
                a, b = np.delete(hull.simplices[t], k)
                edge.append(points[b] - points[a])
    edge = np.array(edge)
    return _distinct(normal), _distinct(edge / np.linalg.norm(edge, axis=1, keepdims=True))


def _distinct(direction: np.ndarray) -> np.ndarray:
    """Directions that differ by more than a hair, either sign."""
    same = np.abs(direction @ direction.T) > 1 - 1e-9
    return direction[~np.triu(same, 1).any(axis=0)]


def depth_of(a: np.ndarray, b: np.ndarray, axes_a: tuple[np.ndarray, np.ndarray], axes_b: tuple[np.ndarray, np.ndarray]) -> float:
    """Depth of two hulls with corners (V, 3); negative or zero when they are apart."""
    depth = _least(a, b, np.vstack([axes_a[0], axes_b[0]]))
    if depth <= 0:
        return depth
    cross = np.cross(axes_a[1][:, None], axes_b[1][None]).reshape(-1, 3)
    length = np.linalg.norm(cross, axis=1)
    cross = cross[length > 1e-6] / length[length > 1e-6, None]
    return min(depth, _least(a, b, cross)) if len(cross) else depth


def _least(a: np.ndarray, b: np.ndarray, axis: np.ndarray) -> float:
    """Least overlap of the shadows of a and b over unit axes (N, 3)."""
    p, q = a @ axis.T, b @ axis.T
    return float(np.minimum(p.max(axis=0) - q.min(axis=0), q.max(axis=0) - p.min(axis=0)).min())
