"""Which checkpoint a training hands to the test set, and what its results say of it."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

HELD_OUT = {
    "SOLVER__SELECTION": "validation",
    "DATASETS__SYSUMM01__TRAIN_WITH_VAL": False,
    "SOLVER__IMS_PER_BATCH": 20,
    "SOLVER__CHECKPOINT_PERIOD": 1,
}


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def run(folder: Path) -> dict:
    return results(folder)["run"]


def state(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def embeddings(folder: Path, split: str) -> int:
    """How often a run embedded a split; the stand-in's differ in size."""
    images = run(folder if split == "test" else folder / "validation")["dataset"]["images"]
    return (folder / "log.txt").read_text().count(f"Start inference on {images} images")


def test_last_scores_and_names_the_last_checkpoint(train_net, tmp_path):
    assert train_net(SOLVER__MAX_EPOCH=2, TEST__EVAL_PERIOD=3)[0] == 0
    out = tmp_path / "out"
    final = out / "model_final.pth"
    facts = run(out)
    assert facts["selection"] == {"rule": "last", "epoch": 2, "score": None, "final": True}
    assert facts["checkpoint"] == {
        "file": str(final),
        "sha256": hashlib.sha256(final.read_bytes()).hexdigest(),
    }
    assert embeddings(out, "test") == 1
    assert [path.name for path in out.glob("*.pth")] == ["model_final.pth"]


def test_an_earlier_evaluation_says_that_it_is_not_the_end(train_net, tmp_path, monkeypatch):
    from cmemd.engine.trainer import Trainer

    seen = []
    test = Trainer.test.__func__

    def spied(cls, cfg, model, **options):
        results = test(cls, cfg, model, **options)
        seen.append(run(tmp_path / "out"))
        return results

    monkeypatch.setattr(Trainer, "test", classmethod(spied))
    assert train_net(SOLVER__MAX_EPOCH=2)[0] == 0
    assert [facts["selection"]["epoch"] for facts in seen] == [1, 2]
    assert [facts["selection"]["final"] for facts in seen] == [False, True]
    assert seen[0]["checkpoint"] is None


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """What a step learns does not matter here: it only has to change the network."""
    from cmemd.engine.trainer import Trainer

    def step(trainer) -> None:
        with torch.no_grad():
            next(trainer.model.parameters()).add_(0.001)
        trainer.optimizer.step()  # PyTorch warns of schedules that go ahead of it

    monkeypatch.setattr(Trainer, "run_step", step)


@pytest.fixture
def scored(monkeypatch):
    """Gives evaluations these scores, in turn; the test set's real ones stay in the results."""
    from cmemd.engine.trainer import Trainer

    test = Trainer.test.__func__

    def give(*scores: float | None) -> None:
        left = list(scores)

        def scripted(cls, cfg, model, **options):
            if not left:
                return test(cls, cfg, model, **options)
            if (score := left.pop(0)) is None:
                raise RuntimeError("interrupted")
            return test(cls, cfg, model, **options) | {"metric": score}

        monkeypatch.setattr(Trainer, "test", classmethod(scripted))

    return give


def test_validation_tests_the_best_once(train_net, tmp_path, scored):
    scored(20.0, 60.0, 40.0)
    assert train_net(**HELD_OUT, SOLVER__MAX_EPOCH=3)[0] == 0
    out = tmp_path / "out"
    facts, held_out = run(out), run(out / "validation")
    assert facts["selection"] == {"rule": "validation", "epoch": 2, "score": 60.0, "final": True}
    assert facts["checkpoint"]["file"] == str(out / "model_best.pth")
    assert facts["dataset"]["split"] == "test"
    assert held_out["dataset"]["split"] == "validation"
    assert held_out["selection"]["epoch"] == 3
    assert held_out["dataset"]["identities_sha256"] != facts["dataset"]["identities_sha256"]
    assert (embeddings(out, "validation"), embeddings(out, "test")) == (3, 1)
    best, second = state(out / "model_best.pth"), state(out / "model_0001.pth")
    assert all(torch.equal(best["model"][name], second["model"][name]) for name in best["model"])
    assert best["metric"] == 60.0


def test_the_selected_checkpoint_says_so_wherever_it_is_scored(train_net, tmp_path, scored):
    scored(60.0, 40.0)
    assert train_net(**HELD_OUT, SOLVER__MAX_EPOCH=2)[0] == 0
    best, again = tmp_path / "out/model_best.pth", tmp_path / "again"
    assert train_net("--eval-only", MODEL__WEIGHTS=best, OUTPUT_DIR=again)[0] == 0
    selection = {"rule": "validation", "epoch": 1, "score": 60.0}
    assert run(again)["selection"] == selection | {"final": False}
    assert results(again)["scores"] == results(tmp_path / "out")["scores"]
    early = tmp_path / "out/model_0000.pth"
    assert train_net("--eval-only", MODEL__WEIGHTS=early, OUTPUT_DIR=again)[0] == 0
    assert run(again)["selection"]["rule"] == "given"


def test_validation_identities_are_neither_trained_on_nor_tested(train_net, tmp_path):
    assert train_net(**HELD_OUT)[0] == 0
    record = state(tmp_path / "out/model_final.pth")["cmemd_record"]
    assert (len(record["identities"]), len(record["validation"])) == (12, 4)
    assert not set(record["identities"]) & set(record["validation"])
    assert run(tmp_path / "out")["leak_guard"] == {
        "outcome": "clean",
        "overlap": 0,
        "training_identities": 12,
    }


def test_the_best_on_the_test_set_is_called_that(train_net, tmp_path, scored):
    scored(60.0, 40.0)
    assert train_net(SOLVER__SELECTION="best_on_test", SOLVER__MAX_EPOCH=2)[0] == 0
    facts = run(tmp_path / "out")
    assert facts["selection"] == {"rule": "best_on_test", "epoch": 1, "score": 60.0, "final": True}
    assert not (tmp_path / "out/validation").exists()


def test_the_best_survives_a_resume(train_net, tmp_path, scored):
    scored(60.0, 40.0)
    assert train_net(**HELD_OUT, SOLVER__MAX_EPOCH=2)[0] == 0
    # Those of the resumed run's start, where a killed run may have missed it, and of its epoch.
    scored(40.0, 50.0)
    assert train_net("--resume", **HELD_OUT, SOLVER__MAX_EPOCH=3)[0] == 0
    assert run(tmp_path / "out")["selection"]["epoch"] == 1


def test_a_best_by_another_rule_does_not_survive(train_net, tmp_path, scored):
    scored(60.0)
    assert train_net(**HELD_OUT | {"SOLVER__SELECTION": "best_on_test"})[0] == 0
    scored(40.0, 50.0)
    assert train_net("--resume", **HELD_OUT, SOLVER__MAX_EPOCH=2)[0] == 0
    facts = run(tmp_path / "out")["selection"]
    assert (facts["rule"], facts["epoch"], facts["score"]) == ("validation", 2, 50.0)


def test_an_interrupted_evaluation_is_made_up_for(train_net, tmp_path, scored):
    scored(20.0, None)
    status, message = train_net(**HELD_OUT, SOLVER__MAX_EPOCH=3)
    assert status == 1
    assert "interrupted" in message
    scored(60.0, 40.0)
    assert train_net("--resume", **HELD_OUT, SOLVER__MAX_EPOCH=3)[0] == 0
    assert run(tmp_path / "out")["selection"]["epoch"] == 2


def test_a_finished_run_is_tested_again_not_trained(train_net, tmp_path):
    assert train_net(**HELD_OUT)[0] == 0
    before = results(tmp_path / "out")
    (tmp_path / "out/results.json").unlink()
    assert train_net("--resume", **HELD_OUT)[0] == 0
    assert results(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("name", "protocol", "remedy"),
    [
        ("SYSUMM01", "sysu-all-1shot", "SYSUMM01.TRAIN_WITH_VAL False"),
        ("RegDB", "regdb-v2t", "REGDB.VALIDATION_SHARE 0.1"),
        ("LLCM", "llcm-v2t-paper", "LLCM.VALIDATION_SHARE 0.1"),
    ],
)
def test_validation_without_anybody_held_out_names_the_key(
    train_net, tmp_path, name, protocol, remedy
):
    keys = {"DATASETS__NAMES": f"('{name}',)", "DATASETS__TESTS": f"('{name}',)"}
    keys |= {"TEST__PROTOCOLS": f"('{protocol}',)", "SOLVER__SELECTION": "validation"}
    status, message = train_net(**keys)
    assert status == 2
    assert f"set DATASETS.{remedy}" in message
    assert not (tmp_path / "out").exists()


def test_validation_on_a_share_of_regdb(train_net, tmp_path):
    keys = {"DATASETS__NAMES": "('RegDB',)", "DATASETS__TESTS": "('RegDB',)"}
    keys |= {"TEST__PROTOCOLS": "('regdb-v2t',)", "SOLVER__SELECTION": "validation"}
    keys |= {"DATASETS__REGDB__VALIDATION_SHARE": 0.25, "SOLVER__IMS_PER_BATCH": 8}
    assert train_net(**keys)[0] == 0
    held_out, tested = run(tmp_path / "out/validation")["dataset"], run(tmp_path / "out")["dataset"]
    assert (held_out["identities"], tested["identities"]) == (3, 12)  # a quarter of 12; all of 12


def test_validation_by_the_protocols_of_another_data_set(train_net, tmp_path):
    keys = {"DATASETS__TESTS": "('RegDB',)", "TEST__PROTOCOLS": "('regdb-v2t',)"}
    status, message = train_net(**HELD_OUT, **keys)
    assert status == 2
    assert "expected the same data set in DATASETS.NAMES and TESTS" in message
    assert not (tmp_path / "out").exists()


def test_an_unknown_rule(train_net, tmp_path):
    status, message = train_net(SOLVER__SELECTION="best")
    assert status == 2
    assert "last, validation, best_on_test" in message
    assert not (tmp_path / "out").exists()


def test_flip_and_reranking_are_rows_of_their_own(train_net, tmp_path):
    keys = {"TEST__FLIP__ENABLED": True, "TEST__RERANK__ENABLED": True}
    assert train_net("--eval-only", **keys)[0] == 0
    scores = results(tmp_path / "out")["scores"]
    ways = {(score["flip"], score["reranking"] is not None) for score in scores}
    assert ways == {(False, False), (False, True), (True, False), (True, True)}
