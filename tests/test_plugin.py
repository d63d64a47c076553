"""The plugin beside fast-reid: how it is imported, and that it leaves fast-reid as it was."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.processes import python

import cmemd


def test_each_public_name_loads_no_more_than_it_needs():
    """In one fresh interpreter, from the lightest to the heaviest."""
    code = """
import sys
import cmemd

def check(names, *absent):
    for name in names.split():
        getattr(cmemd, name)
    assert not set(absent) & set(sys.modules), (names, set(absent) & set(sys.modules))

check("__version__", "numpy", "torch", "fastreid")
import cmemd.evaluation.open_set, cmemd.evaluation.bootstrap, cmemd.data.layouts
check("score read_features get_protocol", "torch", "fastreid", "faiss", "lancedb", "pyarrow")
check("Predictor load_pretrained", "torch", "fastreid", "lancedb")
check("exact_plan sinkhorn_plan ground_cost cm_emd_loss cm_dl_loss", "fastreid", "lancedb")
check(" ".join(cmemd.__all__), "lancedb")
assert set(cmemd.__all__) <= set(dir(cmemd))
print("done")
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


REGISTERED = """
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY as a
from fastreid.modeling.backbones import BACKBONE_REGISTRY as b
from fastreid.modeling.heads.build import REID_HEADS_REGISTRY as c
from fastreid.data.datasets import DATASET_REGISTRY as d
a.get('CMEMDNet'), c.get('MultiGranularityHead'), d.get('SYSUMM01'), d.get('RegDB')
b.get('build_two_stream_resnet_backbone'), a.get('Baseline'), d.get('SYSU_mm'), d.get('LLCM')
print('registered')
"""


@pytest.mark.parametrize(
    "code",
    [
        # fast-reid first; it fails by itself where it needs adapting, and must not have spoilt
        # anything; then everything twice
        "try: import fastreid.engine\nexcept Exception: pass\n"
        "import fastreid.config, importlib, cmemd\n"
        "cmemd.add_cmemd_config(fastreid.config.get_cfg())\n"
        "import cmemd.plugin, fastreid.engine\n"
        "importlib.reload(cmemd.plugin), importlib.reload(cmemd.compat)\n"
        "cmemd.plugin.register()",
        # ours first, by a deep import
        "from cmemd.data.sysu_mm01 import SYSUMM01; from cmemd import Trainer, add_cmemd_config",
    ],
)
def test_registers_in_any_order_and_twice(code):
    done = python("-c", code + REGISTERED)
    assert done.stdout == "registered\n", done.stderr


def test_old_import_paths_work_with_a_warning():
    code = """
import importlib, warnings
from cmemd.moved import MOVED

warnings.simplefilter("always")
for old, now in MOVED.items():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        module = importlib.import_module(old)
    for part in map(importlib.import_module, now.split()):
        assert module is part or all(getattr(module, n) is getattr(part, n) for n in part.__all__)
    texts = [str(w.message) for w in told if w.category is DeprecationWarning]
    assert any(t.startswith(f"{old} has moved to {now};") for t in texts), (old, texts)
from cmemd.serve import Predictor
from cmemd.serve.guard import ModalityGuard
import cmemd.inference.guard
assert ModalityGuard is cmemd.inference.guard.ModalityGuard
assert cmemd.inference.guard.__name__ == "cmemd.inference.guard"
from cmemd.engine import Trainer, evaluate, train
try:
    import cmemd.no_such_module
except ModuleNotFoundError as error:
    print(error.name)
"""
    done = python("-c", code)
    assert done.stdout == "cmemd.no_such_module\n", done.stderr


def test_without_fastreid_one_sentence_says_what_to_do():
    """As if it were not installed: a finder that hides it."""
    hide = (
        "import importlib.util as u, sys\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'fastreid' else found(name, *a)\n"
    )
    done = python("-c", f"{hide}\nimport cmemd\ncmemd.add_cmemd_config")
    assert done.returncode == 1
    assert "pip install --no-deps fastreid==1.4.0" in done.stderr.splitlines()[-1]
    tool = Path(__file__).parents[1] / "tools/train_net.py"
    start = f"import runpy\nrunpy.run_path({str(tool)!r}, run_name='__main__')"
    done = python("-c", f"{hide}\n{start}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: cmemd extends fast-reid, which is not installed")


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        cmemd.nonsense  # noqa: B018


def market(root: Path) -> None:
    """A few files in Market1501's layout."""
    rng = np.random.default_rng(0)
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        folder = root / "Market-1501-v15.09.15" / part
        folder.mkdir(parents=True)
        for pid in range(1, 5):
            for camera in (1, 2):
                for frame in range(2):
                    pixels = rng.integers(0, 256, (32, 16, 3), dtype=np.uint8)
                    name = f"{pid:04d}_c{camera}s1_{frame:06d}_00.jpg"
                    Image.fromarray(pixels).save(folder / name)


def test_a_plain_fastreid_model_builds_trains_and_evaluates(tmp_path):
    """Baseline and bag of tricks on the CPU, by fast-reid's own trainer and evaluator."""
    market(tmp_path)
    code = f"""
import cmemd.plugin
import torch
from fastreid.config import get_cfg
from fastreid.engine import DefaultTrainer

cfg = get_cfg()
cfg.merge_from_list([
    "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.FEAT_DIM", 512,
    "MODEL.HEADS.WITH_BNNECK", True, "MODEL.LOSSES.NAME", ("CrossEntropyLoss", "TripletLoss"),
    "DATALOADER.SAMPLER_TRAIN", "NaiveIdentitySampler", "DATALOADER.NUM_INSTANCE", 2,
    "DATALOADER.NUM_WORKERS", 0, "INPUT.SIZE_TRAIN", [32, 16], "INPUT.SIZE_TEST", [32, 16],
    "SOLVER.IMS_PER_BATCH", 8, "SOLVER.MAX_EPOCH", 1, "SOLVER.WARMUP_ITERS", 0,
    "TEST.EVAL_PERIOD", 1, "OUTPUT_DIR", {str(tmp_path / "out")!r},
])
assert cfg.MODEL.META_ARCHITECTURE == "Baseline"
import os; os.makedirs(cfg.OUTPUT_DIR)
trainer = DefaultTrainer(cfg)
before = trainer.model.heads.weight.detach().clone()
results = trainer.train()
assert trainer.iter == 2 == trainer.max_iter, trainer.iter
assert not torch.equal(before, trainer.model.heads.weight)
print("Rank-1", results["Rank-1"])
"""
    done = python("-c", code, environment={"FASTREID_DATASETS": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Rank-1" in done.stdout.splitlines()[-1]
