"""Which large packages a command imports: none that it does not use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.inference.one_matrix import WEIGHT, document, grey, noise, write_onnx

from cmemd.cli.main import main
from cmemd.inference.model_folder import write_model_document

FEATURES = Path(__file__).parents[1] / "golden/regdb_small/features.npz"
LARGE = {
    *("PIL", "cv2", "faiss", "fastreid", "jsonschema", "lancedb", "matplotlib", "numpy"),
    *("onnxruntime", "pandas", "pyarrow", "ray", "scipy", "simplejpeg", "sklearn", "torch"),
    *("torchvision", "yacs", "lance_namespace_urllib3_client.api"),
    "lance_namespace_urllib3_client.models.create_table_request",
}
PROGRAM = """
import json, sys
from cmemd.cli.main import main
try:
    main(sys.argv[2:])
except SystemExit as end:
    assert not end.code, end.code
with open(sys.argv[1], "w") as file:
    json.dump(sorted(sys.modules), file)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model, a gallery and a query."""
    monkeypatch.chdir(tmp_path)
    for name in ("model", "images"):
        Path(name).mkdir()
    Path("model/weights.safetensors").write_bytes(WEIGHT.tobytes())
    write_onnx(Path("model/model.onnx"))
    write_model_document(Path("model"), document())
    for number, image in enumerate(noise(3)):
        Image.fromarray(image).save(f"images/{number}.png")
    Image.fromarray(grey(1)[0]).save("query.png")
    common = ["--model", "model", "--modality", "visible", "--images", "images"]
    assert main(["embed", *common, "--gallery", "g"]) == 0
    return tmp_path


def test_a_command_imports_what_it_uses(here):
    search = "search --model model --modality thermal --image query.png --gallery g"
    used = {"PIL", "faiss", "jsonschema", "lancedb", "numpy", "onnxruntime", "pyarrow"}
    for words, expected in {
        "--help": set(),
        "search --help": set(),
        "score --help": set(),
        "embed --help": set(),
        f"score --protocol regdb-v2t --features {FEATURES}": {"numpy"},
        search: used | {"simplejpeg"},
    }.items():
        assert modules(words.split()) & LARGE == expected, words


def modules(words):
    """What a fresh process has imported at the end of a command."""
    subprocess.run(
        [sys.executable, "-c", PROGRAM, "modules.json", *words], check=True, capture_output=True
    )
    return set(json.loads(Path("modules.json").read_text()))


def test_what_a_lazy_class_stands_for_is_the_class():
    program = (
        "from cmemd.gallery.quick_lancedb import lancedb\n"
        "lancedb()\n"
        "import lance_namespace\n"
        "from lance_namespace import CreateTableRequest as Lazy\n"
        "made = Lazy(id=['a'])\n"
        "import lance_namespace_urllib3_client.models.create_table_request as home\n"
        "assert type(made) is home.CreateTableRequest\n"
        "assert isinstance(made, Lazy) and Lazy.model_fields\n"
        "assert type('Other', (home.CreateTableRequest,), {})\n"
        "class Derived(Lazy): pass\n"
        "assert issubclass(Derived, home.CreateTableRequest)\n"
        "import lance_namespace_urllib3_client as client\n"
        "assert client.ApiClient(client.Configuration(host='http://x'))\n"
        "try: client.missing\n"
        "except AttributeError: pass\n"
        "else: raise AssertionError\n"
        "import overrides\n"
        "assert overrides.override.__module__.startswith('overrides')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
