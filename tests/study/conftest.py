"""A stand-in for the training script, and quick intervals."""

from pathlib import Path

import pytest

# Stands for tools/train_net.py: moves the prepared results into place, or crashes without any.
_SCRIPT = """
import json, pathlib, sys
words = sys.argv[1:]
folder = pathlib.Path(words[words.index("OUTPUT_DIR") + 1])
with (folder.parents[1] / "log.txt").open("a") as log:
    log.write(f"{folder.parent.name}/{folder.name}\\n")
waiting = folder / "waiting.json"
if not waiting.exists():
    sys.exit("crashed")
(folder / "results.json").write_text(waiting.read_text())
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(_SCRIPT)
    return path


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmemd.evaluation.bootstrap._RESAMPLES", 200)
