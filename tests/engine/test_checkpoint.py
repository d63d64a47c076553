"""Checkpoint files."""

import pytest
import torch
from torch import nn

from cmemd.engine.checkpoint import WholeCheckpointer, check_weights, read_checkpoint
from cmemd.errors import InputError


def weights(path) -> torch.Tensor:
    return read_checkpoint(path).model["weight"]


def test_a_checkpoint_holds_model_states_and_extras(tmp_path):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    WholeCheckpointer(model, str(tmp_path), optimizer=optimizer).save("a", epoch=3)
    stored = read_checkpoint(tmp_path / "a.pth")
    assert (stored.entries["epoch"], stored.epoch) == (3, 4)
    assert stored.entries["optimizer"]["param_groups"][0]["lr"] == 0.5
    assert torch.equal(stored.model["weight"], model.weight)
    assert stored.record is None


def test_an_interrupted_save_leaves_the_good_file_and_mark(tmp_path, monkeypatch):
    model = nn.Linear(2, 1)
    checkpointer = WholeCheckpointer(model, str(tmp_path))
    checkpointer.save("best")
    before = model.weight.detach().clone()

    def interrupted(data: object, path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with torch.no_grad():
        model.weight.add_(1)
    monkeypatch.setattr(torch, "save", interrupted)
    for name in ("best", "other"):
        with pytest.raises(KeyboardInterrupt):
            checkpointer.save(name)
        assert torch.equal(weights(checkpointer.get_checkpoint_file()), before)
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["best.pth"]


def test_processes_other_than_the_main_one_write_nothing(tmp_path):
    WholeCheckpointer(nn.Linear(1, 1), str(tmp_path), save_to_disk=False).save("a")
    assert not list(tmp_path.iterdir())


def test_weights_of_another_architecture_are_named():
    state = nn.Linear(3, 1).state_dict()
    check_weights(nn.Linear(3, 1), state, "a.pth")
    with pytest.raises(InputError, match=r"a\.pth, .* 1 of 2 tensors .* such as weight"):
        check_weights(nn.Linear(2, 1), state, "a.pth")


@pytest.mark.parametrize("content", [b"", b"text", [1, 2], {"state": 1}])
def test_a_file_that_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "a.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(
        InputError,
        match=f"expected a fast-reid checkpoint at {path}, got a (truncated|file without)",
    ):
        read_checkpoint(path)
