"""Each adaptation of fast-reid; that it imports at all is what every other test shows."""

import logging

import cmemd.compat

import torch


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
