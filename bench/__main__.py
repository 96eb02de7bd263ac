"""`make bench`: every benchmark in turn, each a command of its own that anyone can run.

Prints what it prints; writes nothing. Times are process CPU times and ratios, because machines are shared and noisy.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SHORT = {  # what they usually do takes a quarter and half an hour
    "scaling": ("--counts", "1000", "2000", "5000"), "bonded": ("--storeys", "3", "--engines", "demolish", "rapier", "physx"),
}


def main() -> None:
    """Run each module of this folder in a fresh process."""
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        command = ["-m", f"bench.{path.stem}", *SHORT.get(path.stem, ())]
        print(f"\n== python {' '.join(command)}", flush=True)
        subprocess.run([sys.executable, *command], check=False)


if __name__ == "__main__":
    main()
