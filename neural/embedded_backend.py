"""Our own small diffusion network, run with ONNX Runtime: no torch, no download.

In: `refiner.onnx` and the `refiner.json` beside it (digest, version of the guides, channel order, residual deviation, noise
scale), shot.refine, shot.light. Out: the relief of the surfaces (`neural/relief.py`), and code residuals of the solid layer
that carries it. Raises MissingResource where the file pair is damaged or a device is missing, ShotError where the weights
were trained on another version of the guides. The bits do not depend on the number of threads (tests/test_refine.py holds that).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from neural.guide_tensor import CHANNELS, Lens, guide_channels, padded
from neural.noise import fixed_noise, fresh_noise, surface_noise
from neural.relief import relief_factor
from neural.sampler import flow_sample, times_uniform
from shot.errors import MissingResource, ShotError
from shot.params import Shot
from shot.results import Guides


class EmbeddedBackend:
    """An ONNX Runtime session and what its weights say about themselves."""

    layer = "solid"

    def __init__(self, shot: Shot, weights: Path):
        self.shot = shot
        self.about = weights_about(weights)
        self.session = session_open(weights, shot.refine.device)
        self.deviation = np.asarray(self.about["residual_deviation"], np.float32)[:, None, None]

    def detail(self, arrays: Mapping[str, np.ndarray], lens: Lens) -> np.ndarray:
        """(H, W, 3) relief of the surfaces."""
        return relief_factor(arrays, lens, self.shot.light, self.shot.seed)

    def residual(
        self, picture: np.ndarray, arrays: Mapping[str, np.ndarray], lens: Lens, frame: int, carried: np.ndarray, valid: np.ndarray
    ) -> np.ndarray:
        """(3, H, W) float32 code residual of the solids. The carried one is not shown to the network: see docs/refinement.md."""
        height, width = arrays["id"].shape
        guides = padded(guide_channels(picture, arrays, lens))[None]

        def denoise(state: np.ndarray, time: float) -> np.ndarray:
            feed = {"guides": guides, "state": state, "time": np.array([time], np.float32)}
            return np.asarray(self.session.run(None, feed)[0])

        noise = padded(frame_noise(self.shot, arrays, frame))[None]
        answer = flow_sample(denoise, noise, self.about["noise_scale"], times_uniform(self.shot.refine.steps))
        return answer[0, :, :height, :width] * self.deviation


def frame_noise(shot: Shot, arrays: Mapping[str, np.ndarray], frame: int) -> np.ndarray:
    """(3, H, W) unit noise of the kind the shot asks for."""
    height, width = arrays["id"].shape
    if shot.refine.noise == "surface":
        return surface_noise(arrays["rest"], arrays["id"], shot.seed)
    if shot.refine.noise == "fixed":
        return fixed_noise(height, width, shot.seed)
    return fresh_noise(height, width, shot.seed, frame)


def weights_about(weights: Path) -> dict:
    """The JSON beside the weights, checked against them and against this code."""
    try:
        about = json.loads(weights.with_suffix(".json").read_text())
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise MissingResource(f"{weights} or its .json cannot be read ({error}): `make train` writes both") from error
    if about["sha256"] != digest:
        raise MissingResource(f"{weights}: content does not match the digest in {weights.with_suffix('.json').name}")
    if about["guides_version"] != Guides.VERSION:
        raise ShotError(f"{weights}: trained on guides of version {about['guides_version']}, these are {Guides.VERSION}: `make train`")
    if tuple(about["channels"]) != CHANNELS:
        raise ShotError(f"{weights}: trained on channels {about['channels']}, want {list(CHANNELS)}")
    return about


def session_open(weights: Path, device: str):
    """ONNX Runtime session on the wanted device."""
    import onnxruntime

    cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "cuda" and not cuda:
        raise MissingResource("refine.device = \"cuda\": it has none: pip install onnxruntime-gpu, or refine.device = \"cpu\"")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("DEMOLISH_THREADS", "0")) or (os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads sleep: a third less CPU on a busy machine
    providers = ["CPUExecutionProvider"] if device == "cpu" or not cuda else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return onnxruntime.InferenceSession(str(weights), options, providers=providers)
