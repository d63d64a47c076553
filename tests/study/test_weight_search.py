"""The weight of each variant is chosen on validation identities, before the study's seeds."""

import json

import pytest
from tests.conftest import CONFIGS
from tests.engine.test_trials import trial_results
from tests.study.test_ablation import prepare, started

from cmemd.cli.main import main
from cmemd.engine.provenance import config_sha256
from cmemd.engine.runs import run_all
from cmemd.errors import InputError
from cmemd.losses.build import build_losses
from cmemd.study.ablation import plan_study
from cmemd.study.weight_search import chosen_weights, plan_search, search_table

FOLDER = CONFIGS / "ablations"
VARIANTS = [FOLDER / "baseline.yml", FOLDER / "cm_emd.yml"]


def lay_out(candidates, metrics):
    """Write what each run finds on validation identities, in order; None for one that crashes."""
    for candidate, metric in zip(candidates, metrics, strict=True):
        folder = candidate.run.folder
        (folder / "validation").mkdir(parents=True, exist_ok=True)
        if metric is not None:
            # The test identities say the opposite: a choice by them would be another one.
            test = trial_results(100 - metric, config_sha256(candidate.run.cfg))
            (folder / "waiting.json").write_text(json.dumps(test))
            validation = trial_results(metric, config_sha256(candidate.run.cfg))
            (folder / "validation" / "results.json").write_text(json.dumps(validation))


def test_only_variants_with_an_alignment_are_searched_without_the_validation_identities(tmp_path):
    candidates = plan_search(VARIANTS, [0.5, 2.0], 7, tmp_path, ["SOLVER.MAX_EPOCH", "2"])
    assert [(c.variant, c.weight) for c in candidates] == [("cm_emd", 0.5), ("cm_emd", 2.0)]
    for candidate in candidates:
        cfg = candidate.run.cfg
        assert cfg.MODEL.LOSSES.ALIGN.WEIGHT == candidate.weight
        assert cfg.DATASETS.SYSUMM01.TRAIN_WITH_VAL is False
        assert (cfg.SOLVER.SELECTION, cfg.SEED, cfg.SOLVER.MAX_EPOCH) == ("validation", 7, 2)


def test_the_weight_of_every_alignment_is_searched_from_start_up_weights_too(tmp_path):
    configs = sorted(FOLDER.glob("*.yml"))
    opts = ["MODEL.WEIGHTS", str(tmp_path / "start-up.pth")]
    candidates = plan_search(configs, [2.0], 7, tmp_path, opts)
    unaligned = {"baseline", "baseline_global", "agw_global", "centre_cluster"}
    assert {c.variant for c in candidates} == {path.stem for path in configs} - unaligned
    for candidate in candidates:
        cfg = candidate.run.cfg
        assert cfg.MODEL.WEIGHTS == opts[1], candidate.variant
        assert build_losses(cfg)["align"].weight == 2.0, candidate.variant


def test_a_data_set_without_validation_identities_of_its_own_holds_a_share_out(tmp_path):
    regdb = ["DATASETS.NAMES", "('RegDB',)", "DATASETS.TESTS", "('RegDB',)"]
    regdb += ["TEST.PROTOCOLS", "('regdb-v2t',)"]
    (candidate,) = plan_search(VARIANTS[1:], [1.0], 0, tmp_path, regdb)
    assert candidate.run.cfg.DATASETS.REGDB.VALIDATION_SHARE == 0.1


def test_the_best_on_validation_is_chosen_and_the_smaller_of_equals(script, tmp_path):
    candidates = plan_search(VARIANTS, [0.5, 1.0, 2.0], 7, tmp_path)
    assert chosen_weights(candidates) == {}
    # A missing run could be better than the others: nothing is chosen yet.
    lay_out(candidates, [10.0, None, 12.0])
    failed = run_all([candidate.run for candidate in candidates], script)
    assert [run.name for run in failed] == ["cm_emd, weight 1.0"]
    assert chosen_weights(candidates) == {}
    assert search_table(candidates).splitlines()[3].split() == ["cm_emd", "1", "-", "-", "-"]
    lay_out(candidates, [10.0, 12.0, 12.0])
    assert run_all([c.run for c in candidates], script) == []
    assert chosen_weights(candidates) == {"cm_emd": 1.0}
    lines = search_table(candidates).splitlines()[2:]
    assert [line.split()[1:3] for line in lines] == [
        ["0.5", "10.00"],
        ["1", "12.00"],
        ["2", "12.00"],
    ]
    assert ["chosen" in line for line in lines] == [False, True, False]


def test_the_command_goes_on_with_the_chosen_weight(script, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cmemd.study.figures.draw_rows", lambda *_: None)  # see test_ablation
    output = tmp_path / "study"
    words = ["ablate", "--configs", *map(str, VARIANTS), "--output", str(output), "--seeds", "0"]
    words += ["--weights", "0.5", "2", "--script", str(script)]
    candidates = plan_search(VARIANTS, [0.5, 2.0], 1, output)
    lay_out(candidates, [10.0, None])
    metrics = {"baseline": [20.0], "cm_emd": [30.0]}
    prepare(plan_study(VARIANTS, [0], output, weights={"cm_emd": 2.0}), metrics)
    assert main(words) == 1
    text = capsys.readouterr().out
    assert "failed: cm_emd, weight 2.0" in text
    assert "cm_emd/seed-0" not in started(output)  # its weight is not known yet
    assert "baseline/seed-0" in started(output)
    lay_out(candidates, [10.0, 11.0])
    assert main(words) == 0
    assert (output / "search.txt").read_text() in (text := capsys.readouterr().out)
    assert "+10.00" in text
    assert len(started(output / "search")) == 3  # two, and the one that crashed again
    assert started(output)[1:] == ["cm_emd/seed-0"]
    assert main(words) == 0  # all done: the same tables again, nothing started
    assert len(started(output)) + len(started(output / "search")) == 5


def test_without_the_baselines_weight_nothing_is_compared(script, tmp_path, capsys):
    words = ["ablate", "--configs", str(VARIANTS[1]), str(VARIANTS[0]), "--seeds", "0"]
    words += ["--output", str(tmp_path), "--weights", "1", "--script", str(script)]
    assert main(words) == 1  # every run crashes
    text = capsys.readouterr().out
    assert "failed: cm_emd, weight 1.0" in text
    assert "failed: baseline, seed 0" in text
    assert not (tmp_path / "table.txt").exists()


def test_weights_that_repeat_or_are_not_positive_are_refused(tmp_path):
    for weights in ([1.0, 1.0], [0.0, 1.0], [-1.0]):
        with pytest.raises(InputError, match="expected different positive weights, .* --weights"):
            plan_search(VARIANTS, weights, 0, tmp_path)
