"""``python -m cmemd``: the same as ``cmemd``."""

import sys

from cmemd.cli.main import main

sys.exit(main())
