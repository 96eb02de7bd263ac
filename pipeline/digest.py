"""What can change the bytes of a stage, hashed: its sources, its libraries, this processor, its part of the shot.

In: a module name, distribution names, a Shot and the paths of it that a stage reads. Out: short hex digests.
Sources are found by walking imports from the stage's module through this project's own files, with the data files
beside them (shaders), so that editing a file invalidates the stages that use it and no other.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from shot.params import Shot

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("assets", "sim", "neural", "render", "export", "shot")
ALWAYS = ("seed", "first", "fps")  # every stage may read these three


def digest(value: Any) -> str:
    """16 hex digits of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def file_digest(path: Path) -> str:
    """16 hex digits of a file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


@cache
def sources_digest(module: str) -> str:
    """Digest of a module and of every file of this project it imports, directly or not."""
    todo, seen = [_module_file(module)], set()
    while todo:
        path = todo.pop()
        if path is None or path in seen:
            continue
        seen.add(path)
        todo += [_module_file(name) for name in _file_read(path)[1]]
        if (path.parent / "shaders").is_dir():
            todo += [p for p in (path.parent / "shaders").iterdir() if p.suffix == ".py"]
            seen |= {p for p in (path.parent / "shaders").iterdir() if p.is_file() and p.suffix != ".py"}
    # the table of parameters enters through the values read, not through its text
    seen.discard(ROOT / "shot" / "params.py")
    return digest([[str(p.relative_to(ROOT)), code_digest(p)] for p in sorted(seen)])


def code_digest(path: Path) -> str:
    """Digest of what a file does: comments, docstrings and layout of Python do not count."""
    return _file_read(path)[0] if path.suffix == ".py" else file_digest(path)


@cache
def _file_read(path: Path) -> tuple[str, tuple[str, ...]]:
    """Digest of a Python file without comments, docstrings and layout; what it may import. Read once: each stage asks for most files."""
    tree, names = ast.parse(path.read_bytes()), []
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body[0].value.value = None
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return digest(ast.dump(tree)), tuple(names)


def _module_file(name: str) -> Path | None:
    if name.split(".")[0] not in PACKAGES:
        return None
    path = ROOT.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def library_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of distributions; 'absent' for one that is not there."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


@cache
def processor() -> str:
    """Instruction set of this machine, as far as compilers choose code by it."""
    flags: set[str] = set()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                flags = set(line.partition(":")[2].split())
                break
    except OSError:
        pass
    chosen = sorted(f for f in flags if f.startswith(("sse", "avx", "fma", "bmi", "f16c", "amx")))
    return f"{platform.machine()}/{digest(chosen)}"


def shot_part(shot: Shot, reads: Sequence[str]) -> dict[str, Any]:
    """The values of a shot under the given dotted paths ('*' for any key, '!' in front to leave one out), and the three of all."""
    values = shot.model_dump(mode="json")
    wanted = [path.split(".") for path in (*ALWAYS, *(r for r in reads if not r.startswith("!")))]
    spared = [path[1:].split(".") for path in reads if path.startswith("!")]
    return {
        ".".join(key): value for key, value in _flat(values, ())
        if any(_under(key, path) for path in wanted) and not any(_under(key, path) for path in spared)
    }


def shot_trimmed(shot: Shot, reads: Sequence[str]) -> Shot:
    """A shot in which everything a stage did not declare is at its default, so that it cannot have an effect."""
    values: dict[str, Any] = Shot().model_dump(mode="json")
    for key, value in shot_part(shot, reads).items():
        here, *rest = values, *key.split(".")
        for part in rest[:-1]:
            here = here[part]
        here[rest[-1]] = value
    if values["building"]["kind"] == "mesh" and not values["building"]["file"]:
        values["building"]["kind"] = "frame"
    return Shot.model_validate(values)


def _flat(values: dict[str, Any], prefix: tuple[str, ...]):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def _under(key: Sequence[str], path: Sequence[str]) -> bool:
    return len(path) <= len(key) and all(p in ("*", k) for p, k in zip(path, key, strict=False))
