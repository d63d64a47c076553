"""Which packages galleries need, and when."""

import importlib.util
import subprocess
import sys

import pytest

from cmemd.errors import MissingDependencyError
from cmemd.gallery.table import create_gallery, open_gallery

PROGRAM = """
import sys
absent = ("torch", "torchvision", "fastreid", "yacs", "cv2")
sys.modules.update(dict.fromkeys(absent))
import pkgutil, cmemd.gallery, cmemd.evaluation.open_set
from cmemd.inference import Predictor
for module in pkgutil.iter_modules(cmemd.gallery.__path__, "cmemd.gallery."):
    __import__(module.name)
loaded = {"faiss", "lancedb", "pyarrow", "scipy", "matplotlib", "pandas"} & set(sys.modules)
assert not loaded, loaded
import numpy as np
from cmemd.data.modality import Modality
from cmemd.gallery.rows import make_rows
from cmemd.gallery.search import find_matches
from cmemd.gallery.sources import Source
from cmemd.gallery.table import create_gallery
vectors = np.eye(3, 4, dtype=np.float32)
with create_gallery(sys.argv[1], "model", 4) as gallery:
    sources = [Source(name) for name in "abc"]
    gallery.add_rows(make_rows(sources, vectors, Modality.VISIBLE, "model"))
    print(find_matches(gallery, vectors[:1], 1)[0][0].path)
loaded = {"scipy", "matplotlib", "pandas"} & set(sys.modules)
assert not loaded, loaded
"""


def test_modules_load_alone_and_galleries_need_neither_torch_nor_fastreid(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "g")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("a\n", "")


def test_a_missing_package_is_named_when_a_gallery_is_opened(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "lancedb" else find(name)
    )
    message = r"got an installation without lancedb: pip install 'cmemd\[serve\]'"
    with pytest.raises(MissingDependencyError, match=message), open_gallery(tmp_path / "g"):
        pass
    with (
        pytest.raises(MissingDependencyError, match=message),
        create_gallery(tmp_path / "g", "model", 4),
    ):
        pass
    assert not (tmp_path / "g").exists()
