#!/usr/bin/env python
"""Write a checkpoint as a model folder that needs neither fast-reid nor its configuration.

`cmemd export` is the same. For example::

    python tools/export_model.py --config-file projects/CMEMD/configs/demo.yml \
        --weights logs/demo/model_final.pth --output models/demo [KEY VALUE ...]
    python tools/export_model.py ... --half --int8 --evaluate
    python tools/export_model.py ... --formats onnx onnx-nchw --modality thermal
    python tools/export_model.py --agw average --weights agw.t \
        --config-file projects/CMEMD/configs/ablations/agw_global.yml --output models/agw
"""

import argparse

from cmemd.cli import export
from cmemd.cli.overrides import OverridesParser
from cmemd.errors import readable_errors


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments; overrides may stand anywhere."""
    arguments = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    export.add_arguments(arguments)
    return arguments


if __name__ == "__main__":
    with readable_errors():
        export.run(parser().parse_args())
