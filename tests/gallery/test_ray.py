"""A Ray cluster embeds as one process does, whatever dies. `make test-ray` runs these."""

import contextlib
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.inference.one_matrix import WEIGHT, document, write_onnx

from cmemd.cli.main import main
from cmemd.errors import InputError, MissingDependencyError
from cmemd.gallery import embedding
from cmemd.gallery.on_ray import RayEmbedder
from cmemd.gallery.table import Gallery, open_gallery
from cmemd.inference.model_folder import write_model_document

IMAGES, BROKEN, CHUNK = 40, 2, 4
try:
    import ray.data
    from ray.cluster_utils import Cluster
except ImportError:
    ray = None
needs_ray = pytest.mark.skipif(ray is None, reason="without Ray: pip install 'cmemd[ray]'")


def test_a_missing_ray_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"Ray Data .*: pip install 'cmemd\[ray\]'"):
        RayEmbedder(tmp_path)


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes on this machine, a worker each."""
    monkeypatch.setattr(embedding, "CHUNK", CHUNK)
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    started.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", started.address)
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model, and images of 6 megapixels: they take some time."""
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    Path("model/weights.safetensors").write_bytes(WEIGHT.tobytes())
    write_onnx(Path("model/model.onnx"))
    write_model_document(Path("model"), document())
    Path("images").mkdir()
    for number in range(IMAGES):
        Image.new("RGB", (3000, 2000), (number, number, number)).save(f"images/{number:02d}.jpg")
    for number in range(BROKEN):
        Path(f"images/broken{number}.jpg").write_bytes(b"no image")
    return tmp_path


def embed(gallery, *words):
    common = ["--model", "model", "--modality", "thermal", "--images", "images"]
    return main(["embed", *common, "--gallery", gallery, *words])


def rows_of(gallery):
    with open_gallery(gallery) as opened:
        assert list(opened.check()) == []  # every checksum and length
        numbers = [number for part, _ in opened.batches() for number in part.tolist()]
        rows = opened.take(numbers).to_pylist()
    return {row["path"]: row for row in rows}


def check_equal(found, expected):
    assert found.keys() == expected.keys()
    for path, row in expected.items():
        for name in row.keys() - {"vector", "crc"}:
            assert found[path][name] == row[name], (path, name)
        np.testing.assert_allclose(found[path]["vector"], row["vector"], atol=1e-6, err_msg=path)


def workers_of(cluster):
    """Process numbers of the workers that hold a model."""
    raylets = {
        process.process.pid
        for node in cluster.list_all_nodes()
        for process in node.all_processes["raylet"]
    }
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if words.startswith(b"ray::MapWorker") and parent in raylets:
                found.append(int(folder.name))
    return found


@needs_ray
@pytest.mark.slow
def test_two_nodes_give_the_rows_of_one_process(here, cluster, capsys):
    assert embed("alone") == 0
    alone = capsys.readouterr().out.replace("alone", "G")
    assert embed("together", "--engine", "ray") == 0
    assert capsys.readouterr().out.replace("together", "G") == alone
    assert f"{BROKEN} images skipped" in alone
    expected = rows_of("alone")
    assert len(expected) == IMAGES
    check_equal(rows_of("together"), expected)


@needs_ray
@pytest.mark.slow
def test_a_killed_worker_and_a_lost_node_lose_nothing(here, cluster, monkeypatch):
    assert embed("alone") == 0
    killed, add = [], Gallery.add_rows

    def add_and_kill(gallery, *args):
        if not killed:  # a first part is committed, and others are under way
            killed.extend(workers_of(cluster)[:1])
            os.kill(killed[0], signal.SIGKILL)
        elif len(killed) == 1:
            killed.append("node")
            lost = next(node for node in cluster.list_all_nodes() if not node.head)
            cluster.remove_node(lost, allow_graceful=False)
        return add(gallery, *args)

    monkeypatch.setattr(Gallery, "add_rows", add_and_kill)
    assert embed("together", "--engine", "ray") == 0
    assert killed[1:] == ["node"]
    check_equal(rows_of("together"), rows_of("alone"))


@needs_ray
@pytest.mark.slow
def test_a_run_that_ended_early_goes_on(here, cluster, monkeypatch, capsys):
    add, commits = Gallery.add_rows, []

    def add_twice(gallery, *args):
        if len(commits) == 2:
            raise InputError("room", "none", "free some")
        commits.append(len(args[0]))
        return add(gallery, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "add_rows", add_twice)
        with pytest.raises(SystemExit):
            embed("together", "--engine", "ray")
    assert len(rows_of("together")) == sum(commits)
    assert embed("together", "--engine", "ray") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"{IMAGES - sum(commits)} embeddings added")
    assert len(rows_of("together")) == IMAGES


@needs_ray
@pytest.mark.slow
def test_an_error_of_a_worker_is_its_own_line(here, cluster, capfd):
    with pytest.raises(SystemExit) as ended:
        embed("together", "--engine", "ray", "--on-corrupt", "raise")
    assert ended.value.code == 2
    lines = capfd.readouterr().err.splitlines()
    assert [line[:28] for line in lines] == ["error: expected an image in "], lines
    with pytest.raises(SystemExit):
        embed("together", "--engine", "ray", "--device", "cuda")
    assert "a machine with a GPU in the Ray cluster" in capfd.readouterr().err
