"""Run each neighbour's check in an environment of its own: `make test-neighbours`.

What cannot be installed is skipped with a message; a check that fails makes the status 1.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# The script of each environment, and what it needs beside cmemd[serve].
ENVIRONMENTS = {
    "open_source": ["supervision", "reid", "openvino", "huggingface_hub"],
    "agpl": ["ultralytics", "boxmot", "onnx"],
}
TORCH = ["torch==2.13.0", "torchvision==0.28.0"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    args = parser.parse_args()
    args.environments.mkdir(parents=True, exist_ok=True)
    # Exported each time, since the weights or the export may have changed since the last.
    with tempfile.TemporaryDirectory(dir=args.environments) as folder:
        model = Path(folder, "model")
        export = [sys.executable, "-m", "cmemd", "export", "--config", "demo"]
        export += ["--weights", str(args.weights), "--output", str(model), "--formats"]
        export += ["onnx", "torch-export", "onnx-nchw", "onnx-nchw-any"]
        subprocess.run([*export, "--modality", "visible", "thermal"], check=True)
        return check(args.environments, model)


def check(environments: Path, model: Path) -> int:
    """Return 1 if a neighbour's numbers differ from ours, else 0."""
    failed = []
    for name, packages in ENVIRONMENTS.items():
        python = environments / name / "bin/python"
        if not python.exists():
            venv.create(environments / name, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        if subprocess.run([*pip, *TORCH, *packages, f"{ROOT}[serve]"], check=False).returncode:
            print(f"skipped: {', '.join(packages)}, which cannot be installed here")
            continue
        environment = {**os.environ, "YOLO_OFFLINE": "1"}
        script = [python, "-W", "ignore", HERE / f"{name}.py", model]
        if subprocess.run(script, env=environment, check=False).returncode:
            failed.append(name)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
