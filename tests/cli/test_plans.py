import json

import numpy as np
import pytest
from PIL import Image
from tests.study.test_plan_mass import by_view, stand_in

from cmemd.cli.main import main
from cmemd.evaluation.features_file import write_features


@pytest.fixture
def standin(tmp_path):
    """A stand-in's list of views, and features of it in folders of seeds."""
    for name, seeds in (("aware", (0, 1)), ("blind", (0,))):
        for seed in seeds:
            rng = np.random.default_rng(seed)
            feature = by_view if name == "aware" else lambda *_: rng.normal(size=6)  # noqa: B023
            samples, views = stand_in(feature, people=20)
            folder = tmp_path / name / f"seed-{seed}"
            folder.mkdir(parents=True)
            write_features(samples, folder / "features.npz")
    lines = [{}, *({"path": path, "view": view} for path, view in views.items())]
    (tmp_path / "meta.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_a_row_for_each_name_over_its_seeds(standin, capsys):
    features = [str(path) for path in sorted(standin.glob("*/*/features.npz"))]
    output = standin / "plans.png"
    words = ["plans", "--features", *features, "--standin", str(standin), "--images", "8"]
    assert main([*words, "--output", str(output)]) == 0
    aware, blind = capsys.readouterr().out.splitlines()[2:]
    # All eight images of each modality are in a plan, two of each view: views can be paired wholly.
    assert aware.split()[:5] == ["aware", "2", "100.000", "±", "0.000"]
    assert aware.split()[5] == blind.split()[5] == "25.000"
    assert blind.split()[:2] == ["blind", "1"]
    assert 15 < float(blind.split()[2]) < 35
    with Image.open(output) as image:
        assert image.format == "PNG"


def test_a_folder_without_a_stand_in_is_one_line(standin, capsys):
    (standin / "meta.jsonl").unlink()
    features = str(standin / "blind/seed-0/features.npz")
    with pytest.raises(SystemExit, match="2"):
        main(["plans", "--features", features, "--standin", str(standin)])
    assert "got no meta.jsonl" in capsys.readouterr().err
