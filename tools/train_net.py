#!/usr/bin/env python
"""Train and evaluate, with the habits of fast-reid's own train_net.py; `cmemd train` is the same.

Training, evaluation, training by several processes, and RegDB's ten trials with their average::

    python tools/train_net.py --config-file projects/CMEMD/configs/sysu.yml [KEY VALUE ...]
    python tools/train_net.py --config-file ... --eval-only MODEL.WEIGHTS logs/sysu/model_final.pth
    python tools/train_net.py --config-file ... --num-gpus 2
    torchrun --nproc-per-node 2 tools/train_net.py --config-file ...
    python tools/train_net.py --config-file projects/CMEMD/configs/regdb.yml --trials 1-10
"""

import argparse

from cmemd.cli import train
from cmemd.cli.overrides import OverridesParser
from cmemd.errors import readable_errors


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments; overrides may stand anywhere."""
    arguments = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    train.add_arguments(arguments)
    return arguments


if __name__ == "__main__":
    with readable_errors():
        train.run(parser().parse_args())
