"""A recomputed stage is the plain stage, with less memory."""

import copy

import cmemd.plugin  # noqa: F401  before fastreid

import torch
from fastreid.modeling.backbones.resnet import BasicBlock
from tests.cases import cases
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from cmemd.modeling.recomputation import run_stages
from cmemd.modeling.two_stream_resnet import NarrowResNet, TwoStreamResNet

NONE = (0, 0, 0, 0)


def stem_and_stream(norm="BN", ibn=False):
    torch.manual_seed(0)
    resnet = NarrowResNet(0.125, 1, norm, ibn, False, False, BasicBlock, (2, 1, 1, 1), NONE)
    backbone = TwoStreamResNet(resnet=resnet)
    return nn.ModuleList([backbone.stems[0], backbone.global_stream]).train()


class Both(nn.Module):
    """A stem and a stream, one after the other."""

    def __init__(self, parts, recompute):
        super().__init__()
        self.parts, self.recompute = parts, recompute

    def forward(self, images):
        for part in self.parts:
            images = run_stages(part, images, recompute=self.recompute)
        return images


def trained(parts, recompute, compiled=False, dtype=None):
    """Return the output, the gradients and the buffers after two steps' passes."""
    parts = copy.deepcopy(parts)
    network = Both(parts, recompute)
    run = torch.compile(network, backend="aot_eager") if compiled else network
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            output = run(torch.randn(8, 3, 48, 24, generator=generator))
        output.float().square().mean().backward()
    gradients = {name: p.grad for name, p in parts.named_parameters()}
    return {"output": output.detach()} | gradients | dict(parts.named_buffers())


@cases(
    "options",
    # GhostBN writes its statistics by itself, past PyTorch's batch norm
    [{}, {"norm": "GhostBN"}, {"norm": "FrozenBN"}, {"ibn": True}],
)
def test_outputs_gradients_and_running_statistics_are_those_of_the_plain_run(options):
    parts = stem_and_stream(**options)
    plain, again = trained(parts, False), trained(parts, True)
    assert plain.keys() == again.keys()
    for name, tensor in plain.items():
        assert torch.equal(tensor, again[name]), name
    if not options:  # the two passes counted twice, and statistics moved
        assert again["0.1.num_batches_tracked"] == 2
        assert not torch.equal(again["0.1.running_mean"], parts[0][1].running_mean)


def test_so_they_are_in_half_precision():
    for dtype in (torch.bfloat16, torch.float16):
        parts = stem_and_stream()
        plain, again = trained(parts, False, dtype=dtype), trained(parts, True, dtype=dtype)
        for name, tensor in plain.items():
            assert torch.equal(tensor, again[name]), (dtype, name)


def test_so_they_are_in_a_compiled_network():
    parts = stem_and_stream()
    plain, again = trained(parts, False), trained(parts, True, compiled=True)
    for name, tensor in plain.items():
        torch.testing.assert_close(tensor, again[name], msg=name)


def test_a_recomputed_network_keeps_the_inputs_of_its_stages_alone():
    parts, kept = stem_and_stream(), {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tuple(tensor.shape)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = Both(parts, True)(torch.randn(8, 3, 48, 24))
    # images; the inputs of layer1 to layer4
    stages = [(8, 3, 48, 24), (8, 8, 12, 6), (8, 8, 12, 6), (8, 16, 6, 3), (8, 32, 3, 2)]
    assert sorted(kept.values()) == sorted(stages)
    assert output.shape == (8, 64, 3, 2)


def test_nothing_is_recomputed_where_no_gradient_is_asked_for():
    network = Both(stem_and_stream(), True)
    calls = []
    network.parts[1].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        output = network(torch.randn(8, 3, 48, 24))
    assert calls == [1]  # the stream ran as a whole, not stage by stage
    assert not output.requires_grad
