"""Search: a gallery is a LanceDB table of embeddings; exact search goes through faiss.

Importing this package loads neither torch nor fast-reid.
"""

from importlib.util import find_spec

from cmemd.errors import MissingDependencyError

_missing = [name for name in ("faiss", "lancedb", "pyarrow") if find_spec(name) is None]
if _missing:
    raise MissingDependencyError(
        f"expected the packages that galleries need, got an installation without "
        f"{', '.join(_missing)}: pip install 'cmemd[serve]'"
    )
