"""A server in this process, on a gallery of twelve drawn images."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.inference.one_matrix import WEIGHT, document, grey, noise, write_onnx

from cmemd.cli.main import main
from cmemd.inference.model_folder import write_model_document
from cmemd.server.app import create_app
from cmemd.server.metrics import Metrics
from cmemd.server.resident import Resident
from cmemd.server.settings import Settings

IMAGES = 12
EVIL = "<script>alert(1)</script>"


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


THERMAL, VISIBLE = png(grey(1)[0]), png(noise(1, seed=99)[0])


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model``, ``images`` and ``g``, a gallery of them."""
    folder = tmp_path_factory.mktemp("served")
    for name in ("model", "images"):
        (folder / name).mkdir()
    (folder / "model/weights.safetensors").write_bytes(WEIGHT.tobytes())
    write_onnx(folder / "model/model.onnx")
    write_model_document(folder / "model", document())
    lines = ["path,identity,camera,time"]
    for number, image in enumerate(noise(IMAGES)):
        Image.fromarray(image).save(folder / f"images/{number}.png")
        camera = EVIL if number == 0 else f"c{number % 3}"
        identity = f"p{number % 4}" if number < 8 else ""
        lines.append(
            f"images/{number}.png,{identity},{camera},2024-05-{number + 1:02d}T12:00+00:00"
        )
    (folder / "list.csv").write_text("\n".join(lines))
    words = ["--images", folder / "list.csv", "--gallery", folder / "g", "--modality", "visible"]
    assert main(["embed", "--model", str(folder / "model"), *map(str, words)]) == 0
    return folder


@pytest.fixture
def gallery(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made / "g", tmp_path / "g"))


@pytest.fixture
def serve(made: Path, gallery: Path) -> Iterator[Callable[..., TestClient]]:
    """Start a server with some settings; its ``resident`` is an attribute of the client."""
    with ExitStack() as stack:

        def start(**settings: object) -> TestClient:
            given = {"rate": 1000, **settings}
            resident = Resident(made / "model", gallery, Settings(**given), Metrics())
            stack.enter_context(resident)
            client = TestClient(create_app(resident), base_url="http://127.0.0.1")
            client.resident = resident
            return client

        yield start


def search(client: TestClient, image: bytes = THERMAL, modality: str = "thermal", **fields):
    """Search with a form."""
    headers = fields.pop("headers", {})
    return client.post(
        "/v1/search",
        files={"image": ("q.png", image)},
        data={"modality": modality, **fields},
        headers=headers,
    )
