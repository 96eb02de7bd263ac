"""Random numbers that are a function of (seed, stream name, index), never of call order.

In: a seed, the name of what is drawn, integer indices. Out: uint64 hashes, uniforms, normals.
Reference: splitmix64 (Steele, Lea, Flood 2014). Adding a stream or skipping an index changes no other number, so
threads, chunks and resumed runs draw the same values. Not for cryptography.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream_key(seed: int, stream: str) -> int:
    """64-bit key of a named stream of a seed."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest(), "little")


def hashed(seed: int, stream: str, index: np.ndarray | int, lane: int = 0) -> np.ndarray:
    """uint64 hash of each index; `lane` numbers several draws for one index."""
    with np.errstate(over="ignore"):
        z = np.asarray(index).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = z + np.uint64(stream_key(seed, f"{stream}/{lane}"))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(seed: int, stream: str, index: np.ndarray | int, lane: int = 0) -> np.ndarray:
    """float64 in (0, 1), never 0 or 1."""
    return ((hashed(seed, stream, index, lane) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(seed: int, stream: str, index: np.ndarray | int, lane: int = 0) -> np.ndarray:
    """float64 standard normal (Box-Muller on two lanes)."""
    u, v = uniform(seed, stream, index, 2 * lane), uniform(seed, stream + "'", index, 2 * lane)
    return np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * np.pi * v)
