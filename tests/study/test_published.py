"""Published results: their table, their commands, and when one counts as reproduced."""

import json
from dataclasses import replace

import pytest
from tests.engine.test_trials import trial_results

from cmemd.cli.main import main
from cmemd.config import load_config
from cmemd.config_file import config_names, find_config
from cmemd.engine.provenance import config_sha256
from cmemd.engine.trials import planned_trials
from cmemd.errors import InputError
from cmemd.study.published import CARDS, TABLES, judge, read_table, results_of


def results(row, rank1, config_sha="", **changes) -> dict:
    """A results file that reproduces a row, but for the changes."""
    document = trial_results(rank1, config_sha, rule="last")
    document["per_query"] = None
    document["run"]["leak_guard"] = {"outcome": "clean"}
    (score,) = document["scores"]
    score |= {"protocol": row.protocol, "trials": 10} | changes
    score["mean"] = dict(score["mean"], mAP=row.metrics.get("mAP", rank1))
    score["counts"] = score["counts"] | row.genuine
    return document


def test_every_row_can_be_run_and_says_what_it_takes():
    for table in TABLES:
        for row in read_table(table):
            assert row.config in config_names(), row
            cfg = load_config(find_config(row.config))
            assert row.protocol in cfg.TEST.PROTOCOLS, row
            assert cfg.SOLVER.SELECTION == "last", row
            assert 0 < row.metrics["rank1"] < 100, row
            if row.fastest:
                assert set(row.fastest) == set(CARDS), row
    with pytest.raises(InputError, match="expected a table of sysu, regdb"):
        read_table("market")


def test_least_hours_by_hand():
    """100 epochs of 34,167 images at 167 images a second; ten trainings on RegDB."""
    row = read_table("sysu")[0]
    assert row.hours("RTX 3090") == pytest.approx(100 * 34_167 / 167 / 3600)
    row = read_table("regdb")[0]
    assert row.hours("RTX 3090") == pytest.approx(10 * 100 * 4_120 / 166 / 3600)
    assert replace(row, fastest={}).hours("RTX 3090") is None


def test_what_counts_as_reproduced():
    row = replace(read_table("sysu")[0], metrics={"rank1": 50.0, "mAP": 40.0})
    for rank1 in (49.0, 50.0, 51.0):
        assert judge(row, results(row, rank1)).reproduced, rank1
    against = {
        "Rank-1 -1.10": results(row, 48.9),
        "Rank-1 +1.10": results(row, 51.1),
        "3 of 10 trials": results(row, 50, trials=3),
        "a defect": results(row, 50),
    }
    against["checkpoint: best_on_test, not the last one"] = other = results(row, 50)
    other["run"]["selection"]["rule"] = "best_on_test"
    against["checkpoint: last, not the last one"] = other = results(row, 50)
    other["run"]["selection"]["final"] = False
    against["leak guard: overridden"] = other = results(row, 50)
    other["run"]["leak_guard"]["outcome"] = "overridden"
    against["leak guard: unknown"] = other = results(row, 50)
    del other["run"]["leak_guard"]
    against["mAP +3.00"] = other = results(row, 50)
    other["scores"][0]["mean"]["mAP"] = 43.0
    against["624 queries and 125 gallery images, not 3803 and 301: another data set"] = other = (
        results(row, 50)
    )
    other["scores"][0]["counts"] |= {"queries": 624, "gallery": 125}
    for reason, document in against.items():
        verdict = judge(row, document, "a defect" if reason == "a defect" else "")
        assert verdict.against == (reason,), reason
        assert not verdict.reproduced, reason


def test_only_plain_scores_of_the_protocol_are_judged():
    row = read_table("sysu")[0]
    for changes in (
        {"flip": True},
        {"flip": None},
        {"reranking": {"k1": 20, "k2": 6, "weight": 0.3}},
        {"remedy": {"name": "centred"}},
        {"protocol": "sysu-indoor-1shot"},
    ):
        assert judge(row, results(row, 50, **changes)) is None, changes


def test_one_bad_split_spoils_the_mean_of_ten():
    row = read_table("regdb")[0]
    document = results(row, row.metrics["rank1"])
    fact = {"selection": {"rule": "last", "final": True}, "leak_guard": {"outcome": "clean"}}
    document["run"] = {"trials": {str(number): fact for number in range(1, 11)}}
    assert judge(row, document).reproduced
    document["run"]["trials"]["7"] = fact | {"leak_guard": {"outcome": "overridden"}}
    assert judge(row, document).against == ("leak guard: overridden",)


def test_results_of_another_configuration_do_not_count(tmp_path):
    row = read_table("sysu")[0]
    folder = tmp_path / row.folder
    assert results_of(row, tmp_path) == (None, "")
    folder.mkdir()
    path = folder / "results.json"
    own = config_sha256(load_config(find_config("sysu"), ["OUTPUT_DIR", str(folder)]))
    for sha256, problem in ((own, ""), ("0" * 64, "another configuration")):
        path.write_text(json.dumps(results(row, 50, sha256)))
        assert results_of(row, tmp_path)[1] == problem
    path.write_text("{}")
    with pytest.raises(InputError, match="a results file of version 1"):
        results_of(row, tmp_path)


def test_splits_that_are_not_finished_are_counted(tmp_path):
    row = read_table("regdb")[0]
    folder = tmp_path / row.folder
    for trial in planned_trials(find_config("regdb"), ["OUTPUT_DIR", str(folder)], [1, 2, 3]):
        trial.folder.mkdir(parents=True)
        of_trial = results(row, 90, config_sha256(trial.cfg))
        (trial.folder / "results.json").write_text(json.dumps(of_trial))
    (folder / "results.json").write_text(json.dumps(results(row, 90)))
    assert results_of(row, tmp_path)[1] == "7 splits unfinished"


def test_the_command_prints_what_came_out(tmp_path, capsys):
    folder = tmp_path / "sysu"
    folder.mkdir()
    row = read_table("sysu")[0]
    sha256 = config_sha256(load_config(find_config("sysu"), ["OUTPUT_DIR", str(folder)]))
    (folder / "results.json").write_text(json.dumps(results(row, 73.0, sha256)))
    assert main(["reproduce", "sysu", "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    all_search = next(line for line in lines if "CM-EMD" in line and row.protocol in line)
    assert "73.00 / 73.00" in all_search
    assert all_search.rstrip().endswith("yes")
    indoor = next(line for line in lines if "sysu-indoor-1shot" in line)
    assert indoor.rstrip().endswith("no: another protocol")
    assert f"  CM-EMD: cmemd train --config-file sysu OUTPUT_DIR {folder}" in lines
