"""A short run with everything that a page shows."""

from pathlib import Path

import pytest
from tests.conftest import CONFIGS, TINY, start_train_net

SHORT = TINY | {
    "SOLVER.MAX_EPOCH": "3",
    "TEST.SAVE_FEATURES": "True",
    "DATALOADER.NUM_VISIBLE": "2",
}


@pytest.fixture(scope="session")
def finished_run(datasets, tmp_path_factory) -> Path:
    """OUTPUT_DIR of a training of three epochs, each evaluated; features are saved."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(datasets))
        opts = SHORT | {"OUTPUT_DIR": str(folder)}
        assert start_train_net(patch, config=CONFIGS / "demo.yml", opts=opts) == 0
    return folder
