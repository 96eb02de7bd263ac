"""The diffusers backend on a tiny random Stable Diffusion pipeline that is made, saved and loaded here: real classes, no download."""

# pyright: basic, reportPrivateImportUsage=false, reportArgumentType=false
from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from box_guides import box_frame, box_guides

from shot.errors import MissingResource, ShotError
from shot.frames import FrameFolder
from shot.params import Shot
from shot.results import progress_silent

pytestmark = pytest.mark.torch
WIDTH, HEIGHT = 72, 56  # no multiple of the grid of 16: padding is on the way


def tokenizer_of(folder: Path):
    """Byte-level CLIP tokenizer with an empty merge table: any string, 514 tokens."""
    from transformers import CLIPTokenizer
    from transformers.models.clip import tokenization_clip

    symbols = list(getattr(tokenization_clip, "bytes_to_unicode", bytes_to_unicode)().values())
    tokens = [*symbols, *(s + "</w>" for s in symbols), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: k for k, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def bytes_to_unicode() -> dict[int, str]:
    """The printable stand-ins of GPT-2's byte-level BPE."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in kept]
    return {**{b: chr(b) for b in kept}, **{b: chr(256 + k) for k, b in enumerate(rest)}}


def vae_of():
    """A VAE that keeps the real factor of 8."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4, norm_num_groups=8)


def text_of(kind):
    """A two-layer CLIP text encoder of a given class."""
    from transformers import CLIPTextConfig

    return kind(CLIPTextConfig(
        vocab_size=514, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, bos_token_id=512,
        eos_token_id=513, pad_token_id=513, projection_dim=32))


def net_of(unet, effect: bool):
    """A random control net; without `effect` it keeps the zero convolutions that every fresh one has."""
    import torch
    from diffusers import ControlNetModel

    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 32, 64))
    for layer in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out) if effect else ():
        torch.nn.init.normal_(layer.weight, std=0.3)
    return net


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A saved random pipeline with two control nets; the first has an effect, the second has none."""
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    import torch
    from diffusers import DDIMScheduler, StableDiffusionControlNetImg2ImgPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=32, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    nets = [net_of(unet, effect) for effect in (True, False)]
    pipe = StableDiffusionControlNetImg2ImgPipeline(
        vae=vae_of(), text_encoder=text_of(CLIPTextModel), tokenizer=tokenizer_of(folder), unet=unet, controlnet=nets,
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False)
    pipe.save_pretrained(folder / "model")
    nets[0].save_pretrained(folder / "good")
    return folder


@pytest.fixture(scope="session")
def tiny_xl(tmp_path_factory) -> Path:
    """A saved random XL pipeline without control nets, with an ancestral sampler, and a control net of its own beside it."""
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    import torch
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    folder = tmp_path_factory.mktemp("tiny_xl")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=64, attention_head_dim=(2, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8, transformer_layers_per_block=1,
        projection_class_embeddings_input_dim=32 + 6 * 8)
    pipe = StableDiffusionXLPipeline(
        vae=vae_of(), text_encoder=text_of(CLIPTextModel), text_encoder_2=text_of(CLIPTextModelWithProjection),
        tokenizer=tokenizer_of(folder), tokenizer_2=tokenizer_of(folder), unet=unet, scheduler=EulerAncestralDiscreteScheduler())
    pipe.save_pretrained(folder / "model")
    net_of(unet, True).save_pretrained(folder / "good")
    return folder


def shot_of(model: Path, **refine) -> Shot:
    """A shot that refines with the tiny model."""
    values = {"backend": "diffusers", "model": str(model), "steps": 3, "strength": 0.7, "history": 0.0, "device": "cpu", "guidance": 1.0}
    return Shot.model_validate({"refine": values | refine})


def only_good(tiny: Path) -> tuple[str, ...]:
    """Both guides through the net that works."""
    return f"depth={tiny / 'good'}", f"normal={tiny / 'good'}"


def refined_twice(shot: Shot, tmp_path: Path) -> list[Mapping]:
    """The same frame refined by two backends opened one after the other."""
    from neural.refine import refine

    guides = box_guides(tmp_path / "guides", [1001], WIDTH, HEIGHT)
    return [refine(shot, guides, FrameFolder(tmp_path / k), [1001], progress_silent, None).frame(1001) for k in ("a", "b")]


def test_same_shot_same_picture(tiny, tmp_path, taichi):
    """A saved folder loads offline, and twice the same frame is the same to the last bit: no hidden noise anywhere."""
    first, second = refined_twice(shot_of(tiny / "model", controls=only_good(tiny)), tmp_path)
    assert np.array_equal(first["refined"], second["refined"])
    assert np.isfinite(first["refined"]).all() and first["refined"].shape == (HEIGHT, WIDTH, 3)


def test_xl_folder_with_a_net_of_ones_own(tiny_xl, tmp_path, taichi):
    """The class comes from model_index.json: an XL text-to-image folder refines image to image, its ancestral sampler replaced."""
    from neural.refine import backend_open

    shot = shot_of(tiny_xl / "model", controls=(f"normal={tiny_xl / 'good'}",), control_scale=(0.8,))
    first, second = refined_twice(shot, tmp_path)
    assert np.array_equal(first["refined"], second["refined"]) and np.isfinite(first["refined"]).all()
    pipe = backend_open(shot, None).pipe  # type: ignore[attr-defined]
    assert type(pipe).__name__ == "StableDiffusionXLControlNetImg2ImgPipeline" and type(pipe.scheduler).__name__ == "DDIMScheduler"


def test_our_noise_is_the_start(tiny, tmp_path, taichi):
    """Another seed changes the picture: the start noise is ours, through the pipeline's own scheduler."""
    from neural.refine import refine

    guides = box_guides(tmp_path / "guides", [1001], WIDTH, HEIGHT)
    shot = shot_of(tiny / "model", controls=only_good(tiny))
    pictures = [
        refine(shot.model_copy(update={"seed": seed}), guides, FrameFolder(tmp_path / str(seed)), [1001], progress_silent, None).frame(1001)
        for seed in (1, 2)]
    assert np.abs(pictures[0]["refined"].astype(float) - pictures[1]["refined"]).mean() > 1e-3


def test_control_without_effect_is_refused(tiny, tmp_path, taichi):
    """A control net whose zero convolutions were never trained is named and refused; the folder's second net is one."""
    with pytest.raises(ShotError, match="'normal' has no effect"):
        refined_twice(shot_of(tiny / "model"), tmp_path)


def test_highlights_survive(tiny, tmp_path, taichi):
    """Light far above 1 comes back as a ratio of itself: never clipped to the model's white."""
    from neural.guide_tensor import lens_of
    from neural.refine import backend_open

    shot = shot_of(tiny / "model", controls=only_good(tiny))
    arrays = dict(box_frame(1001, WIDTH, HEIGHT))
    arrays["solid"] = arrays["solid"] * np.float16(20)
    static = box_guides(tmp_path, [1001], WIDTH, HEIGHT).folder.get("static")
    backend = backend_open(shot, None)
    none = np.zeros((3, HEIGHT, WIDTH), np.float32)
    picture = arrays["solid"].astype(np.float32)
    residual = backend.residual(picture, arrays, lens_of(static, 0, HEIGHT), 1001, none, none[0])
    from neural.colour import shift

    refined = shift(picture, residual.transpose(1, 2, 0))
    bright = picture > 8
    assert refined[bright].mean() > 4 and np.median(refined[bright] / picture[bright]) > 0.25


def test_errors_say_what_to_do(tiny, tmp_path, taichi):
    """Wrong guide name, too few steps, no folder, foreign family: one sentence each, before any work."""
    from neural.refine import backend_open

    with pytest.raises(ShotError, match="did you mean normal"):
        backend_open(shot_of(tiny / "model", controls=("depth", "normals")), None)
    with pytest.raises(ShotError, match="less than one step"):
        backend_open(shot_of(tiny / "model", steps=1, strength=0.4), None)
    with pytest.raises(MissingResource, match="model_index.json"):
        backend_open(shot_of(tmp_path / "nothing_here"), None)
    with pytest.raises(ShotError, match="brings 2 control nets"):
        backend_open(shot_of(tiny / "model", controls=("depth",)), None)
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ShotError, match="FluxPipeline"):
        backend_open(shot_of(tmp_path / "flux", controls=()), None)


def test_missing_diffusers_names_the_extra(tiny, monkeypatch):
    """Without the libraries the error holds the install line."""
    from neural.refine import backend_open

    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingResource, match=r"demolish\[diffusion\]"):
        backend_open(shot_of(tiny / "model"), None)


def test_guides_as_controls():
    """Depth is white near and falls, normals point at the eye as (0.5, 0.5, 1), ids differ in colour, sky is black."""
    from neural.diffusers_backend import control_picture
    from neural.guide_tensor import Lens

    arrays = box_frame(1001, WIDTH, HEIGHT)
    lens = Lens(np.eye(4), 0.01, np.array([0, 1.0, 0]), 1.0)
    depth = control_picture("depth", arrays, lens)
    order = np.argsort(arrays["depth"], axis=None)
    assert (np.diff(depth[0].reshape(-1)[order]) <= 0).all()
    facing = {**arrays, "normal": np.broadcast_to(np.array([0, 0, 1], np.float16), arrays["normal"].shape)}
    assert np.allclose(control_picture("normal", facing, lens)[:, 0, 0], [0.5, 0.5, 1])
    colours = control_picture("id", arrays, lens)
    assert len(np.unique(colours.reshape(3, -1), axis=1).T) == len(np.unique(arrays["id"]))
    assert (colours[:, arrays["id"] == 0] == 0).all()
