"""The optimiser does what fast-reid's does, without its flat buffers."""

import pytest
import torch
from fastreid.solver import build_optimizer as flat_optimizer
from tests.cases import cases
from tests.conftest import CONFIGS, TINY
from torch.testing import assert_close

import cmemd
from cmemd.engine.optimizer import build_optimizer, kernel

FACTORS = {
    "SOLVER.BIAS_LR_FACTOR": "2.0",
    "SOLVER.HEADS_LR_FACTOR": "3.0",
    "SOLVER.WEIGHT_DECAY": "0.1",
    "SOLVER.WEIGHT_DECAY_NORM": "0.01",
    "SOLVER.WEIGHT_DECAY_BIAS": "0.0",
}


class Network(torch.nn.Module):
    """A backbone and heads, with a norm, biases and a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5))
        self.heads = torch.nn.Linear(5, 3)
        self.rest = torch.nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.heads(self.backbone(x)).square().sum()


def configured(**keys: str):
    opts = TINY | FACTORS | {name.replace("__", "."): value for name, value in keys.items()}
    return cmemd.load_config(CONFIGS / "demo.yml", [w for pair in opts.items() for w in pair])


@cases(
    "keys",
    [
        {"SOLVER__OPT": "SGD", "SOLVER__NESTEROV": "True"},
        {"SOLVER__OPT": "Adam"},
        {"SOLVER__OPT": "AdamW"},
        {"SOLVER__OPT": "RMSprop"},
    ],
)
def test_steps_are_those_of_fastreids_optimiser(keys):
    cfg = configured(**keys)
    ours, theirs = (Network().double() for _ in range(2))
    optimizer = build_optimizer(cfg, ours).optimizer
    flat, buffers = flat_optimizer(cfg, theirs)
    for seed in range(4):
        x = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)).double()
        optimizer.zero_grad()
        ours(x).backward()
        optimizer.step()
        flat.zero_grad(set_to_none=False)  # else the flat gradients would be cut off
        theirs(x).backward()
        flat.step()
        buffers.assert_buffer_is_valid()
    for name, parameter in ours.named_parameters():
        assert_close(parameter, theirs.get_parameter(name), msg=f"{keys} {name}")
    assert not torch.equal(ours.heads.weight, Network().double().heads.weight)


def test_each_parameter_has_its_rate_and_decay():
    cfg, network = configured(), Network()
    optimizer = build_optimizer(cfg, network).optimizer
    rate = cfg.SOLVER.BASE_LR
    found = {
        id(parameter): (group["lr"] / rate, group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    expected = {  # the rate's factor, and the decay
        "backbone.0.weight": (1, 0.1),
        "backbone.0.bias": (2, 0),
        "backbone.1.weight": (1, 0.01),
        "backbone.1.bias": (2, 0),
        "heads.weight": (3, 0.1),
        "heads.bias": (6, 0),
    }
    named = {name: found[id(network.get_parameter(name))] for name in expected}
    assert {n: pytest.approx(v) for n, v in expected.items()} == named
    assert len(found) == len(expected)
    assert len(optimizer.param_groups) == 5  # both biases of the backbone share one


def test_frozen_parameters_are_those_of_the_patterns():
    network = Network()
    chosen = build_optimizer(
        configured(MODEL__FREEZE_LAYERS="['backbone.0']", SOLVER__FREEZE_ITERS="4"), network
    )
    assert [id(p) for p in chosen.frozen] == [id(p) for p in network.backbone[0].parameters()]
    assert chosen.freeze_iters == 4
    chosen = build_optimizer(configured(MODEL__FREEZE_LAYERS="['backbone.0']"), network)
    assert (chosen.frozen, chosen.freeze_iters) == ([], 0)


def test_a_fused_optimiser_takes_the_steps_of_the_plain_one():
    for name in ("SGD", "Adam", "AdamW", "Adagrad"):
        assert kernel(name, torch.device("cpu")) == {"fused": True}
        plain, fused = (Network().double() for _ in range(2))
        optimizers = [
            (network, getattr(torch.optim, name)(network.parameters(), lr=0.1, **options))
            for network, options in ((plain, {"foreach": False}), (fused, {"fused": True}))
        ]
        for _ in range(3):
            for network, optimizer in optimizers:
                optimizer.zero_grad()
                network(torch.arange(24.0).view(6, 4).double()).backward()
                optimizer.step()
        assert_close(dict(fused.named_parameters()), dict(plain.named_parameters()), msg=name)
