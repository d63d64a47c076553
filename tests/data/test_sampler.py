from collections import Counter
from itertools import islice

import pytest

from cmemd.data.items import ImageItem
from cmemd.data.layouts import sysu
from cmemd.data.modality import Modality
from cmemd.data.sampler import CameraDiverseSampler, CrossModalitySampler
from cmemd.errors import InputError


def items(counts: dict[int, dict[int, int]]) -> list[ImageItem]:
    """Items of {pid: {camera: images}}."""
    return [
        ImageItem(f"{pid}-{camera}-{n}", pid, camera, sysu.CAMERAS[camera])
        for pid, cameras in counts.items()
        for camera, images in cameras.items()
        for n in range(images)
    ]


PEOPLE = items({pid: {1: 3, 2: 3, 4: 3, 3: 4, 6: 4} for pid in range(10)})


def sampler(people=PEOPLE, identities=4, visible=3, thermal=2, seed=0, **ranks):
    return CrossModalitySampler(
        people, identities=identities, num_visible=visible, num_thermal=thermal, seed=seed, **ranks
    )


def batches(source: CrossModalitySampler, size: int, count: int) -> list[list[int]]:
    stream = iter(source)
    return [list(islice(stream, size)) for _ in range(count)]


def test_a_batch_is_identities_of_visible_then_thermal_images():
    for batch in batches(sampler(), 20, 50):
        groups = [[PEOPLE[i] for i in batch[k : k + 5]] for k in range(0, 20, 5)]
        assert len({group[0].pid for group in groups}) == 4
        for group in groups:
            assert len({item.pid for item in group}) == 1
            assert [item.modality for item in group] == [Modality.VISIBLE] * 3 + [
                Modality.THERMAL
            ] * 2


def test_no_image_twice_in_a_batch_where_there_are_enough():
    for batch in batches(sampler(visible=8, thermal=8), 64, 50):
        assert len(set(batch)) == 64


def test_replacement_only_where_there_are_too_few():
    people = items({0: {1: 2, 3: 8}, 1: {1: 9, 3: 9}})
    for batch in batches(sampler(people, identities=2, visible=4, thermal=4), 16, 20):
        seen = Counter(people[i].path for i in batch)
        assert all(seen[path] == 2 for path in ("0-1-0", "0-1-1"))
        assert sum(count > 1 for count in seen.values()) == 2


def test_identities_are_gone_through_before_any_comes_again():
    pids = [PEOPLE[i].pid for batch in batches(sampler(), 20, 25) for i in batch[::5]]
    assert all(set(pids[k : k + 10]) == set(range(10)) for k in range(0, 100, 10))


def test_every_image_is_used_before_any_comes_again_if_counts_divide():
    people = items({pid: {1: 2, 2: 2, 3: 2, 6: 2} for pid in range(4)})
    drawn = [i for batch in batches(sampler(people, 4, 2, 2), 16, 20) for i in batch]
    assert all(sorted(drawn[k : k + 32]) == list(range(32)) for k in range(0, 320, 32))


def test_cameras_vary_within_a_modality():
    for batch in batches(sampler(visible=3, thermal=2), 20, 30):
        for k in range(0, 20, 5):
            assert len({PEOPLE[i].camid for i in batch[k : k + 3]}) == 3
            assert len({PEOPLE[i].camid for i in batch[k + 3 : k + 5]}) == 2


def test_identities_of_one_modality_are_never_drawn_and_counted_in_a_warning(caplog):
    people = PEOPLE + items({77: {1: 5}, 78: {6: 5}})
    drawn = {people[i].pid for batch in batches(sampler(people), 20, 50) for i in batch}
    assert drawn == set(range(10))
    assert "2 of 12 training identities" in caplog.text


def test_the_seed_alone_decides():
    assert batches(sampler(), 20, 9) == batches(sampler(), 20, 9)
    assert batches(sampler(), 20, 9) != batches(sampler(seed=1), 20, 9)
    source = sampler()
    assert batches(source, 20, 3) == batches(source, 20, 3)


def test_ranks_share_the_batches_of_one_process_by_whole_identities():
    whole = batches(sampler(), 20, 12)
    for world_size in (2, 4):
        size = 20 // world_size
        parts = [
            batches(sampler(rank=rank, world_size=world_size), size, 12)
            for rank in range(world_size)
        ]
        assert [sum((part[k] for part in parts), []) for k in range(12)] == whole, world_size


def test_too_few_identities():
    with pytest.raises(InputError, match="expected 11 training identities .*both.* got 10: lower"):
        sampler(identities=11)


def test_identities_that_do_not_divide_by_the_processes():
    with pytest.raises(InputError, match="P, that 3 processes divide, got 4: change"):
        sampler(world_size=3)


# ---- the sampler that spreads over cameras


def diverse(people, identities, visible, thermal, seed=0, **ranks) -> CameraDiverseSampler:
    return CameraDiverseSampler(
        people, identities=identities, num_visible=visible, num_thermal=thermal, seed=seed, **ranks
    )


# Three visible cameras with many, few and very few images; one thermal camera.
UNEVEN = items({pid: {1: 20, 2: 5, 4: 1, 3: 9} for pid in range(3)})


def test_an_identitys_images_are_spread_evenly_over_its_cameras():
    """By a plain rule: give one to each camera that has any left, again and again."""
    for count in (1, 2, 3, 4, 5, 8, 12, 26):
        low = Counter()
        for batch in batches(diverse(UNEVEN, 3, count, 1), 3 * (count + 1), 40):
            for k in range(0, len(batch), count + 1):
                seen = Counter(UNEVEN[i].camid for i in batch[k : k + count])
                assert len(set(batch[k : k + count])) == count  # no image twice
                sizes, least = {1: 20, 2: 5, 4: 1}, {1: 0, 2: 0, 4: 0}
                left = count
                while left >= len(able := [c for c in sizes if sizes[c] > least[c]]) and able:
                    for camera in able:
                        least[camera] += 1
                    left -= len(able)
                assert sum(least.values()) + left == count
                for camera, number in least.items():
                    assert number <= seen[camera] <= number + (left > 0), (count, seen)
                    low[camera] += seen[camera] - number
        able = [c for c in (1, 2, 4) if {1: 20, 2: 5, 4: 1}[c] > least[c]]
        # The remainder goes to the cameras that can give it, in turns: equal but for one round.
        extra = [low[camera] for camera in able] if left else []
        assert not extra or max(extra) - min(extra) <= 3, (count, low)


def test_a_person_of_one_cameras_flood_is_seen_by_all_cameras_alike():
    """The plain sampler shows camera 1 as often as it has images; this one a third of the time."""
    share = {}
    for name, build in (("plain", CrossModalitySampler), ("diverse", CameraDiverseSampler)):
        source = build(UNEVEN, identities=3, num_visible=2, num_thermal=1, seed=0)
        drawn = [UNEVEN[i].camid for batch in batches(source, 9, 300) for i in batch]
        visible = [camera for camera in drawn if camera != 3]
        share[name] = Counter(visible)[1] / len(visible)
    assert abs(share["plain"] - 20 / 26) < 0.05
    assert abs(share["diverse"] - 1 / 3) < 0.01


def test_too_few_images_repeat_evenly_and_a_cameras_images_are_all_used():
    few = items({0: {1: 2, 2: 1, 3: 4}, 1: {1: 3, 3: 4}})
    for batch in batches(diverse(few, 2, 6, 2), 16, 30):
        for k in (0, 8):
            pid = few[batch[k]].pid
            seen = Counter(few[i].path for i in batch[k : k + 6])
            assert set(seen.values()) == {2}, (pid, seen)
    drawn = [i for batch in batches(diverse(UNEVEN, 3, 2, 1), 9, 40) for i in batch]
    assert set(drawn) == set(range(len(UNEVEN)))
    # 40 batches draw 40 x 2 / 3 images of camera 1: all 20 once before any comes again.
    first = [i for i in drawn if UNEVEN[i].camid == 1 and UNEVEN[i].pid == 0][:20]
    assert len(set(first)) == 20


def test_spreading_keeps_the_rules_of_batches_seeds_and_ranks():
    whole = batches(diverse(PEOPLE, 4, 3, 2), 20, 12)
    assert whole == batches(diverse(PEOPLE, 4, 3, 2), 20, 12)
    assert whole != batches(diverse(PEOPLE, 4, 3, 2, seed=1), 20, 12)
    for world_size in (2, 4):
        parts = [
            batches(
                diverse(PEOPLE, 4, 3, 2, rank=rank, world_size=world_size), 20 // world_size, 12
            )
            for rank in range(world_size)
        ]
        assert [sum((part[k] for part in parts), []) for k in range(12)] == whole, world_size
    pids = [PEOPLE[i].pid for batch in whole for i in batch[::5]]
    assert all(set(pids[k : k + 10]) == set(range(10)) for k in range(0, 40, 10))
