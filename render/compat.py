"""pyrender 0.1.45 and PyOpenGL 3.1.0 made to run headless on numpy 2. Import this before either of them.

In: nothing. Out: `pyrender_open()`, which sets the platform, checks that EGL is there, patches and returns pyrender.
The patches: EGL instead of a window (pyrender picks a pyglet window when `PYOPENGL_PLATFORM` is unset); `np.infty`, which
numpy 2 dropped and `Mesh.bounds` uses. Linking without validation lives in `render/gl.py`, where programs are built.
OSMesa is not supported: EGL is surfaceless in software too and needs no window system.
"""

from __future__ import annotations

import ctypes.util
import os
from types import ModuleType

import numpy as np

from shot.errors import MissingResource

APT_LINE = "apt-get install -y libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri"


def pyrender_open() -> ModuleType:
    """pyrender, ready for EGL. Raises MissingResource with the line that installs what is missing."""
    platform = os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    if platform != "egl":
        raise MissingResource(f"PYOPENGL_PLATFORM={platform}: the guide passes need egl; unset it")
    for library in ("EGL", "GL"):
        if ctypes.util.find_library(library) is None:
            raise MissingResource(f"lib{library} is missing, so nothing can be rasterised: {APT_LINE}")
    if not hasattr(np, "infty"):
        setattr(np, "infty", np.inf)  # noqa: B010
    try:
        import pyrender
    except (ImportError, AttributeError, OSError) as error:
        raise MissingResource(f"pyrender or OpenGL does not load ({error}): {APT_LINE}") from error
    return pyrender
