"""tools/train_net.py on one's own data, alone and joined, from the start and from a checkpoint."""

import json
import shutil

import numpy as np
from PIL import Image
from tests.conftest import CONFIGS, REPOSITORY, TINY
from tests.processes import TORCHRUN, python

from cmemd.data.dataset import VisibleThermalDataset
from cmemd.data.layouts import own
from cmemd.engine.checkpoint import read_checkpoint
from cmemd.evaluation.results import read_results

OWN = {"config": CONFIGS / "own_cpu.yml", "SEED": 0, "SOLVER__IMS_PER_BATCH": 16}


def boxed(datasets, folder) -> str:
    """A list of the drawn people, each pasted into a frame."""
    listed = own.read_list(datasets / "Own/people.csv")
    rows = ["path,identity,modality,camera,x,y,w,h"]
    for number, row in enumerate(listed.rows):
        picture = Image.open(row.path).convert("RGB")
        frame = Image.fromarray(np.full((90, 80, 3), 128, np.uint8))
        frame.paste(picture, (number % 20, 7))
        frame.save(folder / f"{number}.png")
        box = f"{number % 20},7,{picture.width},{picture.height}"
        rows.append(f"{number}.png,{row.identity},{row.modality.name.lower()},{row.camera},{box}")
    (folder / "boxed.csv").write_text("\n".join(rows) + "\n")
    return str(folder / "boxed.csv")


def test_frames_with_boxes_train_as_their_crops_do(train_net, datasets, tmp_path):
    """The same pixels in the same order give the same weights and scores, bit for bit."""
    frames = boxed(datasets, tmp_path)
    lists = {"crops": str(datasets / "Own/people.csv"), "frames": frames, "cached": frames}
    scores = {}
    for name, file in lists.items():
        out = tmp_path / name
        keys = {"DATASETS__OWN__LIST": file, "DATASETS__OWN__NAME": "Campus", "OUTPUT_DIR": out}
        keys |= {"DATALOADER__CACHE": tmp_path / "cache"} if name == "cached" else {}
        assert train_net(**OWN, **keys)[0] == 0, name
        document = read_results(out / "results.json")
        assert document["run"]["dataset"]["name"] == "Campus", name
        scores[name] = document["scores"], read_checkpoint(out / "model_final.pth").model
    for name in ("frames", "cached"):
        assert scores[name][0] == scores["crops"][0], name
        for key, tensor in scores["crops"][1].items():
            assert tensor.equal(scores[name][1][key]), (name, key)


def test_a_run_writes_its_split_down_and_changes_no_file_of_the_users(
    train_net, datasets, tmp_path
):
    people = tmp_path / "people.csv"
    people.write_text(own.write_list(own.read_list(datasets / "Own/people.csv")))
    before = people.read_bytes()
    status, error = train_net(**OWN, DATASETS__OWN__LIST=people, DATASETS__OWN__TEST_SHARE=0.5)
    assert status == 0, error
    assert people.read_bytes() == before
    out = tmp_path / "out"
    rows = own.read_list(out / "split.csv").rows
    assert len({row.identity for row in rows if row.split == "test"}) == 10
    assert json.loads((out / "run.json").read_text())["identity"]["data"].keys() == {
        "training images",
        "training labels",
    }
    assert "The split of the images is in split.csv" in (out / "log.txt").read_text()
    # the same images under other names are another run
    people.write_bytes(before.replace(b",p0001,", b",p9999,"))
    status, error = train_net("--resume", **OWN, DATASETS__OWN__LIST=people)
    assert status == 2
    assert "other training" in error
    # a file of the user's in the way
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/split.csv").write_text("mine")
    status, error = train_net(**OWN, DATASETS__OWN__LIST=people, OUTPUT_DIR=tmp_path / "mine")
    assert (status, (tmp_path / "mine/split.csv").read_text()) == (2, "mine")
    assert "where the run writes its split" in error


def test_training_on_two_data_sets_then_fine_tuning(train_net, datasets, tmp_path):
    """The joined run tests one of them; the next run replaces classifiers of other people."""
    names = {"DATASETS__NAMES": ("SYSUMM01", "Own"), "OUTPUT_DIR": tmp_path / "joined"}
    status, error = train_net(
        **OWN,
        **names,
        DATASETS__OWN__VALIDATION_SHARE=0.3,
        SOLVER__SELECTION="validation",
    )
    assert status == 0, error
    record = read_checkpoint(tmp_path / "joined/model_final.pth").record
    assert record.dataset == "sysumm01 + Own"
    assert len(record.identities) == 16 + 10  # 20 of SYSU-MM01, less 4; 20 own, less 6 and 4
    weights = {"MODEL__WEIGHTS": tmp_path / "joined/model_final.pth"}
    status, error = train_net(**OWN, **weights)  # the same identities are tested: no leak
    assert status == 0, error
    log = (tmp_path / "out/log.txt").read_text()
    assert log.count("classifiers of other identities start afresh") == 1
    assert read_checkpoint(tmp_path / "out/model_final.pth").record.licences.keys() == {
        "sysumm01",
        "Own",
    }


def test_classifiers_of_as_many_other_people_start_afresh(train_net, tmp_path):
    first = tmp_path / "first"
    assert train_net(**OWN, OUTPUT_DIR=first)[0] == 0
    keys = {"MODEL__WEIGHTS": first / "model_final.pth", "SOLVER__BASE_LR": 1e-30}
    for naming, kept in (("Own", True), ("street", False)):
        out = tmp_path / naming
        found = train_net(**OWN, **keys, DATASETS__OWN__NAMING=(naming,), OUTPUT_DIR=out)
        assert found[0] == 0, found
        old, new = (read_checkpoint(f / "model_final.pth").model for f in (first, out))
        name = next(name for name in old if name.endswith(".classifier"))
        assert new[name].equal(old[name]) is kept, naming


def test_own_protocols_and_mixed_galleries_with_remedies_are_rows_of_a_run(
    train_net, datasets, tmp_path
):
    keys = {"DATASETS__OWN__LIST": datasets / "Own/people.csv", "DATASETS__OWN__NAME": "Campus"}
    keys |= {"DATASETS__OWN__VALIDATION_SHARE": 0.3, "TEST__REMEDIES": True}
    keys |= {"TEST__PROTOCOLS": "('own-mixed',)", "TEST__OWN__TRIALS": 2, "SOLVER__MAX_EPOCH": 1}
    status, error = train_net(**OWN, **keys, OUTPUT_DIR=tmp_path / "out")
    assert status == 0, error
    entries = read_results(tmp_path / "out/results.json")["scores"]
    names = [entry.get("remedy", {}).get("name") for entry in entries]
    assert names == [None, None, "balanced", "centred"]
    assert all("own_modality_first" in entry for entry in entries)
    assert entries[0]["description"].startswith("Campus: ")
    assert entries[0]["trials"] == 2


def test_two_processes_choose_the_same_remedies_as_one(train_net, datasets, tmp_path):
    """Scores are equal to the bit; the second process has no batch of validation images."""
    keys = {"DATASETS.OWN.LIST": str(datasets / "Own/people.csv"), "TEST.REMEDIES": "True"}
    keys |= {"DATASETS.OWN.VALIDATION_SHARE": "0.3", "TEST.PROTOCOLS": "('own-mixed',)"}
    keys |= {"SOLVER.IMS_PER_BATCH": "32", "SOLVER.MAX_EPOCH": "1", "SEED": "0"}
    both = tmp_path / "both"
    words = ["--config-file", str(OWN["config"]), "OUTPUT_DIR", str(both)]
    words += [word for pair in (TINY | keys).items() for word in pair]
    environment = {"FASTREID_DATASETS": str(datasets)}
    done = python("-c", TORCHRUN, *words, cwd=REPOSITORY, environment=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = read_results(both / "results.json")["scores"]
    assert [entry.get("remedy", {}).get("name") for entry in expected] == [
        *(None, None),
        *("balanced", "centred"),
    ]
    assert own.read_list(both / "split.csv").rows
    weights = str(both / "model_final.pth")
    status, error = train_net("--eval-only", config=OWN["config"], MODEL__WEIGHTS=weights, **keys)
    assert status == 0, error
    assert read_results(tmp_path / "out/results.json")["scores"] == expected


def test_rules_that_cannot_work_are_refused_before_any_work(train_net, datasets, tmp_path):
    for keys, message in (
        ({"TEST__OWN__WITHIN": 5.0}, "a time of each image"),
        ({"TEST__OWN__IGNORE_SAME_TRACKLET": True}, "no image with a tracklet"),
        ({"TEST__REMEDIES": True, "DATASETS__OWN__VALIDATION_SHARE": 0.3}, "mixed protocols only"),
        ({"TEST__MIXED_RATIO": 0.2}, "a ratio for mixed protocols only"),
    ):
        out = tmp_path / "out"
        status, error = train_net(
            **OWN, **keys, DATASETS__OWN__LIST=datasets / "Own/people.csv", OUTPUT_DIR=out
        )
        assert status == 2, keys
        assert message in error, keys
        assert not (out / "results.json").exists(), keys


def test_bad_lists_are_one_line_before_any_work(train_net, datasets, tmp_path):
    listed = own.read_list(datasets / "Own/people.csv").rows
    rows = [f"{row.path},{row.identity},{row.modality.name.lower()},{row.camera}" for row in listed]
    people, head = sorted({row.identity for row in listed}), "path,identity,modality,camera"
    half = ["train" if row.identity in people[::2] else "test" for row in listed]
    split = [f"{row},{part}" for row, part in zip(rows, half, strict=True)]
    boxes = [f"{row},0,0,5,9" for row in rows]
    first = listed[0].path
    thermal = [row for row in listed if row.modality.name == "THERMAL"]
    alone = [f"{row.path},{row.identity},thermal,{row.camera}" for row in thermal]
    queries = [row.replace(",test", ",query") for row in split]
    moved = split[0][: split[0].rindex(",")] + (",test" if half[0] == "train" else ",train")
    for case, columns, lines, message in (
        ("columns", "path,identity,kind,camera", rows, "without modality"),
        (
            "word",
            head,
            [f"{first},1,infrared,c", *rows[1:]],
            "row 2, got 'infrared'",
        ),
        ("repeated", head, [*rows, rows[0]], f"row {len(rows) + 2}, got that of"),
        ("box twice", f"{head},x,y,w,h", [*boxes, boxes[3]], f"row {len(rows) + 2}, got that of"),
        ("outside", f"{head},x,y,w,h", [f"{rows[0]},0,0,999,9", *boxes[1:]], "row 2), got x, y"),
        ("two splits", f"{head},split", [moved, *split[1:]], "in one of training, validation and"),
        ("no gallery", f"{head},split", queries, "rows with split gallery or test beside"),
        (
            "no queries",
            f"{head},split",
            [row.replace(",test", ",gallery") for row in split],
            "rows with split query or test beside",
        ),
        ("one modality", head, alone, "visible training images"),
        (
            "one modality under test",
            f"{head},split",
            [row for row in split if not row.endswith("test") or ",thermal," in row],
            "visible gallery images for own-t2v, got 0 visible",
        ),
        (
            "no test identity",
            f"{head},split",
            [row for row in split if row.endswith("train")],
            "test images of Own",
        ),
        (
            "no test identity of both modalities",
            f"{head},split",
            [
                row
                for row in split
                if not row.endswith("test")
                or (",thermal," in row) == (people.index(row.split(",")[1]) % 4 == 1)
            ],
            "a query",
        ),
        ("separators", head, [*rows[:3], rows[3].replace(",", ";"), *rows[4:]], "row 5"),
        ("gone", head, [rows[0].replace(first, f"{tmp_path}/gone.jpg"), *rows[1:]], "got no file"),
        ("all gone", head, [f"gone{n}.jpg,p{n},visible,c" for n in range(9)], "and 6 more"),
    ):
        (tmp_path / "people.csv").write_text("\n".join([columns, *lines]) + "\n")
        status, error = train_net(**OWN, DATASETS__OWN__LIST=tmp_path / "people.csv")
        assert (status, error.count("\n")) == (2, 1), (case, error)
        assert message in error, (case, error)
        assert not (tmp_path / "out").exists(), case


def test_images_that_vanish_during_a_training_are_named(train_net, datasets, tmp_path, monkeypatch):
    """All of them go once the start has looked at them; resuming works when they are back."""
    shutil.copytree(datasets / "Own", tmp_path / "Own")
    people = tmp_path / "Own/people.csv"
    images, away = tmp_path / "Own/visible", tmp_path / "away"

    def read_batch(*args):
        if images.exists():
            images.rename(away)
        return looked(*args)

    looked = VisibleThermalDataset.__getitem__
    with monkeypatch.context() as patch:
        patch.setattr(VisibleThermalDataset, "__getitem__", read_batch)
        status, error = train_net(**OWN, DATASETS__OWN__LIST=people)
    assert (status, error.count("\n")) == (2, 1), error
    assert str(images) in error
    away.rename(images)
    status, error = train_net("--resume", **OWN, DATASETS__OWN__LIST=people)
    assert status == 0, error
    assert (tmp_path / "out/results.json").is_file()
