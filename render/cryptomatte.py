"""Cryptomatte: which object covers how much of a pixel, as ranked id-coverage pairs (Friedman and Jones 2015, specification 1.2).

In: the four id samples of each pixel and a name for every id. Out: float32 channels `<Layer>00.R G B A` = (id, coverage, id, coverage),
`01` the next two, the metadata, and a manifest. Four samples hold at most four objects, so two levels are exact.

An id is MurmurHash3_32 of the name with its exponent kept off 0 and 255, cast to float: no denormals, no infinities. Background is id 0 and
takes no rank: coverage sums to what is covered. Ranks fall by coverage; of equals the sample first in the pixel (left to right, top to
bottom) wins.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shot.frames import file_publish
from shot.results import Fragments

MANIFEST_LIMIT = 2000  # names; larger manifests go into one file beside the frames instead of into every frame


@dataclass(frozen=True)
class Matte:
    """One cryptomatte layer of a shot: the float id of every picture id, and the names behind them."""

    layer: str
    table: np.ndarray  # (largest id + 2) f32; the last entry serves every id beyond: debris
    manifest: dict[str, str]  # name -> 8 hex digits


def mattes_of(fragments: Fragments) -> tuple[Matte, ...]:
    """CryptoObject (fragment), CryptoAsset (building element), CryptoMaterial; ground and debris have a name in each."""
    element = [fragments.element_name[e] for e in fragments.element]
    material = [fragments.material_name[m] for m in fragments.material]
    pieces = [f"fragment_{f:05d}" for f in range(fragments.count)]
    return tuple(matte(name, names) for name, names in (("CryptoObject", pieces), ("CryptoAsset", element), ("CryptoMaterial", material)))


def matte(layer: str, fragment_name: Sequence[str]) -> Matte:
    """Ids: 0 background, f + 1 fragment f, F + 1 the ground, beyond it debris."""
    names = [*fragment_name, "ground", "debris"]
    code = {name: name_hash(name) for name in dict.fromkeys(names)}
    table = np.array([0, *(code[name] for name in names)], np.uint32).view(np.float32)
    return Matte(layer, table, {name: f"{value:08x}" for name, value in code.items()})


def crypto_channels(matte: Matte, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Ranked channels of a frame from ids (H, W, 4) i32."""
    code, last = matte.table.view(np.uint32), len(matte.table) - 1
    flat = ids.reshape(-1, ids.shape[-1])
    planes = np.zeros((2 * ids.shape[-1], len(flat)), np.float32)
    first = code[np.clip(flat[:, 0], 0, last)]
    planes[0], planes[1] = first.view(np.float32), first != 0
    mixed = np.flatnonzero(np.logical_or.reduce([flat[:, k] != flat[:, 0] for k in range(1, flat.shape[1])]))  # most lie within one object
    planes[:, mixed] = ranked(code[np.clip(flat[mixed], 0, last)]).T
    return {f"{matte.layer}{k // 4:02d}.{'RGBA'[k % 4]}": plane.reshape(ids.shape[:-1]) for k, plane in enumerate(planes)}


def ranked(code: np.ndarray) -> np.ndarray:
    """(N, 2 S) f32 id, coverage, id, coverage, ... of the samples (N, S) u32 of N pixels."""
    same = code[:, :, None] == code[:, None, :]
    leader = ~np.tril(same, -1).any(axis=2) & (code != 0)  # the first sample of each object speaks for it
    count = np.where(leader, same.sum(axis=2), 0)
    order = np.argsort(-count, axis=1, kind="stable")
    count = np.take_along_axis(count, order, axis=1)
    code = np.where(count > 0, np.take_along_axis(code, order, axis=1), np.uint32(0)).view(np.float32)
    return np.stack([code, (count / np.float32(code.shape[1])).astype(np.float32)], axis=2).reshape(len(code), -1)


def crypto_attributes(matte: Matte, folder: Path, shot_name: str) -> dict[str, str]:
    """Metadata of a layer; a manifest above MANIFEST_LIMIT names is written once to `folder`, where the frames are."""
    key = f"cryptomatte/{layer_key(matte.layer)}/"
    attributes = {key + "name": matte.layer, key + "hash": "MurmurHash3_32", key + "conversion": "uint32_to_float32"}
    manifest = json.dumps(matte.manifest, sort_keys=True, separators=(",", ":"))
    if len(matte.manifest) <= MANIFEST_LIMIT:
        return attributes | {key + "manifest": manifest}
    file = f"{shot_name}.{matte.layer}.json"
    if not (folder / file).is_file() or (folder / file).read_text() != manifest:
        file_publish(folder / file, manifest.encode())
    return attributes | {key + "manif_file": file}


def layer_key(layer: str) -> str:
    """Seven hex digits under which a layer's metadata stands: of the plain hash, exponent untouched."""
    return f"{murmur3(layer.encode()):08x}"[:7]


def name_hash(name: str) -> int:
    """uint32 of a name whose float cast is an ordinary number: where the exponent is all zeros or all ones, its lowest bit is flipped."""
    value = murmur3(name.encode())
    return value ^ (1 << 23) if (value >> 23) & 255 in (0, 255) else value


def murmur3(data: bytes, seed: int = 0) -> int:
    """MurmurHash3_x86_32 (Appleby 2011)."""
    mask, h = 0xFFFFFFFF, seed
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        h ^= _scramble(int.from_bytes(data[i : i + 4], "little"))
        h = ((h << 13 | h >> 19) * 5 + 0xE6546B64) & mask
    if whole < len(data):
        h ^= _scramble(int.from_bytes(data[whole:], "little"))
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & mask
    h = (h ^ h >> 13) * 0xC2B2AE35 & mask
    return h ^ h >> 16


def _scramble(k: int) -> int:
    k = k * 0xCC9E2D51 & 0xFFFFFFFF
    return (k << 15 | k >> 17) * 0x1B873593 & 0xFFFFFFFF
