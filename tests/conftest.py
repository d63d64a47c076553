"""Fixtures that several test folders use."""

import logging
import os
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

# The tests' tensors are tiny: PyTorch's threads would take longer to meet than to add.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cmemd.compat  # noqa: E402, F401  before torch and fastreid

import pytest  # noqa: E402

from cmemd.standin import draw_llcm, draw_own, draw_regdb, draw_sysu  # noqa: E402

REPOSITORY = Path(__file__).parents[1]
CONFIGS = REPOSITORY / "projects/CMEMD/configs"

# demo.yml on a handful of 32x16 images: two iterations an epoch, seconds in all
TINY = {
    "MODEL.BACKBONE.WIDTH": "0.125",
    "MODEL.BACKBONE.FEAT_DIM": "64",
    "MODEL.HEADS.EMBEDDING_DIM": "8",
    "INPUT.SIZE_TRAIN": "[32, 16]",
    "INPUT.SIZE_TEST": "[32, 16]",
    "DATALOADER.NUM_VISIBLE": "2",
    "DATALOADER.NUM_THERMAL": "2",
    "DATALOADER.NUM_WORKERS": "0",
    "SOLVER.IMS_PER_BATCH": "40",
    "SOLVER.MAX_EPOCH": "1",
    "SOLVER.WARMUP_ITERS": "1",
    "TEST.EVAL_PERIOD": "1",
    "TEST.IMS_PER_BATCH": "64",
    "TEST.RANKED_GALLERY": "0",
    "TEST.SAVE_FEATURES": "False",
}


# Scripts of `make test-neighbours`, which import packages that are not installed here.
collect_ignore = ["neighbours"]


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with tiny stand-ins.

    SYSU-MM01: 20 identities, 2 images a camera. RegDB: 24 identities, 12 of them for training in
    each split, 3 images a modality. LLCM: 18 identities, 12 of them for training, 1 image a camera.
    Own: 20 identities without a split, 2 images of each of two visible and two thermal cameras.
    """
    root = tmp_path_factory.mktemp("datasets")
    draw_sysu(root / "SYSU-MM01", ids=20, per_camera=2, size=(48, 24), seed=0)
    draw_regdb(root / "RegDB", ids=24, per_camera=3, size=(48, 24), seed=0)
    draw_llcm(root / "LLCM", ids=18, per_camera=1, size=(48, 24), seed=0)
    draw_own(root / "Own", ids=20, per_camera=2, size=(48, 24), seed=0)
    return root


@pytest.fixture
def train_net(
    datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs tools/train_net.py in this process: (exit status, what it wrote to stderr).

    Takes further command-line words first, then configuration keys (dots or double underscores),
    which go over ``TINY``; the default OUTPUT_DIR is ``tmp_path / "out"``.
    """

    def run(
        *words: str, config: Path = CONFIGS / "demo.yml", tiny: bool = True, **keys: object
    ) -> tuple[int, str]:
        opts = (TINY if tiny else {}) | {"OUTPUT_DIR": str(tmp_path / "out")}
        opts |= {name.replace("__", "."): str(value) for name, value in keys.items()}
        capsys.readouterr()
        status = start_train_net(monkeypatch, *words, config=config, opts=opts)
        return status, capsys.readouterr().err

    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    return run


def start_train_net(
    patch: pytest.MonkeyPatch, *words: str, config: Path, opts: Mapping[str, str]
) -> int:
    """Runs tools/train_net.py in this process and returns its exit status."""
    argv = ["train_net.py", "--config-file", str(config), *words]
    argv += [word for pair in opts.items() for word in pair]
    patch.setattr(sys, "argv", argv)
    try:
        runpy.run_path(str(REPOSITORY / "tools/train_net.py"), run_name="__main__")
    except SystemExit as end:
        return end.code
    finally:
        _forget_log_handlers()
    return 0


def _forget_log_handlers() -> None:
    """fast-reid adds its handlers to its loggers once a process and an output folder."""
    from fastreid.utils import logger

    logger.setup_logger.cache_clear()
    logger._cached_log_stream.cache_clear()
    for name in ("fastreid", "cmemd"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
