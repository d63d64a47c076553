"""A tiny trained-looking network, its checkpoint and its model folder."""

from pathlib import Path

import cmemd.plugin  # noqa: F401  before torch and fastreid

import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from tests.conftest import CONFIGS, TINY

from cmemd import load_config
from cmemd.engine.checkpoint import WholeCheckpointer
from cmemd.export.folder import export_model
from cmemd.export.images import drawn_probes
from cmemd.export.parity import by_training_network

SIZE = (64, 32)
OPTIONS = TINY | {"INPUT.SIZE_TEST": str(list(SIZE))}


def options(**keys: object) -> list[str]:
    """OPTIONS and others, as KEY VALUE pairs; dots or double underscores."""
    changed = OPTIONS | {name.replace("__", "."): str(value) for name, value in keys.items()}
    return [word for pair in changed.items() for word in pair]


def tiny_config(**keys: object):
    """demo.yml, narrower."""
    return load_config(CONFIGS / "demo.yml", options(**keys))


def scramble(network: torch.nn.Module) -> torch.nn.Module:
    """Give a new network statistics and powers that all differ, as training would."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if name.endswith(("running_var", "bn1.weight", "bn2.weight", "bottleneck.weight")):
            tensor.data.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("running_mean", "logits")):
            tensor.data.uniform_(-0.5, 0.5, generator=generator)
        elif "stems.1" in name and tensor.ndim == 4:
            tensor.data.mul_(1.1).add_(0.01)
    return network


def settle(network: torch.nn.Module) -> torch.nn.Module:
    """Give a network the statistics of drawn people, as training would."""
    network.eval()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.train().momentum = 1
    probes = drawn_probes(*SIZE)
    by_training_network(network)(probes.images, probes.modalities)
    return network.eval()


def save_checkpoint(folder: Path, **keys: object) -> Path:
    """A checkpoint of a tiny network with twelve classes, without a training record."""
    torch.manual_seed(0)
    network = settle(scramble(build_model(tiny_config(MODEL__HEADS__NUM_CLASSES=12, **keys))))
    folder.mkdir(exist_ok=True)
    WholeCheckpointer(network, str(folder)).save("model_final", epoch=0)
    return folder / "model_final.pth"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network's checkpoint."""
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def model_folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its model folder in all formats, exported where no data set is."""
    root = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(root / "nowhere"))
        export_model(tiny_config(), checkpoint, root / "tiny")
    return root / "tiny"
