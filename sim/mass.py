"""Volume, centre of mass and inertia of closed triangle meshes, many at once.

In: one vertex array and one face array for all meshes, with starts. Out: volumes, centres, inertia tensors of unit density.
Reference: the canonical tetrahedron, integral of x x^T = det / 120 (aa^T + bb^T + cc^T + ss^T), s = a + b + c, summed over the
signed tetrahedra between each triangle and a point near the mesh (Blow and Binstock 2004; Mirtich 1996 gives the same integrals).
Sums run in face order, so the same mesh gives the same bits. Open or inside-out meshes are the caller's error: a volume <= 0.
"""

from __future__ import annotations

import numpy as np


def mass_properties(
    vertex: np.ndarray, vertex_start: np.ndarray, face: np.ndarray, face_start: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Volumes (N) [m3], centroids (N, 3) [m], inertia about the centroid (N, 3, 3) [m5] (times density: kg m2).

    Mesh n owns vertices vertex_start[n]:vertex_start[n + 1] and faces likewise; faces are local to the mesh, outward.
    """
    count = len(face_start) - 1
    owner = np.repeat(np.arange(count), np.diff(face_start))
    origin = segment_sum(vertex, vertex_start) / np.diff(vertex_start)[:, None]
    corner = vertex[face + vertex_start[owner][:, None]] - origin[owner][:, None]  # (T, 3 corners, 3)
    a, b, c = corner[:, 0], corner[:, 1], corner[:, 2]
    det = np.einsum("ij,ij->i", a, np.cross(b, c))
    s = a + b + c
    volume = segment_sum(det, face_start) / 6.0
    first = segment_sum(det[:, None] * s, face_start) / 24.0
    second = np.einsum("tki,tkj->tij", corner, corner) + s[:, :, None] * s[:, None, :]
    second = segment_sum(det[:, None, None] * second, face_start) / 120.0
    centroid = first / volume[:, None]
    covariance = second - volume[:, None, None] * centroid[:, :, None] * centroid[:, None, :]
    trace = np.trace(covariance, axis1=1, axis2=2)
    inertia = trace[:, None, None] * np.eye(3) - covariance
    return volume, origin + centroid, 0.5 * (inertia + inertia.transpose(0, 2, 1))


def segment_sum(value: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Sums of value[start[n]:start[n + 1]] along the first axis, in index order; empty segments give zero."""
    count = len(start) - 1
    owner = np.repeat(np.arange(count), np.diff(start))
    flat = value.reshape(len(value), -1)
    columns = [np.bincount(owner, weights=flat[:, k], minlength=count) for k in range(flat.shape[1])]
    return np.stack(columns, axis=1).reshape(count, *value.shape[1:])
