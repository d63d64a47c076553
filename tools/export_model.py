#!/usr/bin/env python
"""Write a checkpoint as a model folder that needs neither fast-reid nor its configuration.

For example::

    python tools/export_model.py --config-file projects/CMEMD/configs/demo.yml \
        --weights logs/demo/model_final.pth --output models/demo [KEY VALUE ...]
    python tools/export_model.py ... --half --int8 --evaluate
    python tools/export_model.py --agw average --weights agw.t \
        --config-file projects/CMEMD/configs/ablations/agw_global.yml --output models/agw
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

from cmemd.cli.overrides import OverridesParser
from cmemd.errors import readable_errors


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    arguments = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--config-file",
        required=True,
        metavar="F",
        help="the yaml with which the weights were trained",
    )
    arguments.add_argument("--weights", required=True, type=Path, metavar="W", help="a checkpoint")
    arguments.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="the new model folder"
    )
    arguments.add_argument(
        "--formats",
        nargs="+",
        default=["safetensors", "torch-export", "onnx"],
        metavar="NAME",
        help="safetensors (always written), torch-export, onnx; default: all",
    )
    arguments.add_argument("--half", action="store_true", help="also write ONNX in half precision")
    arguments.add_argument(
        "--int8", action="store_true", help="also write ONNX with 8-bit convolutions"
    )
    arguments.add_argument(
        "--evaluate",
        action="store_true",
        help="score the network, and --half and --int8, on the test set for the model card",
    )
    arguments.add_argument(
        "--agw",
        metavar="POOLING",
        help="the weights are of the released AGW code: average for its --method base, gem for its "
        "gm_pool",
    )
    arguments.add_argument("opts", nargs="*", metavar="KEY VALUE", help="configuration overrides")
    return arguments


def main() -> None:
    """Export, and print what was measured."""
    with readable_errors():
        args = parser().parse_args()
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
            evaluate=args.evaluate,
            agw=args.agw,
        )
        sys.stdout.write(f"{report}\nwrote {args.output}\n")


if __name__ == "__main__":
    main()
