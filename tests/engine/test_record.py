"""Training records and the leak guard."""

import dataclasses

import pytest
import torch

from cmemd.engine.record import RECORD, TrainingRecord, check_leak, identity_digests
from cmemd.errors import InputError


def record(pids=(1, 2, 3), dataset="regdb", trial=1, **changes) -> TrainingRecord:
    return TrainingRecord(
        dataset=dataset,
        trial=trial,
        identities=sorted(identity_digests(dataset, pids)),
        validation=[],
        protocols=["regdb-v2t"],
        seed=0,
        epochs=2,
        selection="last",
        config_sha256="0" * 64,
        **changes,
    )


def outcome(weights, pids=(4, 5), dataset="regdb", **options):
    return check_leak(weights, dataset, pids, where="RegDB trial 2", **options)


def test_a_digest_is_that_of_name_and_number():
    # printf regdb/7 | sha256sum | head -c 16
    assert identity_digests("regdb", [7, 7]) == {"54d6ae661775fb87": 7}


def test_the_same_number_in_two_data_sets_is_two_people():
    assert not identity_digests("regdb", range(100)).keys() & identity_digests("llcm", range(100))


def test_nobody_shared_is_clean():
    assert outcome(record()) == {"outcome": "clean", "overlap": 0, "training_identities": 3}
    assert outcome(record(), (1, 2), "llcm")["outcome"] == "clean"


def test_one_shared_identity_is_refused_and_named():
    with pytest.raises(InputError) as error:
        outcome(record(), (5, 3, 3, 4))
    message = str(error.value)
    assert "1 of the 3 identities of RegDB trial 2, such as 3 " in message
    assert "regdb trial 1" in message
    assert "TEST.ALLOW_LEAK" in message
    assert "\n" not in message


def test_only_the_first_of_many_are_shown():
    with pytest.raises(InputError, match="412 of the 412 .* such as 1, 2, 3, 4, 5 "):
        outcome(record(range(1, 413)), range(1, 413))


def test_an_allowed_leak_is_said():
    assert outcome(record(), (3, 4), allow=True) == {
        "outcome": "overridden",
        "overlap": 1,
        "training_identities": 3,
    }
    assert outcome(record(), (4, 5), allow=True)["outcome"] == "clean"


def test_weights_without_a_record_are_unknown_and_warned_of(caplog):
    assert outcome(None) == {"outcome": "unknown", "overlap": 0, "training_identities": None}
    assert "no training record" in caplog.text


def test_start_up_weights_pass_on_all_they_know():
    first, second, third = record((1, 2)), record((3, 4)), record((5,))
    second.start_from(first)
    third.start_from(second)
    assert third.known == set(identity_digests("regdb", range(1, 6)))
    with pytest.raises(InputError, match="such as 1 "):
        outcome(third, (1,))
    assert outcome(third, (6,)) == {"outcome": "clean", "overlap": 0, "training_identities": 5}


def test_start_up_weights_without_a_record_leave_it_unknown_for_good():
    first, second = record((1, 2)), record((3, 4))
    first.start_from(None)
    second.start_from(first)
    assert outcome(second, (6,)) == {
        "outcome": "unknown",
        "overlap": 0,
        "training_identities": None,
    }
    with pytest.raises(InputError, match="such as 1 "):
        outcome(second, (1,))


def test_it_is_plain_types_and_comes_back_from_a_file(tmp_path):
    original = record(earlier=["00"], complete=False)
    torch.save({RECORD: original.state_dict()}, tmp_path / "c.pth")
    state = torch.load(tmp_path / "c.pth", weights_only=True)[RECORD]
    assert state["number_of_identities"] == 3
    assert TrainingRecord.from_state(state) == original


def test_a_resumed_run_takes_over_what_the_first_start_knew():
    first = record(earlier=["00"], complete=False)
    resumed = record()
    resumed.load_state_dict(first.state_dict())
    assert (resumed.earlier, resumed.complete) == (["00"], False)


def test_resuming_with_other_identities_is_refused():
    with pytest.raises(
        InputError,
        match=r"this run's 3 .* trial 2 .* got one of 3 identities of regdb trial 1, 2 of them",
    ):
        record((1, 2, 4), trial=2).load_state_dict(record((1, 2, 3)).state_dict())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (record().state_dict() | {"version": 2}, "version 1, got 2"),
        ({}, "something else"),
        ("text", "something else"),
        ({"version": 1, "cmemd": "0"}, "something else"),
    ],
)
def test_an_unreadable_record(state, message):
    with pytest.raises(InputError, match=message) as error:
        TrainingRecord.from_state(state)
    assert "\n" not in str(error.value)


def test_scores_compare_between_runs_that_were_judged_alike():
    assert record().comparable(dataclasses.replace(record(), epochs=9, config_sha256="1"))
    for change in ({"protocols": ["regdb-t2v"]}, {"selection": "validation"}, {"trial": 2}):
        assert not record().comparable(dataclasses.replace(record(), **change))
