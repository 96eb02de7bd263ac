"""Files that a mesh file draws in, so that a change of any of them counts as a change of the mesh.

In: a mesh file. Out: itself and those of its companions that are there: the buffers of glTF and GLB (glTF 2.0, 3.6.1; uri relative to the
file, percent-encoded), the material libraries of OBJ (`mtllib`). Textures are not read by the importer and do not count. A file that
cannot be read names nothing here: the importer says what is wrong with it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

GLB_MAGIC, GLB_JSON = 0x46546C67, 0x4E4F534A  # "glTF", "JSON"


def mesh_files(path: Path) -> dict[str, Path]:
    """The file as "mesh", each companion that exists under the name by which the file calls it."""
    if not path.is_file():
        return {}
    suffix = path.suffix.lower()
    names = _obj_names(path) if suffix == ".obj" else _gltf_names(path) if suffix in (".gltf", ".glb") else iter(())
    found = {f"mesh/{name}": path.parent / name for name in names}
    return {"mesh": path} | {name: file for name, file in found.items() if file.is_file()}


def _obj_names(path: Path) -> Iterator[str]:
    """Names after `mtllib`: one that holds spaces, or several."""
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            word, _, rest = line.strip().partition(" ")
            if word == "mtllib" and rest.strip():
                yield rest.strip()
                yield from rest.split()


def _gltf_names(path: Path) -> Iterator[str]:
    """Buffer files of a glTF document."""
    try:
        document: Any = json.loads(_gltf_text(path))
        uris = [buffer.get("uri", "") for buffer in document.get("buffers", [])]
    except (ValueError, TypeError, AttributeError):  # not JSON, or not as glTF nests it
        return
    yield from (unquote(uri) for uri in uris if isinstance(uri, str) and uri and not uri.startswith("data:"))


def _gltf_text(path: Path) -> bytes:
    """The JSON document of a .gltf, or the first chunk of a .glb."""
    with open(path, "rb") as file:
        head = file.read(20)
        if len(head) < 20 or struct.unpack("<I", head[:4])[0] != GLB_MAGIC:
            return head + file.read()
        length, kind = struct.unpack("<II", head[12:20])
        return file.read(length) if kind == GLB_JSON else b""
