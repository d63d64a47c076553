"""CM-EMD: visible-thermal person re-identification with fast-reid.

Importing this package loads neither torch nor fast-reid, so that commands which need neither start
at once. Public names are loaded when they are first used::

    from cmemd import load_pretrained  # embeds images with an exported network
    from cmemd import cm_emd_loss  # needs torch alone
    from cmemd import add_cmemd_config  # needs fast-reid, and registers the plugin with it
"""

import importlib
from typing import TYPE_CHECKING

import cmemd.moved  # noqa: F401  old import paths
from cmemd.version import __version__

if TYPE_CHECKING:  # type checkers do not follow __getattr__ below
    from cmemd.config import add_cmemd_config as add_cmemd_config
    from cmemd.config import load_config as load_config
    from cmemd.data.llcm import LLCM as LLCM
    from cmemd.data.own import Own as Own
    from cmemd.data.regdb import RegDB as RegDB
    from cmemd.data.sysu_mm01 import SYSUMM01 as SYSUMM01
    from cmemd.engine.trainer import Trainer as Trainer
    from cmemd.evaluation.features_file import read_features as read_features
    from cmemd.evaluation.protocols import get_protocol as get_protocol
    from cmemd.evaluation.scoring import score as score
    from cmemd.gallery.table import create_gallery as create_gallery
    from cmemd.gallery.table import open_gallery as open_gallery
    from cmemd.inference.frames import FrameEncoder as FrameEncoder
    from cmemd.inference.frames import reid_backbone as reid_backbone
    from cmemd.inference.predictor import Predictor as Predictor
    from cmemd.inference.zoo import load_pretrained as load_pretrained
    from cmemd.losses.cm_dl import cm_dl_loss as cm_dl_loss
    from cmemd.losses.cm_emd import cm_emd_loss as cm_emd_loss
    from cmemd.losses.cm_emd import ground_cost as ground_cost
    from cmemd.losses.transport import exact_plan as exact_plan
    from cmemd.losses.transport import sinkhorn_plan as sinkhorn_plan
    from cmemd.modeling.cmemd_net import CMEMDNet as CMEMDNet

_PUBLIC = {
    # with fast-reid
    "add_cmemd_config": "cmemd.config",
    "load_config": "cmemd.config",
    "Trainer": "cmemd.engine.trainer",
    "CMEMDNet": "cmemd.modeling.cmemd_net",
    "SYSUMM01": "cmemd.data.sysu_mm01",
    "RegDB": "cmemd.data.regdb",
    "LLCM": "cmemd.data.llcm",
    "Own": "cmemd.data.own",
    # with torch
    "exact_plan": "cmemd.losses.transport",
    "sinkhorn_plan": "cmemd.losses.transport",
    "ground_cost": "cmemd.losses.cm_emd",
    "cm_emd_loss": "cmemd.losses.cm_emd",
    "cm_dl_loss": "cmemd.losses.cm_dl",
    # with NumPy
    "score": "cmemd.evaluation.scoring",
    "read_features": "cmemd.evaluation.features_file",
    "get_protocol": "cmemd.evaluation.protocols",
    # with LanceDB
    "create_gallery": "cmemd.gallery.table",
    "open_gallery": "cmemd.gallery.table",
    # with ONNX Runtime, or with PyTorch
    "Predictor": "cmemd.inference.predictor",
    "load_pretrained": "cmemd.inference.zoo",
    "FrameEncoder": "cmemd.inference.frames",
    # with PyTorch
    "reid_backbone": "cmemd.inference.frames",
}
_FACES_FASTREID = {
    "add_cmemd_config",
    "load_config",
    "Trainer",
    "CMEMDNet",
    "SYSUMM01",
    "RegDB",
    "LLCM",
    "Own",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _FACES_FASTREID:
        importlib.import_module("cmemd.plugin")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
