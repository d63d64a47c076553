import hashlib
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import datetime, timedelta, timezone

import httpx
import pytest
from tests.inference.one_matrix import grey, noise
from tests.server.conftest import IMAGES, VISIBLE, png, search

from cmemd.cli.main import main
from cmemd.errors import InputError
from cmemd.gallery.table import open_gallery
from cmemd.server.metrics import Metrics
from cmemd.server.resident import Resident
from cmemd.server.settings import Settings


def add(client, image, modality="visible", **labels):
    return client.post(
        "/v1/gallery/add", files={"image": image}, data={"modality": modality, **labels}
    )


def test_an_added_image_is_found_at_once_and_by_other_commands(serve, gallery, capsys):
    client = serve()
    answer = add(client, VISIBLE, camera="new", identity="n", time="2024-06-01T00:00Z").json()
    assert (answer["added"], answer["rows"]) == (1, IMAGES + 1)
    found = search(client, VISIBLE, "visible", among="visible").json()["matches"][0]
    assert (found["id"], found["camera"]) == (answer["id"], "new")
    assert found["score"] == pytest.approx(1)
    assert add(client, VISIBLE).json()["added"] == 0
    capsys.readouterr()
    assert main(["gallery", "info", str(gallery), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == IMAGES + 1
    assert main(["gallery", "check", str(gallery)]) == 0


def test_rows_are_removed_by_their_names_and_labels(serve, gallery):
    client = serve()
    added = add(client, VISIBLE).json()["id"]
    (image,) = (gallery / "server/images").iterdir()
    for what, removed in (
        ({"ids": [added]}, 1),
        ({"identity": "p0"}, 2),
        ({"camera": "c1", "after": "2024-05-06", "before": "2024-05-09"}, 1),
        ({"identity": "unknown"}, 0),
    ):
        answer = client.post("/v1/gallery/remove", json=what)
        assert answer.json()["removed"] == removed, what
    assert not image.exists()
    for what in ({}, {"ids": ["unknown"]}, {"paths": ["x"]}, {"before": "x"}):
        assert client.post("/v1/gallery/remove", json=what).status_code == 422, what
    assert len(client.resident.snapshot) == IMAGES - 3


def test_marks_are_kept_and_become_labels(serve, made, gallery, tmp_path, capsys):
    client = serve()
    queries = [png(image) for image in grey(4)]
    for number, image in enumerate(queries):
        answer = search(client, image).json()
        first = answer["matches"][0]["id"]
        what = {"query": answer["query"], "match": first, "right": number % 2 == 0}
        assert client.post("/v1/gallery/marks", json=what).status_code == 200
        assert search(client, image).json()["matches"][0]["right"] is (number % 2 == 0)
    files = []
    for side in ("probes", "gallery"):
        files.append(tmp_path / f"{side}.npz")
        answer = client.get(f"/v1/gallery/labels/{side}")
        files[-1].write_bytes(answer.content)
        assert str(made).encode() not in answer.content, side
    words = ["--probes", files[0], "--gallery", files[1], "--fpir", "0.5", "--json"]
    capsys.readouterr()
    assert main(["calibrate", *map(str, words)]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["mated"], result["non_mated"], result["candidates"]) == (2, 2, IMAGES)
    what["right"] = None
    client.post("/v1/gallery/marks", json=what)
    assert search(client, queries[3]).json()["matches"][0]["right"] is None
    with (gallery / "server/marks.jsonl").open("ab") as file:
        file.write(b'{"time": "cut sho')  # by a kill
    client.post("/v1/gallery/marks", json=what | {"right": True})
    client.resident.marks._read()
    assert search(client, queries[3]).json()["matches"][0]["right"] is True
    assert client.post("/v1/gallery/marks", json=what | {"query": "x"}).status_code == 422


def test_what_is_old_is_forgotten_and_its_bytes_are_gone(serve, gallery):
    now = datetime.now(timezone.utc)
    client = serve(forget_after=30)
    add(client, VISIBLE, identity="young", time=now.isoformat())
    secret = "a-name-to-forget"
    add(client, png(noise(1, 5)[0]), identity=secret, time=(now - timedelta(days=31)).isoformat())
    end = time.monotonic() + 20
    client.resident._forget_at = 0
    while len(client.resident.snapshot) > 1:
        assert time.monotonic() < end
        client.resident._forget_at = 0
        time.sleep(0.1)
    (row,) = client.resident.snapshot.rows()
    assert row.identity == "young"
    client.resident.__exit__()
    assert len(list((gallery / "server/images").iterdir())) == 1
    for file in (gallery / "gallery.lance").rglob("*"):
        assert file.is_dir() or secret.encode() not in file.read_bytes(), file
    client.resident.__enter__()


def test_old_lines_are_forgotten(serve):
    client = serve(forget_after=1)
    search(client)
    search(client)
    audit = client.resident.audit
    assert audit.forget(datetime.now(timezone.utc) - timedelta(days=1)) == 0
    assert audit.forget(datetime.now(timezone.utc)) == 2
    assert audit.path.read_bytes() == b""


def test_a_server_refuses_what_it_cannot_serve(made, gallery, tmp_path):
    def start(folder=gallery, **settings):
        return Resident(made / "model", folder, Settings(**settings), Metrics())

    other = tmp_path / "other"
    from cmemd.gallery.table import create_gallery

    with create_gallery(other, "another model", 5):
        pass
    for words, attempt in (
        ("expected embeddings of model", lambda: start(other)),
        ("expected a gallery at", lambda: start(tmp_path / "none")),
        ("in a folder", lambda: start("s3://bucket/g")),
        ("GB of vectors", lambda: start(memory=1)),
        ("expected thresholds at", lambda: start(threshold=tmp_path / "none.json")),
    ):
        with pytest.raises(InputError, match=words):
            attempt()
    with start(), pytest.raises(InputError, match="another writer"):
        start()


def test_a_gallery_that_becomes_unreadable_is_not_searched(serve, gallery):
    client = serve()
    (gallery / "gallery.lance").rename(gallery / "away")
    end = time.monotonic() + 20
    while client.get("/healthz").status_code != 503:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert search(client).status_code == 503
    (gallery / "away").rename(gallery / "gallery.lance")
    while client.get("/healthz").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert search(client).status_code == 200


def test_the_command_refuses_bad_arguments(made, capsys, monkeypatch, tmp_path):
    import socket

    monkeypatch.delenv("CMEMD_TOKEN", raising=False)
    (tmp_path / "short").write_text("abc")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, line in (
            (["--port", port], "to be free"),
            (["--host", "0.0.0.0"], "expected a token"),
            (["--token-file", str(tmp_path / "short")], "at least 16"),
            (["--token-file", str(tmp_path / "none")], "expected a token in"),
            (["--images-root", str(tmp_path / "none")], "expected a folder"),
            (["--rate", "0"], "--rate above 0"),
            (["--forget-after", "nan"], "--forget-after above 0"),
            (["--threshold", "2"], "-1 to 1"),
            (["--port", "70000"], "65535"),
        ):
            common = ["serve", "--model", str(made / "model"), "--gallery", str(made / "g")]
            with pytest.raises(SystemExit) as end:
                main([*common, *words])
            assert end.value.code == 2, words
            said = capsys.readouterr().err
            assert line in said, words
            assert said.count("\n") == 1, words


def start_process(made, gallery):
    words = ["--model", made / "model", "--gallery", gallery, "--port", "0", "--rate", "10000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cmemd", "serve", *map(str, words)], stdout=subprocess.PIPE
    )
    line = process.stdout.readline().decode()
    return process, re.search(r"http://\S+", line)[0]


@pytest.mark.slow  # fresh processes
def test_a_killed_server_has_lost_no_acknowledged_row(made, gallery):
    acknowledged, seed = [], 1000
    for round_ in range(3):
        process, url = start_process(made, gallery)

        def work(first, url=url):
            with httpx.Client(base_url=url) as client:
                for n in range(first, first + 1000):
                    image = png(noise(1, n)[0])
                    try:
                        assert add(client, image).json()["added"] == 1
                    except httpx.HTTPError:
                        return
                    acknowledged.append(hashlib.sha256(image).hexdigest())

        threads = [threading.Thread(target=work, args=(seed + 1000 * n,)) for n in range(4)]
        seed += 4000
        for thread in threads:
            thread.start()
        before, end = len(acknowledged), time.monotonic() + 30
        while len(acknowledged) == before and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3 + round_ / 3)
        process.kill()
        process.wait()
        for thread in threads:
            thread.join()
        with open_gallery(gallery) as opened:
            names = {row["path"] for part in opened.rows() for row in part.to_pylist()}
        there = {
            re.search(r"visible-(\w{64})\.png", name)[1] for name in names if "visible-" in name
        }
        assert acknowledged
        assert {*acknowledged} <= there
        assert len(there) <= len(acknowledged) + 4 * (round_ + 1)
        for name in names:
            with open(name, "rb") as file:
                assert file.read(4) == b"\x89PNG"


@pytest.mark.slow  # a fresh process
def test_a_signal_ends_the_server_with_one_line(made, gallery):
    process, url = start_process(made, gallery)
    assert urllib.request.urlopen(f"{url}/healthz").status == 200
    process.terminate()
    assert process.wait(20) == 143
