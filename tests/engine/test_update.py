"""Clipping, the gradient scaler and EMA weights of a step, against plain loops."""

import math

import pytest
import torch
from tests.cases import cases
from torch import nn
from torch.testing import assert_close

from cmemd.engine.averaging import AveragedWeights
from cmemd.engine.precision import build_scaler
from cmemd.engine.update import Clipping, Update


def small_network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train(network, update, steps, seed=1):
    """Yield after each step."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        loss = network(torch.randn(5, 3, generator=generator)).square().mean()
        update.optimizer.zero_grad()
        update.backward(loss)
        update.step()
        yield


# ---- EMA weights


@cases("decay", [0.25, 0.9, 0.999])
def test_averages_are_those_of_a_plain_loop(decay):
    network = small_network()
    averages = AveragedWeights(network, decay)
    update = Update(torch.optim.SGD(network.parameters(), 0.1), averages=averages)
    twin = {name: p.detach().double() for name, p in network.named_parameters()}
    for _ in train(network, update, 20):
        for name, parameter in network.named_parameters():
            twin[name] = decay * twin[name] + (1 - decay) * parameter.detach().double()
    found = averages.state_dict()
    assert found["decay"] == decay
    own = network.state_dict()
    for name, tensor in found["model"].items():
        if name in twin:
            assert tensor.dtype == torch.float32
            assert_close(tensor, twin[name].float())
        else:  # buffers are the network's own
            assert torch.equal(tensor, own[name]), name
    assert found["model"].keys() == own.keys()
    assert not torch.equal(found["model"]["2.weight"], own["2.weight"])


def test_a_network_has_the_averages_for_a_while_and_then_its_own_weights_bit_for_bit():
    network = small_network()
    averages = AveragedWeights(network, 0.5)
    for _ in train(
        network, Update(torch.optim.SGD(network.parameters(), 0.1), averages=averages), 3
    ):
        pass
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    served = averages.state_dict()["model"]
    seen = {}

    def fail():
        seen.update({name: tensor.clone() for name, tensor in network.state_dict().items()})
        raise KeyError

    with pytest.raises(KeyError), averages.in_network():
        fail()  # as an evaluation may
    for name, tensor in served.items():
        assert torch.equal(seen[name], tensor), name
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, own[name]), name


def test_loaded_averages_go_on_as_if_they_had_never_been_saved():
    runs = []
    for saved_after in (None, 2):
        network = small_network()
        averages = AveragedWeights(network, 0.9)
        update = Update(torch.optim.SGD(network.parameters(), 0.1), averages=averages)
        for step, _ in enumerate(train(network, update, 5)):
            if step == saved_after:
                state = averages.state_dict()
                state["model"] = {name: t.clone() for name, t in state["model"].items()}
                averages.start()
                averages.load_state_dict(state)
        runs.append(averages.state_dict()["model"])
    for name in runs[0]:
        assert torch.equal(runs[0][name], runs[1][name]), name


def test_an_update_never_waits_for_the_device():
    network = small_network().to("meta")  # where any read of a value raises
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    for kind in ("norm", "value"):
        averages = AveragedWeights(network, 0.9)
        update = Update(optimizer, clipping=Clipping(kind, 1.0), averages=averages)
        loss = network(torch.ones(5, 3, device="meta")).sum()
        update.backward(loss)
        update.step()


# ---- Clipping


@cases(
    ("clipping", "expected"),
    [
        # gradients (3, 0) and (0, 4): one vector of norm 5, largest number 4, sum of sizes 7
        (None, [[3.0, 0.0], [0.0, 4.0]]),
        (Clipping("norm", 5.0), [[3.0, 0.0], [0.0, 4.0]]),
        (Clipping("norm", 2.5), [[1.5, 0.0], [0.0, 2.0]]),
        (Clipping("norm", 2.0, math.inf), [[1.5, 0.0], [0.0, 2.0]]),
        (Clipping("norm", 3.5, 1.0), [[1.5, 0.0], [0.0, 2.0]]),
        (Clipping("value", 3.5), [[3.0, 0.0], [0.0, 3.5]]),
    ],
)
def test_a_clipped_step_is_the_hand_computed_one(clipping, expected):
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
        still = nn.Parameter(torch.ones(1))  # has no gradient
        optimizer = torch.optim.SGD([*parameters, still], lr=1.0)
        update = Update(optimizer, scaler=scaler, clipping=clipping)
        factors = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
        update.backward((torch.stack(parameters) * factors).sum())
        update.step()
        assert_close(torch.stack(list(parameters)).detach(), -torch.tensor(expected))
        assert still.item() == 1


# ---- float16's scaler


def test_a_gradient_that_overflows_skips_the_step_and_halves_the_scale():
    for clipping in (None, Clipping("norm", 1.0), Clipping("value", 1.0)):
        parameter = nn.Parameter(torch.ones(2))
        scaler = build_scaler("cpu", torch.float16)
        before = scaler.get_scale()
        update = Update(torch.optim.SGD([parameter], 0.1), scaler=scaler, clipping=clipping)
        update.backward((parameter * 3e38).sum())
        update.step()
        assert torch.equal(parameter.detach(), torch.ones(2))
        assert scaler.get_scale() == before / 2


def test_only_float16_needs_a_scaler():
    assert build_scaler("cpu", None) is None
    assert build_scaler("cpu", torch.bfloat16) is None
    assert build_scaler("cpu", torch.float16) is not None
