"""docs/deploy.md does what it says, command by command."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import REPOSITORY

from cmemd import Predictor

TEXT = (REPOSITORY / "docs" / "deploy.md").read_text()
COMMANDS = re.search(r"```bash\n(.*?)```", TEXT, re.DOTALL)[1].splitlines()
EXAMPLE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[1]


def test_there_are_six_commands_and_twenty_lines():
    assert len(COMMANDS) == 6
    assert len([line for line in EXAMPLE.splitlines() if line]) <= 20


@pytest.mark.slow
def test_the_page_as_printed(tmp_path, monkeypatch):
    for name in ("tools", "projects", "configs"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    outputs = [
        subprocess.run(
            ["bash", "-c", command],
            env=os.environ | {"PATH": path},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for command in COMMANDS
    ]
    assert "rows" in outputs[4]
    assert "visible" in outputs[5]
    with Image.open("logs/tiny/sheet.png") as sheet:
        assert sheet.format == "PNG"
    image = next(Path("datasets/tiny/SYSU-MM01/cam3").glob("*/0001.jpg"))
    scope = {}
    exec(EXAMPLE, scope)
    mine = scope["embed"](image, 1)
    ours = Predictor("logs/tiny/model").embed([image], "thermal")[0]
    np.testing.assert_array_equal(mine, ours)
    assert abs(np.linalg.norm(mine) - 1) < 1e-5
