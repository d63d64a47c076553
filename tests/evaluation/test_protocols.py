import pytest

from cmemd.data.modality import SYSU_CAMERAS
from cmemd.errors import InputError
from cmemd.evaluation.protocols import PROTOCOLS, choose_draw, get_protocol


def test_table_of_sysu_protocols():
    table = {p.name: (p.gallery_cameras, p.shots, p.draws) for p in PROTOCOLS.values()}
    everywhere, indoor, both = (1, 2, 4, 5), (1, 2), ("official", "python")
    assert table == {
        "sysu-all-1shot": (everywhere, 1, both),
        "sysu-indoor-1shot": (indoor, 1, both),
        "sysu-all-10shot": (everywhere, 10, ("official",)),
        "sysu-indoor-10shot": (indoor, 10, ("official",)),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_cameras_have_the_modality_they_are_used_for(protocol):
    assert {SYSU_CAMERAS[c] for c in protocol.query_cameras} == {protocol.query_modality}
    assert {SYSU_CAMERAS[c] for c in protocol.gallery_cameras} == {protocol.gallery_modality}
    assert protocol.query_modality != protocol.gallery_modality


def test_unknown_protocol_lists_the_known_and_the_closest():
    with pytest.raises(
        InputError,
        match=r"sysu-indoor-10shot; got 'sysu-all-1-shot'; did you mean "
        r"sysu-all-1shot\?",
    ):
        get_protocol("sysu-all-1-shot")
    with pytest.raises(InputError, match="got 'x'$"):
        get_protocol("x")


def test_auto_takes_the_official_draw_where_it_can(golden_perm):
    protocol = get_protocol("sysu-all-1shot")
    assert choose_draw(protocol, "auto", golden_perm) == "official"
    assert choose_draw(protocol, "auto", None) == "python"
    assert choose_draw(protocol, "python", golden_perm) == "python"


@pytest.mark.parametrize(
    ("name", "draw", "message"),
    [
        ("sysu-all-1shot", "official", "expected rand_perm_cam.mat"),
        ("sysu-all-10shot", "official", "expected rand_perm_cam.mat"),
        (
            "sysu-all-10shot",
            "python",
            "expected the official draw for sysu-all-10shot; got python;",
        ),
        ("sysu-all-10shot", "auto", r"got python \(no rand_perm_cam.mat\)"),
        ("sysu-all-1shot", "random", "expected a draw out of"),
    ],
)
def test_draws_that_are_not_to_be_had(name, draw, message):
    with pytest.raises(InputError, match=message):
        choose_draw(get_protocol(name), draw, None)
