"""Each adaptation of fast-reid; that it imports at all is what every other test shows."""

import logging

import cmemd.compat

import pytest
import torch
from torch import nn


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_fastreids_optimizer_follows_the_gradient_of_this_step_alone(optimizer):
    """Loss sum(w x) has gradient x: SGD without decay moves by -lr x, each time."""
    from fastreid.config import get_cfg
    from fastreid.engine import DefaultTrainer

    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.OPT", optimizer, "SOLVER.BASE_LR", 0.5, "SOLVER.MOMENTUM", 0.0])
    cfg.merge_from_list(["SOLVER.WEIGHT_DECAY", 0.0])
    layer = nn.Linear(2, 1, bias=False)
    ours, params = DefaultTrainer.build_optimizer(cfg, layer)
    plain = nn.Parameter(layer.weight.detach().clone())
    reference = getattr(torch.optim, optimizer)([plain], lr=0.5)
    for x in (torch.tensor([1.0, 2.0]), torch.tensor([-3.0, 1.0]), torch.tensor([0.5, 0.0])):
        ours.zero_grad()
        layer(x).sum().backward()
        ours.step()
        params.assert_buffer_is_valid()
        reference.zero_grad()
        (plain * x).sum().backward()
        reference.step()
        torch.testing.assert_close(layer.weight, plain)


def test_applying_twice_wraps_once():
    from fastreid import solver

    once = solver.build_optimizer
    cmemd.compat._zero_gradients_in_place()
    assert solver.build_optimizer is once


def test_a_failed_compilation_of_fastreids_ranking_is_a_warning(monkeypatch, caplog):
    from fastreid.evaluation import rank_cylib, reid_evaluation

    monkeypatch.setattr(rank_cylib.compile_helper, "__code__", (lambda: exit(1)).__code__)
    monkeypatch.setattr(logging.getLogger("cmemd"), "propagate", True)
    reid_evaluation.compile_helper()
    assert "its Python version" in caplog.text


def test_loads_batches_on_a_machine_without_cuda(monkeypatch):
    from fastreid.data import build

    monkeypatch.setattr(build, "DataLoaderX", object)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cmemd.compat._load_without_cuda_stream()
    loader = build.DataLoaderX(0, dataset=[1, 2, 3], batch_size=2, pin_memory=True)
    assert [batch.tolist() for batch in loader] == [[1, 2], [3]]


def test_leaves_the_loader_alone_where_there_is_cuda(monkeypatch):
    from fastreid.data import build

    monkeypatch.setattr(build, "DataLoaderX", object)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cmemd.compat._load_without_cuda_stream()
    assert build.DataLoaderX is object
