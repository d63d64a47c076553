"""Measure size and speed of exported models: how modality enters the graph, and ONNX Runtime.

    python tests/benchmarks/bm_export.py [--config-file F] [--batch 32] [--rounds 5]

It compares three graphs of one random network. The exported graph routes each row to its
modality's stem. Another runs both stems on every row and chooses. The third is one graph per
modality, which cannot take a mixed batch. Eager PyTorch on the same images is the reference.
Batches have one modality, as when a folder is embedded, or both. Rounds alternate between all
graphs, so that a busy machine slows all alike. A time is the median over rounds, and a ratio the
median of the rounds' ratios.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from operator import truediv
from pathlib import Path

import cmemd.plugin  # noqa: F401  before torch and fastreid

import numpy as np
import torch
from fastreid.modeling.meta_arch import build_model
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn import functional

from cmemd import load_config
from cmemd.data.modality import Modality
from cmemd.export.formats import by_onnxruntime, trace, write_onnx
from cmemd.export.network import inference_config
from cmemd.export.parity import by_training_network
from cmemd.export.wrapper import EmbeddingGraph


class BothStems(EmbeddingGraph):
    """A graph that runs both stems on every row."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._network = (_Chosen(network, _either),)


class OneStem(EmbeddingGraph):
    """A graph of one modality, which ignores the modalities of its batches."""

    def __init__(self, network: nn.Module, modality: Modality) -> None:
        super().__init__(network)
        self._network = (_Chosen(network, lambda stems, x, m: stems[modality](x)),)
        for name in [
            n for n in self._flat if n.startswith(f"network.backbone.stems.{1 - modality}")
        ]:
            delattr(self, self._flat.pop(name))


class _Chosen(nn.Module):
    """The graph with another path through the stems."""

    def __init__(self, network: nn.Module, stem: Callable) -> None:
        super().__init__()
        self.network, self.stem = network, stem

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        network, backbone = self.network, self.network.backbone
        floats = images.permute(0, 3, 1, 2).to(torch.float32)
        shallow = self.stem(
            backbone.stems, (floats - network.pixel_mean) / network.pixel_std, modalities
        )
        outputs = network.heads(*backbone.after_stems(shallow))
        return functional.normalize(network.heads.embed(outputs), dim=-1)


def _either(stems: nn.ModuleList, images: Tensor, modalities: Tensor) -> Tensor:
    thermal = (modalities == Modality.THERMAL)[:, None, None, None]
    return torch.where(thermal, stems[Modality.THERMAL](images), stems[Modality.VISIBLE](images))


def main() -> None:
    """Print sizes, then times by batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", default="projects/CMEMD/configs/demo.yml")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    opts = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"]
    cfg = inference_config(load_config(args.config_file, opts))
    network = build_model(cfg).eval().requires_grad_(False)
    size = cfg.INPUT.SIZE_TEST
    graphs = {
        "routed rows": EmbeddingGraph(network),
        "both stems": BothStems(network),
        "visible only": OneStem(network, Modality.VISIBLE),
    }
    runs = {"eager PyTorch": by_training_network(network)}
    with tempfile.TemporaryDirectory() as folder:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.config_file}")
        for name, graph in graphs.items():
            path = Path(folder, f"{name}.onnx")
            write_onnx(trace(graph, *size), path)
            note = ", and as much for the other modality" if name == "visible only" else ""
            print(f"{name}: {path.stat().st_size / 1e6:.2f} MB{note}", flush=True)
            runs[name] = by_onnxruntime(path)
    images = np.random.default_rng(0).integers(0, 256, (args.batch, *size, 3), np.uint8)
    batches = {
        "one modality": np.zeros(args.batch, dtype=np.int64),
        "mixed": np.arange(args.batch) % 2,
        "a single image": np.zeros(1, dtype=np.int64),
    }
    for kind, modalities in batches.items():
        names = [name for name in runs if kind != "mixed" or name != "visible only"]
        rounds = _rounds({n: runs[n] for n in names}, images[: len(modalities)], modalities, args)
        rows = [
            [
                name,
                f"{1e3 * statistics.median(rounds[name]):.1f}",
                f"{statistics.median(map(truediv, rounds['eager PyTorch'], rounds[name])):.2f}",
            ]
            for name in names
        ]
        print(f"\n{kind}, {len(modalities)} images")
        print(tabulate(rows, ["", "ms", "times eager's speed"], disable_numparse=True), flush=True)


def _rounds(runs, images, modalities, args) -> dict[str, list[float]]:
    """Return seconds of each run in each round, after a warm-up round."""
    seconds = {name: [] for name in runs}
    for _ in range(args.rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run(images, modalities)
            seconds[name].append(time.perf_counter() - start)
    return {name: spent[1:] for name, spent in seconds.items()}


if __name__ == "__main__":
    main()
