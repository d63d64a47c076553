"""A study: what it runs, what it keeps, and its table."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import CONFIGS
from tests.engine.test_trials import trial_results

from cmemd.cli.main import main
from cmemd.engine.provenance import config_sha256
from cmemd.engine.runs import run_all
from cmemd.errors import InputError
from cmemd.evaluation.scoring import METRICS
from cmemd.study.ablation import in_turn, measured_deviation, plan_study, power_table, study_table


@pytest.fixture
def configs(tmp_path) -> list[Path]:
    """Two variants of the demo."""
    paths = [tmp_path / f"{name}.yml" for name in ("baseline", "other")]
    for path, weight in zip(paths, (0.0, 0.5), strict=True):
        path.write_text(
            f"_BASE_: {CONFIGS / 'demo.yml'}\nMODEL:\n  LOSSES:\n    DL:\n      WEIGHT: {weight}\n"
        )
    return paths


def prepare(variants, metrics):
    """Write the results that each run is to find: metrics[variant][seed], or None to crash."""
    for variant in variants:
        for run, metric in zip(variant.runs, metrics[variant.name], strict=True):
            run.folder.mkdir(parents=True, exist_ok=True)
            if metric is None:
                continue
            document = trial_results(metric, config_sha256(run.cfg)) | {"per_query": "q.npz"}
            (run.folder / "waiting.json").write_text(json.dumps(document))
            arrays = {
                "0/queries": np.arange(30).reshape(10, 3),
                "0/figures": np.full((len(METRICS), 10), metric, np.float32),
            }
            np.savez(run.folder / "q.npz", **arrays)


def started(output: Path) -> list[str]:
    log = output / "log.txt"
    return log.read_text().split() if log.exists() else []


def test_every_variant_runs_with_every_seed_and_the_table_by_hand(configs, script, tmp_path):
    output = tmp_path / "study"
    variants = plan_study(configs, [0, 3], output)
    prepare(variants, {"baseline": [10.0, 20.0], "other": [30.0, 32.0]})
    assert run_all(in_turn(variants), script, jobs=2) == []
    expected = {f"{name}/seed-{seed}" for name in ("baseline", "other") for seed in (0, 3)}
    assert set(started(output)) == expected
    # Finished runs are kept.
    assert run_all(in_turn(plan_study(configs, [0, 3], output)), script) == []
    assert len(started(output)) == 4
    # Baseline 10 and 20: 15 ± 5. Other 30 and 32: 31 ± 1. Differences 20 and 12: 16, from 12 to 20.
    lines = study_table(variants).splitlines()
    assert lines[2].split() == ["baseline", "2", *["15.00", "±", "5.00"] * 3]
    assert lines[3].split()[:11] == ["other", "2", *["31.00", "±", "1.00"] * 3]
    assert lines[3].count("+16.00 [+12.00, +20.00]") == 3
    with pytest.raises(InputError, match="baseline, seed 0 in .* another configuration"):
        plan_study(configs, [0], output, ["SOLVER.MAX_EPOCH", "1"])


def test_a_failed_run_stops_no_other_is_left_out_of_the_table_and_runs_again(
    configs, script, tmp_path
):
    output = tmp_path / "study"
    variants = plan_study(configs, [0, 1], output)
    assert study_table(variants).splitlines()[2].split() == ["baseline", "0"]
    prepare(variants, {"baseline": [10.0, 20.0], "other": [30.0, None]})
    failed = run_all(in_turn(variants), script)
    assert [run.name for run in failed] == ["other, seed 1"]
    assert "crashed" in (failed[0].folder / "output.txt").read_text()
    assert len(started(output)) == 4
    line = study_table(variants).splitlines()[3]
    assert line.split()[:3] == ["other", "1", "30.00"]
    assert line.count("+20.00") == 3 * 3  # seed 0 alone: 30 - 10, a certain 20 over its queries
    prepare(variants, {"baseline": [10.0, 20.0], "other": [30.0, 32.0]})
    assert run_all(in_turn(variants), script) == []
    assert started(output)[4:] == ["other/seed-1"]


def test_power_before_and_after_by_hand(configs, script, tmp_path, capsys):
    # Differences of mAP 12, 14 and 16: mean 14, deviation 2. By statsmodels, three pairs detect
    # 3.264 deviations, and a difference of half a deviation takes 34 pairs.
    output = tmp_path / "study"
    variants = plan_study(configs, [0, 1, 2], output)
    assert measured_deviation(variants) is None
    prepare(variants, {"baseline": [10.0, 11.0, 12.0], "other": [22.0, 25.0, 28.0]})
    words = ["ablate", "--configs", *map(str, configs), "--script", str(script)]
    assert main([*words, "--deviation", "2", "--output", str(output)]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert "deviation of 2.00 points" in first
    assert "a study of 3 seeds detects a true difference of 6.53 points" in first
    assert first.endswith("; 1 takes 34 seeds")
    assert measured_deviation(variants) == pytest.approx(2)
    row = power_table(variants, 1.0).splitlines()[2]
    assert row.split() == ["other", "3", "+14.00", "2.00", "6.53", "34"]
    assert row in lines
    assert row in (output / "power.txt").read_text()
    assert power_table(variants, 2.0).splitlines()[2].split()[-1] == "10"
    # What finished runs showed is what the same study expects the next time.
    assert main([*words, "--detect", "2", "--output", str(output)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "deviation of 2.00 points" in first
    assert first.endswith("; 2 takes 10 seeds")


def test_one_seed_detects_nothing(configs, script, tmp_path, capsys):
    output = tmp_path / "study"
    variants = plan_study(configs, [0], output)
    prepare(variants, {"baseline": [10.0], "other": [22.0]})
    words = ["ablate", "--configs", *map(str, configs), "--script", str(script), "--seeds", "0"]
    assert main([*words, "--output", str(output)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "deviation of 2.50 points" in first
    assert "a study of 1 seed detects no difference" in first
    assert power_table(variants, 1.0).splitlines()[2].split() == ["other", "1"]


def test_without_a_script_the_trainings_are_those_of_cmemd_train(configs, tmp_path):
    (variant, _) = plan_study(configs, [0], tmp_path)
    run = replace(variant.runs[0], words=("--help",))
    assert run_all([run]) == [run]  # it wrote no results
    assert "usage: cmemd train" in (run.folder / "output.txt").read_text()


def test_a_file_of_the_users_is_not_overwritten(configs, script, tmp_path, capsys):
    for name in ("table.txt", "power.txt", "study.png"):
        output = tmp_path / name.partition(".")[0]
        output.mkdir()
        (output / name).write_text("mine")
        words = ["ablate", "--configs", *map(str, configs), "--script", str(script)]
        with pytest.raises(SystemExit, match="2"):
            main([*words, "--output", str(output)])
        assert "got a file of another kind" in capsys.readouterr().err
        assert [path.name for path in output.iterdir()] == [name]


def test_bad_seeds_configurations_and_jobs_are_refused(configs, script, tmp_path):
    for seeds in ([], [0, 0], [-1]):
        with pytest.raises(InputError, match="expected different seeds of at least 0, .* --seeds"):
            plan_study(configs, seeds, tmp_path)
    with pytest.raises(InputError, match="of different names, .* got baseline, baseline: rename"):
        plan_study([configs[0], configs[0]], [0], tmp_path)
    with pytest.raises(InputError, match="got no file"):
        plan_study([tmp_path / "none.yml"], [0], tmp_path)
    with pytest.raises(InputError, match="--jobs of at least 1"):
        run_all(in_turn(plan_study(configs, [0], tmp_path)), script, jobs=0)


def test_the_command_writes_table_and_picture_and_tells_of_failures(
    configs, script, tmp_path, capsys
):
    output = tmp_path / "study"
    words = ["ablate", "--configs", *map(str, configs), "--output", str(output), "--seeds", "0"]
    words += ["--script", str(script)]
    prepare(plan_study(configs, [0], output), {"baseline": [10.0], "other": [None]})
    assert main(words) == 1
    text = capsys.readouterr().out
    assert "failed: other, seed 0" in text
    assert (output / "table.txt").read_text() in text
    with Image.open(output / "study.png") as image:
        assert image.format == "PNG"
    prepare(plan_study(configs, [0], output), {"baseline": [10.0], "other": [30.0]})
    assert main(words) == 0
    with pytest.raises(SystemExit, match="2"):
        main([*words[:-1], str(tmp_path / "none.py")])
    assert "expected the training script" in capsys.readouterr().err


def test_quick_is_one_seed_and_one_epoch(configs, script, tmp_path, monkeypatch):
    monkeypatch.setattr("cmemd.study.figures.draw_rows", lambda *_: None)  # see above
    output = tmp_path / "study"
    words = ["ablate", "--configs", str(configs[0]), "--output", str(output), "--quick"]
    assert main([*words, "--seeds", "4", "5", "--script", str(script)]) == 1
    assert started(output) == ["baseline/seed-4"]
    quick = ["SOLVER.MAX_EPOCH", "1", "TEST.EVAL_PERIOD", "1"]
    prepare(plan_study(configs[:1], [4], output, quick), {"baseline": [10.0]})
    assert main([*words, "--seeds", "4", "5", "--script", str(script)]) == 0


def test_options_taken_for_configurations_are_told_apart(configs, tmp_path, script, capsys):
    words = ["ablate", "--output", str(tmp_path / "study"), "--script", str(script), "--configs"]
    with pytest.raises(SystemExit, match="2"):
        main([*words, str(configs[0]), "SOLVER.MAX_EPOCH", "1"])
    assert "got SOLVER.MAX_EPOCH: KEY VALUE pairs go to the end" in capsys.readouterr().err
