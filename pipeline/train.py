"""`make train`: repeat every training, from made data to weights and tables.

In: nothing but this repository, torch, and for the refiner an interpreter with Mitsuba (see render/reference.py). Out: the files
of assets/weights and the tables of docs. Everything resumes when run again; data lie under train/, which git ignores.
"""

from __future__ import annotations

import subprocess
import sys

DUST_SCENES = (*(str(k) for k in range(1, 13)), "101", "201", "202")  # train, validation, held out
STEPS = (
    ("dust upsampler: pairs of coarse and guided fine runs", ["-m", "sim.dust_pairs", "train/dust", *DUST_SCENES]),
    ("dust upsampler: training, table", ["-m", "neural.train_upsample"]),
    ("refiner: pairs of guides and path-traced references", ["-m", "pipeline.train_pairs", "--out", "train/refine"]),
    ("refiner: training, table", ["-m", "neural.train_refine", "--pairs", "train/refine"]),
)


def main() -> int:
    """Run the steps in order; stops at the first that fails."""
    for name, arguments in STEPS:
        print(f"== {name}: python {' '.join(arguments)}", flush=True)
        code = subprocess.run([sys.executable, *arguments], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
