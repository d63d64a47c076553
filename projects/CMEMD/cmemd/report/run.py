"""Read what a run left in its folder, as plain data; nothing here needs PyTorch."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from cmemd.data.layouts import own, sysu
from cmemd.data.layouts.permutations import RandPermCam, read_rand_perm_cam
from cmemd.engine.identity import RUN_FILE, RunLog, flat_config, read_run
from cmemd.errors import InputError, reason
from cmemd.evaluation.features_file import SavedFeatures, read_saved
from cmemd.evaluation.protocols import (
    OFFICIAL,
    PYTHON,
    Options,
    Protocol,
    get_protocol,
    with_options,
)
from cmemd.evaluation.results import read_per_query, read_results
from cmemd.evaluation.samples import Samples
from cmemd.paths import check_input
from cmemd.report.blocks import Missing
from cmemd.report.pictures import Images

__all__ = ["Run", "open_run", "protocol_of"]

_RESULTS, _FEATURES, _CONFIG, _METRICS = (
    "results.json",
    "features.npz",
    "config.yaml",
    "metrics.json",
)
_META = "meta.jsonl"  # a stand-in's own list
_SAVE = "TEST.SAVE_FEATURES True"


@dataclass(eq=False)
class Run:
    """What is known of a run.

    Attributes:
        folder: its OUTPUT_DIR.
        name: what the page calls it.
        results: content of its results file; None for an unfinished run.
        per_query: metrics of each query, for each score of the results; empty where not saved.
        log: its record, ``run.json``; None where there is none.
        config: every key -> its value; empty where unknown.
        scalars: name of a logged value -> (iterations, values), both ``(n,)``.
        saved: its features and how they were scored; None where not saved.
        permutations: SYSU-MM01's, where the data set has them.
        images: finds its images.
        root: folder of the data set under test; None where it is not at hand.
        standin: whether the data set is drawn; None for unknown.
        missing: what could not be read, by name: "features", "results", "scalars", "config".
    """

    folder: Path
    name: str
    results: Mapping[str, Any] | None = None
    per_query: Sequence[Mapping[str, np.ndarray]] = ()
    log: RunLog | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    scalars: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    saved: SavedFeatures | None = None
    permutations: RandPermCam | None = None
    images: Images = field(default_factory=Images)
    root: Path | None = None
    standin: bool | None = None
    missing: dict[str, Missing] = field(default_factory=dict)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the results file says of the run; empty without results."""
        return (self.results or {}).get("run", {})

    @property
    def main(self) -> Mapping[str, Any] | None:
        """The first score of the results, which the page looks at closely."""
        return self.results["scores"][0] if self.results else None

    @property
    def entry(self) -> Mapping[str, Any]:
        """The first score, of a run with results."""
        assert self.main is not None, "the page asks for results first"
        return self.main

    @property
    def samples(self) -> Samples:
        """The saved features, of a run with them."""
        assert self.saved is not None, "the page asks for features first"
        return self.saved.samples

    @property
    def protocol(self) -> Protocol | None:
        """The protocol of the first score; None where this version does not know it."""
        try:
            return protocol_of(self.main) if self.main else None
        except InputError:
            return None

    @property
    def interruptions(self) -> Sequence[Mapping[str, Any]]:
        """Every start of the training but the first."""
        return list(self.log.interruptions) if self.log else self.facts.get("interruptions", [])


def protocol_of(entry: Mapping[str, Any]) -> Protocol:
    """Return the protocol of a results file's entry, with the rules that a user chose.

    Raises:
        InputError: this version does not know it.
    """
    rules = {name: value for name, value in entry.get("rules", {}).items() if value is not None}
    known = {of.name for of in fields(Options)}
    chosen = {name: value for name, value in rules.items() if name in known}
    if not chosen:
        return get_protocol(entry["protocol"])
    trials = entry["trials"] if entry["draw"] == PYTHON else 0
    protocol = get_protocol(entry["protocol"])
    if protocol.dataset != own.LAYOUT.name:  # whose other rules are fixed
        options = Options(ratio=chosen.get("ratio", Options.ratio))
    else:
        options = Options(**{**chosen, "trials": trials, "cmc": entry["cmc"]})
    return with_options([protocol], options)[0]


def open_run(folder: Path, name: str, images: Path | None = None) -> Run:
    """Read a run's folder; what is missing there is noted.

    Args:
        folder: an OUTPUT_DIR.
        name: what to call the run.
        images: folder of its data set, where images are no longer where the run found them.

    Raises:
        InputError: no such folder, or neither a run's record nor results in it; a file of another
            version, or damaged.
    """
    if not folder.is_dir():
        raise InputError(
            f"a run's OUTPUT_DIR at {folder}",
            "a file" if folder.exists() else "no such folder",
            "name the folder that a training or an evaluation wrote",
        )
    if not (folder / _RESULTS).exists() and not (folder / RUN_FILE).exists():
        raise InputError(
            f"a run in {folder}",
            f"neither {RUN_FILE} nor {_RESULTS}",
            "name the OUTPUT_DIR of a training or an evaluation",
        )
    run = Run(folder, name, images=Images(images))
    run.log = read_run(folder)
    if (folder / _RESULTS).exists():
        run.results = read_results(folder / _RESULTS)
        run.per_query = read_per_query(folder / _RESULTS, run.results)
    else:
        run.missing["results"] = Missing(
            "Metrics", "the run is unfinished: it has no results.json", "--resume finishes it"
        )
    run.config = _config(run)
    run.scalars = _scalars(folder / _METRICS)
    if not run.scalars:
        run.missing["scalars"] = Missing(
            "Training curves", "no metrics.json: this was an evaluation, or training logged nothing"
        )
    _read_features(run)
    run.root = _data_root(run, images)
    run.standin = _is_standin(run.root)
    _read_permutations(run)
    return run


def _config(run: Run) -> dict[str, Any]:
    if run.log is not None:
        return dict(run.log.identity.config)
    path = run.folder / _CONFIG
    try:
        check_input(path, "a configuration", "")
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return flat_config(found)
        why = f"{_CONFIG} holds no keys"
    except InputError:
        why = f"neither {RUN_FILE} nor {_CONFIG}"
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        why = f"{_CONFIG} cannot be read ({reason(error, 80)})"
    run.missing["config"] = Missing("The configuration", why)
    return {}


def _scalars(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the logged values; of an iteration that a resumed run logged again, the last ones."""
    if not path.is_file():
        return {}
    rows: dict[int, dict[str, float]] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                values = json.loads(line)
                iteration = values.pop("iteration")
            except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
                continue  # a kill may leave half a line
            if isinstance(iteration, int):
                rows[iteration] = {**rows.get(iteration, {}), **values}
    columns: dict[str, list[tuple[int, float]]] = {}
    for iteration in sorted(rows):
        for name, value in rows[iteration].items():
            if isinstance(value, int | float) and math.isfinite(value):
                columns.setdefault(name, []).append((iteration + 1, float(value)))
    return {name: tuple(np.array(points).T) for name, points in columns.items()}


def _read_features(run: Run) -> None:
    if run.protocol is None:
        why = "there is nothing to compare them with: the run has no results of a known protocol"
        run.missing["features"] = Missing("Features", why)
        return
    path = run.folder / _FEATURES
    if not path.exists():
        run.missing["features"] = Missing("Features", f"no {_FEATURES}", _SAVE)
        return
    try:
        run.saved = read_saved(path, run.protocol.dataset)
    except InputError as error:
        run.missing["features"] = Missing("Features", str(error), _SAVE)


def _data_root(run: Run, images: Path | None) -> Path | None:
    """Return the data set's folder: that of the features' images, above their own folders."""
    if images is not None:
        return images
    if run.saved is None:
        return None
    first = PurePosixPath(run.samples.paths[0])
    for folder in list(first.parents)[:5]:
        if Path(folder, _META).is_file() or Path(folder, "exp").is_dir():
            return Path(folder)
        if Path(folder, "idx").is_dir():
            return Path(folder)
    return None


def _is_standin(root: Path | None) -> bool | None:
    if root is None:
        return None
    try:
        with (root / _META).open(encoding="utf-8") as file:
            return "standin" in json.loads(file.readline())
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError):
        return None


def _read_permutations(run: Run) -> None:
    if run.saved is None or run.entry["draw"] != OFFICIAL:
        return
    try:
        if run.root is None:
            raise InputError("the data set's folder", "none", "name it with --images")
        run.permutations = read_rand_perm_cam(run.root / "exp" / sysu.PERMUTATIONS)
    except InputError:
        run.saved = None
        run.missing["features"] = Missing(
            "Rankings",
            f"the official gallery sampling needs {sysu.PERMUTATIONS}, which is not at hand",
            "--images FOLDER of the data set",
        )
