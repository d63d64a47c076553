import json
import os
import re

import numpy as np
import pytest
from tests.inference.refusal import refusal

from cmemd.evaluation.thresholds import (
    PairThreshold,
    check_thresholds,
    expected_fpir,
    read_threshold,
    write_thresholds,
)

MODEL = "ab" * 32
PAIRS = [
    PairThreshold("thermal", "visible", 100, 0.01, 0.5),
    PairThreshold("visible", "thermal", 50, 0.1, 0.25),
]


@pytest.fixture
def file(tmp_path):
    write_thresholds(tmp_path / "t.json", MODEL, [(pair, {"fnir": 0.5}) for pair in PAIRS])
    return tmp_path / "t.json"


def test_what_is_written_is_read(file):
    for pair in PAIRS:
        assert read_threshold(file, MODEL, pair.probes, pair.gallery) == pair
    document = json.loads(file.read_text())
    assert document["model"] == MODEL
    assert document["thresholds"][0]["measured"] == {"fnir": 0.5}


def test_a_threshold_of_another_model_or_pair_is_refused(file):
    for arguments, message in (
        (("cd" * 32, "thermal", "visible"), "expected thresholds of model cdcd.* got .* abab"),
        ((MODEL, "thermal", "all"), "expected a threshold for thermal queries among all images"),
        ((MODEL, "thermal", "thermal"), "got thermal among visible, visible among thermal"),
    ):
        assert re.search(message, refusal(read_threshold, file, *arguments)), arguments


def test_more_candidates_let_more_strangers_pass_and_many_more_are_refused():
    of = PairThreshold("thermal", "visible", 100, 0.1, 0.5)
    assert of.check_candidates(100) == pytest.approx(0.1)
    assert of.check_candidates(200) == pytest.approx(0.19)  # 1 - 0.9 ** 2
    assert of.check_candidates(50) == pytest.approx(1 - 0.9**0.5)
    message = refusal(of.check_candidates, 201)
    assert "at most 200 candidates for a threshold that was calibrated among 100," in message
    assert "about 19 % of unknown people would pass instead of 10 %" in message


def test_the_formula_is_that_of_independent_candidates():
    """The largest of M uniform scores passes the quantile of the largest of N."""
    scores = np.random.default_rng(0).random((20_000, 60))
    threshold = np.quantile(scores[:, :20].max(axis=1), 0.95)
    found = (scores.max(axis=1) > threshold).mean()
    assert found == pytest.approx(expected_fpir(0.05, 20, 60), abs=0.01)


def test_any_flipped_bit_is_found_or_changes_nothing(file):
    whole = file.read_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        file.write_bytes(content)
        message = refusal(read_threshold, file, MODEL, "thermal", "visible")
        assert message or json.loads(bytes(content)) == json.loads(whole), place
        assert message.isprintable(), place


def test_files_that_are_no_thresholds_are_told(tmp_path):
    for number, content in enumerate((b"", b"{}", b"[]", b"7", b"\xff", b"[" * 10**5, b"[{}]")):
        path = tmp_path / f"{number}.json"
        path.write_bytes(content)
        message = refusal(read_threshold, path, MODEL, "thermal", "visible")
        assert message.startswith(f"expected thresholds at {path}, got "), content
    os.mkfifo(tmp_path / "fifo")
    for path, cause in ((tmp_path / "none", "no such file"), (tmp_path / "fifo", "no plain file")):
        assert f"got {cause}" in refusal(read_threshold, path, MODEL, "thermal", "visible")


def test_only_a_thresholds_file_is_replaced(file, tmp_path):
    write_thresholds(file, MODEL, [(PAIRS[0], {})])
    assert len(json.loads(file.read_text())["thresholds"]) == 1
    for content in ("", "mine", '{"schema": "mine"}'):
        (tmp_path / "mine.json").write_text(content)
        for call in (check_thresholds, lambda path: write_thresholds(path, MODEL, [])):
            assert "expected a new file" in refusal(call, tmp_path / "mine.json"), content
        assert (tmp_path / "mine.json").read_text() == content
    assert "expected a folder at" in refusal(check_thresholds, tmp_path / "none/t.json")
