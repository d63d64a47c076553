import itertools
import json
import os
import re
import threading
import warnings

import numpy as np
import pytest
from PIL import Image
from tests.inference.one_matrix import STATISTICS, document, expected_embeddings, grey, noise
from tests.inference.refusal import refusal

from cmemd.data.image_files import Reason
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.inference import predictor as predictor_module
from cmemd.inference.guard import ModalityWarning
from cmemd.inference.model_folder import write_model_document
from cmemd.inference.predictor import Predictor, as_modality

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def predictor(shared_model):
    """Of small batches, so that a handful of images takes several."""
    return Predictor(shared_model, batch_size=3, workers=2)


def spoil(path) -> str:
    path.write_bytes(path.read_bytes()[:-60])
    return str(path)


def test_paths_and_arrays_give_the_networks_embeddings(predictor, save_images):
    for images in (1, 2, 3, 4, 10, 20):
        pixels = noise(images)
        paths = save_images(pixels)
        expected = expected_embeddings(pixels, 0)
        for given, bgr in (
            (paths, None),
            ([str(path) for path in paths], None),
            (iter(paths), None),
            (pixels, False),
            (list(pixels), False),
            (pixels[..., ::-1], True),
        ):
            found = predictor.embed(given, "visible", bgr=bgr)
            assert (found.shape, found.dtype) == ((images, predictor.size), np.float32)
            np.testing.assert_allclose(found, expected, atol=2e-6, err_msg=str((images, bgr)))


def test_a_single_image(predictor, save_images):
    pixels = noise(1)
    (path,) = save_images(pixels)
    for given in (path, str(path), pixels[0]):
        found = predictor.embed(given, "visible", bgr=False)
        np.testing.assert_allclose(found, expected_embeddings(pixels, 0), atol=2e-6)


def test_the_modality_chooses_the_stem(predictor):
    images = grey(4)
    found = predictor.embed(images, Modality.THERMAL, bgr=False)
    np.testing.assert_allclose(found, expected_embeddings(images, 1), atol=2e-6)
    with pytest.warns(ModalityWarning):
        other = predictor.embed(images, Modality.VISIBLE, bgr=False)
    assert np.abs(found - other).max() > 0.1


def test_no_images(predictor):
    for nothing in ([], iter(()), np.zeros((0, 8, 4, 3), dtype=np.uint8)):
        assert predictor.embed(nothing, "thermal").shape == (0, predictor.size)
    assert list(predictor.stream([], "thermal")) == []


def test_what_a_predictor_says(predictor, shared_model):
    stored = json.loads((shared_model / "model.json").read_text())
    assert (predictor.digest, predictor.size) == (stored["digest"], 5)


def test_a_stream_keeps_order_whatever_the_batches(shared_model, save_images):
    paths = save_images(noise(13))
    expected = expected_embeddings(noise(13), 0)
    for batch_size in (1, 2, 5, 64):
        for workers in (1, 4):
            predictor = Predictor(shared_model, batch_size=batch_size, workers=workers)
            case = f"batch_size {batch_size}, workers {workers}"
            found = list(predictor.stream(paths, "visible"))
            assert [key for key, _ in found] == paths, case
            streamed = np.stack([embedding for _, embedding in found])
            whole = predictor.embed(paths, "visible")
            np.testing.assert_allclose(streamed, whole, atol=1e-6, err_msg=case)
            np.testing.assert_allclose(streamed, expected, atol=2e-6, err_msg=case)


def test_an_endless_stream_is_read_only_a_little_ahead(predictor):
    taken = 0

    def endless():
        nonlocal taken
        for number in itertools.count():
            taken = number + 1
            yield noise(1, number)[0]

    stream = predictor.stream(endless(), "visible", bgr=False)
    assert taken == 0
    for number, (key, _) in zip(range(50), stream, strict=False):
        assert key == number
        assert taken <= number + 1 + 3 * predictor.batch_size
    threads = threading.active_count()
    stream.close()
    assert threading.active_count() < threads


def test_mixed_paths_and_arrays_of_any_size(predictor, save_images):
    pixels = noise(2)
    big = noise(1, 7, 40, 21)[0]
    found = list(predictor.stream([*save_images(pixels), big], "visible", bgr=False))
    assert [str(key)[-5:] for key, _ in found] == ["0.png", "1.png", "2"]
    np.testing.assert_allclose(
        found[2][1], predictor.embed(big, "visible", bgr=False)[0], atol=1e-6
    )


def test_corrupt_images_are_listed_counted_and_skipped(shared_model, save_images, tmp_path):
    predictor = Predictor(shared_model, batch_size=3)
    paths = save_images(noise(9))
    spoilt = [spoil(paths[1]), spoil(paths[8])]
    spoilt.insert(1, str(tmp_path / "none.jpg"))
    given = [*map(str, paths[:5]), spoilt[1], *map(str, paths[5:])]
    found = list(predictor.stream(given, "visible"))
    assert [key for key, _ in found] == [path for path in given if path not in spoilt]
    assert [key for key, _ in predictor.skipped] == spoilt
    assert all(key in reason for key, reason in predictor.skipped)
    expected = expected_embeddings(noise(9)[[0, 2, 3, 4, 5, 6, 7]], 0)
    np.testing.assert_allclose([embedding for _, embedding in found], expected, atol=2e-6)


def test_embed_keeps_the_rows_of_corrupt_images(shared_model, save_images):
    predictor = Predictor(shared_model, batch_size=2)
    paths = save_images(noise(5))
    for number in (0, 1, 4):  # the whole first batch, and the last image
        spoil(paths[number])
    with pytest.warns(UserWarning, match="3 of 5 images could not be used.*image 4"):
        found = predictor.embed(paths, "visible")
    np.testing.assert_array_equal(np.isnan(found).any(axis=1), [True, True, False, False, True])
    np.testing.assert_allclose(found[2:4], expected_embeddings(noise(5)[2:4], 0), atol=2e-6)
    assert len(predictor.skipped) == 3


def test_an_array_without_pixels_is_corrupt(shared_model):
    predictor = Predictor(shared_model)
    images = [noise(1)[0], np.zeros((0, 4, 3), dtype=np.uint8), noise(1)[0]]
    assert [key for key, _ in predictor.stream(images, "visible", bgr=False)] == [0, 2]
    assert predictor.skipped[0][0] == 1


def test_corrupt_images_can_be_fatal(shared_model, save_images):
    paths = save_images(noise(5))
    spoil(paths[3])
    predictor = Predictor(shared_model, batch_size=2, on_corrupt="raise")
    with pytest.raises(InputError, match=r"image 3\.png, got a file that is truncated"):
        predictor.embed(paths, "visible")


def test_what_is_not_an_image_is_always_fatal(predictor):
    for given, message in (
        (None, "paths or arrays as images, got NoneType as number 0: turn it"),
        (b"a.jpg", "got bytes as number 0"),
        (np.zeros((8, 4, 3)), "got float64"),
        (np.zeros((8, 4, 3), dtype=np.uint16), "got uint16"),
    ):
        assert message in refusal(predictor.embed, [given], "visible", bgr=False), message


def test_arrays_must_say_their_channel_order(predictor):
    with pytest.raises(InputError, match="bgr=True"):
        predictor.embed(noise(2), "visible")


def test_a_modality_is_never_guessed(predictor):
    for modality in (None, "", "Thermal", "infrared", 0, 1, True, "0"):
        for use in (predictor.embed, predictor.stream):
            found = refusal(use, [], modality)
            assert found.startswith("expected a modality, 'visible' or 'thermal'"), modality
            assert f", got {modality!r}: say" in found
    with pytest.raises(TypeError, match="modality"):
        predictor.embed([])


def test_modalities_by_name():
    assert [as_modality(m) for m in ("visible", "thermal", *Modality)] == [*Modality, *Modality]


def test_colour_photographs_given_as_thermal(shared_model):
    predictor = Predictor(shared_model, batch_size=4)
    images = np.concatenate([grey(5), noise(2)])
    with pytest.warns(ModalityWarning) as caught:
        predictor.embed(images, "thermal", bgr=False)
    assert [str(w.message).split(";")[0] for w in caught] == [
        "given as thermal: 2 of 7 images that look like colour photographs (the first: 5)"
    ]
    assert predictor.suspects == 2


def test_a_call_that_gets_worse_warns_at_its_end_too(shared_model):
    predictor = Predictor(shared_model, batch_size=2)
    images = np.concatenate([noise(1), grey(1), noise(3)])
    with pytest.warns(ModalityWarning) as caught:
        predictor.embed(images, "thermal", bgr=False)
    counts = [str(warning.message).split(" images")[0] for warning in caught]
    assert counts == ["given as thermal: 1 of 2", "given as thermal: 4 of 5"]
    assert predictor.suspects == 4


def test_greyscale_images_given_as_visible(shared_model, save_images):
    predictor = Predictor(shared_model)
    paths = save_images(grey(3)[..., 0], "grey")
    with pytest.warns(ModalityWarning, match="3 of 3 images that look like grey or thermal"):
        predictor.embed(paths, "visible")


def test_strict_refuses_a_wrong_modality(shared_model):
    predictor = Predictor(shared_model, guard="strict")
    with pytest.raises(InputError, match="expected thermal images, got 2 of 2"):
        predictor.embed(noise(2), "thermal", bgr=False)
    assert predictor.embed(grey(2), "thermal", bgr=False).shape == (2, 5)


def test_a_model_without_statistics_says_so(model):
    write_model_document(model, document() | {"channel_statistics": None})
    with pytest.warns(ModalityWarning, match="no channel_statistics"):
        predictor = Predictor(model)
    predictor.embed(noise(2), "thermal", bgr=False)
    found = refusal(Predictor, model, guard="strict")
    assert "a model with channel_statistics for the guard strict, got none in" in found


def test_arguments_out_of_range(shared_model):
    for options, message in (
        ({"batch_size": 0}, "batch_size and workers of at least 1, got 0 and"),
        ({"workers": 0}, "batch_size and workers of at least 1, got 64 and 0"),
        ({"on_corrupt": "ignore"}, "on_corrupt 'skip' or 'raise', got 'ignore'"),
        ({"runtime": "tensorrt"}, "a runtime out of"),
    ):
        assert re.search(message, refusal(Predictor, shared_model, **options)), options


def test_a_changed_model_is_refused(model):
    with (model / "weights.safetensors").open("r+b") as file:
        file.write(b"\xff")
    with pytest.raises(InputError, match="another SHA-256"):
        Predictor(model)


def test_images_are_decoded_side_by_side(shared_model, monkeypatch):
    together = threading.Barrier(4, timeout=20)  # breaks unless four threads come to it at once
    whole = predictor_module.from_array

    def wait_for_the_others(*args):
        together.wait()
        return whole(*args)

    monkeypatch.setattr(predictor_module, "from_array", wait_for_the_others)
    predictor = Predictor(shared_model, batch_size=4, workers=4)
    assert predictor.embed(noise(8), "visible", bgr=False).shape == (8, 5)


def test_both_runtimes_agree(torch_model):
    images = noise(5)
    found = [
        Predictor(torch_model, runtime=runtime).embed(images, "visible", bgr=False)
        for runtime in ("onnx", "torch")
    ]
    np.testing.assert_allclose(*found, atol=2e-6)


def test_genuine_images_pass_in_silence(predictor):
    assert STATISTICS["thermal"]["chroma"][2] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictor.embed(grey(5), "thermal", bgr=False)
        predictor.embed(noise(5), "visible", bgr=False)


def test_peculiar_images_are_used_and_counted(shared_model, tmp_path):
    predictor, pixels = Predictor(shared_model), Image.fromarray(noise(1)[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    pixels.save(tmp_path / "frames.png", save_all=True, append_images=[Image.new("RGB", (4, 8))])
    paths = [str(tmp_path / f"{name}.png") for name in ("turned", "frames")]
    found = predictor.embed(paths, "visible")
    np.testing.assert_allclose(found, expected_embeddings(noise(1)[[0, 0]], 0), atol=2e-6)
    noted = (predictor.noted.names(reason) for reason in (Reason.ROTATED, Reason.FRAMES))
    assert list(noted) == [paths[:1], paths[1:]]


def test_what_cannot_be_read_is_skipped_and_no_pipe_is_waited_for(shared_model, tmp_path):
    predictor = Predictor(shared_model)
    os.mkfifo(tmp_path / "pipe.png")
    Image.new("1", (8000, 8000)).save(tmp_path / "large.png")
    paths = [str(tmp_path / f"{name}.png") for name in ("pipe", "large", "none")]
    assert list(predictor.stream(paths, "visible")) == []
    reasons = ("pipe, socket", "at most 50,000,000 pixels", "missing")
    for path, reason, (skipped, told) in zip(paths, reasons, predictor.skipped, strict=True):
        assert skipped == path
        assert reason in told
