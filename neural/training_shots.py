"""The pictures that the refiner is trained and judged on: buildings, lights, cameras, moments.

In: nothing. Out: a fixed list of takes. Split by building: what is held out shares no building, light or camera with what
is trained on. A training take is one frame; a held-out take is a few consecutive ones, for the measures that need time.
Every number is hashed, so the list never depends on what was rendered before. Half of the standing moments have no crack at
all; the others run to a settled heap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shot.hashing import uniform
from shot.params import Shot

WIDTH, HEIGHT = 480, 270
SEED = 20
HELD_OUT = ("tower", "terrace")
TAKES_TRAINING, TAKES_HELD_OUT = 22, 4
FRAMES_HELD_OUT = 3
MOMENTS = (0.0, 0.12, 0.35, 0.6, 0.9, 1.3, 1.8, 3.0, 5.0)  # [s] into the staged collapse
BUILDINGS: dict[str, dict] = {
    "block": {"storeys": 5, "bays_x": 4, "bays_z": 2, "window": 0.4},
    "slab": {"storeys": 4, "bays_x": 6, "bays_z": 2, "bay": 3.6, "window": 0.55, "balcony": 0.0},
    "shop": {"storeys": 3, "bays_x": 3, "bays_z": 3, "bay": 5.0, "storey_height": 3.6, "window": 0.3, "parapet": 0.4},
    "pair": {"storeys": 6, "bays_x": 2, "bays_z": 2, "bay": 4.4, "core": False, "balcony": 1.4},
    "open": {"storeys": 5, "bays_x": 3, "bays_z": 2, "window": 0.8, "balcony": 0.0, "parapet": 0.0, "beam_depth": 0.55},
    "mill": {"storeys": 4, "bays_x": 4, "bays_z": 2, "storey_height": 3.4, "window": 0.25, "balcony": 0.0, "core": False},
    "tower": {"storeys": 7, "bays_x": 2, "bays_z": 2, "window": 0.5, "balcony": 0.9},
    "terrace": {"storeys": 3, "bays_x": 5, "bays_z": 2, "bay": 4.2, "window": 0.35, "balcony": 1.2},
}


@dataclass(frozen=True)
class Take:
    """One camera on one building at one moment; its shot has as many frames as are wanted, and one before them."""

    name: str
    building: str
    shot: Shot
    seconds: float  # of the shot's first frame, into the staged collapse
    seed: int  # of the collapse

    @property
    def held_out(self) -> bool:
        """Whether it may only be looked at, never trained on."""
        return self.building in HELD_OUT

    @property
    def frames(self) -> range:
        """Frames with a reference: all but the first, which only gives motion."""
        return range(self.shot.first + 1, self.shot.first + self.shot.frames)


def takes() -> list[Take]:
    """All takes, ordered so that any beginning of the list holds every building."""
    found = []
    for index in range(max(TAKES_TRAINING, TAKES_HELD_OUT)):
        for building in BUILDINGS:
            if index < (TAKES_HELD_OUT if building in HELD_OUT else TAKES_TRAINING):
                found.append(take(building, index))
    return found


def take(building: str, index: int) -> Take:
    """One take; every choice is hashed from the building's name and the index."""
    u = uniform(SEED, f"take/{building}/{index}", np.arange(32))
    tint = uniform(SEED, f"tint/{building}", np.arange(12)).reshape(4, 3)
    sizes = {"storey_height": 3.0, "bay": 4.0, **BUILDINGS[building]}
    height = sizes["storeys"] * sizes["storey_height"]
    width = sizes["bays_x"] * sizes["bay"]
    near, far = 0.55 * width + 5.0, 1.1 * max(width, height) + 24.0
    distance = near * (far / near) ** u[0]
    angle = 2 * np.pi * u[1]
    eye = (distance * np.sin(angle), 1.6 + (1.1 * height * u[2] if u[3] < 0.4 else 3.0 * u[2]), distance * np.cos(angle))
    target = ((u[4] - 0.5) * 0.5 * width, height * (0.15 + 0.5 * u[5]) * min(1.0, distance / 20), (u[6] - 0.5) * 4)
    overcast = u[7] < 0.2
    sky = 1.6 * np.array([0.6, 0.62, 0.66]) if overcast else (0.8 + 0.5 * u[17]) * np.array([0.42, 0.55, 0.80])
    strength = 0.25 if overcast else 0.7 + 0.5 * u[8]
    warm = 0.25 * u[9]
    moment = 0.0 if index % 6 == 0 else MOMENTS[1 + int(u[10] * (len(MOMENTS) - 1))]
    grey = 0.75 + 0.5 * tint[:, :1]
    usual = np.array([[0.42, 0.40, 0.37], [0.36, 0.15, 0.09], [0.58, 0.52, 0.42], [0.24, 0.23, 0.22]])
    colour = np.clip(usual * grey * (1 + 0.2 * (tint - 0.5)), 0.04, 0.85)
    concrete, brick, facade, ground = (tuple(float(x) for x in row) for row in colour)
    elevation = 12 + 55 * u[16]
    sun = strength * np.array([3.2, 2.95 - warm, 2.6 - 2 * warm])
    # what this ground sends up under this light: the default belongs to the default light, and the network would learn the difference
    bounce = colour[3] * (sun * np.sin(np.radians(elevation)) + sky)
    shot = Shot.model_validate({
        "name": f"{building}-{index:02d}",
        "seed": SEED + index,
        "frames": 1 + (FRAMES_HELD_OUT if building in HELD_OUT else 1),
        "building": BUILDINGS[building],
        "fracture": {"piece": 0.8 + 0.5 * tint[0, 0]},
        "materials": {"concrete": {"albedo": concrete, "steel": 0.015}, "brick": {"albedo": brick}, "facade": {"albedo": facade}},
        "camera": {
            "position": tuple(float(x) for x in eye), "target": tuple(float(x) for x in target), "fov": 32 + 22 * u[11],
            "move": tuple(float(x) for x in (u[12:15] - 0.5) * [2.0, 0.6, 2.0]), "width": WIDTH, "height": HEIGHT,
        },
        "light": {
            "azimuth": 360 * u[15] - 180, "elevation": float(elevation), "sun": tuple(map(float, sun)), "sky": tuple(map(float, sky)),
            "ground_bounce": tuple(map(float, bounce)),
        },
        "look": {"ground": ground, "weathering": 0.25 + 0.6 * u[18]},
    })
    return Take(shot.name, building, shot, float(moment), SEED + index)
