"""What this machine has, and what to do about what it lacks.

In: nothing. Out: rows (what, state, figure, remedy); `ok` is False only for what the default job needs.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.digest import ROOT, library_versions, processor
from pipeline.store import cache_folder, folder_writable, store_list
from shot.errors import DemolishError

EGL_LINE = "apt-get install -y libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri"


@dataclass(frozen=True)
class Row:
    """One finding."""

    what: str
    ok: bool
    needed: bool
    figure: str
    remedy: str = ""


def doctor() -> list[Row]:
    """Look at this machine. Starts short-lived processes for what could crash (GL, CUDA)."""
    return [
        _python(), *_libraries(), _egl(), _cuda(), _torch(), _codecs(), _weights(), _cache(), _disk(), _processor(),
    ]


def _python() -> Row:
    good = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Row("python", good, True, platform.python_version(), "" if good else "use Python 3.11 or 3.12: taichi has no wheel for others")


def _libraries() -> list[Row]:
    rows = []
    needed = ("numpy", "scipy", "taichi", "trimesh", "manifold3d", "pyrender", "PyOpenGL", "OpenEXR", "OpenImageIO", "opencolorio",
              "av", "onnxruntime", "pydantic", "rich", "click", "fileseq", "matplotlib")
    for name, version in library_versions(needed).items():
        rows.append(Row(name, version != "absent", True, version, "" if version != "absent" else "pip install ."))
    return rows


def _probe(code: str, timeout: float = 60) -> tuple[bool, str]:
    try:
        done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=timeout, cwd=ROOT,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})
    except subprocess.TimeoutExpired:
        return False, f"no answer in {timeout:.0f} s"
    text = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, text[-1] if text else f"exit {done.returncode}"


def _egl() -> Row:
    code = (
        "from render.compat import pyrender_open; r = pyrender_open().OffscreenRenderer(16, 16); "
        "from OpenGL import GL; print(GL.glGetString(GL.GL_RENDERER).decode()); r.delete()"
    )
    ok, text = _probe(code)
    return Row("EGL", ok, True, text, "" if ok else EGL_LINE)


def _cuda() -> Row:
    ok, text = _probe("import onnxruntime as o; print(', '.join(o.get_available_providers()))")
    has = ok and "CUDA" in text
    return Row("CUDA", has, False, text, "" if has else "optional: onnxruntime-gpu and an NVIDIA driver speed up refinement")


def _torch() -> Row:
    versions = library_versions(("torch", "diffusers"))
    has = "absent" not in versions.values()
    figure = ", ".join(f"{k} {v}" for k, v in versions.items())
    remedy = "optional, to train or to refine with your own models: pip install '.[train,diffusion]'"
    return Row("torch, diffusers", has, False, figure, "" if has else remedy)


def _codecs() -> Row:
    ok, text = _probe("import av; print(' '.join(n for n in ('libx264', 'prores_ks') if n in av.codecs_available))")
    has = ok and "libx264" in text
    return Row("codecs", has, True, text, "" if has else "pip install --force-reinstall av")


def _weights() -> Row:
    found = sorted(p.name for p in (ROOT / "assets" / "weights").glob("*.onnx"))
    has = "refiner.onnx" in found
    return Row("weights", has, True, ", ".join(found) or "none", "" if has else "make train, or refine.backend = \"none\"")


def _cache() -> Row:
    path = cache_folder()
    try:
        folder_writable(path, "cache folder")
    except DemolishError as error:
        return Row("cache folder", False, True, str(error), "set DEMOLISH_CACHE to a folder you can write")
    size = sum(row.size for row in store_list(path))
    return Row("cache folder", True, True, f"{path}, {size / 1e9:.2f} GB used")


def _disk() -> Row:
    path = cache_folder()
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    good = free > 5e9
    return Row("disk", good, True, f"{free / 1e9:.1f} GB free at {path}", "" if good else "demolish cache prune, or set DEMOLISH_CACHE")


def _processor() -> Row:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return Row("processor", True, True, f"{os.cpu_count()} cores, {memory:.0f} GB, {model} ({processor()})")
