"""What comes with the wheel: the demo's model and images, and the configurations."""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import CONFIGS, REPOSITORY, TINY
from tests.docs.test_pages import fenced, text_of

from cmemd import load_pretrained
from cmemd.config_file import config_names, find_config, read_config_file
from cmemd.errors import InputError
from cmemd.inference.test_vector import check_folder

FIVE_LINES = fenced(text_of(REPOSITORY / "README.md"), "python")[0]
# Percent [chosen]: half precision, and another machine's rounding in the training.
TOLERANCE = 1.0


def test_the_demo_model_embeds_its_own_images_without_training():
    predictor = load_pretrained("demo")
    assert (predictor.folder.path / "model.fp16.onnx").stat().st_size < 3e6
    measured = check_folder(predictor.folder)
    assert len(measured) == 2
    assert all(m.passes for m in measured)
    assert "drawn" in predictor.folder.document["training"]["licence"]


def test_the_five_lines_of_the_readme_embed_the_two_images(capsys):
    assert len([line for line in FIVE_LINES.splitlines() if line]) == 5
    scope = {}
    exec(FIVE_LINES, scope)
    assert scope["visible"].shape == scope["thermal"].shape == (1, scope["model"].size)
    assert -1 <= float(capsys.readouterr().out) <= 1


def test_the_demo_model_carries_the_metrics_that_the_docs_print():
    scores = load_pretrained("demo").folder.document["results"]["scores"]
    lines = text_of(REPOSITORY / "docs/demo.md").splitlines()
    for score in scores:
        row = next(line for line in lines if f"`{score['protocol']}` | trained" in line)
        printed = float(row.split("|")[3].split("±")[0])
        assert abs(printed - score["mean"]["rank1"]) < TOLERANCE, score["protocol"]


@pytest.mark.slow
def test_the_demo_model_is_what_make_demo_trains(tmp_path, monkeypatch, train_net):
    """Draws, trains and tests as `make demo` does, unless it has done so here; minutes."""
    from cmemd import load_config
    from cmemd.engine.provenance import Weights
    from cmemd.export.evaluate import evaluate_model
    from cmemd.export.formats import by_onnxruntime
    from cmemd.standin import draw_sysu

    log, data = REPOSITORY / "logs/demo", REPOSITORY / "datasets/demo"
    if not (log / "results.json").is_file():
        log, data = tmp_path / "log", tmp_path / "data"
        draw_sysu(data / "SYSU-MM01", ids=200, per_camera=8, size=(128, 64), seed=0)
        monkeypatch.setenv("FASTREID_DATASETS", str(data))
        assert train_net(tiny=False, OUTPUT_DIR=log)[0] == 0
    monkeypatch.setenv("FASTREID_DATASETS", str(data))
    weights = Weights.read(log / "model_final.pth")
    shipped = by_onnxruntime(load_pretrained("demo").folder.path / "model.fp16.onnx")
    found = evaluate_model(shipped, load_config(CONFIGS / "demo.yml"), weights)
    trained = json.loads((log / "results.json").read_text())
    for mine, its in zip(found["scores"], trained["scores"], strict=True):
        for metric in ("rank1", "mAP"):
            difference = abs(mine["mean"][metric] - its["mean"][metric])
            assert difference < TOLERANCE, (mine["protocol"], metric, difference)


def test_a_configuration_is_found_by_name_and_by_path(tmp_path, monkeypatch):
    assert {"demo", "sysu", "regdb", "llcm", "ablations/uniform"} <= set(config_names())
    assert not any("Base" in name for name in config_names())
    assert Path(find_config("demo")).samefile(CONFIGS / "demo.yml")
    assert find_config("") == ""
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("SEED: 7")
    assert find_config("demo") == "demo"  # a file comes first
    for name in ("nothing", "../configs/demo", "Base-CMEMD.yml"):
        with pytest.raises(InputError, match="no file: --config-file names a yaml, or one that"):
            find_config(name)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The package's wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(folder)]
    subprocess.run([*build, str(REPOSITORY)], check=True)
    (found,) = folder.glob("*.whl")
    return found


def install(folder: Path, *installs: tuple[str, ...]) -> Callable[..., str]:
    """Makes an environment, and returns what runs its commands in a folder without a checkout."""
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv/bin"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "FASTREID"))}

    def run(program: str, *words: str, timeout: float = 60) -> str:
        options = {"env": clean, "cwd": folder, "timeout": timeout, "check": False}
        done = subprocess.run(
            [str(programs / program), *words], capture_output=True, text=True, **options
        )
        assert done.returncode == 0, (words, done.stderr[-2000:])
        return done.stdout

    for words in installs:
        run("python", "-m", "pip", "install", "--quiet", *words, timeout=900)
    return run


@pytest.mark.slow
def test_the_wheel_in_a_fresh_environment(tmp_path, wheel):
    """No checkout: the configurations, the commands, and five lines within ten seconds."""
    run = install(tmp_path, (f"{wheel}[serve]",))
    assert -1 <= float(run("python", "-c", FIVE_LINES, timeout=10)) <= 1
    assert "model.fp16.onnx" in run("cmemd", "verify", "demo")
    for command in ("train", "export"):
        assert "--config" in run("cmemd", command, "--help")
    # fast-reid is not there, so the file is read as the configuration's reader does.
    program = "from cmemd.config_file import find_config; print(find_config('demo'))"
    path = run("python", "-c", program).strip()
    assert path.startswith(str(tmp_path / "venv"))
    packaged, ours = (read_config_file(file) for file in (path, CONFIGS / "demo.yml"))
    assert [entry[:2] for entry in packaged] == [entry[:2] for entry in ours]


@pytest.mark.slow
def test_the_wheel_trains_exports_and_searches(tmp_path, wheel):
    """From drawn people to a search and a study, by the two lines of docs/install.md."""
    extras = ("-c", str(REPOSITORY / "constraints.txt"), f"{wheel}[train,export,serve,headless]")
    run = install(tmp_path, extras, ("--no-deps", "fastreid==1.4.0"))
    where = run("python", "-c", "import cmemd; print(cmemd.__file__)")
    assert where.startswith(str(tmp_path / "venv"))
    run("cmemd", "synth", "--layout", "own", "--root", "crops", "--ids", "12", "--size", "48x24")
    keys = [word for pair in TINY.items() for word in pair]
    keys += ["SOLVER.IMS_PER_BATCH", "16", "DATASETS.OWN.FOLDER", str(tmp_path / "crops")]
    keys += ["DATASETS.NAMES", "('Own',)", "DATASETS.TESTS", "('Own',)"]
    keys += ["TEST.PROTOCOLS", "('own-t2v',)"]
    run("cmemd", "train", "--config-file", "demo", *keys, "OUTPUT_DIR", "run", timeout=300)
    weights = ["--config", "run/config.yaml", "--weights", "run/model_final.pth"]
    run("cmemd", "export", *weights, "--output", "model", timeout=300)
    model = ["--model", "model", "--modality"]
    run("cmemd", "embed", *model, "visible", "--images", "crops/visible", "--gallery", "gallery")
    search = ["--image", "crops/thermal/p0001", "--gallery", "gallery", "--top", "3"]
    assert "crops/visible/" in run("cmemd", "search", *model, "thermal", *search)
    (tmp_path / "baseline.yml").write_text("_BASE_: run/config.yaml\n")
    study = ["--configs", "baseline.yml", "--seeds", "0", "--output", "study"]
    assert "baseline" in run("cmemd", "ablate", *study, timeout=300)
    assert (tmp_path / "study/baseline/seed-0/model_final.pth").is_file()
