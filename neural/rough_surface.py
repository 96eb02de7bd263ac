"""Fragments with rough fracture faces: the fine geometry that a path-traced reference has and the raster leaves out.

In: Fragments, which of them are seen and how finely. Out: Fragments whose faces made by a cut are finely meshed there and
displaced by a fractal vector field of the rest position, so that both sides of a crack still fit. Outer faces stay in their
plane; only their cut edges turn ragged. Amplitudes follow a self-affine surface with Hurst exponent 0.8, the value measured
on fractured concrete and rock over five decades (Bouchaud 1997, "Scaling properties of cracks"). Only meshes change: mass,
hulls, centres and the order of fragments stay. Not handled: aggregate poking out of the matrix, bars.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shot.hashing import hashed
from shot.results import Fragments

HURST = 0.8
WAVE_LONGEST = 0.6  # [m]
OCTAVES = 5
AMPLITUDE = 0.05  # [m] of the longest wave, in pieces thicker than THICK
THICK = 0.3  # [m]


def roughen(fragments: Fragments, edge: np.ndarray, seed: int) -> Fragments:
    """Displace and refine the meshes of fragments with a finite wanted edge length `edge` (F) [m]; inf leaves a piece as it is."""
    vertex, face, owner, interior = [], [], [], []
    chosen = np.flatnonzero(np.isfinite(edge))
    offset = 0
    for f in chosen:
        points = fragments.vertex[fragments.vertex_start[f] : fragments.vertex_start[f + 1]].astype(np.float64)
        rows = slice(fragments.face_start[f], fragments.face_start[f + 1])
        points, index = weld(points)
        vertex.append(points)
        face.append(index[fragments.face[rows]] + offset)
        interior.append(fragments.face_interior[rows])
        owner.append(np.full(len(points), f))
        offset += len(points)
    if not len(chosen):
        return fragments
    whole = [np.concatenate(part) for part in (vertex, face, interior, owner)]
    points, faces, cut, own = subdivided(whole[0], whole[1], whole[2], whole[3], edge)
    points = displaced(points, faces, cut, own, fragments, edge, seed)
    return merged(fragments, chosen, points, faces, cut, own)


def weld(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points without duplicates (to 1e-5 m), and the new index of each old one."""
    _, first, index = np.unique(np.round(points, 5), axis=0, return_index=True, return_inverse=True)
    return points[first], index.reshape(-1)


def subdivided(
    points: np.ndarray, faces: np.ndarray, cut: np.ndarray, owner: np.ndarray, edge: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Halve edges of cut faces until none is longer than its fragment's wanted length; no vertex ends up inside an edge."""
    while True:
        sides = faces[:, [[0, 1], [1, 2], [2, 0]]]
        low, high = sides.min(-1).astype(np.int64), sides.max(-1).astype(np.int64)
        key, inverse = np.unique(low * len(points) + high, return_inverse=True)
        a, b = key // len(points), key % len(points)
        rough = np.zeros(len(key), bool)
        rough[inverse.reshape(-1, 3)[cut]] = True
        long = rough & (np.linalg.norm(points[a] - points[b], axis=1) > edge[owner[a]])
        if not long.any():
            return points, faces, cut, owner
        middle = np.full(len(key), -1)
        middle[long] = len(points) + np.arange(long.sum())
        points = np.concatenate([points, 0.5 * (points[a[long]] + points[b[long]])])
        owner = np.concatenate([owner, owner[a[long]]])
        m = middle[inverse.reshape(-1, 3)]
        faces, parent = split_faces(faces, m)
        cut = cut[parent]


def split_faces(faces: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles cut at the middles (T, 3) of their sides 01, 12, 20 (-1 for none), and the parent of each."""
    split = middle >= 0
    count = split.sum(1)
    out, parent = [faces[count == 0]], [np.flatnonzero(count == 0)]

    def add(rows, *triangles):
        for triangle in triangles:
            out.append(np.stack(triangle, 1))
            parent.append(rows)

    for turn in range(3):  # turn the corners so that one side (or the one left whole) comes first
        order = np.roll(np.arange(3), -turn)
        f, m = faces[:, order], middle[:, order]
        rows = np.flatnonzero((count == 1) & split[:, turn])
        (a, b, c), m01 = f[rows].T, m[rows, 0]
        add(rows, (a, m01, c), (m01, b, c))
        rows = np.flatnonzero((count == 2) & ~split[:, turn])
        (a, b, c), m12, m20 = f[rows].T, m[rows, 1], m[rows, 2]
        add(rows, (m12, c, m20), (a, b, m12), (a, m12, m20))
    rows = np.flatnonzero(count == 3)
    (a, b, c), (ab, bc, ca) = faces[rows].T, middle[rows].T
    add(rows, (a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    return np.concatenate(out), np.concatenate(parent)


def displaced(
    points: np.ndarray, faces: np.ndarray, cut: np.ndarray, owner: np.ndarray, fragments: Fragments, edge: np.ndarray, seed: int
) -> np.ndarray:
    """Points of cut faces moved by the fractal field; a point that an outer face shares stays in that face's plane."""
    corner = points[faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    outer = np.zeros((3, len(points), 3))  # up to three outer planes meet in a point: remember one per main axis
    axis = np.abs(normal).argmax(1)
    for k in range(3):
        rows = faces[(axis == k) & ~cut]
        for column in range(3):
            np.add.at(outer[k], rows[:, column], normal[(axis == k) & ~cut])
    touched = np.zeros(len(points), bool)
    touched[faces[cut]] = True
    extent = np.full((len(fragments.mass), 2, 3), 0.0)
    np.minimum.at(extent[:, 0], owner, points)
    np.maximum.at(extent[:, 1], owner, points)
    thin = np.minimum((extent[:, 1] - extent[:, 0]).min(1) / THICK, 1.0)[owner]
    move = np.zeros_like(points)
    rest = (fragments.position[owner] + points)[touched]
    move[touched] = AMPLITUDE * thin[touched, None] * fractal(rest, edge[owner[touched]], seed)
    length = np.linalg.norm(outer, axis=2, keepdims=True)
    unit = np.divide(outer, length, out=np.zeros_like(outer), where=length > 0)
    for n in unit:
        move -= (move * n).sum(1, keepdims=True) * n
    return points + move


def fractal(rest: np.ndarray, edge: np.ndarray, seed: int) -> np.ndarray:
    """(V, 3) vector noise at rest positions: octaves of smooth value noise in -1..1, waves that the mesh cannot carry left out."""
    total = np.zeros_like(rest)
    for octave in range(OCTAVES):
        wave = WAVE_LONGEST / 2**octave
        fade = np.clip(wave / (2 * edge) - 1, 0, 1)
        if fade.any():
            total += (0.5 ** (HURST * octave) * fade)[:, None] * value_noise(rest / wave, seed, octave)
    return total


def value_noise(x: np.ndarray, seed: int, octave: int) -> np.ndarray:
    """(V, 3) noise in -1..1 of points (V, 3): hashed lattice values, smoothstep between them."""
    base = np.floor(x).astype(np.int64)
    f = x - base
    f = f * f * (3 - 2 * f)
    total = np.zeros_like(x)
    for corner in np.ndindex(2, 2, 2):
        cell = base + corner
        key = (cell[:, 0] * 73856093) ^ (cell[:, 1] * 19349663) ^ (cell[:, 2] * 83492791)
        h = hashed(seed, "rough", key, octave)
        values = np.stack([(h >> np.uint64(s)) & np.uint64(0x1FFFFF) for s in (0, 21, 42)], 1).astype(float) / 0xFFFFF - 1
        total += np.prod(np.where(corner, f, 1 - f), axis=1)[:, None] * values
    return total


def merged(
    fragments: Fragments, chosen: np.ndarray, points: np.ndarray, faces: np.ndarray, cut: np.ndarray, owner: np.ndarray
) -> Fragments:
    """Fragments with the meshes of `chosen` replaced."""
    order = np.argsort(owner, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    face_owner = owner[faces[:, 0]]
    face_order = np.argsort(face_owner, kind="stable")
    start = np.searchsorted(owner[order], chosen), np.searchsorted(face_owner[face_order], chosen)
    row = {f: k for k, f in enumerate(chosen)}
    stop = [np.append(s[1:], n) for s, n in zip(start, (len(points), len(faces)), strict=True)]
    vertex, face, interior = [], [], []
    for f in range(fragments.count):
        if f in row:
            k = row[f]
            vertex.append(points[order[start[0][k] : stop[0][k]]])
            mine = face_order[start[1][k] : stop[1][k]]
            face.append(place[faces[mine]] - start[0][k])
            interior.append(cut[mine])
        else:
            vertex.append(fragments.vertex[fragments.vertex_start[f] : fragments.vertex_start[f + 1]])
            rows = slice(fragments.face_start[f], fragments.face_start[f + 1])
            face.append(fragments.face[rows])
            interior.append(fragments.face_interior[rows])
    return replace(
        fragments, vertex=np.concatenate(vertex).astype(np.float32), face=np.concatenate(face).astype(np.int32),
        vertex_start=np.cumsum([0, *map(len, vertex)]).astype(np.int32), face_start=np.cumsum([0, *map(len, face)]).astype(np.int32),
        face_interior=np.concatenate(interior),
    )
