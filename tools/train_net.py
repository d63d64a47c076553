#!/usr/bin/env python
"""Trains and evaluates, with the habits of fast-reid's own train_net.py.

Training, evaluation, and training by several processes::

    python tools/train_net.py --config-file projects/CMEMD/configs/sysu.yml [KEY VALUE ...]
    python tools/train_net.py --config-file ... --eval-only MODEL.WEIGHTS logs/sysu/model_final.pth
    torchrun --nproc-per-node 2 tools/train_net.py --config-file ...
"""

import argparse

from cmemd.errors import readable_errors

with readable_errors():  # fast-reid may be missing
    import cmemd.plugin  # noqa: F401  only registration

    from fastreid.engine import default_argument_parser

    from cmemd.engine import evaluate, train
    from cmemd.launch import launch, setup


def main(args: argparse.Namespace) -> None:
    """One process's run."""
    with readable_errors():
        cfg = setup(args)
        if args.eval_only:
            evaluate(cfg)
        else:
            train(cfg, resume=args.resume)


if __name__ == "__main__":
    with readable_errors():
        launch(main, default_argument_parser().parse_args())
