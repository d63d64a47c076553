"""Imports what the server of ``tests.processes`` has ready; see there."""

import contextlib
import gc
import importlib
import sys
import warnings

_PACKAGES = (
    "torch._dynamo",
    "torch.distributed.launcher.api",
    "torch.utils.tensorboard",
    "sklearn.metrics",
    "matplotlib.pyplot",
    "faiss",
    "lancedb.index",
    "pyarrow.compute",
    "pyarrow.parquet",
    "scipy.io",
    "scipy.optimize",
    "cv2",
    "pytest",
    "numpy.testing",
    "tabulate",
    "termcolor",
    "yacs.config",
    "jsonschema",
    "filelock",
    "PIL.ImageEnhance",
    "PIL.ImageFont",
    "PIL.ImageOps",
    "tests.processes",
)

# Its warning of forks is for threads that hold locks; the server has none.
warnings.filterwarnings("ignore", message="lancedb fork support is experimental")
for _name in _PACKAGES:
    importlib.import_module(_name)
# Beside a CPU build of torch it fails (see cmemd.compat), but what it needs is imported then.
with contextlib.suppress(RuntimeError):
    importlib.import_module("torchvision")
for _name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
    del sys.modules[_name]
gc.freeze()  # else a collection would copy the pages of all that was imported
