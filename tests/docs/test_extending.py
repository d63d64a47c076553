"""docs/extending.md: each section's change works in a copy of the package."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from tests.conftest import REPOSITORY, TINY
from tests.docs.test_pages import fenced, text_of
from tests.processes import python

PAGE = text_of(REPOSITORY / "docs/extending.md")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))

# A training step of a configuration's network on noise: prints the names of its losses.
STEP = """
import sys, torch
from cmemd import load_config
from cmemd.data.modality import Modality
from fastreid.modeling.meta_arch import build_model
from fastreid.utils.events import EventStorage

network = build_model(load_config(sys.argv[1], ["MODEL.HEADS.NUM_CLASSES", "2"]))
batch = {
    "images": 255 * torch.rand(8, 3, 48, 24),
    "modalities": torch.tensor([Modality.VISIBLE, Modality.THERMAL] * 4),
    "targets": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]),
}
with EventStorage(0):
    losses = network(batch)
sum(losses.values()).backward()
gradients = [p.grad.isfinite().all() for p in network.backbone.parameters()]
assert all(gradients)
print(type(network.backbone).__name__, *losses)
"""


def copy_with(section: str, folder: Path) -> Path:
    """Copies what the page changes, and makes a section's changes there."""
    for name in ("configs", "projects"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    for block in fenced(SECTIONS[section], "python", "yaml", "diff"):
        head, body = block.split("\n", 1)
        mark, path = head.split(" ", 1)
        file = folder / path
        if mark == "#":
            assert not file.exists(), path
            file.write_text(body)
        else:
            assert mark == "---", head
            file.write_text(changed(file.read_text(), body, path))
    return folder


def changed(text: str, change: str, path: str) -> str:
    """A file's text after a change, each part of which has one place in it."""
    for part in change.split("@@\n"):
        lines = part.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
        assert text.count(old) == 1, f"{path} has {text.count(old)} places like\n{old}"
        text = text.replace(old, new)
    return text


def run(folder: Path, *command: object) -> str:
    """Runs Python there, with that copy of the package alone, and returns what it prints."""
    package = {"PYTHONPATH": str(folder / "projects/CMEMD")}
    done = python(*command, cwd=folder, environment=package)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_page_has_a_section_for_each_kind_of_change():
    assert list(SECTIONS) == [
        "Add a loss",
        "Add a data set",
        "Add a protocol",
        "Add a backbone",
    ]


def test_a_new_loss_is_one_of_the_terms_of_a_training_step(tmp_path):
    copy = copy_with("Add a loss", tmp_path)
    _, *losses = run(copy, "-c", STEP, "projects/CMEMD/configs/norm_gap.yml").split()
    assert losses[-1] == "loss_norm"
    assert "loss_align_global" in losses


def test_a_new_data_set_is_trained_on_and_tested(tmp_path):
    copy = copy_with("Add a data set", tmp_path)
    root = copy / "datasets/Street"
    (root / "lists").mkdir(parents=True)
    (root / "lists/train_id.txt").write_text("1,2,3,4")
    (root / "lists/test_id.txt").write_text("5,6")
    rng = np.random.default_rng(0)
    for pid in range(1, 7):
        for modality in ("visible", "thermal"):
            folder = root / modality / f"{pid:04d}"
            folder.mkdir(parents=True)
            for number in range(2):
                pixels = rng.integers(0, 256, (32, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")
    options = TINY | {"MODEL.DEVICE": "cpu", "SOLVER.IMS_PER_BATCH": "8"}
    options |= {"MODEL.BACKBONE.DEPTH": "18x", "MODEL.BACKBONE.PRETRAIN": "False"}
    words = [word for pair in options.items() for word in pair]
    tool = REPOSITORY / "tools/train_net.py"
    run(copy, tool, "--config-file", "projects/CMEMD/configs/street.yml", *words)
    results = json.loads((copy / "logs/street/results.json").read_text())
    assert [score["protocol"] for score in results["scores"]] == ["street-t2v"]


def test_a_new_backbone_is_chosen_by_a_yaml(tmp_path):
    copy = copy_with("Add a backbone", tmp_path)
    name, *losses = run(copy, "-c", STEP, "projects/CMEMD/configs/one_stream.yml").split()
    assert name == "OneStreamResNet"
    assert {"loss_id_global", "loss_align_local", "loss_dl"} <= set(losses)


def test_cmemd_score_knows_a_new_protocol(tmp_path):
    """Cameras 4 and 5 see each query's person; what cameras 1 and 2 see would mislead."""
    copy = copy_with("Add a protocol", tmp_path)
    people = np.arange(1, 5)
    cameras = np.repeat([1, 2, 3, 4, 5, 6], len(people))
    pids = np.tile(people, 6)
    seen = np.where(cameras <= 2, np.roll(people, 1)[pids - 1], pids)
    np.savez(
        copy / "features.npz",
        feats=np.eye(5)[seen],
        pids=pids,
        camids=cameras,
        frames=np.ones_like(pids),
    )
    command = fenced(SECTIONS["Add a protocol"], "bash")[0].split()
    assert command.pop(0) == "cmemd"
    table = run(copy, "-m", "cmemd", *command)
    assert "sysu-outdoor-1shot" in table
    assert "100.00 ± 0.00" in table
