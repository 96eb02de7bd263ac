"""Our solver in the race of `bench.peers`: the same arguments and the same file as the peers' `engines.py`.

    python -m bench.peer.ours demolish SCENE.npz OUT.npz FRAMES THREADS

Steps of 1/60 s (a frame at 60 frames a second), everything else as shot/params.py has it by default, hulls unshrunk. Kernels are compiled
before the clock runs, both the serial and the parallel solve. `demolish10`: ten sweeps a step in place of the usual ones.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import numpy as np


def main() -> None:
    """Run our solver on one scene."""
    engine, source, out, frames, threads = sys.argv[1:6]
    from shot.device import taichi_open

    taichi_open("cpu", int(threads))
    import sim.solve
    from bench.peer.engines import GRAVITY, H, race
    from bench.peer.scenes import PeerScene, fragments_of_peer
    from shot.params import Sim
    from sim.world import Settings, World, bodies_read, bodies_write, fragments_read, world_create

    with np.load(source) as data:
        scene = PeerScene(**{k: data[k] for k in data.files})
    fragments, usual = fragments_of_peer(scene), Sim()
    sweeps = int(engine.removeprefix("demolish") or usual.contact_iterations)
    friction = float(scene.friction)
    settings = Settings(GRAVITY, sweeps, friction, usual.sleep_speed, usual.sleep_time, usual.rolling)

    def made() -> World:
        world = world_create(fragments, np.full(scene.count, friction), 0.0)
        bodies_write(world, bodies_read(world).x, scene.rotation, scene.velocity, np.zeros((scene.count, 3)))
        return world

    least = sim.solve.SERIAL_POINTS
    for limit in (0, least):
        sim.solve.SERIAL_POINTS = limit
        warm = made()
        for _ in range(2):
            sim.solve.contact_step(warm, H, settings)
    world = made()

    def pose() -> tuple[np.ndarray, np.ndarray]:
        poses = fragments_read(world)
        return poses.position, poses.rotation.astype(float)

    got = race(lambda: sim.solve.contact_step(world, H, settings), pose, int(frames))
    np.savez(out, version=f"demolish {version('demolish')}, {sweeps} sweeps", **got)


if __name__ == "__main__":
    main()
