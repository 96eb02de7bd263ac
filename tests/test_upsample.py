"""Stage `upsample`: the coarse mass is met exactly, dust goes where the air goes, and a frame never depends on which were asked for."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import dust_scenes as scenes
import numpy as np
import pytest
from test_dust import run as coarse_run

from shot.errors import MissingResource, ShotError
from shot.frames import FrameFolder
from shot.params import Shot
from shot.results import Dust, progress_silent

pytestmark = pytest.mark.usefixtures("taichi")
FRAMES = 30
WEIGHTS = Path(__file__).resolve().parent.parent / "assets/weights/dust_upsampler.onnx"


@pytest.fixture(scope="module")
def coarse(tmp_path_factory, taichi) -> Dust:
    """A small collapse on the coarse grid."""
    path = tmp_path_factory.mktemp("coarse")
    return coarse_run(path, *scenes.falling_block(path / "motion", FRAMES), FRAMES, wind=(2.0, 0.0, 0.5))


def run(path: Path, coarse: Dust, frames=None, weights: Path | None = None, **dust) -> Dust:
    """The stage on some frames."""
    from neural.upsample import upsample

    shot = Shot.model_validate({"frames": FRAMES, "dust": {"cell": 1.0, **dust}})
    return upsample(shot, coarse, FrameFolder(path), shot.frame_range if frames is None else frames, progress_silent, weights)


def dense(fine: Dust, frame: int) -> np.ndarray:
    """The whole fine grid of a frame."""
    a, out = fine.frame(frame), np.zeros(tuple(fine.grid["shape"]), np.float32)
    out[tuple(slice(s, s + n) for s, n in zip(a["lower"], a["mass"].shape, strict=True))] = a["mass"]
    return out


def down(fine: np.ndarray, r: int) -> np.ndarray:
    """Sums over the r^3 children of each coarse cell."""
    x, y, z = (n // r for n in fine.shape)
    return fine.reshape(x, r, y, r, z, r).sum((1, 3, 5), dtype=np.float64)


def blob(path: Path, velocity, frames: int) -> Dust:
    """A Gaussian of dust that a uniform flow carries: coarse frames written exactly, as cell integrals (mid-point of 4^3)."""
    folder, n = FrameFolder(path), 20
    folder.put("grid", {"origin": np.zeros(3), "cell": np.array(1.0), "shape": np.full(3, n, np.int32), "settle": np.array(0.0)})
    x = (np.arange(4 * n) + 0.5) / 4
    for f in range(frames):
        at = 6.0 + np.asarray(velocity) * f / 24
        g = [np.exp(-0.5 * (x - c) ** 2 / 1.5**2) for c in at]
        mass = down(np.einsum("i,j,k->ijk", *g), 4)
        mass[mass < 1e-4] = 0.0
        folder.put_frame(1001 + f, {"mass": mass.astype(np.float32), "solid": np.zeros((n,) * 3, np.float32),
                                    "velocity": np.broadcast_to(np.asarray(velocity, np.float32), (n, n, n, 3))})
    return Dust(folder)


@pytest.mark.parametrize("r", [1, 2, 3, 4])
def test_projection_is_exact_and_never_negative(tmp_path: Path, coarse: Dust, r: int):
    """max |down(y) - c| / max c < 1e-5 and y >= 0 in every frame."""
    fine = run(tmp_path, coarse, [1001, 1006, 1014, 1021, 1029], upsample=r)
    assert fine.grid["cell"] == pytest.approx(1.0 / r)
    for frame in (1001, 1006, 1014, 1021, 1029):
        c, y = coarse.frame(frame)["mass"], dense(fine, frame)
        assert y.min() >= 0.0
        assert np.abs(down(y, r) - c).max() <= 1e-5 * max(c.max(), 1e-9)
    assert y.sum() > 1.0


def test_uniform_flow_translates_the_fine_state(tmp_path: Path):
    """y(x, t) = y(x - u t, 0): after 20 frames the carried blob matches the exact one better than interpolation does, within 3 %."""
    velocity = np.array([6.0, 2.0, -1.5])
    source = blob(tmp_path / "coarse", velocity, 21)
    fine = dense(run(tmp_path / "fine", source, [1021], detail=0.0), 1021).astype(float)
    x, at = (np.arange(80) + 0.5) / 4, 6.0 + velocity * 20 / 24
    want = np.einsum("i,j,k->ijk", *[np.exp(-0.5 * (x - c) ** 2 / 1.5**2) for c in at])
    assert np.abs(fine - want).sum() / want.sum() < 0.03
    centre = [np.tensordot(fine.sum(tuple(b for b in range(3) if b != a)), x, 1) / fine.sum() for a in range(3)]
    np.testing.assert_allclose(centre, at, atol=0.02)


def test_carrying_keeps_what_interpolation_cannot(taichi):
    """A wave of four fine cells, invisible to the coarse grid, moves by half a fine cell eight times.

    Catmull-Rom keeps (9/8 cos(pi/4) - 1/8 cos(3 pi/4))^8 = 0.37 of it, less the limiter; linear would keep 0.06."""
    from neural.advect import fine_carry, fine_start, noise_tile

    n, r = 12, 4
    c = np.full((n, n, n), 1.0, np.float32)
    state = fine_start(c, r, 1001)
    wave = 0.9 * np.sin((np.arange(n * r) + 0.5) * 2 * np.pi / 4.0)
    state.mass *= (1.0 + wave[:, None, None]).astype(np.float32)
    velocity, noise = np.zeros((n, n, n, 3), np.float32), noise_tile(1)
    velocity[..., 0] = 24.0 / 8.0
    for _ in range(8):
        state, _ = fine_carry(state, c, velocity, r, 1.0 / 24.0, 0.0, 0.0, noise, 1001, 1)
    got = r**3 * state.mass[16:32, 16:32, 16:32].mean((1, 2)) - 1.0
    assert np.corrcoef(got, wave[16:32])[0, 1] > 0.95
    assert 0.15 < got.std() / wave.std() < 0.5


def test_detail_adds_fine_structure_and_no_mass(tmp_path: Path, coarse: Dust):
    """Energy of the differences between neighbours inside coarse cells grows with dust.detail; the mass does not."""
    plain, stirred = (dense(run(tmp_path / str(d), coarse, [1020], detail=d), 1020) for d in (0.0, 3.0))
    rough = [float((np.diff(y.reshape(-1, 4, *y.shape[1:]), axis=1).astype(float) ** 2).sum()) for y in (plain, stirred)]
    assert rough[1] > 1.1 * rough[0]
    assert stirred.sum(dtype=float) == pytest.approx(plain.sum(dtype=float), rel=1e-6)


def test_noise_has_no_divergence_and_its_band(taichi):
    """The spectral divergence of the tile is below 1e-5 of its gradient; power outside one to three coarse cells is nil."""
    from neural.advect import TILE, TILE_CELLS, noise_tile

    tile = noise_tile(7).astype(float)
    k = np.stack(np.meshgrid(*[np.fft.fftfreq(TILE)] * 3, indexing="ij"), -1) * TILE / TILE_CELLS
    spectrum = np.fft.fftn(tile, axes=(0, 1, 2))
    assert np.abs((k * spectrum).sum(-1)).max() < 1e-5 * np.abs(spectrum).max()
    size = np.linalg.norm(k, axis=-1)
    outside = (size < 0.33) | (size > 1.01)
    assert (np.abs(spectrum[outside]) ** 2).sum() < 1e-8 * (np.abs(spectrum) ** 2).sum()
    assert not np.array_equal(noise_tile(7), noise_tile(8))


def test_any_frames_in_any_order_give_the_same_bytes(tmp_path: Path, coarse: Dust):
    """Frames asked for alone, in chunks, after a damaged file or a damaged checkpoint equal those of one whole run."""
    run(tmp_path / "whole", coarse)
    run(tmp_path / "parts", coarse, [1018])
    run(tmp_path / "parts", coarse, range(1008, 1021))
    (tmp_path / "parts/frame.1019.npz").write_bytes(b"damaged")
    run(tmp_path / "parts", coarse, range(1008, 1024))
    (tmp_path / "parts/state.1017.npz").write_bytes(b"damaged")
    (tmp_path / "parts/frame.1018.npz").write_bytes(b"damaged")
    run(tmp_path / "parts", coarse)
    for frame in range(1001, 1001 + FRAMES):
        assert (tmp_path / f"whole/frame.{frame}.npz").read_bytes() == (tmp_path / f"parts/frame.{frame}.npz").read_bytes()


def test_network_without_weights_is_refused(tmp_path: Path, coarse: Dust):
    """dust.upsampler = "network" names what is missing; other factors than 4 are a shot error."""
    with pytest.raises(MissingResource, match="dust_upsampler.onnx"):
        run(tmp_path, coarse, [1005], upsampler="network")
    with pytest.raises(MissingResource, match="nowhere"):
        run(tmp_path, coarse, [1005], tmp_path / "nowhere.onnx", upsampler="network")
    with pytest.raises(ShotError, match="dust.upsample = 2"):
        run(tmp_path, coarse, [1005], tmp_path / "nowhere.onnx", upsampler="network", upsample=2)


@pytest.mark.torch
def test_network_in_onnx_equals_torch(tmp_path: Path, coarse: Dust):
    """The exported graph and the torch module agree to 1e-5 on random input of another size; its stage keeps the mass."""
    torch = pytest.importorskip("torch", reason="torch is an optional extra (train)")
    pytest.importorskip("onnx", reason="onnx is an optional extra (train)")
    from neural.dust_network import CHILDREN, COARSE_FEATURES, network_export, network_load, network_make

    torch.manual_seed(0)
    network = network_make(8, 1, 0.9)
    with torch.no_grad():
        network.head.weight.normal_(0.0, 0.05)
    network_export(network, tmp_path / "net.onnx", {})
    loaded = network_load(tmp_path / "net.onnx", 4)
    feeds = [torch.rand(1, n, 6, 9, 7) for n in (len(COARSE_FEATURES), CHILDREN, CHILDREN)]
    got = loaded.session.run(None, dict(zip(("coarse", "carried", "smooth"), (f.numpy() for f in feeds), strict=True)))[0]
    np.testing.assert_allclose(got, network(*feeds).detach().numpy(), rtol=1e-4, atol=1e-6)
    fine = run(tmp_path / "fine", coarse, [1012], tmp_path / "net.onnx", upsampler="network")
    c, y = coarse.frame(1012)["mass"], dense(fine, 1012)
    assert y.min() >= 0.0 and np.abs(down(y, 4) - c).max() <= 1e-5 * c.max()


@pytest.mark.torch
def test_changed_weights_are_refused(tmp_path: Path, taichi):
    """A file that does not match the digest beside it is an error."""
    pytest.importorskip("torch", reason="torch is an optional extra (train)")
    pytest.importorskip("onnx", reason="onnx is an optional extra (train)")
    from neural.dust_network import network_export, network_load, network_make

    network_export(network_make(8, 1, 0.9), tmp_path / "net.onnx", {})
    with open(tmp_path / "net.onnx", "ab") as file:
        file.write(b"x")
    with pytest.raises(MissingResource, match="do not match"):
        network_load(tmp_path / "net.onnx", 4)


@pytest.mark.skipif(not WEIGHTS.exists(), reason="no trained weights in assets/weights")
def test_shipped_weights_run_and_keep_the_mass(tmp_path: Path, coarse: Dust):
    """The shipped network loads without torch, keeps every coarse cell's mass and gives no negative dust."""
    fine = run(tmp_path, coarse, [1008], WEIGHTS, upsampler="network")
    c, y = coarse.frame(1008)["mass"], dense(fine, 1008)
    assert y.min() >= 0.0 and np.abs(down(y, 4) - c).max() <= 1e-5 * c.max()


def test_same_bits_for_any_thread_count(tmp_path: Path, coarse: Dust):
    """One, two and four threads write the same bytes, with the network too where its weights are there."""
    digests = {}
    for threads in (1, 2, 4):
        code = ("import sys; sys.path.insert(0, 'tests'); from pathlib import Path; import test_upsample as t; "
                "from shot.device import taichi_open; from shot.frames import FrameFolder; from shot.results import Dust; taichi_open(); "
                "p, c = Path(sys.argv[1]), Dust(FrameFolder(Path(sys.argv[2]))); t.run(p / 'a', c, range(1001, 1010)); "
                "t.WEIGHTS.exists() and t.run(p / 'n', c, range(1001, 1010), t.WEIGHTS, upsampler='network')")
        path = tmp_path / str(threads)
        subprocess.run([sys.executable, "-c", code, str(path), str(coarse.folder.path)], check=True,
                       env={**os.environ, "DEMOLISH_THREADS": str(threads)})
        digests[threads] = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(path.rglob("frame.*.npz")))).hexdigest()
    assert len(set(digests.values())) == 1
