"""Ranges, the guard and videos from the command line to the gallery, with a small real graph."""

import json

import numpy as np
import pytest
from PIL import Image
from tests.inference.one_matrix import STATISTICS, noise

from cmemd.cli.main import main
from cmemd.data.appearance import MEASURES, read_statistics, statistics_file
from cmemd.data.sensors import Sensor
from cmemd.errors import InputError
from cmemd.gallery.embeddings_file import own_sensor, read_embeddings
from cmemd.gallery.table import open_gallery
from cmemd.inference.guard import ModalityWarning
from cmemd.inference.model_folder import read_model_folder, write_model_document
from cmemd.inference.predictor import Predictor

RANGE = Sensor("7000:12000")


@pytest.fixture
def counts(tmp_path):
    """Files of 16 bits with different warm spots, and their counts."""
    (tmp_path / "deep").mkdir()
    images = np.random.default_rng(0).integers(7000, 12000, (4, 16, 8)).astype(np.uint16)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"deep/{number}.png")
    return images


def embed(model, *words, modality="thermal"):
    main(["embed", "--model", str(model), "--modality", modality, *map(str, words)])


def refused(capsys, call, *words, **options):
    with pytest.raises(SystemExit) as ended:
        call(*words, **options)
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1), error
    return error


def test_a_gallery_and_a_file_record_the_range_and_refuse_another(
    shared_model, counts, tmp_path, capsys
):
    gallery, deep = tmp_path / "g", tmp_path / "deep"
    embed(shared_model, "--images", deep, "--gallery", gallery, "--range", RANGE.range)
    with open_gallery(gallery) as opened:
        assert (opened.sensor, len(opened)) == (RANGE, 4)
    error = refused(
        capsys, embed, shared_model, "--images", deep, "--gallery", gallery, "--range", "agc"
    )
    assert "range 7000:12000, palette none, white-hot, as in gallery" in error
    embed(shared_model, "--images", deep, "--gallery", gallery)  # its own range, unsaid
    assert "4 unchanged" in capsys.readouterr().out
    search = ["search", "--gallery", str(gallery), "--model", str(shared_model), "--in", "thermal"]
    search += ["--modality", "thermal", "--top", "1", "--json", "--image", str(deep / "2.png")]
    main(search)
    [answer] = json.loads(capsys.readouterr().out)
    assert answer["matches"][0]["path"] == str(deep / "2.png")
    assert answer["matches"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert "as in gallery" in refused(capsys, main, [*search, "--range", "agc"])
    main(["gallery", "compact", str(gallery)])
    with open_gallery(gallery) as opened:
        assert opened.sensor == RANGE
    for name in ("f.npz", "f.parquet"):
        output = tmp_path / name
        embed(shared_model, "--images", deep, "--output", output, "--range", RANGE.range)
        assert own_sensor(output) == RANGE, name
        assert len(read_embeddings(output)["path"]) == 4, name
        words = ["--images", deep, "--output", output]
        embed(shared_model, *words)
        assert "as in" in refused(capsys, embed, shared_model, *words, "--range", "agc"), name


def test_a_range_serves_files_and_arrays_as_its_grey_levels(shared_model, counts, tmp_path):
    paths = [str(tmp_path / f"deep/{number}.png") for number in range(4)]
    with pytest.warns(UserWarning, match="could not be used"):
        assert np.isnan(Predictor(shared_model).embed(paths, "thermal")).all()
    predictor = Predictor(shared_model, sensor=RANGE)
    grey = [RANGE.grey_levels(image) for image in counts]
    expected = Predictor(shared_model).embed(grey, "thermal", bgr=False)
    np.testing.assert_array_equal(predictor.embed(paths, "thermal"), expected)
    np.testing.assert_array_equal(predictor.embed(list(counts), "thermal", bgr=False), expected)
    with pytest.warns(UserWarning, match="could not be used"):  # thermal counts, not visible ones
        assert np.isnan(predictor.embed(paths, "visible")).all()


def test_a_models_own_range_is_the_default(model, counts, tmp_path):
    document = dict(read_model_folder(model).document)
    for key in ("files", "digest", "document_sha256"):
        document.pop(key)
    document["input"] = {**document["input"], "thermal": RANGE.to_dict()}
    write_model_document(model, document)
    assert read_model_folder(model).sensor == Predictor(model).sensor == RANGE
    assert Predictor(model, sensor={"polarity": "black-hot"}).sensor == Sensor(
        RANGE.range, polarity="black-hot"
    )
    document["input"] = {**document["input"], "thermal": {**RANGE.to_dict(), "range": "9:1"}}
    with pytest.raises(InputError, match="the thermal range '9:1'"):
        write_model_document(model, document)


def test_invalid_options_are_refused_before_any_work(tmp_path, capsys):
    words = ["--images", tmp_path, "--gallery", tmp_path / "g"]
    for options, message in (
        (["--range", "9:1"], "LOW is below its HIGH"),
        (["--range", "warm"], "expected a thermal range LOW:HIGH"),
        (["--palette", "rainbow"], "expected a thermal palette out of none, jet"),
        (["--polarity", "hot"], "expected a thermal polarity"),
        (["--boxes", "t.csv"], "--video with --boxes"),
        (["--guard-statistics", tmp_path / "none"], "cmemd doctor --write-guard"),
    ):
        (tmp_path / "a.jpg").touch()
        assert message in refused(capsys, embed, "no-model", *words, *options), options
        assert not (tmp_path / "g").exists(), options
    video = ["--video", tmp_path / "v.mp4", "--gallery", tmp_path / "g"]
    assert "--boxes with --video" in refused(capsys, embed, "no-model", *video)
    boxes = [*video, "--boxes", tmp_path / "t.csv"]
    assert "--engine local" in refused(capsys, embed, "no-model", *boxes, "--engine", "ray")
    assert "no such file" in refused(capsys, embed, "no-model", *boxes)


def test_the_guard_is_off_warns_or_is_strict_and_takes_the_users_limits(shared_model, tmp_path):
    images = list(noise(3))
    with pytest.warns(ModalityWarning, match="3 of 3 images that look like colour"):
        Predictor(shared_model).embed(images, "thermal", bgr=False)
    with pytest.raises(InputError, match="colour photographs"):
        Predictor(shared_model, guard="strict").embed(images, "thermal", bgr=False)
    off = Predictor(shared_model, guard="off")
    off.embed(images, "thermal", bgr=False)
    mine = {name: {key: [0.0, 128.0, 255.0] for key in MEASURES} for name in STATISTICS}
    (tmp_path / "mine.json").write_bytes(statistics_file(mine))
    own = Predictor(shared_model, statistics=read_statistics(tmp_path / "mine.json"))
    own.embed(images, "thermal", bgr=False)
    assert off.suspects == own.suspects == 0
    for text in ("", "{}", '{"schema": "cmemd-guard", "statistics": {}}'):
        (tmp_path / "mine.json").write_text(text)
        with pytest.raises(InputError, match="statistics of cmemd doctor"):
            read_statistics(tmp_path / "mine.json")
    with pytest.raises(InputError, match="guard out of off, warn, strict"):
        Predictor(shared_model, guard="loud")


def test_a_videos_boxes_get_into_a_gallery_once(shared_model, tmp_path, capsys):
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for frame in np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3)).astype(np.uint8):
        writer.write(frame)
    writer.release()
    (tmp_path / "t.csv").write_text("2,1,10,20,8,16\n6,1,0,0,8,16\n2,2,60,0,8,16\n")
    words = ["--video", tmp_path / "v.avi", "--boxes", tmp_path / "t.csv", "--gallery"]
    embed(shared_model, *words, tmp_path / "g", modality="visible")
    embed(shared_model, *words, tmp_path / "g", modality="visible")
    assert "3 unchanged; 3 in all" in capsys.readouterr().out
    with open_gallery(tmp_path / "g") as gallery:
        names = {path.rsplit("#")[-1] for path in gallery.modalities()}
    assert names == {
        "frame=1&xywh=10,20,8,16",
        "frame=5&xywh=0,0,8,16",
        "frame=1&xywh=60,0,4,16",
    }
    (tmp_path / "t.csv").write_text("7,1,10,20,8,16\n")
    error = refused(capsys, embed, shared_model, *words, tmp_path / "h", modality="visible")
    assert "frame 7 in" in error
    assert not (tmp_path / "h").exists()
