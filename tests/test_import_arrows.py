"""The architecture, held: cli -> pipeline -> {assets, sim, neural, render, export} -> shot, and no file past 700 lines."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MIDDLE = {"assets", "sim", "neural", "render", "export"}
PACKAGES = MIDDLE | {"shot", "pipeline"}
ALLOWED = {
    "shot": {"shot"},
    **{name: {"shot", name} for name in MIDDLE},
    "pipeline": PACKAGES,
    "cli": PACKAGES,
}
ONLY_IN = {
    "torch": {"neural"}, "diffusers": {"neural"}, "onnxruntime": {"neural"},
    "pyrender": {"render"}, "OpenGL": {"render"}, "click": {"cli"},
    "taichi": {"sim", "render", "neural", "shot"}, "trimesh": {"assets", "sim", "render", "export"},
}
FILES = sorted(p for name in PACKAGES for p in (ROOT / name).rglob("*.py")) + [ROOT / "cli.py"]


def imports(path: Path, top_only: bool = False) -> set[str]:
    """Top-level package names that a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_one_way(path: Path):
    """A file imports only what its layer may see, and each heavy library only where it belongs."""
    package = path.relative_to(ROOT).parts[0].removesuffix(".py")
    found = imports(path)
    assert not (found & PACKAGES) - ALLOWED[package]
    assert "tests" not in found and "bench" not in found
    for library, homes in ONLY_IN.items():
        if library in found:
            assert package in homes, f"{library} belongs in {homes}"
    if package == "cli":
        assert imports(path, top_only=True) <= {"__future__", "click"}


@pytest.mark.parametrize("path", FILES + sorted((ROOT / "tests").glob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_short(path: Path):
    """No file grows past 700 lines, and each opens with a docstring."""
    text = path.read_text()
    assert len(text.splitlines()) <= 700
    if text.strip():
        assert ast.get_docstring(ast.parse(text))


def test_taichi_starts_in_one_place():
    """`ti.init` is called in shot/device.py and nowhere else."""
    callers = [p for p in FILES if any(
        isinstance(n, ast.Attribute) and n.attr == "init" and isinstance(n.value, ast.Name) and n.value.id == "ti"
        for n in ast.walk(ast.parse(p.read_text())))]
    assert callers == [ROOT / "shot" / "device.py"]
