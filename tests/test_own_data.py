"""docs/own_data.md does what it says, command by command."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import REPOSITORY

from cmemd.evaluation.results import read_results

TEXT = (REPOSITORY / "docs" / "own_data.md").read_text()
DRAWN, COMMANDS = (
    block.splitlines() for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
)
SMALLER = "SOLVER.MAX_EPOCH 1 SOLVER.WARMUP_ITERS 0"


def test_the_page_states_what_its_test_changes():
    assert len(DRAWN) == 1
    assert f"with 12 people and with `{SMALLER}`" in TEXT.replace("\n", " ")
    assert [command.split()[1] for command in COMMANDS] == [
        *("list", "doctor", "train", "export", "embed", "embed", "gallery"),
        *("score", "calibrate", "search", "search"),
    ]


def run(command: str) -> str:
    """Run a command as a shell does, and return what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (command, done.stderr[-2000:])
    return done.stdout


@pytest.mark.slow
def test_the_page_as_printed(tmp_path, monkeypatch):
    assert shutil.which("bash")
    monkeypatch.chdir(tmp_path)
    run(DRAWN[0].replace("--ids 50", "--ids 12"))
    outputs = {}
    for command in COMMANDS:
        name = command.split()[1]
        more = f" {SMALLER}" if name == "train" else ""
        outputs.setdefault(name, []).append(run(command + more))
    # 12 people, 2 cameras of each modality with 5 images: 4 people tested, 2 of the others held out
    with open("logs/campus/split.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    people = {
        split: {r["identity"] for r in rows if r["split"] == split} for split in ("test", "val")
    }
    assert (len(rows), len(people["test"]), len(people["val"])) == (240, 4, 2)
    assert "usable" in outputs["doctor"][0]
    assert "60 embeddings in queries.parquet" in outputs["embed"][0]
    assert "40 embeddings added to gallery" in outputs["embed"][1]
    assert outputs["score"][0].startswith("Campus\n")
    (entry,) = read_results(Path("results.json"))["scores"]
    assert (entry["open_set"]["mated"], entry["open_set"]["non_mated"]) == (40, 20)
    # The evaluation of the run saw the same queries that have a match, and the same gallery.
    evaluated = read_results(Path("logs/campus/results.json"))["scores"]
    (ours,) = (entry for entry in evaluated if entry["protocol"] == "own-t2v")
    for metric in ("rank1", "mAP"):
        assert entry["mean"][metric] == pytest.approx(ours["mean"][metric], abs=3), metric
    assert "no match" in outputs["search"][1] or "visible" in outputs["search"][1]
    for picture in ("sheet.png", "det.png"):
        with Image.open(picture) as image:
            assert image.format == "PNG", picture
