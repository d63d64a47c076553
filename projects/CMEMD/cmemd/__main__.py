"""``python -m cmemd``: the same as ``cmemd``."""

import sys

try:
    from cmemd.cli.main import main
except KeyboardInterrupt:  # before anything of ours could take it
    sys.exit(130)

sys.exit(main())
