"""A step of training never waits for the device, and what it logs is not changed by that."""

import copy
import itertools
from collections import Counter
from pathlib import Path

import pytest
import torch
from fastreid.engine.train_loop import SimpleTrainer
from fastreid.utils.events import EventStorage
from tests.conftest import CONFIGS, TINY
from tests.engine.synchronisations import DEVICE, Synchronisations, moved
from torch._dynamo.utils import counters
from torch.optim import asgd
from torch.testing import assert_close

import cmemd
from cmemd.engine import compilation
from cmemd.engine.keys import OPTIMIZERS
from cmemd.engine.optimizer import kernel
from cmemd.engine.trainer import Trainer
from cmemd.errors import InputError

STEPS = 2


def trainer_of(folder: Path, **keys: object) -> Trainer:
    folder.mkdir(exist_ok=True)
    opts = TINY | {"MODEL.BACKBONE.PRETRAIN": "False", "OUTPUT_DIR": str(folder)}
    opts |= {"SOLVER.MAX_EPOCH": "9", "SEED": "0"}
    opts |= {name.replace("__", "."): str(value) for name, value in keys.items()}
    cfg = cmemd.load_config(CONFIGS / "demo.yml", [w for pair in opts.items() for w in pair])
    return Trainer(cfg)


def steps(trainer: Trainer, number: int) -> None:
    """Go through some iterations, with all hooks, as the trainer's loop does."""
    for _ in range(number):
        trainer.before_step()
        trainer.run_step()
        trainer.after_step()
        trainer.iter += 1


def synchronisations(folder: Path, **keys: object) -> Counter:
    """Count what waits for the device in some steps between two log lines."""
    trainer = trainer_of(folder, MODEL__DEVICE=DEVICE.type, **keys)
    batches = moved(iter(trainer.data_loader))
    trainer._trainer._batches = iter(list(itertools.islice(batches, 2 * (STEPS + 1))))
    trainer.iter, trainer.epoch = 0, 0
    with EventStorage(0) as trainer.storage:
        trainer.before_train()
        trainer.before_epoch()
        steps(trainer, 1)  # an optimiser makes its state
        with Synchronisations() as counted:
            steps(trainer, STEPS)
    return counted.found


@pytest.fixture(autouse=True)
def _data(datasets, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))


def test_no_step_waits_for_the_device_between_log_lines(tmp_path):
    cases = (
        {},
        {
            "SOLVER__OPT": "SGD",
            "SOLVER__NESTEROV": True,
            "MODEL__FREEZE_LAYERS": "['backbone']",
            "SOLVER__FREEZE_ITERS": 3,
            "MODEL__LOSSES__ALIGN__NAME": "sinkhorn",
            "MODEL__LOSSES__ALIGN__WARMUP_ITERS": 4,
        },
        {
            "MODEL__LOSSES__NAME": "['CrossEntropyLoss', 'TripletLoss']",
            "MODEL__LOSSES__CENTRE__WEIGHT": 1.0,
            "MODEL__LOSSES__ALIGN__NAME": "affinity",
            "MODEL__HEADS__LOCAL_WEIGHTS": "image",
        },
        {
            "SOLVER__ACCUMULATE": 2,
            "SOLVER__EMA__DECAY": 0.9,
            "SOLVER__CLIP_GRADIENTS__ENABLED": True,
            "MODEL__BACKBONE__CHECKPOINT_ACTIVATIONS": True,
            "MODEL__CHANNELS_LAST": True,
        },
        {"MODEL__LOSSES__ALIGN__NAME": "kl"},
        {"MODEL__LOSSES__ALIGN__NAME": "mmd"},
        {"MODEL__LOSSES__ALIGN__NAME": "cm_emd_debiased", "MODEL__LOSSES__ALIGN__CLAMP": True},
        {
            "MODEL__LOSSES__ALIGN__NAME": "sinkhorn_divergence",
            "MODEL__LOSSES__ALIGN__DISTANCE": "kernel",
            "MODEL__LOSSES__ALIGN__START_EPOCH": 1,
        },
        {
            "MODEL__LOSSES__ALIGN__NAME": "partial",
            "MODEL__LOSSES__ALIGN__MASS": 0.5,
            "MODEL__LOSSES__ALIGN__PLAN_FEATURE": "all",
        },
        {"MODEL__LOSSES__ALIGN__NAME": "unbalanced"},
        {"MODEL__LOSSES__ALIGN__NAME": "batch_nearest"},
    )
    for number, case in enumerate(cases):
        found = synchronisations(tmp_path / str(number), **case)
        assert found == {}, f"{case}: {found}"


def test_no_optimiser_waits_for_the_device(monkeypatch):
    monkeypatch.setattr(asgd, "_get_capturable_supported_devices", lambda: [DEVICE.type])
    for name in OPTIMIZERS:
        options = kernel(name, torch.device("cuda"))
        if options.pop("fused", False):  # in place of a kernel that has no counterpart here
            options["foreach"] = True
        parameters = [torch.nn.Parameter(torch.empty(3, device=DEVICE)) for _ in range(2)]
        optimizer = getattr(torch.optim, name)(parameters, **options)
        with Synchronisations() as counted:
            for _ in range(STEPS):
                optimizer.zero_grad()
                sum(parameter.sum() for parameter in parameters).backward()
                optimizer.step()
        assert counted.found == {}, name


def test_what_is_read_late_is_what_fastreids_trainer_reads_at_once(tmp_path):
    trainer = trainer_of(
        tmp_path / "ours", MODEL__LOSSES__ALIGN__WARMUP_ITERS=3, SOLVER__WARMUP_ITERS=0
    )
    network = copy.deepcopy(trainer.model)
    batches = list(itertools.islice(trainer.data_loader, 5))
    trainer._trainer._batches = iter(batches)
    theirs = SimpleTrainer(network, batches, Trainer.build_optimizer(trainer.cfg, network)[0], None)
    with EventStorage(0) as expected:
        for expected.iter in range(5):
            theirs.iter = expected.iter
            theirs.run_step()
    with EventStorage(0) as trainer.storage:
        trainer.iter, trainer.epoch = 0, 0
        trainer.before_train()
        steps(trainer, 5)
        assert "total_loss" not in trainer.storage.histories()
        trainer.read_scalars()
        found = trainer.storage
    for name, history in expected.histories().items():
        if name != "data_time":
            assert found.history(name).values() == history.values(), name
            assert found.latest()[name] == expected.latest()[name], name
    assert {"modality_gap", "plan_saving", "data_time"} <= found.histories().keys()
    assert found.iter == 4


def test_a_loss_that_is_not_finite_is_told_with_its_iteration_and_never_saved(tmp_path):
    trainer = trainer_of(tmp_path)
    batches = list(itertools.islice(trainer.data_loader, 4))
    batches[2]["images"] = batches[2]["images"] * float("nan")
    trainer._trainer._batches = iter(batches)
    with EventStorage(0) as trainer.storage:
        trainer.iter, trainer.epoch = 0, 0
        trainer.before_train()
        steps(trainer, 4)
        with pytest.raises(InputError, match="NaN or infinity at iteration 2 .*SOLVER.BASE_LR"):
            trainer.save("model_0000")
        assert len(trainer.storage.history("total_loss").values()) == 2
    assert not list(tmp_path.glob("*.pth"))


def test_a_compiled_step_is_the_eager_one_in_one_graph(tmp_path):
    """A modality is an IntEnum: compared within a compiled step, it must not become False."""
    plain = trainer_of(tmp_path / "plain")
    fast = trainer_of(tmp_path / "fast", MODEL__COMPILE="aot_eager")
    fast.model.load_state_dict(plain.model.state_dict())
    batches = list(itertools.islice(plain.data_loader, 2))
    torch._dynamo.reset()
    counters.clear()
    seen = []
    for trainer in (plain, fast):
        trainer._trainer._batches = iter(batches)
        with EventStorage(0) as trainer.storage:
            trainer.iter, trainer.epoch = 0, 0
            trainer.before_train()
            steps(trainer, 1)
            gradients = {n: p.grad for n, p in trainer.model.named_parameters()}
            steps(trainer, 1)
            trainer.read_scalars()
            losses = {
                name: history.values()
                for name, history in trainer.storage.histories().items()
                if name not in ("data_time", "time")
            }
        seen.append((gradients, losses, trainer.model.state_dict()))
    assert_close(seen[1][0], seen[0][0])
    assert seen[1][1].keys() == seen[0][1].keys()
    for name, history in seen[0][1].items():
        assert seen[1][1][name] == [pytest.approx(value) for value in history], name
    assert_close(seen[1][2], seen[0][2])  # also the names: no "_orig_mod"
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.slow  # a compilation takes most of a minute
@pytest.mark.parametrize("keys", [{}, {"MODEL__BACKBONE__CHECKPOINT_ACTIVATIONS": True}], ids=str)
def test_a_step_compiled_by_inductor_is_the_eager_one_but_for_rounding(tmp_path, keys, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    if not compilation._has_cpp_compiler():
        pytest.skip("no C++ compiler")
    torch._dynamo.reset()
    plain = trainer_of(tmp_path / "plain")
    fast = trainer_of(tmp_path / "fast", MODEL__COMPILE="inductor", **keys)
    fast.model.load_state_dict(plain.model.state_dict())
    batches = list(itertools.islice(plain.data_loader, 1))
    losses, gradients = [], []
    for trainer in (plain, fast):
        trainer._trainer._batches = iter(batches)
        with EventStorage(0) as trainer.storage:
            trainer.iter, trainer.epoch = 0, 0
            trainer.before_train()
            steps(trainer, 1)
            trainer.read_scalars()
            histories = trainer.storage.histories().items()
            losses.append({name: h.latest() for name, h in histories if "time" not in name})
        parameters = trainer.model.named_parameters()
        gradients.append({n: p.grad.clone() for n, p in parameters if p.grad is not None})
    assert gradients[1].keys() == gradients[0].keys()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for name, expected in gradients[0].items():
        error = (gradients[1][name] - expected).norm() / expected.norm()
        assert error < 1e-3, (name, error)


def test_a_backend_without_its_compiler_is_refused(monkeypatch):
    monkeypatch.setattr(compilation, "_has_cpp_compiler", lambda: False)
    monkeypatch.setattr(compilation.importlib.util, "find_spec", lambda name: None)
    for device, named in (("cpu", "no C\\+\\+ compiler"), ("cuda:0", "no Triton")):
        with pytest.raises(InputError, match=f"MODEL.COMPILE inductor needs on {device}.*{named}"):
            compilation.check_compilation("inductor", device)
        compilation.check_compilation("aot_eager", device)
        compilation.check_compilation("none", device)


def test_what_torch_compile_cannot_do_is_one_line():
    def broken(graph: object, inputs: object) -> None:
        raise RuntimeError("two\nlines")

    network = compilation.compiled(torch.nn.Linear(2, 2), broken)
    with pytest.raises(InputError, match="set MODEL.COMPILE to none") as raised:
        network(torch.ones(1, 2))
    assert "\n" not in str(raised.value)
