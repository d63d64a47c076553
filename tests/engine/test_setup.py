"""What a start costs: data sets listed once, checkpoints read once."""

from collections import Counter

import pytest

from cmemd.data.sysu_mm01 import SYSUMM01
from cmemd.engine import checkpoint


@pytest.fixture
def counted(monkeypatch) -> Counter:
    """Count listings of the data set, and reads and hashes of checkpoints."""
    counts = Counter()

    def count(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def counting(*args: object, **kwargs: object) -> object:
            counts[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(SYSUMM01, "__init__")
    count(checkpoint, "load_tensors")
    count(checkpoint, "file_sha256")
    return counts


def test_a_run_lists_its_data_once_and_an_evaluation_reads_its_checkpoint_once(
    train_net, tmp_path, counted
):
    assert train_net()[0] == 0
    assert counted == {"__init__": 1, "file_sha256": 1}  # of the checkpoint that it writes
    counted.clear()
    weights = tmp_path / "out/model_final.pth"
    assert train_net("--eval-only", MODEL__WEIGHTS=weights, OUTPUT_DIR=tmp_path / "again")[0] == 0
    assert counted == {"__init__": 1, "load_tensors": 1, "file_sha256": 1}
