"""Closed shells into disjoint solids, by manifold3d's exact booleans.

In: closed shells, wound alike but perhaps inside out, crossing themselves or each other. Out: solids that share faces, not volume.
A shell that crosses itself is halved by planes until no half does; halves that came out negative are turned; their union is the
space it covers. An inside-out shell within another of its node is a cavity of it, elsewhere a mistake and turned.

Not handled: crossings where both faces share a corner, and crossing tests above CROSSING_LIMIT faces (reported).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from manifold3d import Error, Manifold, Mesh64, OpType

from assets.shell import Shell

SLIVER = 1e-7  # of the model's bounding volume: smaller remnants of an overlap are dropped and counted
TOLD = 1e-3  # of SLIVER: dropped bodies above are told by name; less is rounding
DEEP = 0.5  # of a body: what lies deeper in another is told by name
CROSSING_LIMIT = 200_000  # faces of one shell
HALVINGS = 8  # deepest cut of a shell that crosses itself


@dataclass(frozen=True)
class Solid:
    """A closed, outward body."""

    node: int
    name: str
    material: str
    manifold: Manifold

    @property
    def volume(self) -> float:
        """[m3]"""
        return self.manifold.volume()

    def mesh(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (V, 3) f64 and faces (T, 3) i32."""
        return arrays(self.manifold)


def solids_of(shells: list[Shell], report: dict) -> list[Solid]:
    """Positive bodies of all shells: self-crossings resolved, inside-out shells turned, cavities cut; named apart within a node."""
    count = {"self_crossing_shells": 0, "inverted_shells": 0, "cavities": 0, "unusable_shells": 0}
    solids: list[Solid] = []
    for node in sorted({shell.node for shell in shells}):
        own = [shell for shell in shells if shell.node == node]
        bodies = []
        for shell in own:
            manifold = manifold_of(shell)
            if manifold is None:
                count["unusable_shells"] += 1
                report["warnings"].append(f"{shell.name}: a shell of {len(shell.face)} faces could not be made solid")
                continue
            sign = 1 if manifold.volume() >= 0 else -1
            bodies.append((sign, untangled(shell, manifold, count, report)))
        bodies = [(sign, body) for sign, body in bodies if body.volume() > 0]
        kept = cavities_cut(sorted(bodies, key=lambda body: -body[1].volume()), count)
        for number, body in enumerate(kept):
            name = own[0].name if len(kept) == 1 else f"{own[0].name}.{number:03d}"
            solids.append(Solid(node, name, own[0].material, body))
    report |= count
    return solids


def solids_separate(solids: list[Solid], report: dict) -> list[Solid]:
    """Overlaps given to the larger body; what falls apart becomes several members of the same element."""
    order = sorted(range(len(solids)), key=lambda i: (-solids[i].volume, i))
    box = np.array([solid.manifold.bounding_box() for solid in solids])
    limit = SLIVER * float(np.prod(box[:, 3:].max(axis=0) - box[:, :3].min(axis=0)))
    before, overlaps, dropped, lost = sum(s.volume for s in solids), 0, 0, 0.0
    done: list[int] = []
    separate: dict[int, list[Solid]] = {}
    for i in order:
        body = solids[i].manifold
        touching = [j for j in done if (box[i, :3] < box[j, 3:]).all() and (box[j, :3] < box[i, 3:]).all()]
        if touching:
            rest = Manifold.batch_boolean([body, *(solids[j].manifold for j in touching)], OpType.Subtract)
            if body.volume() - rest.volume() > limit:
                overlaps += 1
                if body.volume() - rest.volume() > DEEP * body.volume():
                    report["warnings"].append(deep_overlap(solids[i], [solids[j] for j in touching]))
                body = rest
        done.append(i)
        separate[i] = []
        for piece in connected(body):
            if piece.volume() > limit:
                separate[i].append(replace(solids[i], manifold=piece))
            else:
                dropped, lost = dropped + 1, lost + piece.volume()
                if not touching and piece.volume() > TOLD * limit:
                    report["warnings"].append(f"{solids[i].name}: a body of {piece.volume():.2g} m3 is too small, and was dropped")
    parts = [part for i in range(len(solids)) for part in separate[i]]
    report |= {"overlapping_shells": overlaps, "overlap_volume": before - sum(p.volume for p in parts) - lost}
    report |= {"slivers_dropped": dropped, "sliver_volume": lost}
    return parts


def deep_overlap(solid: Solid, others: list[Solid]) -> str:
    """Which larger body takes how much of a solid: a modeller's copy, or a part in a wrong place."""
    shared = [(solid.manifold ^ other.manifold).volume() for other in others]
    most = int(np.argmax(shared))
    share = shared[most] / solid.volume
    return (
        f"{solid.name} lies in {others[most].name} with {shared[most]:.3g} m3, {100 * share:.0f} % of it; that was cut away"
        f"{': is it in the model twice?' if share > 0.99 else ''}"
    )


def manifold_of(shell: Shell) -> Manifold | None:
    """The shell as manifold3d takes it, or None."""
    manifold = manifold_from(shell.vertex, shell.face)
    return None if manifold.status() != Error.NoError or manifold.is_empty() else manifold


def turned(manifold: Manifold) -> Manifold:
    """The same surface inside out."""
    vertex, face = arrays(manifold)
    return manifold_from(vertex, face[:, ::-1])


def manifold_from(vertex: np.ndarray, face: np.ndarray) -> Manifold:
    """Vertices and faces as manifold3d holds them; ask its status."""
    return Manifold(Mesh64(np.ascontiguousarray(vertex, np.float64), np.ascontiguousarray(face, np.uint64)))


def arrays(manifold: Manifold) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) f64, each once, and faces (T, 3) i32."""
    mesh = manifold.to_mesh64()
    vertex, face = np.asarray(mesh.vert_properties)[:, :3], np.asarray(mesh.tri_verts).astype(np.int64)
    alias = np.arange(len(vertex))
    alias[np.asarray(mesh.merge_from_vert, np.int64)] = np.asarray(mesh.merge_to_vert, np.int64)
    used, inverse = np.unique(alias[face], return_inverse=True)
    return np.ascontiguousarray(vertex[used]), inverse.reshape(face.shape).astype(np.int32)


def untangled(shell: Shell, manifold: Manifold, count: dict, report: dict) -> Manifold:
    """The space a shell covers, outward."""
    if len(shell.face) > CROSSING_LIMIT:
        report["warnings"].append(f"{shell.name}: {len(shell.face)} faces were not searched for self-crossings")
    elif crosses(shell.vertex, shell.face):
        count["self_crossing_shells"] += 1
        return Manifold.batch_boolean(halves(manifold, HALVINGS), OpType.Add)
    return manifold if manifold.volume() >= 0 else turned(manifold)


def halves(manifold: Manifold, depth: int) -> list[Manifold]:
    """Connected pieces that do not cross themselves, outward, cut at the middle of the longest side."""
    pieces = []
    for piece in connected(manifold):
        vertex, face = arrays(piece)
        if depth == 0 or not crosses(vertex, face):
            pieces.append(piece if piece.volume() >= 0 else turned(piece))
            continue
        box = np.array(piece.bounding_box())
        axis = int((box[3:] - box[:3]).argmax())
        normal = [float(axis == k) for k in range(3)]
        for half in piece.split_by_plane(normal, float((box[axis] + box[axis + 3]) / 2)):
            pieces += halves(half, depth - 1)
    return pieces


def connected(manifold: Manifold) -> list[Manifold]:
    """Pieces that hang together, each with the cavities inside it (which `decompose` hands out as bodies of negative volume)."""
    pieces = manifold.decompose()
    solid = [piece for piece in pieces if piece.volume() >= 0]
    lone = []
    for hollow in (piece for piece in pieces if piece.volume() < 0):
        body = turned(hollow)
        holder = next((i for i, piece in enumerate(solid) if inside(body, piece)), None)
        if holder is None:
            lone.append(hollow)
        else:
            solid[holder] = solid[holder] - body
    return solid + lone


def inside(body: Manifold, other: Manifold) -> bool:
    """Whether `body` lies within `other`."""
    a, b = np.array(body.bounding_box()), np.array(other.bounding_box())
    within = bool((a[:3] >= b[:3]).all() and (a[3:] <= b[3:]).all())
    return within and (body - other).volume() < 1e-9 * body.volume()


def cavities_cut(bodies: list[tuple[int, Manifold]], count: dict) -> list[Manifold]:
    """Bodies of one node, largest first, with the opposite-handed ones inside another cut out of it."""
    kept: list[tuple[int, Manifold]] = []
    for sign, body in bodies:
        holder = next((i for i, (_, other) in reversed(list(enumerate(kept))) if inside(body, other)), None)
        if holder is not None and kept[holder][0] != sign:
            kept[holder] = (kept[holder][0], kept[holder][1] - body)
            count["cavities"] += 1
            continue
        count["inverted_shells"] += sign < 0
        kept.append((sign, body))
    return [body for _, body in kept]


def crosses(vertex: np.ndarray, face: np.ndarray) -> bool:
    """Whether an edge of one face pierces another that shares no corner with it."""
    corner = vertex[face]
    lower, upper = corner.min(axis=1), corner.max(axis=1)
    axis = int(np.ptp(vertex, axis=0).argmax())
    order = np.argsort(lower[:, axis], kind="stable")
    end = np.searchsorted(lower[order, axis], upper[order, axis], side="right")
    for begin in range(0, len(order), 256):
        rows = np.arange(begin, min(begin + 256, len(order)))
        width = int((end[rows] - rows).max()) if len(rows) else 0
        column = rows[:, None] + np.arange(1, max(width, 1))[None]
        first, second = np.nonzero(column < end[rows, None])
        a, b = order[rows[first]], order[column[first, second]]
        near = ((lower[a] < upper[b]) & (lower[b] < upper[a])).all(axis=1)
        a, b = a[near], b[near]
        apart = (face[a][:, :, None] != face[b][:, None, :]).all(axis=(1, 2))
        a, b = a[apart], b[apart]
        if len(a) and (pierces(corner[a], corner[b]).any() or pierces(corner[b], corner[a]).any()):
            return True
    return False


def pierces(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """For triangle pairs (P, 3, 3): whether an edge of `a` goes properly through the inside of `b` (signs of tetrahedron volumes)."""
    normal = np.cross(b[:, 1] - b[:, 0], b[:, 2] - b[:, 0])
    scale = np.linalg.norm(normal, axis=1) * np.abs(a - b).max(axis=(1, 2))
    height = np.einsum("pkj,pj->pk", a - b[:, :1], normal)
    through = np.zeros(len(a), bool)
    for k in range(3):
        p, q = a[:, k], a[:, (k + 1) % 3]
        side = height[:, k] * height[:, (k + 1) % 3] < 0
        side &= np.minimum(np.abs(height[:, k]), np.abs(height[:, (k + 1) % 3])) > 1e-7 * scale
        turn = np.stack([np.einsum("pj,pj->p", q - p, np.cross(b[:, j] - p, b[:, (j + 1) % 3] - p)) for j in range(3)], axis=1)
        room = 1e-9 * np.abs(turn).max(axis=1, keepdims=True)
        through |= side & ((turn > room).all(axis=1) | (turn < -room).all(axis=1))
    return through
