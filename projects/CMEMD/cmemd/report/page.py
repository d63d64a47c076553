"""Write the page: read the runs, build the sections, fill the template."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np

from cmemd.errors import InputError, printable
from cmemd.evaluation.details import FirstTrial, cmc_curves, first_trial
from cmemd.evaluation.tables import Comparison
from cmemd.files import write_whole
from cmemd.paths import check_output, check_place
from cmemd.report.blocks import Missing, Section
from cmemd.report.comparison import compare_runs, comparison_section
from cmemd.report.galleries import galleries_section
from cmemd.report.head import facts, headline, metrics_section, provenance_section
from cmemd.report.insight import network_sections
from cmemd.report.rates import rates_section
from cmemd.report.run import Run, open_run, protocol_of
from cmemd.report.space import open_set_section, space_section
from cmemd.report.training import training_section
from cmemd.version import __version__

__all__ = ["LARGEST", "MARK", "page_path", "render", "write_report"]

MARK = "cmemd report"
LARGEST = 15 * 10**6  # bytes of a page
_TOLERANCE = 1e-6  # points by which recomputed metrics may differ


def page_path(output: Path) -> Path:
    """Return the file of a page: ``index.html`` in a folder, or the file itself."""
    return output if output.suffix.lower() == ".html" else output / "index.html"


def write_report(
    folder: Path,
    output: Path,
    *,
    compare: Sequence[Path] = (),
    images: Path | None = None,
    seed: int = 0,
) -> Path:
    """Write the page of a run; return its path.

    Args:
        folder: the run's OUTPUT_DIR.
        output: a folder, or a file that ends in .html.
        compare: OUTPUT_DIR of other runs, to be set beside it.
        images: folder of the data set, where images are no longer where the run found them.
        seed: of every choice that the page makes at random.

    Raises:
        InputError: a folder holds no run; no two runs were scored in the same way; a seed below 0;
            the page cannot be written, or would replace another file.
    """
    path = page_path(output)
    check_place(path)
    check_output(path, MARK.encode())
    if images is not None and not images.is_dir():
        got = "a file" if images.exists() else "no such folder"
        raise InputError(f"the data set's folder at --images {images}", got, "name the folder")
    if not 0 <= seed < 2**32:
        raise InputError("a --seed from 0 to 4294967295", seed, "leave it out for 0")
    folders = [folder, *compare]
    runs = [
        open_run(place, name, images) for place, name in zip(folders, _names(folders), strict=True)
    ]
    comparisons = compare_runs(runs) if len(runs) > 1 else []
    with mpl.rc_context({"text.parse_math": False, "font.family": "DejaVu Sans"}):
        sections = _sections(runs, comparisons, seed)
    text = render(runs[0], sections)
    content = text.encode("utf-8", "replace")
    if len(content) > LARGEST:
        raise InputError(
            f"a page of at most {LARGEST:,} bytes",
            f"{len(content):,}",
            "compare fewer runs",
        )
    write_whole(path, content)
    return path


def render(run: Run, sections: Sequence[Section]) -> str:
    """Return the page as HTML; all texts are escaped by the template."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = lambda text: "\n".join(map(printable, text.split("\n")))
    return environment.get_template("page.html.j2").render(
        run=run,
        mark=MARK,
        version=__version__,
        figures=headline(run),
        facts=facts(run),
        sections=sections,
    )


def _sections(runs: Sequence[Run], comparisons: list[Comparison], seed: int) -> list[Section]:
    run = runs[0]
    sections = [metrics_section(run)]
    trials, cmc = {}, {}
    for other in runs:
        trials[other.name] = _rankings(other)
        found = _cmc(other, trials[other.name])
        if found is not None and other.entry["protocol"] == (run.main or {}).get("protocol"):
            cmc[other.name] = found
    if len(runs) > 1:
        sections.append(comparison_section(runs, comparisons, cmc))
    sections.append(training_section(run))
    own = trials[run.name]
    if run.results is None:
        rates = Section("rates", "CMC, and who is found")
        rates.missing.append(run.missing["results"])
    else:
        rates = rates_section(run, cmc.get(run.name))
    sections.append(rates)
    if own:
        sections.append(galleries_section(run, own[0], seed))
        sections.append(space_section(run, seed))
        open_set = open_set_section(run, own)
    else:
        lacking = run.missing["features"]
        for anchor, title in (("galleries", "Ranked galleries"), ("space", "Embeddings")):
            empty = Section(anchor, title)
            empty.missing.append(Missing(title, lacking.why, lacking.remedy))
            sections.append(empty)
        open_set = Section("open-set", "Open set")
        open_set.missing.append(Missing("DET curves", lacking.why, lacking.remedy))
    sections += [*network_sections(run, seed), open_set, provenance_section(run)]
    return sections


def _rankings(run: Run) -> list[FirstTrial]:
    """Return the first trial of each protocol; empty where features are missing or of another run.

    Features of another evaluation than the results' are not used, and noted.
    """
    if run.saved is None or run.results is None:
        return []
    found = []
    try:
        entries: dict[str, Any] = {}  # the first one of each protocol
        for entry in run.results["scores"]:
            entries.setdefault(entry["protocol"], entry)
        for entry in entries.values():
            found.append(
                first_trial(
                    run.samples,
                    protocol_of(entry),
                    entry["draw"],
                    run.permutations,
                    run.entry["metric"],
                )
            )
        rank1 = 100 * float(np.nanmean(found[0].scores.hits(1, found[0].protocol.cmc)))
        stored = run.entry["per_trial"]["rank1"][0]
        if abs(rank1 - stored) > _TOLERANCE and run.entry["reranking"] is None:
            raise InputError(
                f"features that give the results' Rank-1 of the first trial, {stored:.2f} %",
                f"{rank1:.2f} %",
                "evaluate once more with TEST.SAVE_FEATURES True",
            )
    except InputError as error:
        run.saved = None
        run.missing["features"] = Missing("Features", str(error), "TEST.SAVE_FEATURES True")
        return []
    return found


def _cmc(run: Run, trials: Sequence[FirstTrial]) -> np.ndarray | None:
    if not trials:
        return None
    return cmc_curves(
        run.samples,
        trials[0].protocol,
        run.entry["draw"],
        run.permutations,
        run.entry["metric"],
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """Return each folder's name, or its path where folders share a name.

    Raises:
        InputError: a folder is given twice.
    """
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise InputError(
            "each run once",
            f"{len(places)} folders, {len(set(places))} of them different",
            "fix --compare",
        )
    names = [place.name for place in places]
    return [
        printable(name if names.count(name) == 1 else str(folder))
        for name, folder in zip(names, folders, strict=True)
    ]
