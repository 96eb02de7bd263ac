"""Install a CPU build of torch (and diffusers) for the tests, if pip can find one; say so and do nothing if not.

$TORCH_INDEX names a package index to take it from. Without it, pip's own answer is inspected first: a resolution that
would bring CUDA packages is refused, because it is gigabytes that no test uses. Exit code 0 either way.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

TORCH = "torch>=2.4,<2.14"  # newer releases were not tried
BESIDE = ["onnx>=1.16", "diffusers>=0.30", "transformers>=4.44", "accelerate>=0.33", "safetensors>=0.4"]


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pip of this environment."""
    return subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True)


def main() -> None:
    """Decide and install."""
    if all(importlib.util.find_spec(name) for name in ("torch", "onnx", "diffusers", "transformers", "accelerate")):
        return
    index = ["--index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
    found = pip("install", "--dry-run", "--quiet", "--ignore-installed", "--report", "-", *index, TORCH)
    if found.returncode:
        print(f"torch: pip finds none ({found.stderr.strip().splitlines()[-1:]}); its tests will be skipped")
        return
    names = [item["metadata"]["name"].lower() for item in json.loads(found.stdout)["install"]]
    if not index and any(name.startswith(("nvidia", "cuda", "triton")) for name in names):
        print("torch: pip offers only a CUDA build; set TORCH_INDEX to an index of CPU wheels; its tests will be skipped")
        return
    for step in ([*index, TORCH], [TORCH, *BESIDE]):
        done = pip("install", "--quiet", *step)
        if done.returncode:
            print(f"torch: {done.stderr.strip().splitlines()[-1:]}; its tests will be skipped")
            return


if __name__ == "__main__":
    main()
