"""RegDB's trials by ``tools/train_net.py --trials``, on the stand-in."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from tests.conftest import REPOSITORY
from tests.processes import python

import cmemd.engine.trials
from cmemd.engine.children import Children

REGDB = {
    "DATASETS__NAMES": "('RegDB',)",
    "DATASETS__TESTS": "('RegDB',)",
    "TEST__PROTOCOLS": "('regdb-v2t', 'regdb-t2v')",
    "SOLVER__IMS_PER_BATCH": 8,
}


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


@pytest.fixture
def in_process(monkeypatch) -> None:
    """Trials without processes of their own: seconds less each."""

    def start(words) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["train_net.py", *words])
            try:
                runpy.run_path(str(REPOSITORY / "tools/train_net.py"), run_name="__main__")
            except SystemExit as end:
                return end.code
        return 0

    monkeypatch.setattr(cmemd.engine.trials, "start_process", lambda *command: start)


@pytest.mark.usefixtures("in_process")
def test_trials_are_trained_tested_and_averaged(train_net, tmp_path):
    assert train_net("--trials", "1,2", **REGDB)[0] == 0
    out = tmp_path / "out"
    first, second, both = results(out / "trial-1"), results(out / "trial-2"), results(out)
    assert [score["protocol"] for score in both["scores"]] == ["regdb-v2t", "regdb-t2v"]
    for one, two, mean in zip(first["scores"], second["scores"], both["scores"], strict=True):
        metrics = [one["mean"]["rank1"], two["mean"]["rank1"]]
        assert mean["per_trial"]["rank1"] == metrics
        assert mean["mean"]["rank1"] == pytest.approx(sum(metrics) / 2)
        assert mean["trials"] == 2
    for number, document in (("1", first), ("2", second)):
        assert document["run"]["dataset"]["trial"] == int(number)
        assert both["run"]["trials"][number]["leak_guard"]["outcome"] == "clean"
    log = (out / "log.txt").read_text()
    assert "standard deviation over 2 trainings" in log


@pytest.mark.usefixtures("in_process")
def test_an_interrupted_trial_goes_on_from_its_last_checkpoint(train_net, tmp_path, monkeypatch):
    from cmemd.engine.trainer import Trainer

    keys = REGDB | {"SOLVER__MAX_EPOCH": 2, "SOLVER__CHECKPOINT_PERIOD": 1}
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "test", classmethod(lambda *a, **k: 1 / 0))
        status, message = train_net("--trials", "2", **keys)
        assert status != 0, message
    trial = tmp_path / "out/trial-2"
    assert (trial / "last_checkpoint").read_text() == "model_0000.pth"
    (trial / "log.txt").unlink()
    assert train_net("--trials", "2", **keys)[0] == 0
    assert "Starting training from epoch 1" in (trial / "log.txt").read_text()
    (trial / "log.txt").unlink()
    assert train_net("--trials", "2", **keys)[0] == 0
    assert not (trial / "log.txt").exists()


def test_a_missing_split_stops_all_of_them(train_net, tmp_path, datasets, monkeypatch):
    shutil.copytree(datasets / "RegDB", tmp_path / "other/RegDB")
    (tmp_path / "other/RegDB/idx/test_thermal_10.txt").unlink()
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "other"))
    status, message = train_net("--trials", "1-10", **REGDB)
    assert status == 2
    assert "test_thermal_10.txt" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_trial_has_a_process_of_its_own(train_net, tmp_path, monkeypatch):
    def run(self, words):
        assert words[0] == sys.executable
        return python(*words[1:]).returncode

    monkeypatch.setattr(Children, "run", run)
    assert train_net("--trials", "3", **REGDB)[0] == 0
    assert results(tmp_path / "out")["run"]["trials"]["3"]["dataset"]["trial"] == 3


def test_other_data_sets_have_no_trials(train_net, tmp_path):
    status, message = train_net("--trials", "1-10")
    assert status == 2
    assert "--trials with RegDB" in message
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_one_trial_is_not_tested_on_another(train_net, tmp_path):
    assert train_net(**REGDB, DATASETS__REGDB__TRIAL=1)[0] == 0
    keys = REGDB | {"MODEL__WEIGHTS": tmp_path / "out/model_final.pth"}
    keys |= {"OUTPUT_DIR": tmp_path / "again"}
    status, message = train_net("--eval-only", **keys, DATASETS__REGDB__TRIAL=2)
    assert status == 2
    assert "identities of RegDB trial 2, such as" in message
    assert "regdb trial 1" in message
    assert not (tmp_path / "again").exists()
    assert train_net("--eval-only", **keys, DATASETS__REGDB__TRIAL=1)[0] == 0
    assert results(tmp_path / "again")["run"]["leak_guard"]["outcome"] == "clean"
