import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from tests.server.conftest import EVIL, THERMAL, png, search

from cmemd.server.security import HEADERS, Rates

TOKEN = "a" * 32


def bomb() -> bytes:
    """A small PNG file that says that it has 40,000 x 40,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(10**6))
    parts = chunk(b"IHDR", head), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_bad_input_gets_a_status_and_one_line(serve):
    client = serve(most_bytes=100_000, most_pixels=10_000)
    deep = io.BytesIO()
    Image.fromarray(np.zeros((8, 4), np.uint16)).save(deep, "PNG")
    for name, image, modality, fields, status, words in (
        ("no image", b"hello", "thermal", {}, 422, "expected an image in the upload"),
        ("empty", b"", "thermal", {}, 422, "expected an image"),
        ("cut short", THERMAL[:-20], "thermal", {}, 422, "the upload"),
        ("large", bytes(100_001), "thermal", {}, 413, "at most 0.1 MB"),
        ("larger", bytes(300_000), "thermal", {}, 413, "at most 0.1 MB"),
        ("deep", deep.getvalue(), "thermal", {}, 422, "8 bits a channel"),
        ("bomb", bomb(), "thermal", {}, 422, "pixels in the upload"),
        ("many pixels", png(np.zeros((101, 100), np.uint8)), "thermal", {}, 422, "10,000 pixels"),
        ("modality", THERMAL, "infrared", {}, 422, "a modality, 'visible' or 'thermal'"),
        ("top", THERMAL, "thermal", {"top": 0}, 422, "top"),
        ("threshold", THERMAL, "thermal", {"threshold": "nan"}, 422, "threshold"),
        ("time", THERMAL, "thermal", {"since": "yesterday"}, 422, "yesterday"),
        ("among", THERMAL, "thermal", {"among": "night"}, 422, "among"),
    ):
        answer = search(client, image, modality, **fields)
        line = answer.json()["error"]
        assert answer.status_code == status, (name, line)
        assert words in line, name
        assert line.startswith("expected "), name
        assert "\n" not in line, name
    for files, data in (({}, {"modality": "thermal"}), ({"image": THERMAL}, {})):
        answer = client.post("/v1/search", files=files, data=data)
        assert answer.status_code == 422, data
        assert "expected a value of" in answer.json()["error"], data
    assert client.get("/nothing").json()["error"].startswith("expected ")


def test_a_body_without_a_length_is_bounded_too(serve):
    def parts():
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="q"\r\n\r\n'
        for _ in range(100):
            yield bytes(10_000)

    client = serve(most_bytes=100_000)
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert client.post("/v1/search", content=parts(), headers=headers).status_code == 413


def test_without_the_token_there_is_no_answer(serve):
    client = serve(token=TOKEN)
    for path in ("/v1/gallery", "/metrics", "/v1/gallery/images/x"):
        assert client.get(path).status_code == 401, path
    assert search(client).status_code == 401
    for value in ("Bearer " + "b" * 32, TOKEN, "Bearer"):
        assert search(client, headers={"Authorization": value}).status_code == 401, value
    for path in ("/", "/docs", "/openapi.json", "/healthz", "/page.js", "/page.css"):
        assert client.get(path).status_code == 200, path
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert search(client, headers=right).status_code == 200
    assert client.get("/metrics", headers=right).status_code == 200


def test_tokens_cannot_be_tried_out(serve):
    client = serve(token=TOKEN)
    found = [
        client.get("/v1/gallery", headers={"Authorization": f"Bearer {n}"}).status_code
        for n in range(7)
    ]
    assert found == [401] * 5 + [429] * 2
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/v1/gallery", headers=right).status_code == 429


def test_other_sites_and_other_names_are_refused(serve):
    client = serve(hosts=("127.0.0.1", "localhost"))
    for headers, status in (
        ({}, 200),
        ({"Origin": "http://127.0.0.1"}, 200),
        ({"Host": "localhost:8000"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Host": "evil.example"}, 421),
    ):
        assert search(client, headers=headers).status_code == status, headers
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200


def test_every_answer_has_the_headers(serve):
    client = serve()
    answers = [client.get(path) for path in ("/", "/docs", "/healthz", "/nothing", "/v1/gallery")]
    for answer in [*answers, search(client), search(client, b"x")]:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (answer.url, name)
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_pages_load_nothing_from_elsewhere_and_no_script_of_their_own_text(serve):
    client = serve()
    for path in ("/", "/docs"):
        text = client.get(path).text
        assert "http" not in text.replace("http-equiv", ""), path
        assert "style=" not in text, path
        assert "onclick" not in text, path
    assert "innerHTML" not in client.get("/page.js").text
    assert "/v1/gallery/remove" in client.get("/docs").text


def test_rates_are_limited_by_address(serve):
    client = serve(rate=2)
    found = [client.get("/v1/gallery").status_code for _ in range(6)]
    assert found[:4] == [200] * 4
    assert 429 in found
    late = client.get("/v1/gallery")
    assert late.status_code == 429
    assert int(late.headers["retry-after"]) >= 1


def test_a_bucket_fills_at_its_rate():
    now = [0.0]
    rates = Rates(2, 4, lambda: now[0])
    assert [rates.wait("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert rates.wait("b") == 0
    now[0] = 1.0  # two more
    assert [rates.wait("a") for _ in range(3)] == [0, 0, 0.5]
    now[0] = 1e9  # never above the burst
    assert [rates.wait("a") > 0 for _ in range(5)] == [False] * 4 + [True]


def test_images_and_paths_are_shared_from_allowed_folders_only(serve, made, tmp_path):
    client = serve(images_roots=(tmp_path,))
    found = search(client).json()["matches"]
    assert {of["path"] for of in found} == {of["image"] for of in found} == {None}
    assert client.get(f"/v1/gallery/images/{found[0]['id']}").status_code == 403
    assert str(made) not in search(client).text


def test_a_link_out_of_an_allowed_folder_is_not_followed(serve, made, tmp_path, monkeypatch):
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "images").symlink_to(made / "images")
    client = serve(images_roots=(allowed,))
    assert {of["image"] for of in search(client).json()["matches"]} == {None}


def test_an_allowed_image_is_served_as_a_fresh_jpeg(serve, made):
    client = serve(images_roots=(made / "images",))
    found = search(client).json()["matches"][0]
    answer = client.get(found["image"])
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == Image.open(found["path"]).size
    for name in ("unknown", "..%2f..%2fetc%2fpasswd"):
        assert client.get(f"/v1/gallery/images/{name}").status_code in (404, 422), name


def test_the_log_has_a_line_for_each_search_before_its_answer(serve, gallery):
    client = serve()
    found = search(client, camera=EVIL).json()
    client.get("/v1/gallery", headers={"Origin": "http://evil.example"})
    path = gallery / "server/audit.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["action"] for line in lines] == ["search", "refused"]
    assert lines[0]["client"] == "testclient"
    assert lines[0]["cameras"] == [EVIL]
    assert len(lines[0]["found"]) == len(found["matches"]) == 1
    assert len(lines[0]["sha256"]) == 64
    assert path.stat().st_mode & 0o077 == 0
    path.unlink()
    path.mkdir()  # it cannot be written
    answer = search(client)
    assert answer.status_code == 503
    assert "matches" not in answer.json()


def test_counts_are_kept_by_route_and_status(serve):
    client = serve()
    search(client)
    search(client, b"x")
    text = client.get("/metrics").text
    for status in (200, 422):
        line = f'cmemd_requests_total{{method="POST",route="/v1/search",status="{status}"}} 1.0'
        assert line in text, status
    assert 'cmemd_gallery_rows{modality="visible"} 12.0' in text


@pytest.mark.parametrize("name", ["nan", "inf"])
def test_a_threshold_is_a_number(serve, name):
    assert search(serve(), threshold=name).status_code == 422
