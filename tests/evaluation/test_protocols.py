import pytest

from cmemd.data.layouts import sysu
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.evaluation.protocols import PROTOCOLS, choose_sampling, get_protocol, get_protocols


def test_table_of_sysu_protocols():
    table = {
        p.name: (p.gallery.cameras, p.gallery.shots, p.samplings)
        for p in PROTOCOLS.values()
        if p.dataset == "sysu" and not p.mixture
    }
    everywhere, indoor, both = (1, 2, 4, 5), (1, 2), ("official", "python")
    assert table == {
        "sysu-all-1shot": (everywhere, 1, both),
        "sysu-indoor-1shot": (indoor, 1, both),
        "sysu-all-10shot": (everywhere, 10, ("official",)),
        "sysu-indoor-10shot": (indoor, 10, ("official",)),
    }


def test_table_of_the_other_protocols():
    table = {
        p.name: (p.query.shots, p.gallery.shots, p.trials, p.cmc, p.ignore_same_camera)
        for p in PROTOCOLS.values()
        if p.dataset != "sysu" and not p.mixture
    }
    ways = {
        "regdb-{}": (None, None, 1, "images", False),
        "llcm-{}-paper": (None, 1, 10, "identities", True),
        "llcm-{}-released": (1, None, 10, "identities", True),
        "llcm-{}-full-gallery": (None, None, 1, "identities", True),
        "own-{}": (None, None, 1, "identities", False),
    }
    assert table == {
        way.format(direction): rules for way, rules in ways.items() for direction in ("v2t", "t2v")
    }


def test_a_direction_says_the_query_first():
    for name, protocol in PROTOCOLS.items():
        if protocol.mixture:
            continue
        assert {protocol.query.modality, protocol.gallery.modality} == set(Modality), name
        if protocol.dataset == "sysu":
            assert protocol.query.modality is Modality.THERMAL, name
            for side in (protocol.query, protocol.gallery):
                assert {sysu.CAMERAS[camera] for camera in side.cameras} == {side.modality}, name
        else:
            visible_query = "-v2t" in name
            assert (protocol.query.modality is Modality.VISIBLE) == visible_query, name
            first = "visible query" if visible_query else "thermal query"
            assert first in protocol.description, name


def test_llcm_alone_means_the_papers_variant_and_results_say_so():
    for direction in ("v2t", "t2v"):
        assert get_protocol(f"llcm-{direction}").name == f"llcm-{direction}-paper"


def test_protocols_of_several_data_sets_and_repeated_ones_are_refused():
    with pytest.raises(InputError, match="expected protocols of one data set"):
        get_protocols(["sysu-all-1shot", "regdb-v2t"])
    with pytest.raises(InputError, match="expected different protocols"):
        get_protocols(["llcm-v2t", "llcm-v2t-paper"])
    with pytest.raises(InputError, match="at least one, got none"):
        get_protocols([])


def test_unknown_protocol_lists_the_known_and_the_closest():
    with pytest.raises(
        InputError,
        match=r"sysu-indoor-10shot, .*, got 'sysu-all-1-shot': did you mean sysu-all-1shot\?",
    ):
        get_protocol("sysu-all-1-shot")
    with pytest.raises(InputError, match="got 'x': choose one of these$"):
        get_protocol("x")


def test_auto_takes_the_official_sampling_where_it_can(golden_perm):
    for name, sampling, perm, chosen in (
        ("sysu-all-1shot", "auto", golden_perm, "official"),
        ("sysu-all-1shot", "auto", None, "python"),
        ("sysu-all-1shot", "python", golden_perm, "python"),
        ("regdb-v2t", "auto", None, "everything"),
        ("llcm-v2t", "auto", None, "python"),
        ("llcm-v2t-full-gallery", "auto", None, "everything"),
    ):
        assert choose_sampling(get_protocol(name), sampling, perm) == chosen, (name, sampling)


def test_samplings_that_a_protocol_does_not_have_are_refused():
    for name, sampling, message in (
        ("sysu-all-1shot", "official", "expected rand_perm_cam.mat .* got no such file: put"),
        ("sysu-all-10shot", "official", "expected rand_perm_cam.mat"),
        (
            "sysu-all-10shot",
            "python",
            "expected the official sampling for sysu-all-10shot, got python: put rand_perm_cam.mat",
        ),
        ("sysu-all-10shot", "auto", r"got python \(no rand_perm_cam.mat\)"),
        ("sysu-all-1shot", "random", "expected a gallery sampling out of auto, .* got 'random'"),
        ("regdb-v2t", "official", "expected the everything sampling .* leave --draw or TEST.DRAW"),
        (
            "llcm-v2t-paper",
            "official",
            "expected the python sampling for llcm-v2t-paper, got official",
        ),
    ):
        with pytest.raises(InputError, match=message):
            choose_sampling(get_protocol(name), sampling, None)
