"""A data set of one's own, alone and joined with others."""

import re

import numpy as np
import pytest
from PIL import Image
from tests.conftest import CONFIGS

import cmemd
from cmemd.data.boxes import Box
from cmemd.data.build import build_dataset, build_training, read_data
from cmemd.data.dataset import VisibleThermalDataset
from cmemd.data.images import check_items, crop
from cmemd.data.items import ImageItem
from cmemd.data.modality import Modality
from cmemd.data.naming import licences_of, people_of, person_of, place_of
from cmemd.data.own import Own
from cmemd.engine.provenance import Weights, files_sha256, guard, labels_sha256, training_record
from cmemd.engine.record import TrainingRecord, identity_digests
from cmemd.errors import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with four empty images."""
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        (tmp_path / f"{number}.jpg").touch()
    return tmp_path


def write(name: str, *rows: str, columns: str = "path,identity,modality,split") -> str:
    with open(name, "w") as file:
        file.write("\n".join([columns, *rows]) + "\n")
    return name


def load(**keys: object):
    """A configuration of own data; keys are those below DATASETS.OWN, or NAMES."""
    names = keys.pop("NAMES", ("Own",))
    words = ["DATASETS.NAMES", str(names), "DATASETS.TESTS", "('Own',)"]
    for key, value in keys.items():
        words += [f"DATASETS.OWN.{key}", str(value)]
    return cmemd.load_config(CONFIGS / "own.yml", words)


def names(data, items) -> list[str]:
    return sorted(identity for _, identity in people_of(data, items))


def test_folder_and_list_of_a_standin_are_one_data_set(datasets):
    by_folder = Own(root=datasets)
    by_list = Own(root=datasets, list=[str(datasets / "Own/people.csv")])
    assert by_list.train == [
        item._replace(source=f"{datasets}/Own/people.csv, row {n}")
        for item, n in zip(
            by_folder.train,
            [int(item.source.rpartition(" ")[2]) for item in by_list.train],
            strict=True,
        )
    ]
    assert len({item.pid for item in by_list.query}) == 6  # 0.3 of 20
    assert {item.pid for item in by_list.query} == {item.pid for item in by_list.gallery}
    assert {i.modality for i in by_list.query} == {Modality.THERMAL}
    assert by_list.camera(by_list.query[0].camid) == "cam3"


def test_roles_decide_who_is_a_query(folder):
    rows = ("0.jpg,a,visible,query", "1.jpg,a,thermal,gallery")
    rows += ("2.jpg,a,thermal,test", "3.jpg,a,visible,test")
    data = Own(list=[write("p.csv", *rows)])
    assert [data.place(item) for item in data.query] == ["0.jpg", "2.jpg"]
    assert [data.place(item) for item in data.gallery] == ["1.jpg", "3.jpg"]
    assert data.train == data.validation == []


def test_validation_identities_are_the_lists_or_a_share(folder, datasets):
    rows = ("0.jpg,a,visible,train", "1.jpg,a,thermal,train", "2.jpg,b,visible,val")
    data = Own(list=[write("p.csv", *rows)])
    assert (names(data, data.train), names(data, data.validation)) == (["a"], ["b"])
    with pytest.raises(InputError, match="VALIDATION_SHARE 0"):
        Own(list=["p.csv"], validation_share=0.5)
    plain, held = Own(root=datasets), Own(root=datasets, validation_share=0.25)
    assert len({i.pid for i in held.validation}) == 4  # round(14 / 4)
    assert names(plain, plain.train) == names(held, held.train + held.validation)
    assert plain.query == held.query


def test_lists_share_identities_only_if_their_namings_are_equal(folder):
    one = write("1.csv", "0.jpg,a,visible,train", "1.jpg,a,thermal,train")
    two = write("2.csv", "2.jpg,a,visible,test", "3.jpg,a,thermal,test")
    with pytest.raises(InputError, match="NAMING for lists that share identities"):
        Own(list=[one, two])
    with pytest.raises(InputError, match=r"'a' in one of training.*1\.csv, row 2.*2\.csv, row 2"):
        Own(list=[one, two], naming=["campus"])
    with pytest.raises(InputError, match="one for each of 2 lists"):
        Own(list=[one, two], naming=["a", "b", "c"])
    data = Own(list=[one, two], naming=["campus", "street"])
    assert people_of(data, data.train) == {("campus", "a")}
    assert people_of(data, data.query) == {("street", "a")}
    assert len(data.split_files()) == 2


def test_the_written_split_is_a_list_that_gives_the_same_data(datasets, tmp_path):
    data = Own(root=datasets, validation_share=0.2)
    ((name, text),) = data.split_files().items()
    (tmp_path / name).write_text(text)
    again = Own(list=[str(tmp_path / name)])

    def bare(items) -> list[ImageItem]:
        return [item._replace(source="") for item in items]

    for part in ("train", "validation", "query", "gallery"):
        assert bare(getattr(again, part)) == bare(getattr(data, part)), part


def test_what_a_use_lacks_is_told_by_name(folder, datasets, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    both = ("0.jpg,a,visible,{0}", "1.jpg,a,thermal,{0}")
    train = write("train.csv", *(row.format("train") for row in both))
    test = write("test.csv", *(row.format("test") for row in both))
    grey = write("one.csv", "0.jpg,a,visible,train", "1.jpg,b,thermal,test")
    for keys, message in (
        ({"LIST": test, "NAME": "Campus"}, "training images of Campus, got none"),
        ({"LIST": grey}, "thermal training images"),
        ({"LIST": train, "NAMES": ()}, "one data set in DATASETS.NAMES, or several"),
        ({"LIST": train, "NAMES": ("Own", "Own")}, "each once, got"),
        ({"LIST": "none.csv"}, "a list of images at none.csv"),
        ({"FOLDER": "SYSU-MM01"}, r"images in .*SYSU-MM01 named as \{modality\}"),
    ):
        with pytest.raises(InputError, match=message):
            read_data(load(**keys))
    assert read_data(load(LIST=train, NAMES=("SYSUMM01",))).test.train  # tests come later
    assert read_data(load(LIST=test), training=False).test.query


@pytest.fixture
def joined(datasets, monkeypatch):
    """RegDB, SYSU-MM01 and own data as one."""
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    return build_training(load(NAMES=("RegDB", "SYSUMM01", "Own"), NAME="Campus", LICENCE="ours"))


def test_joined_data_sets_keep_all_images_and_no_number_of_two(joined):
    parts = joined.parts
    assert len(joined.train) == sum(len(part.train) for part in parts)
    people = [{(naming, i) for naming, i in people_of(part, part.train)} for part in parts]
    assert sum(map(len, people)) == len({item.pid for item in joined.train})
    assert people_of(joined, joined.train) == set().union(*people)
    cameras = sum(len({item.camid for item in part.train}) for part in parts)
    assert cameras == len({item.camid for item in joined.train})
    start = 0
    for part in parts:  # every image keeps its identity, modality and place
        for item, moved in zip(part.train, joined.train[start:], strict=False):
            assert item.path == moved.path
            assert item.modality is moved.modality
            assert person_of(part, item.pid) == person_of(joined, moved.pid)
            assert place_of(joined, moved) == f"{part.dataset_name}/{place_of(part, item)}"
        start += len(part.train)
    assert joined.trial == 1
    assert licences_of(joined) | {} == {
        "regdb": "RegDB's agreement with its authors: research only",
        "sysumm01": "SYSU-MM01's agreement with its authors: research only",
        "Campus": "ours",
    }


def test_a_joined_trainings_record_guards_each_of_its_data_sets(joined, datasets):
    cfg = load()
    record = training_record(cfg, joined)
    assert record.dataset == "regdb + sysumm01 + Campus"
    for part in joined.parts:
        with pytest.raises(InputError, match="trained on"):
            guard(cfg, part, part.train, "test", Weights(record=record))
        found = guard(cfg, part, part.query, "test", Weights(record=record))
        assert found["outcome"] == "clean", part


def test_the_leak_guard_compares_namings_and_names(folder):
    rows = ("0.jpg,a,visible,{0}", "1.jpg,a,thermal,{0}")
    train = write("train.csv", *(row.format("train") for row in rows))
    test = write("test.csv", *(row.format("test") for row in rows))

    def outcome(trained: dict, tested: dict) -> str:
        cfg = load(LIST=train, **trained)
        record = training_record(cfg, build_dataset(cfg, "Own"))
        cfg = load(LIST=test, **tested)
        data = build_dataset(cfg, "Own")
        try:
            return guard(cfg, data, data.query, "test", Weights(record=record))["outcome"]
        except InputError as error:
            return "refused" if "such as a " in str(error) else str(error)

    for trained, tested, expected in (
        ({}, {}, "refused"),
        ({"NAME": "Campus"}, {"NAME": "Street"}, "clean"),
        ({"NAME": "A", "NAMING": "campus-2026"}, {"NAME": "B", "NAMING": "campus-2026"}, "refused"),
        ({"NAME": "A", "NAMING": "x"}, {"NAME": "A", "NAMING": "y"}, "clean"),
    ):
        assert outcome(trained, tested) == expected, (trained, tested)


def test_a_naming_of_a_published_data_set_is_guarded_too(folder):
    """Its record holds digests of "regdb/5", as RegDB's own."""
    write("p.csv", "0.jpg,5,visible,test", "1.jpg,5,thermal,test")
    cfg = load(LIST="p.csv", NAMING="regdb")
    digests = sorted(identity_digests("regdb", [5]))
    record = TrainingRecord("regdb", 1, digests, [], [], 0, 1, "", "")
    data = build_dataset(cfg, "Own")
    with pytest.raises(InputError, match="1 of the 1 identities"):
        guard(cfg, data, data.query, "test", Weights(record=record))


def test_records_add_up_licences_and_old_ones_still_load():
    old = TrainingRecord("regdb", 1, ["00"], [], [], 0, 1, "last", "")
    state = old.state_dict()
    del state["licences"]  # of an earlier release
    assert TrainingRecord.from_state(state) == old
    new = TrainingRecord("Campus", None, ["11"], [], [], 0, 1, "last", "", licences={"Campus": "x"})
    new.start_from(TrainingRecord.from_state(state))
    assert new.licences == {
        "regdb": "RegDB's agreement with its authors: research only",
        "Campus": "x",
    }
    assert new.known == {"00", "11"}


def test_digests_see_boxes_and_labels(folder):
    def digests(*rows: str) -> tuple[str, str]:
        columns = "path,identity,modality,camera,split,x,y,w,h"
        data = Own(list=[write("p.csv", *rows, "3.jpg,z,thermal,c,train,,,,", columns=columns)])
        return files_sha256(data.train, data), labels_sha256(data.train, data)

    plain = digests("0.jpg,a,visible,c,train,0,0,5,5", "1.jpg,b,visible,c,train,,,,")
    assert plain == digests("1.jpg,b,visible,c,train,,,,", "0.jpg,a,visible,c,train,0,0,5,5")
    files, labels = digests("0.jpg,a,visible,c,train,0,0,5,6", "1.jpg,b,visible,c,train,,,,")
    assert files != plain[0]
    files, labels = digests("0.jpg,b,visible,c,train,0,0,5,5", "1.jpg,a,visible,c,train,,,,")
    assert (files == plain[0], labels == plain[1]) == (True, False)


def test_a_box_is_cut_out_where_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    path = str(tmp_path / "frame.png")
    Image.fromarray(pixels).save(path)
    boxes = [None, Box(3, 5, 7, 9), Box(0, 0, 30, 40), Box(29, 39, 1, 1)]
    items = [ImageItem(path, 1, 1, Modality.VISIBLE, box, source="row 2") for box in boxes]
    check_items(items)
    images = VisibleThermalDataset(items, np.asarray, relabel=False)
    for row, box in enumerate(boxes):
        x, y, w, h = box or (0, 0, 30, 40)
        np.testing.assert_array_equal(images[row]["images"], pixels[y : y + h, x : x + w])
    assert len({images[row]["img_paths"] for row in range(4)}) == 4
    for box in (Box(24, 0, 7, 9), Box(0, 32, 7, 9)):
        with pytest.raises(InputError, match=rf"30 x 40 pixels of {re.escape(path)} \(row 2\)"):
            check_items([items[0], items[0]._replace(box=box)])
        with pytest.raises(InputError, match="a box in"):
            crop(pixels, box)
