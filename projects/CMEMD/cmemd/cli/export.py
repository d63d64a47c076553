"""``cmemd export``: write a checkpoint as a model folder, as tools/export_model.py does."""

import argparse
import logging
import warnings
from pathlib import Path

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write a checkpoint as a model folder; the same as tools/export_model.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--config-file",
        "--config",
        required=True,
        metavar="F",
        help="the yaml with which the weights were trained, or the name of one that comes with the "
        "package, such as demo",
    )
    parser.add_argument("--weights", required=True, type=Path, metavar="W", help="a checkpoint")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="the new model folder"
    )
    parser.add_argument(
        "--formats",
        nargs="+",
        default=["safetensors", "torch-export", "onnx"],
        metavar="NAME",
        help="safetensors (always written), torch-export, onnx (default: these three), and "
        "onnx-nchw, one input of floats for one --modality, which other tools' trackers take",
    )
    parser.add_argument(
        "--modality",
        nargs="+",
        choices=["visible", "thermal"],
        default=[],
        metavar="M",
        help="of the graphs of onnx-nchw: visible, thermal or both",
    )
    parser.add_argument("--half", action="store_true", help="also write ONNX in half precision")
    parser.add_argument(
        "--int8", action="store_true", help="also write ONNX with 8-bit convolutions"
    )
    parser.add_argument(
        "--slim",
        action="store_true",
        help="keep of the graphs and weights those of --half and --int8 alone",
    )
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="score the network, and --half and --int8, on the test set for the model card",
    )
    parser.add_argument(
        "--agw",
        metavar="POOLING",
        help="the weights are of the released AGW code: average for its --method base, gem for its "
        "gm_pool",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="configuration overrides")


def run(args: argparse.Namespace) -> int:
    """Export, print what was measured, and return the exit status."""
    from cmemd import load_config
    from cmemd.export.folder import export_model

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    # PyTorch's own exporter copies its deprecated classes.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    report = export_model(
        load_config(args.config_file, args.opts),
        args.weights,
        args.output,
        formats=args.formats,
        variants=[name for name in ("half", "int8") if getattr(args, name)],
        modalities=args.modality,
        slim=args.slim,
        evaluate=args.evaluate,
        agw=args.agw,
    )
    print(f"{report}\nwrote {args.output}")
    return 0
