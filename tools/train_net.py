#!/usr/bin/env python
"""Train and evaluate, with the habits of fast-reid's own train_net.py.

Training, evaluation, training by several processes, and RegDB's ten trials with their average::

    python tools/train_net.py --config-file projects/CMEMD/configs/sysu.yml [KEY VALUE ...]
    python tools/train_net.py --config-file ... --eval-only MODEL.WEIGHTS logs/sysu/model_final.pth
    python tools/train_net.py --config-file ... --num-gpus 2
    torchrun --nproc-per-node 2 tools/train_net.py --config-file ...
    python tools/train_net.py --config-file projects/CMEMD/configs/regdb.yml --trials 1-10
"""

import argparse

from cmemd.cli.overrides import OverridesParser
from cmemd.errors import readable_errors

with readable_errors():  # fast-reid may be missing
    import cmemd.plugin  # noqa: F401  only registration

    from fastreid.engine import default_argument_parser

    from cmemd.engine.launch import launch
    from cmemd.engine.setup import setup
    from cmemd.engine.testing import evaluate
    from cmemd.engine.trainer import train
    from cmemd.engine.trials import run_trials, start_process


def main(args: argparse.Namespace) -> None:
    """Run one process."""
    with setup(args) as start:
        if args.eval_only:
            evaluate(start.cfg, start.data.test, start.weights)
        else:
            train(start, resume=args.resume)


def parser() -> argparse.ArgumentParser:
    """Return a parser of fast-reid's arguments, and ours; overrides may stand anywhere."""
    arguments = OverridesParser(parents=[default_argument_parser()], add_help=False)
    arguments.add_argument(
        "--trials",
        metavar="1-10",
        help="RegDB: train and test these trials one after the other and average them; goes on "
        "where an interrupted command stopped",
    )
    arguments.add_argument(
        "--archive",
        action="store_true",
        help="start anew in a folder that holds a run: its files move to OUTPUT_DIR/archive-1, "
        "archive-2, ...",
    )
    return arguments


if __name__ == "__main__":
    with readable_errors():
        args = parser().parse_args()
        if args.trials:
            run_trials(args, start_process(__file__))
        else:
            launch(main, args)
