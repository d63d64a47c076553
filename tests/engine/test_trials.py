"""RegDB's trials: what is run, what is kept, what is averaged."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
from tests.conftest import CONFIGS

import cmemd.engine.trials
from cmemd.engine.identity import RunIdentity, RunLog
from cmemd.engine.provenance import config_sha256
from cmemd.engine.trials import average, parse_trials, plan_trials, run_trials
from cmemd.errors import InputError
from cmemd.evaluation.results import read_results

METRICS = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")
COUNTS = ("queries", "queries_without_positive", "gallery", "non_finite_features")


def trial_results(metric: float, sha256: str = "", **selection: object) -> dict:
    """One trial's results, every metric alike."""
    metrics = dict.fromkeys(METRICS, metric)
    score = {
        "protocol": "regdb-v2t",
        "description": "RegDB",
        "draw": "everything",
        "metric": "euclidean",
        "flip": False,
        "reranking": None,
        "cmc": "images",
        "trials": 1,
        "mean": metrics,
        "std": dict.fromkeys(METRICS, 0.0),
        "per_trial": {name: [metric] for name in METRICS},
        "counts": dict.fromkeys((*COUNTS, "zero_features", "pairs_without_image"), 4),
    }
    return {
        "schema": "cmemd-results",
        "version": 1,
        "scores": [score],
        "run": {"config": {"sha256": sha256}, "selection": {"final": True} | selection},
        "versions": {"python": "3", "numpy": "2", "cmemd": "0", "commit": None},
        "per_query": "per_query.npz",
    }


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1-10", list(range(1, 11))), ("3", [3]), ("4-6,1,5", [1, 4, 5, 6]), (" 2 , 10", [2, 10])],
)
def test_trials_as_they_are_written(text, numbers):
    assert parse_trials(text) == numbers


@pytest.mark.parametrize(
    "text", ["", "0", "11", "1-11", "0-3", "3-1", "one", "1,,2", "-1", "1-2-3"]
)
def test_trials_that_are_none(text):
    with pytest.raises(InputError, match="from 1 to 10"):
        parse_trials(text)


def test_the_average_of_two_trainings_by_hand(tmp_path):
    documents = {1: trial_results(60.0), 2: trial_results(80.0)}
    documents[2]["scores"][0]["counts"]["non_finite_features"] = 5
    document = average(documents)
    score = document["scores"][0]
    for name in METRICS:
        assert score["mean"][name] == 70.0  # (60 + 80) / 2
        assert score["std"][name] == 10.0  # sqrt((10^2 + 10^2) / 2)
        assert score["per_trial"][name] == [60.0, 80.0]
    assert score["trials"] == 2
    assert (score["counts"]["queries"], score["counts"]["non_finite_features"]) == (4, 5)
    assert document["run"]["trials"]["2"]["selection"] == {"final": True}
    (tmp_path / "results.json").write_text(json.dumps(document))
    assert read_results(tmp_path / "results.json") == document


@pytest.fixture
def args(tmp_path, monkeypatch) -> Namespace:
    """--trials 1-3; of the data set only that every split is asked for."""
    monkeypatch.setattr(cmemd.engine.trials, "build_dataset", lambda cfg, name: None)
    return Namespace(
        config_file=str(CONFIGS / "regdb.yml"),
        opts=["OUTPUT_DIR", str(tmp_path)],
        trials="1-3",
        eval_only=False,
        num_gpus=1,
        num_machines=1,
        machine_rank=0,
    )


class Starts:
    """Stands for processes: each writes its results, but those to crash."""

    def __init__(self, args: Namespace, crash: dict[int, int] | None = None) -> None:
        self.numbers, self._crash = [], crash or {}
        self._trials = {trial.words: trial for trial in plan_trials(args)}

    def __call__(self, words) -> int:
        trial = self._trials[words]
        self.numbers.append(trial.number)
        if trial.number not in self._crash:
            trial.folder.mkdir()
            document = trial_results(10.0 * trial.number, config_sha256(trial.cfg))
            (trial.folder / "results.json").write_text(json.dumps(document))
        return self._crash.get(trial.number, 0)


def test_every_trial_gets_its_split_and_folder(args, tmp_path):
    trials = plan_trials(args)
    assert [trial.cfg.DATASETS.REGDB.TRIAL for trial in trials] == [1, 2, 3]
    assert [trial.folder for trial in trials] == [tmp_path / f"trial-{n}" for n in (1, 2, 3)]
    words = trials[2].words
    assert words[:3] == ("--config-file", args.config_file, "--resume")
    assert words[-4:] == ("DATASETS.REGDB.TRIAL", "3", "OUTPUT_DIR", str(tmp_path / "trial-3"))


def test_all_are_run_and_averaged(args, tmp_path):
    start = Starts(args)
    document = run_trials(args, start)
    assert start.numbers == [1, 2, 3]
    assert document["scores"][0]["mean"]["rank1"] == pytest.approx(20.0)
    assert read_results(tmp_path / "results.json") == document
    assert "20.00 ± 8.16" in (tmp_path / "log.txt").read_text()


def test_a_finished_trial_is_not_run_again(args):
    first = Starts(args)
    args.trials = "2"
    run_trials(args, first)
    args.trials = "1-3"
    rest = Starts(args)
    assert run_trials(args, rest)["scores"][0]["trials"] == 3
    assert rest.numbers == [1, 3]


def test_a_crash_stays_in_its_trial_and_is_made_up_for(args, tmp_path):
    start = Starts(args, crash={2: 1})
    with pytest.raises(InputError, match="got failures of trials 2 "):
        run_trials(args, start)
    assert start.numbers == [1, 2, 3]
    assert not (tmp_path / "results.json").exists()
    again = Starts(args)
    run_trials(args, again)
    assert again.numbers == [2]


def test_bad_input_stops_at_the_first_trial(args):
    start = Starts(args, crash={1: 2, 2: 2})
    with pytest.raises(InputError, match="expected good input for trial 1,"):
        run_trials(args, start)
    assert start.numbers == [1]


def test_a_trial_of_another_configuration_is_refused_before_any_work(args):
    run_trials(args, Starts(args))
    args.opts += ["SOLVER.BASE_LR", "0.5"]
    with pytest.raises(InputError, match="trial 1 in .* another configuration"):
        plan_trials(args)


def test_an_interrupted_trial_of_another_configuration_too(args, tmp_path):
    second = plan_trials(Namespace(**vars(args) | {"trials": "1"}))[0].cfg.clone()
    second.defrost()
    second.DATASETS.REGDB.TRIAL = 2
    for rate in (second.SOLVER.BASE_LR, 0.5):
        second.SOLVER.BASE_LR = rate
        RunLog(RunIdentity.of(second, {})).write(tmp_path / "trial-2")
        if rate != 0.5:
            assert len(plan_trials(args)) == 3
    with pytest.raises(InputError, match="got SOLVER.BASE_LR .* instead of 0.5"):
        plan_trials(args)


def test_an_evaluation_on_the_way_is_not_the_end(args):
    trial = plan_trials(args)[0]
    trial.folder.mkdir()
    for final in (False, True):
        document = trial_results(1.0, config_sha256(trial.cfg), final=final)
        (trial.folder / "results.json").write_text(json.dumps(document))
        assert trial.results() == (document if final else None)


def test_data_sets_without_ten_splits(args):
    args.config_file = str(CONFIGS / "sysu.yml")
    with pytest.raises(InputError, match="--trials with RegDB"):
        plan_trials(args)


def test_no_process_at_all_is_refused_before_any_training(args):
    args.num_gpus = 0
    with pytest.raises(InputError, match="expected --num-gpus and --num-machines of at least 1"):
        plan_trials(args)


@pytest.mark.parametrize("change", [{"eval_only": True}, {"num_machines": 2}])
def test_options_that_do_not_go_together(args, change):
    with pytest.raises(InputError, match="leave those out"):
        plan_trials(Namespace(**vars(args) | change))


def test_torchrun_is_not_for_trials(args, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(InputError, match="torchrun"):
        plan_trials(args)


def test_all_splits_are_looked_at_before_any_work(args, monkeypatch):
    def only_two(cfg, name) -> None:
        if cfg.DATASETS.REGDB.TRIAL > 2:
            raise InputError("no split")

    monkeypatch.setattr(cmemd.engine.trials, "build_dataset", only_two)
    with pytest.raises(InputError, match="no split"):
        run_trials(args, lambda words: pytest.fail(f"started {words}"))
    assert not list(Path(args.opts[1]).iterdir())
