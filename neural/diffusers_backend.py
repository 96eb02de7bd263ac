"""Large diffusion models of the user's own, through `diffusers`: Stable Diffusion image to image with a ControlNet per guide.

In: refine.model, a local folder in the diffusers layout (model_index.json) or a hub id; refine.controls, one guide name per
ControlNet of that folder, or `guide=folder` to bring a net of its own. Out: code residuals of the finished picture, dust
included. The class comes from model_index.json, never from the folder's name. Nothing is fetched for a local folder, nor
when HF_HUB_OFFLINE=1.

Deterministic: the VAE's mode instead of a sample, samplers without fresh noise, and our own noise (`neural/noise.py`,
summed over the pixels of each latent) as start. The model works on 8-bit-like display colours; what comes back is the ratio
decode(refined) / decode(encode(raster)), so that the VAE's own blur and tint cancel and highlights above 1, which it never
saw, survive. A control that changes nothing is refused on the first frame.

Not handled: Flux, SD3 and video models (refused by name), inpainting, LoRA, tiling; a frame must fit into memory whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neural.colour import decode, decode_display, display, encode
from neural.embedded_backend import frame_noise
from neural.guide_tensor import Lens, padded
from neural.noise import CHANNELS as NOISE_CHANNELS
from shot.errors import MissingResource, ShotError, nearest
from shot.hashing import hashed, uniform
from shot.params import Shot

INSTALL_LINE = "pip install 'demolish[diffusion]'"
CONTROLS = ("depth", "normal", "edge", "id")
FAMILIES = {  # class name of model_index.json begins with: (with controls, without)
    "StableDiffusionXL": ("StableDiffusionXLControlNetImg2ImgPipeline", "StableDiffusionXLImg2ImgPipeline"),
    "StableDiffusion3": None,
    "StableDiffusion": ("StableDiffusionControlNetImg2ImgPipeline", "StableDiffusionImg2ImgPipeline"),
}
SCHEDULERS = ("DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "PNDMScheduler",
              "HeunDiscreteScheduler", "LMSDiscreteScheduler")  # those that draw no noise; any other is replaced by DDIM
RATIO = 8.0  # most a pixel may gain or lose
BRIGHT = 0.9  # display code above which the ratio is low-passed: the model saw it clipped
EFFECT = 1e-3  # least relative change of a one-step answer when a control's guide is inverted
DEPTH_HALF = 20.0  # [m] at which the depth guide is half white: fixed, so that it never pumps


class DiffusersBackend:
    """A loaded pipeline."""

    layer = "beauty"

    def __init__(self, shot: Shot, model: Path | None):
        try:
            import diffusers
            import torch
        except ImportError as error:
            raise MissingResource(f"refine.backend = \"diffusers\" needs {error.name}: {INSTALL_LINE}") from error
        diffusers.utils.logging.disable_progress_bar()
        refine = shot.refine
        if int(refine.steps * refine.strength) < 1:
            raise ShotError(f"refine.steps = {refine.steps} times refine.strength = {refine.strength:g} is less than one step: no effect")
        self.shot, self.torch = shot, torch
        self.names = [control.split("=", 1)[0] for control in refine.controls]
        for name in self.names:
            if name not in CONTROLS:
                raise ShotError(f"refine.controls: unknown guide {name!r}{nearest(name, CONTROLS)}; known are {', '.join(CONTROLS)}")
        if len(refine.control_scale) < len(self.names):
            raise ShotError(f"refine.control_scale has {len(refine.control_scale)} values for {len(self.names)} controls")
        self.scales = [float(s) for s in refine.control_scale[: len(self.names)]]
        self.device = device_of(refine.device, torch)
        self.pipe = pipeline_open(diffusers, torch, str(model or refine.model), refine.controls, self.device)
        self.grid = grid_of(self.pipe)
        self.checked = False

    def detail(self, arrays: Mapping[str, np.ndarray], lens: Lens) -> np.ndarray:
        """None: the model invents its own."""
        return np.ones(3, np.float32)

    def residual(
        self, picture: np.ndarray, arrays: Mapping[str, np.ndarray], lens: Lens, frame: int, carried: np.ndarray, valid: np.ndarray
    ) -> np.ndarray:
        """(3, H, W) float32 code residual of the finished picture; the carried one is where the model starts from."""
        height, width = arrays["id"].shape
        start = encode(picture) + (self.shot.refine.history * valid * carried).transpose(1, 2, 0)
        controls = [padded(guide, self.grid) for guide in (control_picture(name, arrays, lens) for name in self.names)]
        noise = self.latent_noise(arrays, frame)
        shown = padded(display(decode(start)).transpose(2, 0, 1), self.grid)
        plain = padded(display(picture).transpose(2, 0, 1), self.grid)
        if not self.checked:
            self.controls_check(shown, controls, noise)
            self.checked = True
        latent = self.encoded(shown)
        refined = self.decoded(self.sampled(latent, controls, noise, self.shot.refine.steps, self.shot.refine.strength))
        base = self.decoded(self.encoded(plain))
        gain = ratio_of(refined[:, :height, :width], base[:, :height, :width], plain[:, :height, :width])
        return (encode(picture * gain.transpose(1, 2, 0)) - encode(picture)).transpose(2, 0, 1)

    def sampled(self, latent, controls: list[np.ndarray], noise: np.ndarray, steps: int, strength: float):
        """Latent after `steps * strength` denoising steps from `latent` with our noise."""
        torch, pipe, refine = self.torch, self.pipe, self.shot.refine
        start = torch.from_numpy(noise[None]).to(self.device, latent.dtype)

        def prepare_latents(image, timestep, *rest, **more):
            return pipe.scheduler.add_noise(latent, start, timestep).to(pipe.unet.dtype)

        pipe.prepare_latents = prepare_latents
        blank = torch.zeros(1, 3, latent.shape[2] * self.block, latent.shape[3] * self.block)
        given: dict[str, Any] = {}
        if controls:
            guides = [torch.from_numpy(np.ascontiguousarray(c[None], np.float32)) for c in controls]
            several = len(guides) > 1 or hasattr(pipe.controlnet, "nets")
            given["control_image"] = guides if several else guides[0]
            given["controlnet_conditioning_scale"] = self.scales if several else self.scales[0]
        with torch.no_grad():
            return pipe(
                prompt=refine.prompt, negative_prompt=refine.negative or None, image=blank, num_inference_steps=steps, strength=strength,
                guidance_scale=refine.guidance, output_type="latent", generator=torch.Generator("cpu").manual_seed(0), **given,
            ).images.float()

    def encoded(self, shown: np.ndarray):
        """Latent of a display-coded picture (3, H, W): the mode of the VAE's posterior."""
        torch, vae = self.torch, self.pipe.vae
        with torch.no_grad():
            z = vae.encode(torch.from_numpy(2 * shown[None] - 1).to(self.device, torch.float32))
        z = z.latent_dist.mode() if hasattr(z, "latent_dist") else z.latents
        mean, deviation = self.latent_statistics()
        return (z - mean) * vae.config.scaling_factor / deviation

    def decoded(self, latent) -> np.ndarray:
        """Display-coded picture (3, H, W) of a latent."""
        torch, vae = self.torch, self.pipe.vae
        mean, deviation = self.latent_statistics()
        with torch.no_grad():
            image = vae.decode(latent.to(self.device, torch.float32) * deviation / vae.config.scaling_factor + mean).sample
        return (0.5 * image[0] + 0.5).clamp(0, 1).cpu().numpy()

    def latent_statistics(self):
        """Mean and deviation of the latents, where the VAE's configuration has them."""
        config = self.pipe.vae.config
        if getattr(config, "latents_mean", None) is None or getattr(config, "latents_std", None) is None:
            return 0.0, 1.0
        return tuple(self.torch.tensor(v, device=self.device).view(1, -1, 1, 1) for v in (config.latents_mean, config.latents_std))

    @property
    def block(self) -> int:
        """Pixels to a side of one latent."""
        return 2 ** (len(self.pipe.vae.config.block_out_channels) - 1)

    def latent_noise(self, arrays: Mapping[str, np.ndarray], frame: int) -> np.ndarray:
        """(channels, h, w) unit noise: our pixel noise, summed over the pixels of each latent."""
        channels = int(self.pipe.vae.config.latent_channels)
        planes = []
        for lane in range(-(-channels // NOISE_CHANNELS)):
            seed = int(hashed(self.shot.seed, "refine/latent", lane) >> np.uint64(34))
            planes.append(frame_noise(self.shot.model_copy(update={"seed": seed}), arrays, frame))
        noise = np.concatenate(planes)[:channels]
        rows, columns = -noise.shape[1] % self.grid, -noise.shape[2] % self.grid
        noise = np.pad(noise, ((0, 0), (0, rows), (0, columns)), mode="wrap")
        c, h, w = noise.shape
        return noise.reshape(c, h // self.block, self.block, w // self.block, self.block).sum((2, 4)) / self.block

    def controls_check(self, shown: np.ndarray, controls: list[np.ndarray], noise: np.ndarray) -> None:
        """Raise ShotError for a control whose guide does not reach the picture: its net's last layers may still be zero."""
        latent = self.encoded(shown)
        answer = self.sampled(latent, controls, noise, 1, 1.0)
        for k, (name, scale) in enumerate(zip(self.names, self.scales, strict=True)):
            other = [1 - c if j == k else c for j, c in enumerate(controls)]
            change = float((self.sampled(latent, other, noise, 1, 1.0) - answer).norm() / answer.norm())
            if scale > 0 and not change > EFFECT:
                raise ShotError(
                    f"refine.controls: the ControlNet for {name!r} has no effect (inverting its guide changes the answer by {change:.1e}): "
                    f"it is untrained, or made for another model"
                )


def device_of(wanted: str, torch) -> str:
    """Where torch runs."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise MissingResource("refine.device = \"cuda\": this torch sees no CUDA device; install a CUDA torch, or refine.device = \"cpu\"")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def pipeline_open(diffusers, torch, model: str, controls: tuple[str, ...], device: str):
    """The image-to-image pipeline of a model folder or hub id, with the nets that the controls name."""
    if not model:
        raise MissingResource("refine.model is empty: refine.backend = \"diffusers\" wants a local folder or a hub id")
    offline = Path(model).is_dir() or os.environ.get("HF_HUB_OFFLINE", "") == "1"
    index = model_index(diffusers, model, offline)
    own = [control.split("=", 1)[1] for control in controls if "=" in control]
    held = index.get("controlnet")
    count = len(own) or (0 if held is None else held_nets(model, offline))
    if count != len(controls) or (own and len(own) != len(controls)):
        raise ShotError(
            f"refine.controls names {len(controls)} guides, {model} brings {count} control nets; write guide=folder to bring your own")
    classes = pipeline_classes(model, index["_class_name"])
    given: dict[str, Any] = {}
    try:
        if own:
            nets = [diffusers.ControlNetModel.from_pretrained(net, local_files_only=offline or Path(net).is_dir()) for net in own]
            several = len(nets) > 1 or (held or ["", ""])[1] == "MultiControlNetModel"
            given["controlnet"] = diffusers.MultiControlNetModel(nets) if several else nets[0]
        if classes == FAMILIES["StableDiffusion"]:
            given |= {"safety_checker": None, "requires_safety_checker": False}
        pipe = getattr(diffusers, classes[0] if controls else classes[1]).from_pretrained(
            model, local_files_only=offline, **given)
    except (OSError, ValueError) as error:
        raise MissingResource(f"refine.model = {model!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    if type(pipe.scheduler).__name__ not in SCHEDULERS:
        pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe = pipe.to(device, torch.float16 if device == "cuda" else torch.float32)
    pipe.vae.to(torch.float32)
    return pipe


def model_index(diffusers, model: str, offline: bool) -> dict[str, Any]:
    """model_index.json of a folder or hub id."""
    try:
        if Path(model).is_dir():
            return json.loads((Path(model) / "model_index.json").read_text())
        return dict(diffusers.DiffusionPipeline.load_config(model, local_files_only=offline))
    except (OSError, ValueError) as error:
        why = "HF_HUB_OFFLINE=1 and it is not in the cache" if offline and not Path(model).is_dir() else str(error).splitlines()[0]
        raise MissingResource(f"refine.model = {model!r} has no model_index.json: {why}") from error


def held_nets(model: str, offline: bool) -> int:
    """How many control nets a saved pipeline folder holds: controlnet, controlnet_1, ..."""
    folder = Path(model)
    if not folder.is_dir():
        return 1
    return sum((folder / name / "config.json").is_file() for name in ("controlnet", *(f"controlnet_{k}" for k in range(1, 8))))


def pipeline_classes(model: str, name: str) -> tuple[str, str]:
    """Image-to-image classes of the family that a pipeline class belongs to: with and without controls."""
    for family, classes in FAMILIES.items():
        if name.startswith(family):
            if classes is None:
                break
            return classes
    raise ShotError(f"refine.model = {model!r} is a {name}; supported are Stable Diffusion 1.x, 2.x and XL")


def grid_of(pipe) -> int:
    """Width and height must be multiples of this many pixels."""
    return 2 ** (len(pipe.vae.config.block_out_channels) - 1) * 2 ** (len(pipe.unet.config.block_out_channels) - 1)


def control_picture(name: str, arrays: Mapping[str, np.ndarray], lens: Lens) -> np.ndarray:
    """(3, H, W) in 0..1 of a guide, in the conventions that public ControlNets were trained with.

    depth: near is white, half at DEPTH_HALF; normal: camera space, x right, y up, z to the eye; edge: white on black; id: a colour each."""
    if name == "depth":
        plane = DEPTH_HALF / (DEPTH_HALF + arrays["depth"].astype(np.float64))
        return np.repeat(plane[None].astype(np.float32), 3, 0)
    if name == "normal":
        toward = arrays["normal"].astype(np.float32) @ lens.view[:3, :3].T.astype(np.float32)
        toward = np.where((arrays["id"] > 0)[..., None], toward, np.array([0, 0, 1], np.float32))
        return (0.5 * toward + 0.5).transpose(2, 0, 1)
    if name == "edge":
        return np.repeat(arrays["edge"].astype(np.float32)[None], 3, 0)
    table, row = np.unique(arrays["id"], return_inverse=True)
    colours = np.stack([uniform(0, "refine/id colour", table, lane) for lane in range(3)]) * (table > 0)
    return colours[:, row.reshape(arrays["id"].shape)].astype(np.float32)


def ratio_of(refined: np.ndarray, base: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """(3, H, W) factor on linear light between two display-coded pictures; smooth where the raster is brighter than a display."""
    floor = 2e-3
    gain = np.clip((decode_display(refined) + floor) / (decode_display(base) + floor), 1 / RATIO, RATIO)
    bright = np.clip((shown.max(0) - BRIGHT) / (1 - BRIGHT), 0, 1)
    return gain + bright * (box_mean(gain, 8) - gain)


def box_mean(planes: np.ndarray, radius: int) -> np.ndarray:
    """Mean over (2 radius + 1)^2 pixels, border repeated."""
    side = 2 * radius + 1
    total = np.pad(planes.astype(np.float64), ((0, 0), (radius + 1, radius), (radius + 1, radius)), mode="edge").cumsum(1).cumsum(2)
    inside = total[:, side:, side:] - total[:, :-side, side:] - total[:, side:, :-side] + total[:, :-side, :-side]
    return (inside / side**2).astype(np.float32)
