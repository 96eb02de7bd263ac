"""Pairs of overlapping boxes, and products of ragged rows.

In: lower and upper corners of boxes. Out: index pairs (i < j) in ascending order. A uniform grid with cells about as wide as the larger
boxes holds every box in each cell it touches; a pair counts only in the cell of its common lower corner, so it counts once.
Reference: Ericson, Real-Time Collision Detection 7.1. Slow where a few boxes are far wider than most.
"""

from __future__ import annotations

import numpy as np


def box_pairs(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """(P, 2) i64 pairs of boxes (N, 3) that touch or overlap."""
    if len(lower) < 2:
        return np.zeros((0, 2), np.int64)
    cell = max(float(np.percentile((upper - lower).max(axis=1), 90)), 1e-12 * float(np.abs(upper).max() + 1.0))
    origin = lower.min(axis=0)
    first = np.floor((lower - origin) / cell).astype(np.int64)
    last = np.floor((upper - origin) / cell).astype(np.int64)
    size = last.max(axis=0) + 1
    span = last - first + 1
    box, at = ragged(span.prod(axis=1))
    sy, sz = span[box, 1], span[box, 2]
    place = first[box] + np.stack([at // (sy * sz), at // sz % sy, at % sz], axis=1)
    key = (place[:, 0] * size[1] + place[:, 1]) * size[2] + place[:, 2]
    order = np.lexsort((box, key))
    key, box, place = key[order], box[order], place[order]
    end = np.searchsorted(key, key, side="right")
    i, ahead = ragged(end - np.arange(len(key)) - 1)
    j = i + 1 + ahead
    a, b = box[i], box[j]
    touching = np.all((lower[a] <= upper[b]) & (lower[b] <= upper[a]), axis=1)
    touching &= np.all(np.maximum(first[a], first[b]) == place[i], axis=1)
    pairs = np.stack([a[touching], b[touching]], axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def ragged(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and place within the row of every entry of rows with `count` entries."""
    row = np.repeat(np.arange(len(count)), count)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)


def ragged_product(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, left place and right place of every combination of `left[row]` by `right[row]` entries."""
    row, at = ragged(left * right)
    return row, at // right[row], at % right[row]
