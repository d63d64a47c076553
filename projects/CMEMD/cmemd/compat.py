"""Makes fast-reid 1.4.0 run on current Python and PyTorch, and on machines without CUDA.

Importing this module applies every adaptation that this machine needs, and no other. Each one says
why it is there and when it can go. fast-reid is adapted from outside and never edited. Without its
adaptation, each part is broken or, as noted, silently does nothing.

Modules that face fast-reid import this one before ``fastreid``.
"""

import collections
import collections.abc
import functools
import importlib.machinery
import importlib.util
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

# PyTorch's CPU threads spin at every barrier; beside one other busy process, a loader's worker
# say, a step then takes up to thirty times as long. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch  # noqa: E402
from torch.distributed import ProcessGroup  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from cmemd.errors import MissingDependencyError  # noqa: E402

__all__ = ["set_local_group"]

logger = logging.getLogger(__name__)

_KEPT_ALIVE: list[torch.library.Library] = []  # a schema goes away with its library object


def set_local_group(group: ProcessGroup) -> None:
    """Tell fast-reid the process group of this machine.

    ``comm.get_local_rank`` reads a global that only fast-reid's own launcher sets, and asserts
    without it. Goes away when fast-reid starts under torchrun.

    Args:
        group: the processes on this machine.
    """
    from fastreid.utils import comm

    comm._LOCAL_PROCESS_GROUP = group


def _require_fastreid() -> None:
    """fast-reid is not a dependency that pip could install: its pins contradict ours."""
    if importlib.util.find_spec("fastreid") is None:
        raise MissingDependencyError(
            "cmemd extends fast-reid, which is not installed: "
            "run `pip install --no-deps fastreid==1.4.0`, or put a fast-reid checkout on PYTHONPATH"
        )


def _provide_collections_mapping() -> None:
    """fast-reid imports ``collections.Mapping``, which Python 3.10 removed.

    Goes away when fast-reid imports it from ``collections.abc``.
    """
    if not hasattr(collections, "Mapping"):
        vars(collections)["Mapping"] = collections.abc.Mapping


def _provide_torch_six() -> None:
    """fast-reid imports ``torch._six.string_classes``; PyTorch 2 has no such module.

    Goes away when fast-reid uses ``(str, bytes)``.
    """
    if importlib.util.find_spec("torch._six") is None:
        six = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("torch._six", None))
        vars(six)["string_classes"] = (str, bytes)
        sys.modules["torch._six"] = six


def _import_torchvision() -> None:
    """torchvision refuses to import where its compiled operators do not load.

    This happens with its PyPI wheel and a CPU build of torch. fast-reid needs only its transforms.
    So this function declares the operators that the import looks up, without a kernel.
    Goes away when torchvision imports without its operators.
    """
    schema = "{}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for _ in range(3):  # the import asks for one operator after the other: nms, then qnms
        try:
            importlib.import_module("torchvision")
            return
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(q?nms) does not exist", str(error))
            if missing is None:
                raise
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(schema.format(missing[1]))
            _KEPT_ALIVE.append(library)
            for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
                del sys.modules[name]
    importlib.import_module("torchvision")


class _HostDataLoader(DataLoader[Any]):
    """A plain DataLoader that takes, and ignores, DataLoaderX's device number."""

    def __init__(self, local_rank: int, **kwargs: Any) -> None:
        kwargs["pin_memory"] = False
        super().__init__(**kwargs)


def _load_without_cuda_stream() -> None:
    """DataLoaderX creates a CUDA stream, which fails on a machine without CUDA.

    Goes away when fast-reid chooses its loader by the device.
    """
    if not torch.cuda.is_available():
        from fastreid.data import build

        build.DataLoaderX = _HostDataLoader


class _HostDataParallel(DistributedDataParallel):
    """DistributedDataParallel that ignores the device number it is given."""

    def __init__(self, module: torch.nn.Module, device_ids: object, **kwargs: Any) -> None:
        super().__init__(module, **kwargs)


def _distribute_without_cuda() -> None:
    """DefaultTrainer gives DistributedDataParallel a CUDA device, which a CPU module refuses.

    Goes away when fast-reid does so for CUDA modules only.
    """
    if not torch.cuda.is_available():
        from fastreid.engine import defaults

        defaults.DistributedDataParallel = _HostDataParallel


def _zero_gradients_in_place() -> None:
    """Without this fast-reid's own trainer silently stops updating anything on PyTorch 2.

    ``build_optimizer`` hands the optimizer one flat buffer whose ``.grad`` is a buffer too, into
    which the parameters' gradients are views. Since PyTorch 2.0 ``zero_grad()`` drops ``.grad``
    instead of zeroing it: the optimizer then sees no gradient, and the views add up for ever.
    Goes away when fast-reid calls ``zero_grad(set_to_none=False)``.
    """
    from fastreid import solver
    from fastreid.engine import defaults
    from fastreid.utils.params import ContiguousParams

    original = solver.build_optimizer
    if getattr(original, "zeroes_in_place", False):
        return

    @functools.wraps(original)
    def build_optimizer(*args: object, **kwargs: object) -> tuple[Any, Any]:
        optimizer, params = original(*args, **kwargs)
        if isinstance(params, ContiguousParams):
            optimizer.zero_grad = functools.partial(optimizer.zero_grad, set_to_none=False)
        return optimizer, params

    vars(build_optimizer)["zeroes_in_place"] = True
    solver.build_optimizer = defaults.build_optimizer = build_optimizer


def _survive_failed_compilation() -> None:
    """ReidEvaluator compiles an extension with ``make`` and ends the process where it cannot.

    It needs ``python3`` on PATH, Cython and a C compiler. Its ranking has a Python version too,
    which this function uses where compiling fails. Goes away when fast-reid does so itself.
    """
    from fastreid.evaluation import reid_evaluation

    original: Callable[[], None] = reid_evaluation.compile_helper
    if getattr(original, "survives", False):
        return

    @functools.wraps(original)
    def compile_helper() -> None:
        path = os.environ.get("PATH", "")
        os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + path
        try:
            original()
        except (SystemExit, OSError):
            logger.warning(
                "fast-reid's ranking extension cannot be compiled (it takes Cython, make and a C "
                "compiler): its Python version, slower but equal, is used"
            )
        finally:
            os.environ["PATH"] = path

    vars(compile_helper)["survives"] = True
    reid_evaluation.compile_helper = compile_helper


def _print_an_iteration_once() -> None:
    """Runs of one or two iterations end in a division by zero in fast-reid's console writer.

    The trainer calls it after the last step and again after the epoch. Before the third iteration
    it divides by the iterations in between. Goes away when fast-reid guards that.
    """
    from fastreid.utils.events import CommonMetricPrinter, get_event_storage

    original = CommonMetricPrinter.write
    if getattr(original, "prints_once", False):
        return

    @functools.wraps(original)
    def write(self: CommonMetricPrinter) -> None:
        if self._last_write is None or self._last_write[0] != get_event_storage().iter:
            original(self)

    vars(write)["prints_once"] = True
    CommonMetricPrinter.write = write


def _silence_known_warnings() -> None:
    """fast-reid's use of deprecated names would hide warnings that matter; matched by message.

    Each goes away with the line of fast-reid that causes it.
    """
    for message in (
        r".*torch\.cuda\.amp\.(GradScaler|autocast)\(.*\)` is deprecated",
        r".*TypedStorage is deprecated",
        r"`broadcast_buffers` is deprecated",
        r"Cython rank evaluation \(very fast so highly recommended\)",
        r".*lr_scheduler\.step\(\)` before `optimizer\.step\(\)`",  # steps are in the right order
        r".*'pin_memory' argument is set as true but no accelerator",
        r"Failed to load image Python extension",  # torchvision.io, which nothing here uses
    ):
        warnings.filterwarnings("ignore", message=message)


def _apply() -> None:
    _silence_known_warnings()
    _require_fastreid()
    _provide_collections_mapping()
    _provide_torch_six()
    _import_torchvision()
    _load_without_cuda_stream()
    _distribute_without_cuda()
    _zero_gradients_in_place()
    _survive_failed_compilation()
    _print_an_iteration_once()


_apply()
