"""Embed images on the machines of a Ray cluster, with Ray Data; one process writes the gallery.

Each worker holds the model and turns a block of image paths into rows, checksums included. The
process that started the run takes blocks as they are done, in any order, and commits them as a run
on one machine does. So all promises of ``cmemd.gallery.table`` hold: one writer, no path twice, and
a killed run goes on where its commits end. Ray starts lost workers again and repeats their blocks.

lance-ray's writer is not used. It commits once, when all is done, so a killed run would lose
everything; it does not look for paths that the gallery has; and it writes with its own copy of
Lance, which need not be LanceDB's.

Model and images must have the same path on every machine, and ``cmemd[serve,ray]`` be installed.
"""

import contextlib
import dataclasses
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cmemd.data.image_files import Reason, Tally
from cmemd.data.modality import Modality
from cmemd.data.sensors import Sensor
from cmemd.errors import InputError, MissingDependencyError
from cmemd.gallery import embedding
from cmemd.gallery.rows import check_rows
from cmemd.gallery.sources import Source
from cmemd.inference.guard import ModalityWarning
from cmemd.inference.model_folder import ModelUser, read_model_folder

if TYPE_CHECKING:
    import pyarrow as pa

    from cmemd.data.appearance import Statistics

__all__ = ["RayEmbedder", "embed_on_ray"]


class RayEmbedder(ModelUser):
    """What ``Predictor`` is, on a cluster: it joins the one of ``RAY_ADDRESS`` or starts its own.

    Args:
        model_dir: the model folder.
        device: "cpu": a worker takes the processors of a machine; "cuda": one takes a GPU.
        batch_size: images that run at once in a worker.
        guard: as ``Predictor`` takes it.
        sensor: as ``Predictor`` takes it.
        statistics: as ``Predictor`` takes them.
        on_corrupt: "skip" or "raise", for an unusable image.

    Attributes:
        skipped: path and reason of each unusable image.
        noted: images that were used although something in them is ignored.
        suspects: number of images that look like the other modality.

    Raises:
        MissingDependencyError: Ray Data is not installed.
        InputError: the model folder is damaged, or no cluster can be reached.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        device: str = "cpu",
        batch_size: int = 64,
        *,
        guard: str = "warn",
        sensor: Sensor | Mapping[str, str] = MappingProxyType({}),
        statistics: "Statistics | None" = None,
        on_corrupt: str = "skip",
    ) -> None:
        _join_cluster()
        super().__init__(read_model_folder(os.fspath(model_dir)), sensor)
        self.device = device
        self.arguments = {
            "model_dir": os.path.abspath(model_dir),
            "device": device,
            "batch_size": batch_size,
            "guard": guard,
            "sensor": self.sensor,
            "statistics": statistics,
            "on_corrupt": on_corrupt,
        }


def embed_on_ray(
    embedder: RayEmbedder, sources: Sequence[Source], modality: Modality
) -> "Iterator[pa.Table]":
    """Embed images on the cluster; ``embedder.skipped`` lists those that cannot be read.

    Args:
        embedder: names the model.
        sources: the images.
        modality: of all of them.

    Yields:
        Tables of ``row_schema`` of at most ``CHUNK`` rows, in the order in which they are done.

    Raises:
        InputError: what a worker met, or the cluster lacks the device or was lost.
    """
    import pyarrow as pa
    import ray

    if not sources:
        return
    parts = [
        sources[start : start + embedding.CHUNK]
        for start in range(0, len(sources), embedding.CHUNK)
    ]
    blocks = ray.data.from_arrow(
        [pa.Table.from_pylist([{"images": _pack(part)}]) for part in parts]
    )
    done = blocks.map_batches(
        _Worker,
        fn_constructor_args=(embedder.arguments, int(modality)),
        batch_size=None,
        batch_format="pyarrow",
        **_workers(embedder.device, len(parts)),
    )
    place: dict[object, int] = {source.path: number for number, source in enumerate(sources)}
    seen = 0
    try:
        with tqdm(total=len(sources), unit="image", desc="embedding", disable=None) as bar:
            for table in done.iter_batches(batch_size=None, batch_format="pyarrow"):
                for block in table.to_pylist():
                    report = json.loads(block["report"])
                    if (error := report.get("error")) is not None:
                        raise InputError(error)
                    embedder.skipped += map(tuple, report["skipped"])
                    embedder.suspects += report["suspects"]
                    for reason, names in report["noted"].items():
                        for name in names:
                            embedder.noted.add(Reason[reason], name)
                    seen += report["images"]
                    bar.update(report["images"])
                    if block["rows"]:
                        rows = pa.ipc.open_stream(block["rows"]).read_all()
                        check_rows(rows, "a worker's answer")
                        yield rows
    except ray.exceptions.RayError as error:
        raise InputError(
            "workers that embed images on the Ray cluster",
            _line(error),
            "see the cluster's logs and run the command again; committed rows are safe",
        ) from error
    embedder.skipped.sort(key=lambda entry: place.get(entry[0], -1))
    if embedder.suspects:
        warnings.warn(
            f"given as {modality.name.lower()}: {embedder.suspects} of {seen} images that look "
            "like the other modality; embeddings of a wrong modality look right but match no one",
            ModalityWarning,
            stacklevel=2,
        )


class _Worker:
    """A process of the cluster that holds the model."""

    def __init__(self, arguments: dict[str, Any], modality: int) -> None:
        from cmemd.inference.predictor import Predictor

        self.modality = Modality(modality)
        self.failure: str | None = None
        try:
            self.predictor = Predictor(**arguments)
        except (InputError, MissingDependencyError) as error:
            self.failure = str(error)  # Ray would start this worker again and again

    def __call__(self, block: "pa.Table") -> "pa.Table":
        """Return rows and a report for each row of packed images."""
        import pyarrow as pa

        answers = [self._embed(_unpack(text)) for text in block["images"].to_pylist()]
        schema = pa.schema([("rows", pa.large_binary()), ("report", pa.large_string())])
        return pa.Table.from_pylist(answers, schema=schema)

    def _embed(self, sources: list[Source]) -> dict[str, object]:
        import pyarrow as pa

        if self.failure is not None:
            return {"rows": b"", "report": json.dumps({"error": self.failure})}
        predictor = self.predictor
        predictor.skipped, predictor.noted, suspects = [], Tally(), predictor.suspects
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ModalityWarning)  # the report counts them
            try:
                chunks = list(embedding.embed_chunks(predictor, sources, self.modality))
            except InputError as error:  # of --strict or --on-corrupt raise
                return {"rows": b"", "report": json.dumps({"error": str(error)})}
        stream = pa.BufferOutputStream()
        if chunks:
            with pa.ipc.new_stream(stream, chunks[0].schema) as writer:
                for chunk in chunks:
                    writer.write_table(chunk)
        report = {
            "images": len(sources),
            "skipped": [(str(path), reason) for path, reason in predictor.skipped],
            "suspects": predictor.suspects - suspects,
            "noted": {reason.name: predictor.noted.names(reason) for reason in Reason},
        }
        return {"rows": stream.getvalue().to_pybytes(), "report": json.dumps(report)}


def _pack(sources: Sequence[Source]) -> str:
    return json.dumps([dataclasses.astuple(source) for source in sources], default=_iso)


def _unpack(text: str) -> list[Source]:
    from datetime import datetime

    fields = [field.name for field in dataclasses.fields(Source)]
    found = [dict(zip(fields, values, strict=True)) for values in json.loads(text)]
    return [
        Source(**values | {"time": values["time"] and datetime.fromisoformat(values["time"])})
        for values in found
    ]


def _iso(time: Any) -> str:
    return time.isoformat()


def _join_cluster() -> None:
    """Connect this process to a Ray cluster.

    Raises:
        MissingDependencyError: Ray Data is not installed.
        InputError: the cluster of ``RAY_ADDRESS`` does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send them to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # stderr is for our own lines
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            f"expected Ray Data for --engine ray, got an installation without it "
            f"({error.name or error}): pip install 'cmemd[ray]'"
        ) from None
    if not ray.is_initialized():
        package = str(Path(__file__).parents[2])  # cmemd's, where it is not installed
        paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}}
        try:
            with _hushed():
                ray.init(log_to_driver=False, logging_level="ERROR", runtime_env=environment)
        except Exception as error:
            raise InputError(
                "a Ray cluster that answers",
                f"{os.environ.get('RAY_ADDRESS', 'none here')} ({_line(error)})",
                "start it with ray start --head, or unset RAY_ADDRESS to start one here",
            ) from error
    # Ray copies its own settings, the old ones among them, and warns of that.
    warnings.filterwarnings("ignore", message=r"`\w+` is deprecated")
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours counts images
    context.print_on_execution_start = False


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Drop what Ray's C++ part writes to stderr while it starts, its log level among it."""
    try:
        stderr = os.dup(2)
    except OSError:  # the process has none
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(null)
        os.close(stderr)


def _workers(device: str, blocks: int) -> dict[str, Any]:
    """Return the size and the resources of the pool of workers, as ``map_batches`` takes them."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if device == "cpu":
        # ONNX Runtime and the threads that decode use all processors of a machine.
        processors = [int(of["CPU"]) for of in alive if of.get("CPU", 0) >= 1]
        per, wanted = min(processors, default=1), {"num_cpus": min(processors, default=1)}
        places = sum(have // per for have in processors)
    else:
        wanted = {"num_gpus": 1, "num_cpus": 1}
        places = sum(int(of.get("GPU", 0)) for of in alive)
    if not places:
        raise InputError(
            f"a machine with {'a GPU' if device != 'cpu' else 'a processor'} in the Ray cluster",
            f"{len(alive)} without",
            "add one, or choose another --device",
        )
    size = min(places, blocks)
    return {"compute": ray.data.ActorPoolStrategy(min_size=1, max_size=size), **wanted}


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    return "".join(letter if letter.isprintable() else " " for letter in text)[:240]
