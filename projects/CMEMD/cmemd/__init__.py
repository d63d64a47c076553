"""CM-EMD: visible-thermal person re-identification with fast-reid.

Importing this package loads neither torch nor fast-reid, so that commands which need neither
start at once. Whatever faces fast-reid is reached as an attribute of it, and the first such use
registers the plugin with fast-reid::

    from fastreid.config import get_cfg
    from cmemd import add_cmemd_config

    cfg = get_cfg()
    add_cmemd_config(cfg)
"""

import importlib

from cmemd.version import __version__

_FACES_FASTREID = {
    "add_cmemd_config": "cmemd.config",
    "load_config": "cmemd.config",
    "Trainer": "cmemd.engine.trainer",
    "CMEMDNet": "cmemd.modeling.cmemd_net",
    "SYSUMM01": "cmemd.data.sysu_mm01",
}

__all__ = ["__version__", *_FACES_FASTREID]


def __getattr__(name: str) -> object:
    """Imports the plugin, then the attribute asked for (PEP 562)."""
    if name not in _FACES_FASTREID:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module("cmemd.plugin")
    return getattr(importlib.import_module(_FACES_FASTREID[name]), name)


def __dir__() -> list[str]:
    return __all__
