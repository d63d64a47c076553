"""Every command under every fault: one line on stderr, a status, and nothing left behind."""

import contextlib
import json
import os
import re
import resource
import runpy
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cmemd.compat  # noqa: F401  before torch and fastreid

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.test_compare import write as write_results_file
from tests.conftest import CONFIGS, REPOSITORY, TINY
from tests.inference.one_matrix import WEIGHT, document, write_onnx

from cmemd.cli.main import COMMANDS, main
from cmemd.data.modality import Modality
from cmemd.errors import readable_errors
from cmemd.evaluation.features_file import write_features
from cmemd.evaluation.samples import Samples
from cmemd.gallery.embeddings_file import write_embeddings
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source
from cmemd.inference.model_folder import write_model_document
from cmemd.inference.zoo import INDEX
from cmemd.standin import draw_own, draw_sysu

GOLDEN = REPOSITORY / "tests/golden"
ODD = "a\x1b[31m\u202eb\nc\udcff"  # acts on a terminal, breaks a line, is no UTF-8
_BAR = re.compile(r"\r[^\r\n]*\|[^\r\n]*\]\n?")  # of progress
TOOLS = ("train_net", "export_model")


@dataclass(frozen=True)
class Command:
    """A command line whose words may be places: ``{name}`` of the world, ``{out}`` of outputs.

    Attributes:
        words: of the command line.
        inputs: the places that it reads, each of which may be faulty.
        middle: a function that it calls at work, where signals and a failing machine strike.
        writes: whether it has an output.
    """

    words: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    middle: str = ""
    writes: bool = True


def command(words: str, inputs: str = "", middle: str = "", writes: bool = True) -> Command:
    return Command(tuple(words.split()), tuple(inputs.split()), middle, writes)


_TINY = " ".join(f"{key} {value.replace(' ', '')}" for key, value in TINY.items())
TABLE = {
    "synth": command(
        "--layout sysu --root {out} --ids 5 --per-camera 1 --size 40x20",
        middle="cmemd.standin.standin.render",
    ),
    "list": command(
        "--root {people} --output {out}.csv",
        "people",
        middle="cmemd.data.layouts.own.write_list",
    ),
    "doctor": command(
        "--layout sysu --root {standin} --json {out}.json",
        "standin",
        middle="cmemd.doctor.pixels.report_decoded",
    ),
    "score": command(
        "--protocol sysu-all-1shot --features {features} --splits {splits} --json {out}.json",
        "features splits",
        middle="cmemd.evaluation.scoring.score_blocks",
    ),
    "compare": command(
        "{results} {other}",
        "results",
        middle="cmemd.evaluation.tables.paired_interval",
        writes=False,
    ),
    "embed": command(
        "--model {model} --modality visible --images {images} --output {out}.npz",
        "model images",
        middle="cmemd.inference.backends.OnnxBackend.__call__",
    ),
    "gallery": command(
        "info {gallery}", "gallery", middle="cmemd.gallery.table.Gallery.info", writes=False
    ),
    "search": command(
        "--model {model} --modality thermal --image {images} --gallery {gallery} --sheet {out}.png",
        "model images gallery",
        middle="cmemd.inference.backends.OnnxBackend.__call__",
    ),
    "calibrate": command(
        "--probes {probes} --gallery {enrolled} --fpir 0.5 --json",
        "probes enrolled",
        middle="cmemd.evaluation.open_set.calibrate",
        writes=False,
    ),
    "zoo": command("--index {index} --output {out}.md", "index", "cmemd.inference.zoo.zoo_page"),
    "ablate": command(
        "--configs {config} --seeds 0 --script {script} --output {out}",
        "config script",
        middle="cmemd.engine.runs.Run.results",
    ),
    "keys": command("", middle="cmemd.engine.key_page.key_page", writes=False),
    "reproduce": command(
        "sysu --root {out}", middle="cmemd.study.published.format_reproduction", writes=False
    ),
    "report": command("--run {run} --output {out}.html", "run", middle="cmemd.report.page.render"),
    "plans": command(
        "--features {views} --standin {standin} --images 1 --output {out}.png",
        "views standin",
        middle="cmemd.study.plan_mass.exact_plan",
    ),
    "clouds": command("--output {out}.png", middle="cmemd.study.figures.learn_map"),
    "verify": command("{demo}", "demo", "cmemd.inference.test_vector.check_folder", False),
    "train_net": command(
        f"--config-file {{config}} {_TINY} OUTPUT_DIR {{out}}",
        "config",
        middle="cmemd.modeling.cmemd_net.CMEMDNet.forward",
    ),
    "export_model": command(
        "--config-file {config} --weights {weights} --formats safetensors --output {out} " + _TINY,
        "config weights",
        middle="cmemd.export.network._load",
    ),
}
FOLDERS = ("standin", "people", "splits", "model", "demo", "images", "gallery")


@pytest.fixture(scope="module")
def good(tmp_path_factory, datasets) -> dict[str, str]:
    """Places that every command works with."""
    root = tmp_path_factory.mktemp("good")
    draw_sysu(root / "standin", ids=5, per_camera=1, size=(40, 20), seed=0)
    draw_own(root / "people", ids=5, per_camera=1, size=(40, 20), seed=0)
    results = [
        Path(write_results_file(root / name / "results.json", value))
        for name, value in (("one", 1), ("two", 2))
    ]
    for path in results:
        stored = json.loads(path.read_text()) | {"per_query": "q.npz"}
        path.write_text(json.dumps(stored))
        arrays = {"0/queries": np.arange(30).reshape(10, 3)}
        np.savez(path.with_name("q.npz"), **arrays, **{"0/figures": np.ones((6, 10))})
    model = root / "model"
    model.mkdir()
    (model / "weights.safetensors").write_bytes(WEIGHT.tobytes())
    write_onnx(model / "model.onnx")
    write_model_document(model, document())
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(256, size=(8, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"images/{number}.png")
    vectors = np.eye(3, dtype=np.float32)
    for side, modality in (("probes", Modality.THERMAL), ("enrolled", Modality.VISIBLE)):
        sources = [Source(f"/{side}/{name}", name) for name in ("ann", f"{side} 1", f"{side} 2")]
        write_embeddings([make_rows(sources, vectors, modality, "ab" * 32)], root / f"{side}.npz")
    embed = ["embed", "--model", str(model), "--modality", "visible"]
    assert main([*embed, "--images", str(root / "images"), "--gallery", str(root / "g")]) == 0
    shutil.copytree(INDEX.with_name("demo"), root / "demo")
    shutil.copy(INDEX, root / "index.yml")
    (root / "config.yml").write_text(f"_BASE_: {CONFIGS / 'demo.yml'}\n")
    (root / "script.py").write_text("raise SystemExit(1)\n")
    torch.save({"model": {}}, root / "weights.pth")
    lines = (root / "standin/meta.jsonl").read_text().splitlines()[1:]
    drawn = [json.loads(line) for line in lines]
    write_features(
        Samples(
            features=rng.normal(size=(len(drawn), 4)),
            pids=[line["id"] for line in drawn],
            camids=[line["camera"] for line in drawn],
            modalities=[Modality[line["modality"].upper()] for line in drawn],
            frames=[1] * len(drawn),
            paths=[line["path"] for line in drawn],
        ),
        root / "views.npz",
    )
    return {
        "standin": str(root / "standin"),
        "people": str(root / "people"),
        "features": str(GOLDEN / "sysu_small/features.npz"),
        "splits": str(GOLDEN / "sysu_small"),
        "results": str(results[0]),
        "run": str(results[0].parent),
        "other": str(results[1]),
        "model": str(model),
        "demo": str(root / "demo"),
        "images": str(root / "images"),
        "gallery": str(root / "g"),
        "probes": str(root / "probes.npz"),
        "enrolled": str(root / "enrolled.npz"),
        "index": str(root / "index.yml"),
        "config": str(root / "config.yml"),
        "script": str(root / "script.py"),
        "weights": str(root / "weights.pth"),
        "views": str(root / "views.npz"),
    }


class Ran:
    """Runs commands of the table in this process, with an alarm for those that hang."""

    def __init__(self, good: dict[str, str], folder: Path, capsys, monkeypatch) -> None:
        self.good, self.folder = good, folder
        self._capsys, self._patch = capsys, monkeypatch
        self.case = ""

    def __call__(self, name: str, out: Path | None = None, **places: object) -> tuple[int, str]:
        """Exit status and stderr of a command with some places changed."""
        where = self.good | {"out": str(out or self.folder / "out")}
        where |= {place: str(path) for place, path in places.items()}
        words = [word.format(**where) for word in TABLE[name].words]
        self.case = f"{name} with {places or out}"
        self._capsys.readouterr()
        with _alarm(60):
            status = self._tool(name, words) if name in TOOLS else self._command([name, *words])
        return status, _BAR.sub("", self._capsys.readouterr().err)

    def one_line_of(self, name: str, words: list[str]) -> None:
        """As ``one_line``, for other words."""
        self._capsys.readouterr()
        status = self._tool(name, words) if name in TOOLS else self._command([name, *words])
        error = _BAR.sub("", self._capsys.readouterr().err)
        case = f"{name} {words}: {status}, {error!r}"
        assert status == 2, case
        lines = [line for line in error.splitlines() if not line.startswith("warning: ")]
        assert len(lines) == 1, case
        assert lines[0].startswith("error: "), case
        assert lines[0].isprintable(), case

    def one_line(self, name: str, expected: int | None = None, **changes: object) -> str:
        """The line of a command that must fail, and leave nothing."""
        before = _files(self.folder)
        status, error = self(name, **changes)
        lines = [line for line in error.splitlines(keepends=True) if line[:9] != "warning: "]
        case = f"{self.case}: {status}, {error!r}"
        assert status in ((expected,) if expected is not None else (1, 2)), case
        assert len(lines) == 1, case
        assert lines[0].startswith(("error: ", "stopped by ")), case
        assert lines[0].endswith("\n"), case
        assert lines[0][:-1].isprintable(), case
        assert "Traceback" not in error, case
        assert "defect" not in error, case
        assert _files(self.folder) == before, case
        return lines[0]

    def _command(self, words: list[str]) -> int:
        try:
            return main(words)
        except SystemExit as end:
            return end.code

    def _tool(self, name: str, words: list[str]) -> int:
        from tests.conftest import _forget_log_handlers

        self._patch.setattr(sys, "argv", [f"{name}.py", *words])
        try:
            runpy.run_path(str(REPOSITORY / f"tools/{name}.py"), run_name="__main__")
        except SystemExit as end:
            return end.code
        finally:
            _forget_log_handlers()
        return 0


@pytest.fixture
def run(good, tmp_path, capsys, monkeypatch, datasets) -> Ran:
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    (tmp_path / "place").mkdir()
    return Ran(good, tmp_path / "place", capsys, monkeypatch)


@contextlib.contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def fail(*_: object) -> None:
        raise AssertionError(f"still at work after {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _files(folder: Path) -> set[str]:
    """Names of all files but locks, which stay, and what the next run goes on from."""
    found = (str(path) for path in folder.rglob("*") if not path.is_dir())
    return {name for name in found if not name.endswith(".lock") and ".unfinished" not in name}


def _make_socket(path: Path) -> None:
    short = Path("/tmp", f"cmemd-{os.getpid()}")  # a socket's name has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(short))
    os.rename(short, path)


# What may be in the place of a file or a folder that a command reads.
FAULTS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "a file": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "binary garbage": lambda path: path.write_bytes(bytes(range(256)) * 40),
    "another encoding": lambda path: path.write_bytes("schlüssel: größe\n".encode("latin-1")),
    "a tab": lambda path: path.write_text("MODEL:\n\tDEVICE: cpu\n"),
    "foreign JSON": lambda path: path.write_text('{"schema": "other", "version": 99}'),
    "deep JSON": lambda path: path.write_text("[" * 100_000),
    "a list in JSON": lambda path: path.write_text("[1, 2]"),
    "an empty zip": lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)),
    "a pickle": lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n."),
    "a pipe": lambda path: os.mkfifo(path),
    "a socket": _make_socket,
    "a broken link": lambda path: path.symlink_to("nowhere"),
    "a circle of links": lambda path: path.symlink_to(path.name),
}


def test_the_table_has_every_command():
    # The tools run the first two; a server goes on until it is stopped: tests/server.
    elsewhere = {"train", "export", "serve"}
    assert set(TABLE) == {*COMMANDS, *TOOLS} - elsewhere


@pytest.mark.parametrize("name", TABLE)
def test_a_faulty_input_is_one_line(run, name, tmp_path):
    for place in TABLE[name].inputs:
        for fault, make in FAULTS.items():
            if place == "script" and fault not in ("nothing", "a folder", "a pipe", "a socket"):
                continue  # a script is run, whatever it holds
            if place in ("images", "standin", "model", "demo", "gallery") and fault == "a folder":
                continue  # an empty folder: tested by each command
            suffix = Path(run.good[place]).suffix
            for stem in ("plain", ODD):
                path = tmp_path / f"{stem}{suffix}"
                make(path)
                run.one_line(name, **{place: path})
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(
                    missing_ok=True
                )
        for path in ("x" * 5000, "x" * 300 + ".npz", "/dev/null/x.yml", "/proc/self/mem/x.npz"):
            run.one_line(name, **{place: path})


@pytest.mark.parametrize("name", [name for name, of in TABLE.items() if of.writes])
def test_a_place_that_cannot_be_written_is_one_line(run, name, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for out in (mine / "out", Path("/proc/1/nowhere/out"), tmp_path / ("x" * 300), mine / "a/b"):
        run.one_line(name, out=out)
    suffixes = (".json", ".csv", ".npz", ".png", ".md", ".html", "")
    for suffix in suffixes:  # a folder where a file is to be, or odd
        (tmp_path / f"used{suffix}").mkdir()
        (tmp_path / f"used{suffix}/mine").write_text("mine")
    if name not in ("ablate", "train_net"):  # whose outputs are folders that may hold other things
        run.one_line(name, out=tmp_path / "used")
    assert mine.read_text() == "mine"
    assert [path.read_text() for path in sorted(tmp_path.glob("used*/mine"))] == ["mine"] * len(
        suffixes
    )


@contextlib.contextmanager
def _limit(which: int, value: int) -> Iterator[None]:
    before = resource.getrlimit(which)
    resource.setrlimit(which, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)


@pytest.mark.parametrize("name", [name for name, of in TABLE.items() if of.writes])
def test_a_disk_that_is_full_is_one_line(run, name):
    """Files may have no more than a few bytes, for Python and for libraries in other languages."""
    assert run(name, out=run.folder / "first")[0] in (0, 1, 2)  # whatever it imports is imported
    shutil.rmtree(run.folder)
    run.folder.mkdir()
    for size in (0, 100):
        with _limit(resource.RLIMIT_FSIZE, size):
            status, error = run(name)
        assert status != 0, run.case
        _is_one_line(run, error)
        shutil.rmtree(run.folder)
        run.folder.mkdir()


def _is_one_line(run: Ran, error: str) -> None:
    lines = [line for line in error.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, f"{run.case}: {error!r}"
    assert lines[0].isprintable(), f"{run.case}: {error!r}"
    assert "defect" not in error, f"{run.case}: {error!r}"


def _raise(error: BaseException) -> Callable[..., None]:
    def strike(*_: object, **__: object) -> None:
        raise error

    return strike


def _kill(number: int) -> Callable[..., None]:
    def strike(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        signal.sigtimedwait([], 0)  # Python takes signals between its instructions

    return strike


STRIKES = {
    "Ctrl-C": (_raise(KeyboardInterrupt()), 130, "stopped by SIGINT"),
    "SIGTERM": (_kill(signal.SIGTERM), 143, "stopped by SIGTERM"),
    "SIGHUP": (_kill(signal.SIGHUP), 129, "stopped by SIGHUP"),
    "memory": (_raise(MemoryError()), 1, "error: not enough memory (MemoryError): free some"),
    "PyTorch's memory": (
        _raise(RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't\nx")),
        1,
        "error: not enough memory ([enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't x)",
    ),
    "the GPU's memory": (_raise(torch.OutOfMemoryError("CUDA out of memory")), 1, "error: not eno"),
    "a full disk": (
        _raise(OSError(28, "No space left on device", f"/x/{ODD}")),
        1,
        r"error: /x/a\x1b[31m\u202eb\nc\udcff: No space left on device: free some disk space",
    ),
    "a disk that turned read-only": (
        _raise(OSError(30, "Read-only file system", "/x")),
        1,
        "error: /x: Read-only file system: write elsewhere",
    ),
    "open files": (
        _raise(OSError(24, "Too many open files", "/x")),
        1,
        "error: /x: Too many open files: raise the limit (ulimit -n)",
    ),
    "a stale network folder": (_raise(OSError(116, "Stale file handle", "/x")), 1, "error: /x: S"),
    "a killed worker": (
        _raise(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")),
        1,
        "error: a worker process was killed (DataLoader worker (pid 7) is killed by signal: ",
    ),
    "workers that ended": (
        _raise(RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly")),
        1,
        "error: a worker process was killed (DataLoader worker (pid(s) 7, 8) exited unex",
    ),
    "shared memory": (
        _raise(
            RuntimeError("unable to write to file </torch_1_2_0>: No space left on device (28)")
        ),
        1,
        "error: not enough shared memory (/dev/shm) (unable to write to file </torch_1_2_0>: No ",
    ),
    "a library that does not fit": (
        _raise(ImportError("libx.so: failed to map segment from shared object", name="x")),
        1,
        "error: not enough memory (libx.so: failed to map segment from shared object)",
    ),
    "a package that is broken": (
        _raise(ImportError("libGL.so.1: cannot open shared object file", name="cv2")),
        2,
        "error: ",
    ),
    "the GPU": (_raise(RuntimeError("CUDA error: device-side assert\nx")), 1, "error: the GPU or"),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_strikes_in_the_middle_is_one_line(run, name, monkeypatch, tmp_path):
    """Whatever the machine or a signal does; in a command's own words where it has some."""
    if name == "train_net":
        assert run(name)[0] == 0  # else it could not reach the middle
        shutil.rmtree(run.folder)
        run.folder.mkdir()
    reached = []
    for fault, (strike, expected, line) in STRIKES.items():
        if name == "train_net" and fault.startswith("SIG"):
            continue  # it goes on to the end of an iteration: tests/engine

        def middle(*args: object, strike=strike, **kwargs: object) -> None:
            reached.append(fault)  # noqa: B023
            strike(*args, **kwargs)

        monkeypatch.setattr(TABLE[name].middle, middle)
        status, error = run(name)
        if name == "train_net":
            lines = [line for line in error.splitlines() if not line.startswith("warning: ")]
            error = "\n".join(lines) + "\n"
        assert reached[-1:] == [fault], f"{run.case}: {error!r}"
        assert status == expected or (name in OWN_WORDS and status == 2), f"{fault}: {error!r}"
        if name not in OWN_WORDS:
            assert error.startswith(line), f"{fault}: {error!r}"
        _is_one_line(run, error)
        left = {Path(file).suffix for file in _files(run.folder)}
        assert name == "train_net" or not left, f"{fault} left {_files(run.folder)}"
        if name == "train_net":  # its folder says what became of the run
            shutil.rmtree(run.folder)
            run.folder.mkdir()


OWN_WORDS = ("train_net", "synth", "export_model", "embed", "search", "zoo", "gallery", "ablate")


# Arguments that are out of range, repeated or do not fit; a command's last word wins.
BAD_ARGUMENTS = {
    "reproduce": ("--root {mine}", "--card Abacus"),
    "synth": (
        *("--ids 0", "--ids 10000", "--ids 5.5", "--per-camera -1", "--seed -1", "--size 0x0"),
        *("--size 1e3x1e3", "--size 99999x99999", "--size 40", "--layout market", "--root {mine}"),
    ),
    "list": (
        *("--root /nonexistent", "--root {mine}", "--pattern {{camera}}", "--pattern (("),
        *("--output x.txt", "--modality radar", "--visible thermal", "--modality visible"),
    ),
    "doctor": ("--layout market", "--root /nonexistent", "--root {mine}", "--json /none/x.json"),
    "score": (
        *("--protocol sysu-all", "--protocol sysu-all-1shot", "--protocol regdb-v2t"),
        *("--draw everything", "--metric manhattan", "--splits /nonexistent", "--splits {mine}"),
        *("--json {mine}", "--json {features}", "--features /nonexistent"),
    ),
    "compare": ("--names a", "--names a a", "--names a b c", "{results}", "{mine} --names a b c"),
    "embed": (
        "--batch-size 0",
        "--device tpu",
        "--modality radar",
        "--pattern (",
        "--output x.txt",
    ),
    "gallery": ("--nonsense",),
    "search": (
        *("--top 0", "--top -5", "--threshold nan", "--batch-size 0", "--since yesterday"),
        *("--since 0001-01-01T00:00:00+23:59", "--until 9999-12-31T23:59:59-23:59"),
        *("--device cuda:99", "--sheet {mine}", "--in radar"),
    ),
    "calibrate": ("--fpir 0", "--fpir 1.5", "--fpir nan", "--top 0", "--probes /nonexistent"),
    "zoo": ("--index /nonexistent", "--output /proc/1/x.md"),
    "ablate": (
        *("--jobs 0", "--jobs -1", "--seeds 0 0", "--seeds -1", "--seeds 99999999999999999999"),
        *(
            "--weights nan",
            "--weights inf",
            "--weights 0",
            "--weights 1 1",
            "--script /nonexistent",
        ),
        *(
            "--configs {mine}",
            "--configs {config} {config}",
            "--output {mine}",
            "--output {mine}/a",
        ),
    ),
    "keys": ("--nonsense", "SOLVER.BASE_LR"),
    "report": (
        *("--run /nonexistent", "--run {mine}", "--run {images}", "--images /nonexistent"),
        *("--images {mine}", "--seed -1", "--seed 1.5", "--compare {run}", "--compare {images}"),
        *("--output {mine}", "--output {mine}/a", "--compare /nonexistent"),
    ),
    "plans": (
        *("--images 0", "--images -1", "--images 999", "--features {views} {views}"),
        *("--features {features}", "--standin {images}", "--output {mine}", "--output x.jpg"),
    ),
    "clouds": ("--seed -1", f"--seed {2**70}", "--output {mine}", "--output x.jpg", "--seed x"),
    "verify": ("--client /nonexistent", "--client {mine}", "--client {images}", "--device x"),
    "train_net": ("--num-gpus 0", "--num-machines 0", "--machine-rank 1", "--machine-rank -1"),
    "export_model": ("--formats gif", "--agw median", "--weights /nonexistent"),
}


@pytest.mark.parametrize("name", TABLE)
def test_bad_arguments_are_one_line_and_nothing_is_made(run, name, tmp_path, monkeypatch):
    monkeypatch.chdir(run.folder)
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for arguments in BAD_ARGUMENTS[name]:
        where = run.good | {"mine": str(mine), "out": str(run.folder / "out")}
        words = [word.format(**where) for word in (*TABLE[name].words, *arguments.split())]
        if name in TOOLS:  # KEY VALUE pairs stay last
            words = [word.format(**where) for word in arguments.split()] + words
            words = words if name == "train_net" else _last_first(words, arguments)
        run.one_line_of(name, words)
        assert mine.read_text() == "mine", arguments
        assert not _files(run.folder), arguments


def _last_first(words: list[str], arguments: str) -> list[str]:
    """Leave out the option that is given again behind."""
    option = arguments.split()[0]
    later = words.index(option, 1) if option in words[1:] else None
    return words if later is None else words[:later] + words[later + 2 :]


@pytest.mark.parametrize("name", TABLE)
def test_bad_words_are_one_line(run, name):
    for words in (["--nonsense", ODD], [f"--{ODD}"], []):
        if name in ("train_net", "zoo", "keys") and not words:
            continue  # every argument of it may be left out
        run.one_line_of(name, words)


def test_a_worker_of_a_pool_or_a_loader_ends_without_a_word(capfd):
    """The handlers of the main process are not a forked worker's."""
    with readable_errors():
        worker = os.fork()
        if worker == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        _, status = os.waitpid(worker, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert capfd.readouterr().err == ""
