"""The space of embeddings: distances of pairs, a map in two dimensions, the open set."""

import numpy as np
from matplotlib.figure import Figure

from cmemd.data.modality import Modality
from cmemd.evaluation.details import FirstTrial, open_set_of, pair_distances, unit_rows
from cmemd.evaluation.figures import COLOURS, MUTED, draw_distances, legend, new_axes
from cmemd.evaluation.open_set import det_curve
from cmemd.evaluation.samples import Samples
from cmemd.report.blocks import Missing, Section
from cmemd.report.pictures import chart
from cmemd.report.run import Run

__all__ = ["draw_det", "draw_map", "embed_in_two", "open_set_section", "space_section"]

_POINTS = 800  # of the map
_PERPLEXITY, _ITERATIONS = 30, 500
_COLOURED = 6  # identities with a colour of their own
_MARKS = {Modality.VISIBLE: "o", Modality.THERMAL: "^"}


def space_section(run: Run, seed: int) -> Section:
    """Return histograms of distances, and a map of embeddings."""
    samples, metric = run.samples, run.entry["metric"]
    section = Section("space", "Embeddings")
    section.lead = (
        "Distances of pairs of test images. The further apart the filled and the outlined "
        "distribution, the better; within a modality it is easier than across."
    )
    label = "Cosine distance" if metric == "cosine" else "Euclidean distance"
    for name, pairs in pair_distances(samples, metric, seed=seed).items():
        across = " and " in name
        title = "Across the modalities" if across else f"Within {name}"
        if not len(pairs.other):
            section.missing.append(Missing(title, "no pairs of two identities"))
            continue
        share = (
            f"A same-identity pair is nearer than another in {100 * pairs.nearer:.1f} % of cases."
        )
        figure = draw_distances(pairs.same, pairs.other, title, label)
        section.blocks.append(chart(figure, f"Distances, {title.lower()}. {share}", share))
    finite = np.flatnonzero(samples.finite)
    rows = _whole_identities(samples, finite, seed)
    if len(rows) < 10:
        section.missing.append(Missing("The map of embeddings", f"{len(rows)} images are too few"))
        return section
    points, method = embed_in_two(unit_rows(samples.features[rows]), seed)
    for by_identity in (False, True):
        figure = draw_map(points, samples.pids[rows], samples.modalities[rows], by_identity, seed)
        what = "identity" if by_identity else "modality"
        section.blocks.append(
            chart(
                figure,
                f"Map of {len(rows)} embeddings by {what}; circles are visible images, triangles "
                "thermal ones.",
                f"{method}, {len(rows)} images. Neighbourhoods mean something, distances between "
                "far groups and axes do not.",
            )
        )
    return section


def _whole_identities(samples: Samples, rows: np.ndarray, seed: int) -> np.ndarray:
    """Return rows of whole identities, drawn until ``_POINTS`` images are reached."""
    pids = np.random.default_rng(seed).permutation(np.unique(samples.pids[rows]))
    chosen: list[np.ndarray] = []
    for pid in pids:
        own = rows[samples.pids[rows] == pid]
        if chosen and sum(map(len, chosen)) + len(own) > _POINTS:
            break
        chosen.append(own[: _POINTS // 4])
    return np.concatenate(chosen) if chosen else rows[:0]


def embed_in_two(features: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Return a map in two dimensions, and how it was made.

    t-SNE by openTSNE, from principal components and with one thread, so that a seed gives one map;
    principal components where openTSNE is not installed.

    Args:
        features: ``(n, D)``, finite, of norm 1.
        seed: of the map.

    Returns:
        ``(n, 2)``; the method with its parameters.
    """
    try:
        from openTSNE import TSNE
    except ImportError:
        centred = features - features.mean(axis=0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        return centred @ axes[:2].T, "Principal components (pip install 'cmemd[report]' for t-SNE)"
    perplexity = min(_PERPLEXITY, (len(features) - 1) // 3)
    made = TSNE(
        perplexity=perplexity,
        n_iter=_ITERATIONS,
        metric="cosine",
        initialization="pca",
        neighbors="exact",
        n_jobs=1,
        random_state=seed,
    ).fit(features)
    words = f"t-SNE (openTSNE), cosine, perplexity {perplexity}, {_ITERATIONS} iterations"
    return np.asarray(made), f"{words}, seed {seed}"


def draw_map(
    points: np.ndarray, pids: np.ndarray, modalities: np.ndarray, by_identity: bool, seed: int
) -> Figure:
    """Draw points, circles for visible and triangles for thermal images.

    Args:
        points: ``(n, 2)``.
        pids: ``(n,)`` identities.
        modalities: ``(n,)`` values of ``Modality``.
        by_identity: colour a few identities, and leave the others grey; else colour modalities.
        seed: chooses those identities.
    """
    title = "Map by identity" if by_identity else "Map by modality"
    figure, axes = new_axes(title, "", "", (4.3, 3.6))
    axes.set(xticks=[], yticks=[])
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)
    if by_identity:
        people = np.unique(pids)
        chosen = np.random.default_rng(seed).permutation(people)[:_COLOURED]
        groups = {
            f"id {pid}": (pids == pid, COLOURS[n % 6]) for n, pid in enumerate(chosen.tolist())
        }
        rest = ~np.isin(pids, chosen)
    else:
        groups = {m.name.lower(): (modalities == m, COLOURS[m]) for m in Modality}
        rest = np.zeros(len(pids), dtype=bool)
    for name, (own, colour) in {"": (rest, MUTED), **groups}.items():
        for modality, mark in _MARKS.items():
            place = points[own & (modalities == modality)]
            alpha, size = (0.3, 9) if not name else (0.85, 20) if by_identity else (0.6, 11)
            x, y = place.T
            axes.scatter(x, y, s=size, marker=mark, color=colour, alpha=alpha, linewidths=0)
        if name:
            mark = _MARKS[Modality.THERMAL if name == "thermal" else Modality.VISIBLE]
            axes.plot([], [], mark, color=colour, label=name)
    legend(axes)
    return figure


def open_set_section(run: Run, trials: list[FirstTrial]) -> Section:
    """Return a DET curve for each protocol that has queries without a person in the gallery."""
    section = Section("open-set", "Open set")
    section.lead = (
        "Some queries have no person in the gallery. With a threshold on the score, a search can "
        "say that nothing matches: the curve shows what that costs. cmemd calibrate chooses a "
        "threshold."
    )
    for found in trials:
        scores = open_set_of(run.samples, found)
        name = found.protocol.name
        if scores is None:
            why = f"every query of {name} has its person in the gallery, or none has"
            section.missing.append(Missing(f"DET curve of {name}", why))
            continue
        fpir, fnir = det_curve(scores)
        figure = draw_det(fpir, fnir, f"DET: {name}")
        at = np.flatnonzero(fpir <= 0.1)[0]
        mated = int(scores.mated.sum())
        note = (
            f"{mated:,} queries with their person in the gallery, {len(scores.mated) - mated:,} "
            f"without; first trial. At a false-positive rate of {100 * fpir[at]:.1f} %, "
            f"{100 * fnir[at]:.1f} % are missed among the first 10."
        )
        section.blocks.append(chart(figure, f"DET curve of {name}. {note}", note))
    return section


def draw_det(fpir: np.ndarray, fnir: np.ndarray, title: str) -> Figure:
    """Draw the miss rate over the false-positive rate.

    Args:
        fpir: ``(n,)`` falling shares.
        fnir: ``(n,)`` rising shares.
        title: what the curve is of.
    """
    words = "False-positive identification rate, FPIR (%)"
    figure, axes = new_axes(title, words, "Miss rate, FNIR (%)")
    axes.step(100 * fpir, 100 * fnir, where="post", color=COLOURS[0], linewidth=2)
    axes.set(xlim=(0, 100), ylim=(0, 101))
    return figure
