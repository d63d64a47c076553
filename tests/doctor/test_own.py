"""The doctor on lists and folders of one's own."""

import numpy as np
import pytest
from PIL import Image

from cmemd.doctor.near import near_pairs, perceptual_hash
from cmemd.doctor.own import examine_own
from cmemd.standin import draw_own


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("doctor") / "Own"
    draw_own(root, ids=6, per_camera=2, size=(48, 24), seed=0)
    return root


def examine(root, *rows: str, columns: str) -> dict[str, list[str]]:
    """Problem -> cases of a list beside the drawn people."""
    file = root.parent / "list.csv"
    file.write_text("\n".join([columns, *rows]) + "\n")
    report = examine_own([file], root)
    return {fault.problem: cases for fault, cases in report.findings.items()}


def test_a_standin_is_usable_and_counted_alike_as_list_and_folder(drawn):
    by_list, by_folder = examine_own([drawn / "people.csv"]), examine_own([], drawn)
    assert by_list.usable
    assert by_folder.usable
    assert by_list.rows == by_folder.rows
    rows = {row.subject: row.found for row in by_list.rows}
    assert (rows["images"], rows["identities"], rows["identities of both modalities"]) == (48, 6, 6)
    assert rows["camera cam3: visible and thermal images"] == "0 12"
    split = "split (none; made by identity): identities, visible and thermal images"
    assert rows[split] == "6 24 24"
    assert rows["thermal images of mode RGB, 8 bits"] == 24


def test_each_fault_is_found_under_its_name(drawn):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, 40, 3), np.uint8)
    Image.fromarray(noise).save(drawn / "frame.png")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 99).save(drawn / "deep.png")
    (drawn / "cut.jpg").write_bytes((drawn / "visible/p0001/cam1_0001.jpg").read_bytes()[:400])
    image = Image.open(drawn / "visible/p0001/cam1_0001.jpg")
    image.save(drawn / "copy.jpg", quality=60)
    visible, thermal = "visible/p0001/cam1_0001.jpg", "thermal/p0001/cam3_0001.jpg"
    found = examine(
        drawn,
        f"{visible},a,visible,train,,,,,10",
        f"{thermal},a,thermal,train,,,,,20",
        "visible/p0001/cam1_0001.jpg,b,visible,test,0,0,9,9,",
        "copy.jpg,b,visible,test,,,,,",
        "frame.png,c,visible,test,0,0,40,61,",
        "deep.png,c,thermal,test,,,,,",
        "cut.jpg,c,visible,test,,,,,",
        "none.jpg,d,visible,test,,,,,",
        f"{visible},a,visible,test,1,1,9,9,",
        f"{thermal},a,infrared,train,1,1,5,5,",
        columns="path,identity,modality,split,x,y,w,h,time",
    )
    for problem, part in {
        "boxes outside their frame": "row 6: 0,0,40,61 in 40 x 60 pixels",
        "images of more than 8 bits a channel": "deep.png",
        "damaged or unreadable images": "cut.jpg",
        "listed images that are missing, or no images": "row 9",
        "identities in two splits": "identity a",
        "unknown modality words": "row 11: 'infrared'",
        "near-duplicate images in different splits": "copy.jpg (b)",
        "identities with images of one modality only": "identity b: visible only",
    }.items():
        assert part in " ".join(found[problem]), (problem, found.get(problem))


def test_equal_pictures_share_a_hash_and_people_do_not(drawn):
    """Another size, brightness or quality is near; other images are far."""
    files = sorted(drawn.glob("visible/p*/*.jpg"))
    images = [Image.open(path).convert("RGB") for path in files]
    hashes = [perceptual_hash(image) for image in images]
    assert list(near_pairs(hashes)) == []
    changes = {
        "size": lambda image: image.resize((image.width * 2, image.height * 2)),
        "brightness": lambda image: image.point(lambda value: 0.8 * value),
        "grey": lambda image: image.convert("L"),
    }
    for name, change in changes.items():
        both = hashes + [perceptual_hash(change(image)) for image in images]
        count = len(images)
        assert sorted(near_pairs(both)) == [(n, n + count) for n in range(count)], name
    flat = [perceptual_hash(Image.new("L", (20, 40), level)) for level in (0, 77, 255)]
    assert len(set(flat)) == 1


def test_near_pairs_are_those_of_a_comparison_of_all():
    """A plain loop over all pairs of hashes with known differences is the oracle."""
    rng = np.random.default_rng(1)
    hashes = [rng.bytes(32) for _ in range(20)]
    for number in range(40):
        bits = np.unpackbits(np.frombuffer(hashes[number], np.uint8))
        bits[rng.choice(256, size=rng.integers(1, 30), replace=False)] ^= 1
        hashes.append(np.packbits(bits).tobytes())

    def distance(one: bytes, other: bytes) -> int:
        return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()

    for near in (0, 5, 16):
        expected = {
            (a, b)
            for a in range(len(hashes))
            for b in range(a + 1, len(hashes))
            if distance(hashes[a], hashes[b]) <= near
        }
        found = list(near_pairs(hashes, near))
        assert len(found) == len(set(found)), near
        assert {tuple(sorted(pair)) for pair in found} == expected, near
