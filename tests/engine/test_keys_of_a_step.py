"""Mixed precision, parts of a batch, clipping, EMA weights and recomputation, in whole runs."""

import pytest
import torch
from tests.conftest import CONFIGS, start_train_net
from tests.engine.test_ranks import end, output, start  # noqa: F401  a fixture
from tests.engine.test_resume import assert_same, killed_at, results, state
from torch import nn
from torch.testing import assert_close

import cmemd
from cmemd.engine.averaging import EMA, AveragedWeights
from cmemd.engine.checkpoint import WholeCheckpointer, load_weights, read_checkpoint
from cmemd.engine.precision import check_precision
from cmemd.errors import InputError

EVERYTHING = {
    "SOLVER__AMP__ENABLED": True,
    "SOLVER__ACCUMULATE": 2,
    "SOLVER__CLIP_GRADIENTS__ENABLED": True,
    "SOLVER__EMA__DECAY": 0.5,
    "MODEL__CHANNELS_LAST": True,
    "MODEL__BACKBONE__CHECKPOINT_ACTIVATIONS": True,
    "SOLVER__CHECKPOINT_MINUTES": 1e-9,
    "MODEL__LOSSES__ALIGN__NAME": "cm_emd_debiased",
    "MODEL__LOSSES__ALIGN__START_EPOCH": 1,
    "SOLVER__MAX_EPOCH": 2,
    "TEST__EVAL_PERIOD": 2,
}


def learned(folder) -> dict:
    names = ("model", "optimizer", "lr_sched", "random", EMA, "grad_scaler")
    kept = state(folder)
    found = {name: kept[name] for name in names if name in kept}
    return found | {"scores": results(folder)["scores"]}


@pytest.mark.parametrize(
    ("dtype", "backend"),
    [
        ("float16", "none"),
        ("bfloat16", "none"),
        pytest.param("float16", "aot_eager", marks=pytest.mark.slow),
    ],
)
def test_a_run_with_all_of_them_that_was_killed_ends_as_if_it_had_not_been(
    train_net, tmp_path, dtype, backend
):
    keys = EVERYTHING | {"SOLVER__AMP__DTYPE": dtype, "MODEL__COMPILE": backend}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train_net(**keys, OUTPUT_DIR=whole)[0] == 0
    with killed_at(3):
        train_net(**keys, OUTPUT_DIR=cut)
    assert train_net("--resume", **keys, OUTPUT_DIR=cut)[0] == 0
    assert_same(learned(cut), learned(whole))
    assert (learned(whole).keys() >= {EMA, "grad_scaler"}) == (dtype == "float16")


# ---- A batch in parts


def test_parts_of_a_batch_are_the_batch_where_no_term_looks_across_identities(train_net, tmp_path):
    """Identity and alignment losses are means over images and identities; frozen norms too."""
    keys = {
        "MODEL__BACKBONE__NORM": "FrozenBN",
        "MODEL__HEADS__NORM": "FrozenBN",
        "SOLVER__OPT": "SGD",
        "SOLVER__BASE_LR": 0.001,
        "SOLVER__MAX_EPOCH": 2,
        "TEST__EVAL_PERIOD": 2,
        "INPUT__CJ__ENABLED": True,  # augmentation does not depend on the parts
    }
    ends = {}
    for weight in (0.0, 1.0):
        for parts in (1, 5):
            folder = tmp_path / f"{weight}-{parts}"
            status, said = train_net(
                **keys,
                SOLVER__ACCUMULATE=parts,
                MODEL__LOSSES__DL__WEIGHT=weight,
                OUTPUT_DIR=folder,
            )
            assert status == 0, said
            ends[weight, parts] = state(folder)["model"]
    for name, tensor in ends[0.0, 1].items():
        assert_close(ends[0.0, 5][name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    # CM-DL compares with the variance of the whole batch
    name = "backbone.global_stream.1.0.conv1.weight"
    assert (ends[1.0, 5][name] - ends[1.0, 1][name]).abs().max() > 1e-5


def test_parts_must_hold_whole_identities(train_net):
    status, said = train_net(SOLVER__ACCUMULATE=3)  # of 10 identities
    assert status == 2
    assert "in 3 parts (SOLVER.ACCUMULATE)" in said
    assert "use a multiple of 12" in said


# ---- EMA weights


def test_the_averages_are_what_is_tested_selected_and_served(train_net, tmp_path):
    trained, again, on = tmp_path / "trained", tmp_path / "again", tmp_path / "on"
    assert train_net(SOLVER__EMA__DECAY=0.5, OUTPUT_DIR=trained)[0] == 0
    path = trained / "model_final.pth"
    kept, checkpoint = state(trained), read_checkpoint(path)
    assert checkpoint.ema == 0.5
    assert_same(dict(checkpoint.model), dict(kept[EMA]["model"]))
    assert_same(dict(checkpoint.trained), dict(kept["model"]))
    name = "heads.granularities.global.classifier"
    assert not torch.equal(checkpoint.model[name], checkpoint.trained[name])
    assert results(trained)["run"]["selection"]["ema"] == 0.5
    # tested again from the file, they score the same
    assert train_net("--eval-only", MODEL__WEIGHTS=path, OUTPUT_DIR=again)[0] == 0
    assert results(again)["scores"] == results(trained)["scores"]
    assert results(again)["run"]["selection"]["ema"] == 0.5
    # and without the averages the scores are others
    raw = torch.load(path, weights_only=True)
    del raw[EMA]
    torch.save(raw, tmp_path / "raw.pth")
    assert train_net("--eval-only", MODEL__WEIGHTS=tmp_path / "raw.pth", OUTPUT_DIR=on)[0] == 0
    assert results(on)["scores"] != results(trained)["scores"]
    assert "ema" not in results(on)["run"]["selection"]


def test_averages_start_from_the_start_up_weights(train_net, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert train_net(OUTPUT_DIR=first)[0] == 0
    keys = {"SOLVER__EMA__DECAY": 0.9999999, "SOLVER__BASE_LR": 1e-6, "SEED": 1}
    weights = first / "model_final.pth"
    assert train_net(**keys, MODEL__WEIGHTS=weights, OUTPUT_DIR=second)[0] == 0
    start_weights, averages = state(first)["model"], state(second)[EMA]["model"]
    for name in ("backbone.stems.0.0.weight", "heads.granularities.global.classifier"):
        assert_close(averages[name], start_weights[name], rtol=0, atol=1e-6)


def test_averages_that_are_not_finite_are_not_written(tmp_path):
    model = nn.Linear(2, 1)
    averages = AveragedWeights(model, 0.5)
    checkpointer = WholeCheckpointer(model, str(tmp_path), **{EMA: averages})
    checkpointer.save("good")
    with torch.no_grad():
        model.weight.fill_(torch.nan)
    averages.update()
    with torch.no_grad():
        model.weight.fill_(1)
    with pytest.raises(InputError, match="finite parameters"):
        checkpointer.save("bad")
    assert not (tmp_path / "bad.pth").exists()
    load_weights(nn.Linear(2, 1), read_checkpoint(tmp_path / "good.pth"))


def test_two_processes_average_as_one(start, tmp_path):  # noqa: F811
    """With frozen statistics, on the same global batch, in parts."""
    keys = {
        "SOLVER__EMA__DECAY": 0.5,
        "SOLVER__CLIP_GRADIENTS__ENABLED": True,
        "SOLVER__CLIP_GRADIENTS__CLIP_VALUE": 0.5,
        "MODEL__BACKBONE__NORM": "FrozenBN",
        "MODEL__HEADS__NORM": "FrozenBN",
        "MODEL__LOSSES__DL__WEIGHT": 0.0,
        "SOLVER__OPT": "SGD",
        "SOLVER__BASE_LR": 0.001,
    }
    ends = []
    for processes, parts in ((1, 1), (2, 5)):
        folder = tmp_path / str(processes)
        ended = end(start(processes, folder, **keys, SOLVER__ACCUMULATE=parts))
        assert ended == [0] * processes, output(tmp_path)[-2000:]
        ends.append(state(folder)[EMA]["model"])
    for name, tensor in ends[0].items():
        assert_close(ends[1][name], tensor, rtol=1e-4, atol=1e-5, msg=name)


# ---- Devices that cannot


def config(**keys):
    words = [w for k, v in keys.items() for w in (k.replace("__", "."), str(v))]
    return cmemd.load_config(CONFIGS / "demo.yml", words)


def test_a_device_that_cannot_is_refused_in_one_line_before_any_work(
    monkeypatch, datasets, tmp_path, capsys
):
    def fail(*_):
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr("cmemd.engine.precision._try", fail)
    opts = {"SOLVER.AMP.ENABLED": "True", "OUTPUT_DIR": str(tmp_path / "out")}
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    assert start_train_net(monkeypatch, config=CONFIGS / "demo.yml", opts=opts) == 2
    said = capsys.readouterr().err.strip()
    assert "computes in bfloat16 for SOLVER.AMP" in said
    assert "SOLVER.AMP.DTYPE float16" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_emulated_bfloat16_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda _: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "an old card")
    cfg = config(MODEL__DEVICE="cuda", SOLVER__AMP__ENABLED=True)
    with pytest.raises(InputError, match="an old card, which only emulates it"):
        check_precision(cfg)


def test_a_cpu_computes_in_both_types():
    for dtype in ("bfloat16", "float16"):
        check_precision(config(SOLVER__AMP__ENABLED=True, SOLVER__AMP__DTYPE=dtype))
