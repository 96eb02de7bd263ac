"""The Open Image Denoise side of the training references: run by an interpreter that has pyoidn and numpy, and nothing of ours.

In: `train_denoise.py IN.npz OUT.npy`; IN holds colour (H, W, 3) f32 linear radiance with noise, albedo and normal (H, W, 3) f32 of the
first hit. Out: the same radiance without noise.
"""

from __future__ import annotations

import sys

import numpy as np
import pyoidn  # type: ignore[import-not-found]


def denoise(in_file: str, out_file: str) -> None:
    """Filter one picture."""
    data = np.load(in_file)
    planes = {name: np.ascontiguousarray(data[name], np.float32) for name in data.files}
    clean = pyoidn.denoise(planes["colour"], albedo=planes.get("albedo"), normal=planes.get("normal"), hdr=True)
    np.save(out_file, np.asarray(clean, np.float32))


if __name__ == "__main__":
    denoise(sys.argv[1], sys.argv[2])
