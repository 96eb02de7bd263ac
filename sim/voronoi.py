"""Voronoi sites inside a member and the convex cells around them.

In: a convex solid, a wanted piece size, an irregularity. Out: sites and one convex polyhedron per site; they fill the solid exactly,
because neighbours share the same bisector plane. Sites stand on a grid in the solid's own box frame with as many cells per axis as
pieces fit there: a slab gets cells per area, a column cells per length, a block cells per volume. Jitter moves each site within its
grid cell, so two sites never coincide; across an axis with one cell it moves half as far, which tilts the cuts but does not split
a panel into sheets. Slivers: a cell below SLIVER of the mean volume moves its site to the cell's centre (Lloyd 1982), and is given
to its neighbours if that does not help. Reference for the early exit: Rycroft, Voro++, Chaos 19, 041111 (2009).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from shot.hashing import uniform
from sim.mass import mass_properties
from sim.polyhedron import Polyhedron, cut_at, triangles

SLIVER = 0.2  # share of the mean cell volume; measured: no cell of a box at jitter 0.8, one in a thousand at jitter 1
LLOYD_ROUNDS = 4
EPS = 1e-9  # of the solid's size: where rounding ends and shape begins


def cells_of_convex(
    solid: Polyhedron, piece: float, pieces_min: int, jitter: float, seed: int, stream: str
) -> tuple[np.ndarray, list[Polyhedron]]:
    """Sites (N, 3) [m] and the cell of each, cut exactly from the solid; interior faces are tagged with the neighbouring site.

    `stream` names the random numbers, so that members do not share them. Cells are never empty and sum to the solid.
    """
    site = sites_of_grid(solid, piece, pieces_min, jitter, seed, stream)
    eps = EPS * float(np.ptp(solid.vertex, axis=0).max())
    whole = volumes_of([solid])[0][0]
    for attempt in range(len(site) + LLOYD_ROUNDS + 1):
        cells = voronoi_cells(solid, site, eps)
        volume, centroid = volumes_of(cells)
        empty = volume <= 1e-6 * whole / len(site)
        poor = volume < SLIVER * whole / max(1, np.count_nonzero(~empty))
        if not poor.any():
            break
        if attempt < LLOYD_ROUNDS and not empty.any():
            site = np.where(poor[:, None], centroid, site)
        elif empty.any():
            site = site[~empty]
        else:
            site = np.delete(site, int(np.argmin(volume)), axis=0)
    return site, [cell for cell in cells if cell is not None]


def sites_of_grid(solid: Polyhedron, piece: float, pieces_min: int, jitter: float, seed: int, stream: str) -> np.ndarray:
    """Jittered grid sites (N, 3) [m] in the frame of the solid's smallest box."""
    frame = box_frame(solid)
    local = solid.vertex @ frame.T
    lower, extent = local.min(axis=0), np.ptp(local, axis=0)
    count = cell_counts(extent, piece, pieces_min)
    index = np.stack(np.unravel_index(np.arange(count.prod()), tuple(count)), axis=1)
    shake = np.stack([uniform(seed, stream, np.arange(len(index)), axis) for axis in range(3)], axis=1) - 0.5
    shake *= jitter * np.where(count == 1, 0.5, 1.0)
    return (lower + (index + 0.5 + shake) / count * extent) @ frame


def cell_counts(extent: np.ndarray, piece: float, pieces_min: int) -> np.ndarray:
    """Cells along each axis (3): as many as fit, then more along the longest cell side until there are pieces_min."""
    count = np.maximum(1, np.floor(extent / piece + 0.5)).astype(np.int64)
    while count.prod() < pieces_min:
        count[np.argmax(extent / count)] += 1
    return count


def box_frame(solid: Polyhedron) -> np.ndarray:
    """Rows: axes (3, 3) of the smallest box among the world's axes and those laid on a face and one of its edges."""
    best, smallest = np.eye(3), float(np.prod(np.ptp(solid.vertex, axis=0)))
    for loop in solid.loop:
        p = solid.vertex[list(loop)]
        edge = np.roll(p, -1, axis=0) - p
        normal = np.cross(p - p[0], np.roll(p, -1, axis=0) - p[0]).sum(axis=0)
        x = edge[np.argmax(np.einsum("ij,ij->i", edge, edge))]
        if not (np.any(normal) and np.any(x)):
            continue
        n, x = normal / np.linalg.norm(normal), x / np.linalg.norm(x)
        frame = np.stack([x, np.cross(n, x), n])
        volume = float(np.prod(np.ptp(solid.vertex @ frame.T, axis=0)))
        if volume < (1.0 - 1e-6) * smallest:
            best, smallest = frame, volume
    return best


def voronoi_cells(solid: Polyhedron, site: np.ndarray, eps: float) -> list[Polyhedron | None]:
    """The cell of each site inside the solid; None where it lies outside."""
    tree = KDTree(site)
    return [voronoi_cell(solid, site, i, tree, eps) for i in range(len(site))]


def voronoi_cell(solid: Polyhedron, site: np.ndarray, i: int, tree: KDTree, eps: float) -> Polyhedron | None:
    """Cut by the bisectors to the other sites, nearest first, until no further one can reach the cell."""
    count, known, cell = len(site), min(len(site), 32), solid
    while count > 1:
        gap, near = (np.atleast_1d(found) for found in tree.query(site[i], k=known))
        order = np.lexsort((near, gap))
        near, gap = near[order], gap[order]
        near, gap = near[near != i], gap[near != i]
        normal = (site[near] - site[i]) / gap[:, None]
        offset = np.einsum("ij,ij->i", normal, 0.5 * (site[near] + site[i]))
        at = 0
        while at < len(near):
            distance = cell.vertex @ normal[at:].T - offset[at:]
            crossing = np.flatnonzero(distance.max(axis=0) > eps)
            if len(crossing) == 0:
                break
            at += int(crossing[0])
            part = cut_at(cell, distance[:, crossing[0]], int(near[at]), eps)
            if part is None:
                return None
            cell, at = part, at + 1
        reach = np.sqrt(np.max(np.einsum("ij,ij->i", cell.vertex - site[i], cell.vertex - site[i])))
        if known == count or gap[-1] > 2.0 * reach:
            break
        known = min(count, 4 * known)
    return cell


def volumes_of(cells: list[Polyhedron | None]) -> tuple[np.ndarray, np.ndarray]:
    """Volumes (N) [m3] and centroids (N, 3) [m]; zero for None."""
    volume, centroid = np.zeros(len(cells)), np.zeros((len(cells), 3))
    some = [(k, cell, triangles(cell)[0]) for k, cell in enumerate(cells) if cell is not None]
    if some:
        vertex_start = np.cumsum([0] + [len(cell.vertex) for _, cell, _ in some])
        face_start = np.cumsum([0] + [len(face) for _, _, face in some])
        vertex = np.concatenate([cell.vertex for _, cell, _ in some])
        face = np.concatenate([face for _, _, face in some])
        at = [k for k, _, _ in some]
        volume[at], centroid[at], _ = mass_properties(vertex, vertex_start, face, face_start)
    return volume, centroid
