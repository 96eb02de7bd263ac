"""Wedges: the value grammar, takes and labels, the table and the sheet; a take that fails does not stop the others."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_regress import fake_run

import pipeline.wedge as wedge
from pipeline.command import UsageError
from pipeline.wedge import take_label, takes_planned, wedge_command, wedge_parse
from shot.errors import FramesFailed, MissingResource, ShotError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("sim.gravity=3,9.81", ["3", "9.81"]),
        ("sim.gravity=1:2:5", ["1.0", "1.25", "1.5", "1.75", "2.0"]),
        ("building.storeys=4:10:3", ["4", "7", "10"]),
        ("dust.amount=0.1:0.3:3", ["0.1", "0.2", "0.3"]),
        ("camera.position=[1, 2, 3],[4, 5, 6]", ["[1, 2, 3]", "[4, 5, 6]"]),
        ('refine.prompt="a, b",c', ['"a, b"', "c"]),
        ("refine.backend = none , embedded", ["none", "embedded"]),
        ("debris.bounce=1e-2:1e-1:2", ["0.01", "0.1"]),
        ("sim.gravity=5", ["5"]),
    ],
)
def test_grammar(text, values):
    """Lists, ranges with both ends, whole ranges of integers, vectors, quoted text."""
    assert wedge_parse(text) == (text.split("=")[0].strip(), values)


@pytest.mark.parametrize("text", ["sim.gravity", "=1,2", "sim.gravity=", "sim.gravity=1,,2", "sim.gravity=1:2:1", "sim.gravity=1:2:2.5"])
def test_bad_grammar(text):
    """What cannot be read is a usage error (exit 2) that repeats the text."""
    with pytest.raises(UsageError, match="--wedge") as error:
        wedge_parse(text)
    assert error.value.exit_code == 2


def test_labels_are_folder_names():
    """w000_key-value, with nothing in it that a file system or a shell minds, and not endless."""
    assert take_label(0, {"sim.gravity": "9.81"}) == "w000_sim.gravity-9.81"
    assert take_label(12, {"camera.position": "[1, -2, 3]", "dust.amount": "2"}) == "w012_camera.position-1_-2_3_dust.amount-2"
    assert len(take_label(1, {"refine.prompt": "x" * 500})) < 110


@pytest.fixture
def shot(tmp_path) -> str:
    """A shot file."""
    (tmp_path / "s.toml").write_text('name = "s"\nframes = 12\n[output]\nview = "srgb"\n')
    return str(tmp_path / "s.toml")


def plan(shot: str, tmp_path: Path, *wedges: str, zipped: bool = False):
    """Planned takes."""
    return takes_planned(shot, (), tmp_path, wedges, zipped, False, None, tmp_path / "out")[0]


def test_product_and_zip(shot, tmp_path):
    """Several parameters multiply, the last fastest; zipped they go in step and must be as many."""
    product = plan(shot, tmp_path, "sim.gravity=1,2", "dust.amount=0,1,2")
    assert [(t.loaded.shot.sim.gravity, t.loaded.shot.dust.amount) for t in product] == [(g, a) for g in (1, 2) for a in (0, 1, 2)]
    pairs = plan(shot, tmp_path, "sim.gravity=1,2", "dust.amount=0,1", zipped=True)
    assert [(t.loaded.shot.sim.gravity, t.loaded.shot.dust.amount) for t in pairs] == [(1, 0), (2, 1)]
    with pytest.raises(UsageError, match="as many"):
        plan(shot, tmp_path, "sim.gravity=1,2", "dust.amount=0", zipped=True)
    with pytest.raises(UsageError, match="twice"):
        plan(shot, tmp_path, "sim.gravity=1,2", "sim.gravity=3")


def test_bad_value_stops_before_work(shot, tmp_path, monkeypatch):
    """One value outside its range is an error of the shot before the first take runs."""
    monkeypatch.setattr(wedge, "run", lambda *a, **k: pytest.fail("a take ran"))
    with pytest.raises(ShotError, match=r"sim\.gravity"):
        wedge_command(shot, (), tmp_path, ["sim.gravity=1,-5"], False, False, None, False, tmp_path / "out", True)


def test_takes_table_and_sheet(shot, tmp_path, monkeypatch, capsys):
    """Three takes, the second fails: exit 4 in the end, the others have pictures and figures; the table has its error."""

    def runs(loaded, *arguments, **named):
        if loaded.shot.dust.amount == 1:
            raise MissingResource("no such device")
        return fake_run(loaded, *arguments, **named)

    monkeypatch.setattr(wedge, "run", runs)
    out = tmp_path / "out"
    with pytest.raises(FramesFailed, match=r"1 of 3 takes failed: w001_dust\.amount-1") as error:
        wedge_command(shot, (), tmp_path, ["dust.amount=0,1,2"], False, False, "1001-1012", True, out, True)
    assert error.value.exit_code == 4
    said = json.loads(capsys.readouterr().out)
    assert [t["error"] for t in said["takes"]] == ["", "MissingResource: no such device", ""]
    rows = list(csv.DictReader((out / "wedge.csv").read_text().splitlines()))
    assert [r["take"] for r in rows] == ["w000_dust.amount-0", "w001_dust.amount-1", "w002_dust.amount-2"]
    assert [r["dust_emitted"] for r in rows] == ["0.0", "", "4.0"] and rows[1]["error"].endswith("no such device")
    sheet = np.asarray(Image.open(out / "sheet.png"))
    height = sheet.shape[0] // 3
    assert sheet.shape == (3 * (180 + 26) + 4, 4 * 324 + 4, 3)
    assert not np.array_equal(sheet[:height, 40:], sheet[2 * height : 3 * height, 40:])
    assert json.loads((out / "wedge.json").read_text())[2]["metrics"]["broken"] == 1


def test_take_is_a_run_of_its_own(shot, tmp_path, monkeypatch):
    """Every take is what `demolish run` with that value makes: same shot, its own folder, its frames."""
    ran = []

    def runs(loaded, frames, last, out, **named):
        ran.append((loaded.shot.sim.gravity, list(frames), last, out))
        return fake_run(loaded, frames, last, out, **named)

    monkeypatch.setattr(wedge, "run", runs)
    wedge_command(shot, ["dust.amount=2"], tmp_path, ["sim.gravity=1,2"], False, False, "1003-1005x2", False, tmp_path / "out", True)
    assert ran == [(g, [1003, 1005], "deliver", tmp_path / "out" / f"w00{g - 1}_sim.gravity-{g}") for g in (1, 2)]
