"""Opening Taichi: what a killed run leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KERNEL = '''
import taichi as ti
from shot.device import taichi_open
taichi_open("cpu", 1)

@ti.kernel
def twice(n: ti.i32) -> ti.i32:
    return 2 * n

assert twice(21) == 42
'''


@pytest.mark.parametrize(("age", "kept"), [(3600.0, False), (0.0, True)])
def test_lock_of_a_killed_run_is_dropped(tmp_path, age, kept):
    """An hour old, nobody holds it: it goes, and the kernel is kept for the next run. A fresh one is somebody's."""
    cache = tmp_path / "kernels"
    cache.mkdir()
    lock = cache / "ticache.lock"
    lock.touch()
    os.utime(lock, (time.time() - age,) * 2)
    script = tmp_path / "kernel.py"
    script.write_text(KERNEL)
    environment = {**os.environ, "TI_OFFLINE_CACHE_FILE_PATH": str(cache), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, script], env=environment, check=True, capture_output=True)
    assert lock.exists() == kept
    assert bool(list(cache.glob("*.tic"))) != kept
