"""Triangle soups into closed shells.

In: surfaces as read. Out: closed, consistently wound shells. A shell is a set of faces joined through edges that exactly two faces
share, so fins and walls that meet on one edge come apart and each is judged alone. A shell whose openings are small is closed by
caps; shells of different nodes that together close are sewn; what still encloses nothing becomes a sheet with a thickness, its
corners mitred: offset vector m of a vertex solves n_i . m = 1 for the normals n_i around it (least squares).

Not handled: which of two sides of a lone flat sheet is outside (it is thickened to both), one-sided (Moebius) surfaces (dropped, reported).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import mapbox_earcut
import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.spatial import KDTree

WELD = 1e-5  # of the model's diagonal: above float32 noise of STL and OBJ, below any brick joint
FOUND = (
    "welded_vertices", "nonfinite_faces", "degenerate_faces", "duplicate_faces", "nonmanifold_edges", "rewound_faces", "one_sided_shells",
)  # fmt: skip
MITRE = 4.0  # longest corner offset in thicknesses; sharper corners are cut off


@dataclass(frozen=True)
class Surface:
    """Triangles of one node."""

    name: str
    material: str
    vertex: np.ndarray  # (V, 3) f64 [m]
    face: np.ndarray  # (T, 3) i64


@dataclass(frozen=True)
class Shell:
    """Faces joined edge to edge, wound alike. `node` is the place of its node in the file."""

    node: int
    name: str
    material: str
    vertex: np.ndarray  # (V, 3) f64 [m], all used
    face: np.ndarray  # (T, 3) i64

    @property
    def area(self) -> float:
        """[m2]"""
        return float(np.linalg.norm(face_cross(self.vertex, self.face), axis=1).sum() / 2)


def shells_split(surfaces: list[Surface], report: dict) -> list[Shell]:
    """Weld, drop bad faces, split at edges that are not shared by two, wind alike; counts go to the report."""
    count = dict.fromkeys(FOUND, 0)
    tolerance = WELD * float(np.linalg.norm(report["size"]))
    shells = []
    for node, surface in enumerate(surfaces):
        vertex, face = clean(surface.vertex, surface.face, tolerance, count)
        for patch in patches(face, count):
            wound = wind(patch, count)
            extent = float(np.ptp(vertex[patch].reshape(-1, 3), axis=0).max())
            if float(np.linalg.norm(face_cross(vertex, patch), axis=1).max()) <= tolerance * extent:
                count["degenerate_faces"] += len(patch)
            elif wound is None:
                report["warnings"].append(f"{surface.name}: a one-sided surface of {len(patch)} faces was dropped")
            else:
                shells.append(Shell(node, surface.name, surface.material, *compact(vertex, wound)))
    report |= count
    report["shells"] = len(shells)
    return shells


def shells_close(shells: list[Shell], hole_limit: float, thickness: float, report: dict) -> list[Shell]:
    """Every shell closed: as it is, by caps, sewn to its neighbours, or as a sheet with a thickness."""
    count = {"holes_closed": 0, "sewn_shells": 0, "thickened_shells": 0, "thickened_area": 0.0}
    closed, open_ = [], []
    for shell in shells:
        capped = cap(shell, hole_limit)
        if capped is None:
            open_.append(shell)
        else:
            closed.append(capped[0])
            count["holes_closed"] += capped[1]
    sewn, rest = sew(open_, hole_limit, WELD * float(np.linalg.norm(report["size"])), count)
    for shell in rest:
        count["thickened_shells"] += 1
        count["thickened_area"] += shell.area
        closed.append(thicken(shell, thickness))
    report |= count
    return sorted(closed + sewn, key=lambda shell: shell.node)


def clean(vertex: np.ndarray, face: np.ndarray, tolerance: float, count: dict) -> tuple[np.ndarray, np.ndarray]:
    """Weld vertices closer than `tolerance`; drop faces that are not finite, collapsed, or repeat another (in either winding)."""
    finite = np.isfinite(vertex[face]).all(axis=(1, 2))
    count["nonfinite_faces"] += int((~finite).sum())
    vertex, face = compact(vertex, face[finite])
    if len(face) == 0:
        return vertex, face
    label = weld(vertex, tolerance)
    count["welded_vertices"] += len(vertex) - int(label.max()) - 1
    first = np.unique(label, return_index=True)[1]
    vertex, face = vertex[first], label[face]
    # a needle between three distinct corners stays: dropping it would open a crack that its neighbours do not have
    collapsed = (face == np.roll(face, 1, axis=1)).any(axis=1)
    count["degenerate_faces"] += int(collapsed.sum())
    face = face[~collapsed]
    kept = np.unique(np.sort(face, axis=1), axis=0, return_index=True)[1]
    count["duplicate_faces"] += len(face) - len(kept)
    return vertex, face[np.sort(kept)]


def weld(vertex: np.ndarray, tolerance: float) -> np.ndarray:
    """Label of each vertex's cluster, numbered by first appearance."""
    pairs = np.array(KDTree(vertex).query_pairs(tolerance, output_type="ndarray"), np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (len(vertex),) * 2)
    label = connected_components(graph, directed=False)[1]
    order = np.argsort(np.unique(label, return_index=True)[1], kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[label].astype(np.int64)


def compact(vertex: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Only the vertices that faces use."""
    used, inverse = np.unique(face, return_inverse=True)
    return vertex[used], inverse.reshape(face.shape).astype(np.int64)


def face_cross(vertex: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Twice the area vector of each face (T, 3)."""
    a, b, c = np.moveaxis(vertex[face], 1, 0)
    return np.cross(b - a, c - a)


def half_edges(face: np.ndarray) -> np.ndarray:
    """(3T, 2) directed edges; edge k of face t is row 3t + k."""
    return np.stack([face, np.roll(face, -1, axis=1)], axis=2).reshape(-1, 2)


def face_pairs(face: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Faces (P, 2) that share an edge with exactly one other, whether they run along it the same way (a flip), and other shared edges."""
    edge = half_edges(face)
    key, inverse, uses = np.unique(np.sort(edge, axis=1), axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    start = np.concatenate([[0], np.cumsum(uses)])[:-1]
    two = start[uses == 2]
    first, second = order[two], order[two + 1]
    same = edge[first, 0] == edge[second, 0]
    return np.stack([first // 3, second // 3], axis=1), same, int((uses > 2).sum())


def patches(face: np.ndarray, count: dict) -> list[np.ndarray]:
    """Faces grouped through two-face edges. Patches that only close together (a box cut by a partition) are put together again."""
    if len(face) == 0:
        return []
    pairs, _, wild = face_pairs(face)
    count["nonmanifold_edges"] += wild
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (len(face),) * 2)
    number, label = connected_components(graph, directed=False)
    found = [face[label == i] for i in range(number)]
    if wild == 0:
        return found
    ragged = sorted((p for p in found if not is_closed(p)), key=len, reverse=True)
    whole = [p for p in found if is_closed(p)]
    kept, spare = list(ragged), []
    while kept and not is_closed(np.concatenate(kept)):
        spare.append(kept.pop())  # the smallest: partitions and fins before walls
    return whole + (patches(np.concatenate(kept), count) if kept else []) + spare


def is_closed(face: np.ndarray) -> bool:
    """Whether every edge has exactly two faces."""
    uses = np.unique(np.sort(half_edges(face), axis=1), axis=0, return_counts=True)[1]
    return bool((uses == 2).all())


def wind(face: np.ndarray, count: dict) -> np.ndarray | None:
    """All faces wound like the majority by number; None if the surface is one-sided."""
    pairs, same, _ = face_pairs(face)
    graph = csr_array((np.where(same, 2, 1), (pairs[:, 0], pairs[:, 1])), (len(face),) * 2)
    order, parent = breadth_first_order(graph, 0, directed=False)
    both = graph + graph.T
    flip = np.zeros(len(face), bool)
    for f in order[1:]:
        flip[f] = flip[parent[f]] ^ (both[f, parent[f]] == 2)
    if ((flip[pairs[:, 0]] ^ flip[pairs[:, 1]]) != same).any():
        count["one_sided_shells"] += 1
        return None
    if flip.mean() > 0.5:
        flip = ~flip
    count["rewound_faces"] += int(flip.sum())
    face = face.copy()
    face[flip] = face[flip][:, ::-1]
    return face


def boundary_loops(face: np.ndarray) -> list[np.ndarray]:
    """Closed walks along the edges that have one face, in the direction of that face."""
    edge = half_edges(face)
    inverse, uses = np.unique(np.sort(edge, axis=1), axis=0, return_inverse=True, return_counts=True)[1:]
    lone = edge[uses[inverse.ravel()] == 1]
    after: dict[int, list[int]] = {}
    for a, b in sorted(map(tuple, lone.tolist()), reverse=True):
        after.setdefault(a, []).append(b)
    loops = []
    for start in sorted(after):
        while after[start]:
            loop, here = [start], after[start].pop()
            while here != start and after.get(here):
                loop.append(here)
                here = after[here].pop()
            if here == start and len(loop) > 2:
                loops.append(np.array(loop))
    return loops


def cap(shell: Shell, hole_limit: float) -> tuple[Shell, int] | None:
    """The shell with its holes closed and how many there were; None if its openings are more than `hole_limit` of its surface."""
    loops = boundary_loops(shell.face)
    vertex, lids, area = [shell.vertex], [shell.face], 0.0
    total = len(shell.vertex)
    for loop in loops:
        lid, middle = lid_of(shell.vertex, loop[::-1], total)
        if middle is not None:
            vertex.append(middle[None])
            total += 1
        lids.append(lid)
        area += float(np.linalg.norm(face_cross(np.concatenate(vertex), lid), axis=1).sum() / 2)
    if area > hole_limit * shell.area:
        return None
    closed = replace(shell, vertex=np.concatenate(vertex), face=np.concatenate(lids))
    return (closed, len(loops)) if is_closed(closed.face) else None


def lid_of(vertex: np.ndarray, loop: np.ndarray, fresh: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Triangles that fill a loop and run along it: ear clipping if it is flat, else a fan about its middle (vertex number `fresh`)."""
    corner = vertex[loop]
    middle = corner.mean(axis=0)
    arm = corner - middle
    normal = np.cross(arm, np.roll(arm, -1, axis=0)).sum(axis=0)
    reach, length = float(np.abs(arm).max()), float(np.linalg.norm(normal))
    if length > 1e-9 * reach**2:
        normal /= length
        side = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
        side /= np.linalg.norm(side)
        flat = arm @ np.stack([side, np.cross(normal, side)], axis=1)
        if float(np.abs(arm @ normal).max()) < 1e-3 * reach:
            lid = mapbox_earcut.triangulate_float64(flat, np.array([len(loop)], np.uint32)).reshape(-1, 3).astype(np.int64)
            a, b, c = np.moveaxis(flat[lid], 1, 0)
            turn = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
            lid[turn < 0] = lid[turn < 0][:, ::-1]
            if len(lid) == len(loop) - 2:
                return loop[lid], None
    after = np.roll(loop, -1)
    return np.stack([loop, after, np.full_like(loop, fresh)], axis=1), middle


def sew(shells: list[Shell], hole_limit: float, tolerance: float, count: dict) -> tuple[list[Shell], list[Shell]]:
    """Open shells of any node that close when welded together, and those that do not. A sewn shell goes by its first node's name."""
    if len(shells) < 2:
        return [], shells
    vertex = np.concatenate([s.vertex for s in shells])
    start = np.cumsum([0] + [len(s.vertex) for s in shells])
    label = weld(vertex, tolerance)
    vertex = vertex[np.unique(label, return_index=True)[1]]
    face = np.concatenate([label[s.face + n] for s, n in zip(shells, start, strict=False)])
    owner = np.repeat(np.arange(len(shells)), [len(s.face) for s in shells])
    pairs = face_pairs(face)[0]
    graph = coo_array((np.ones(len(pairs), bool), (owner[pairs[:, 0]], owner[pairs[:, 1]])), (len(shells),) * 2)
    number, group = connected_components(graph, directed=False)
    sewn, rest = [], []
    for g in range(number):
        members = np.flatnonzero(group == g)
        capped = None
        if len(members) > 1:
            wound = wind(face[np.isin(owner, members)], {"rewound_faces": 0, "one_sided_shells": 0})
            if wound is not None:
                capped = cap(replace(shells[members[0]], **dict(zip(("vertex", "face"), compact(vertex, wound), strict=True))), hole_limit)
        if capped is None:
            rest += [shells[m] for m in members]
        else:
            sewn.append(capped[0])
            count["sewn_shells"] += len(members)
            count["holes_closed"] += capped[1]
    return sewn, rest


def thicken(shell: Shell, thickness: float) -> Shell:
    """The sheet as a solid: inwards if it bulges to one side, to both sides if it is flat. Exact for flats and their mitred corners."""
    v, f = shell.vertex, shell.face
    cross = face_cross(v, f)
    twice = np.linalg.norm(cross, axis=1)
    normal = cross / np.maximum(twice, 1e-300)[:, None]
    middle = (v[f].mean(axis=1) * twice[:, None]).sum(axis=0) / max(twice.sum(), 1e-300)
    bulge = float(np.einsum("ij,ij->", v[f].mean(axis=1) - middle, cross)) / (twice.sum() * max(float(np.ptp(v, axis=0).max()), 1e-300))
    if bulge < 0:
        f, normal = f[:, ::-1], -normal
    out = 0.5 if abs(bulge) < 1e-3 else 0.0
    offset = mitre(v, f, normal, twice > 0)
    outer, inner = v + offset * (thickness * out), v - offset * (thickness * (1 - out))
    edge = half_edges(f)
    inverse, uses = np.unique(np.sort(edge, axis=1), axis=0, return_inverse=True, return_counts=True)[1:]
    a, b = edge[uses[inverse.ravel()] == 1].T
    n = len(v)
    rim = np.concatenate([np.stack([b, a, a + n], axis=1), np.stack([b, a + n, b + n], axis=1)])
    return replace(shell, vertex=np.concatenate([outer, inner]), face=np.concatenate([f, f[:, ::-1] + n, rim]))


def mitre(vertex: np.ndarray, face: np.ndarray, normal: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Offset (V, 3) of each vertex for a unit move of the faces around it, weighted by their angles there."""
    matrix, right = np.zeros((len(vertex), 3, 3)), np.zeros((len(vertex), 3))
    for k in range(3):
        corner, ahead, behind = (vertex[face[:, (k + j) % 3]] for j in range(3))
        u, w = ahead - corner, behind - corner
        angle = np.arctan2(np.linalg.norm(np.cross(u, w), axis=1), np.einsum("ij,ij->i", u, w)) * sound
        np.add.at(matrix, face[:, k], angle[:, None, None] * normal[:, :, None] * normal[:, None, :])
        np.add.at(right, face[:, k], angle[:, None] * normal)
    offset = np.einsum("vij,vj->vi", np.linalg.pinv(matrix, rcond=1e-3, hermitian=True), right)
    length = np.linalg.norm(offset, axis=1, keepdims=True)
    return offset * np.minimum(1.0, MITRE / np.maximum(length, 1e-300))
