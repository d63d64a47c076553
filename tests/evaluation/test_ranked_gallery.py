import numpy as np
import pytest
from PIL import Image

from cmemd.errors import InputError
from cmemd.evaluation.protocols import get_protocol
from cmemd.evaluation.ranked_gallery import draw_ranked_gallery, spread_over_ap

ALL = get_protocol("sysu-all-1shot")
GREEN, RED = (18, 134, 74), (204, 51, 51)


@pytest.fixture
def samples(make_samples, tmp_path):
    """Two ids on a line: id 1 at 0, id 2 at 10; images on disk, all blue.

    The camera 3 query of id 1 finds its own image first, that of id 2 finds id 1's first.
    """
    rows = [(1, 1, 1, 1.0), (2, 4, 1, 10.0), (1, 3, 1, 0.0), (2, 3, 1, 2.0), (2, 2, 1, 2.0)]
    made = make_samples(rows, folder=f"{tmp_path}/cam1/")
    for path in made.paths:
        folder = tmp_path.__class__(path).parent
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 50), (0, 0, 255)).save(path)
    return made


def share(image, colour):
    difference = np.abs(np.asarray(image).astype(int) - colour)
    return np.mean(np.all(difference <= 2, axis=-1))  # JPEG does not keep colours exactly


def test_the_picture_has_its_size_and_both_frames(samples, tmp_path):
    path = tmp_path / "out" / "ranked_gallery.png"
    draw_ranked_gallery(samples, ALL, path, queries=2)
    with Image.open(path) as image:
        assert image.format == "PNG"
        # Inches by 150: a gallery of at least 8 columns, two rows.
        width = 2 * 0.45 + 0.9 + 0.42 + 7 * 1.06 + 0.9
        height = 1.5 + 2 * 2.34 + 0.75
        assert image.size == (int(width * 150), int(height * 150))
        pixels = image.convert("RGB")
    # Thick right frames outweigh the same number of thin wrong ones.
    assert share(pixels, GREEN) > 1.5 * share(pixels, RED) > 0
    assert share(pixels, (0, 0, 255)) > 0.05


def test_ignored_images_are_not_shown(samples, tmp_path):
    # Three gallery images; one query sees two of them, as camera 2 does not exist for camera 3.
    draw_ranked_gallery(samples, ALL, tmp_path / "one.png", queries=1)
    with Image.open(tmp_path / "one.png") as image:
        blue = share(image.convert("RGB"), (0, 0, 255)) * image.width * image.height
    tile = 0.9 * 1.8 * 150**2
    assert 2.5 < blue / tile < 3  # the query and two; badges and rounding cover a little


def test_a_wrong_match_is_red_and_the_picture_the_same_every_time(samples, tmp_path):
    # The query shown is the worse one, and its nearest image is another person's.
    for name in ("a.png", "b.png"):
        draw_ranked_gallery(samples, ALL, tmp_path / name, queries=1, top=1)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert share(image.convert("RGB"), RED) > 0
        assert share(image.convert("RGB"), GREEN) == 0


def test_queries_are_spread_from_best_to_worst():
    ap = np.linspace(0, 1, 100)
    assert ap[spread_over_ap(ap, 4)] == pytest.approx(
        [87 / 99, 62 / 99, 37 / 99, 12 / 99], abs=0.02
    )
    assert spread_over_ap(ap, 1).tolist() == [49]
    assert spread_over_ap(ap, 100).tolist() == list(range(99, -1, -1))
    assert spread_over_ap(np.array([np.nan, 0.2, np.nan, 0.2]), 6).tolist() == [1, 3]


def test_missing_and_damaged_images_are_refused(samples, tmp_path):
    path = tmp_path / "cam1/cam1/0001/0001.jpg"
    hint = r": .*, or ask for no ranked gallery \(TEST.RANKED_GALLERY 0\)$"
    path.write_text("no image")
    with pytest.raises(InputError, match=f"expected an image in .*cam1/0001/0001.jpg, got.*{hint}"):
        draw_ranked_gallery(samples, ALL, tmp_path / "x.png")
    path.unlink()
    with pytest.raises(InputError, match=f"No such file.*{hint}"):
        draw_ranked_gallery(samples, ALL, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_nothing_to_draw_is_refused(samples, tmp_path):
    for wrong in ({"queries": 0}, {"top": 0}, {"trial": 10}, {"trial": -1}):
        with pytest.raises(InputError, match="a trial from 0 to 9, got"):
            draw_ranked_gallery(samples, ALL, tmp_path / "x.png", **wrong)
