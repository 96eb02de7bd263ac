"""`make verify`: the long physics and picture checks, and the table they write.

Runs every test marked slow, then writes docs/verification.md: what each check holds, what it measured (values that a test
recorded with pytest's record_property), whether it passed, and a digest of the sources it judged and of the checks themselves;
comments do not count. `--stale` only says whether that digest still matches. Exit code: pytest's, and 0 for --stale.
"""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from pipeline.digest import code_digest

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "verification.md"
JUDGED = ("assets", "sim", "neural", "render", "pipeline", "shot", "tests")


def sources_digest() -> str:
    """Digest of every file that the checks judge, and of the files that hold a check."""
    state = hashlib.blake2b(digest_size=8)
    for package in JUDGED:
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_file() and path.suffix in (".py", ".vert", ".frag", ".glsl", ".onnx", ".toml", ".json"):
                if package == "tests" and path.suffix == ".py" and "mark.slow" not in path.read_text():
                    continue
                state.update(f"{path.relative_to(ROOT)} {code_digest(path)}\n".encode())
    return state.hexdigest()


def stale() -> None:
    """Say whether the committed table judged these sources."""
    current = TABLE.is_file() and f"`{sources_digest()}`" in TABLE.read_text()
    print("verification table: up to date" if current else "verification table: STALE, run `make verify`")


def docstring(name: str, test: str) -> str:
    """First line of a test's docstring."""
    path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == test.partition("[")[0]:
            return (ast.get_docstring(node) or "").splitlines()[0]
    return ""


def main() -> int:
    """Run the slow tests and write the table."""
    if "--stale" in sys.argv:
        stale()
        return 0
    judged = sources_digest()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "slow", "-rs", f"--junitxml={report}", "-o", "junit_family=xunit1", *sys.argv[1:]]
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode
        if not report.is_file():
            print(f"pytest ended with code {code} before it could report; no table is written")
            return code or 1
        root = ElementTree.parse(report).getroot()
    cases = list(root.iter("testcase"))
    minutes = sum(float(suite.get("time", 0)) for suite in root.iter("testsuite")) / 60
    lines = [
        "# Verification", "",
        "Written by `make verify`: every check marked slow, with what it measured.", "",
        f"Sources judged: `{judged}` ({len(cases)} checks in {minutes:.0f} minutes on {os.cpu_count()} cores)", "",
        "| check | holds | measured | result |", "|---|---|---|---|",
    ]
    for case in cases:
        name, test = case.get("classname", ""), case.get("name", "")
        measured = ", ".join(f"{p.get('name')} {p.get('value')}" for p in case.iter("property"))
        result = next((tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None), "passed")
        lines.append(f"| {name.removeprefix('tests.')}: {test} | {docstring(name, test)} | {measured} | {result} |")
    TABLE.write_text("\n".join(lines) + "\n")
    print(f"{TABLE.relative_to(ROOT)}: {len(cases)} checks")
    return code


if __name__ == "__main__":
    sys.exit(main())
