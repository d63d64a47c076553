r"""The thresholds file: thresholds of a search, and what each of them belongs to.

A threshold holds for embeddings of one model, for probes of one modality among rows of one
modality, and for a number of rows, the candidates. If a probe of an unknown person passes a
threshold with probability :math:`f` among :math:`N` candidates, and candidates are independent, it
passes among :math:`M` with :math:`1 - (1 - f)^{M / N}`, which is near :math:`f M / N`. Several
images of a person are not independent, so this is an estimate from above.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cmemd.errors import InputError
from cmemd.files import document_sha256, write_output
from cmemd.paths import check_output

__all__ = [
    "MOST_CANDIDATES",
    "PairThreshold",
    "check_thresholds",
    "expected_fpir",
    "read_threshold",
    "write_thresholds",
]

MOST_CANDIDATES = 2  # times those of the calibration for which a threshold is used [chosen]
_SCHEMA, _VERSION = "cmemd-thresholds", 1
_MARK = f'{{\n  "schema": "{_SCHEMA}"'.encode()
_LIMIT = 2**20  # bytes of a file; four pairs take 2 KiB


@dataclass(frozen=True)
class PairThreshold:
    """A threshold of one pair of modalities, and the calibration that it comes from.

    Attributes:
        probes: modality of the queries.
        gallery: modality of the rows.
        candidates: number of rows.
        rate: the wanted share of probes of unknown people that pass.
        threshold: the score.
    """

    probes: str
    gallery: str
    candidates: int
    rate: float
    threshold: float

    def check_candidates(self, candidates: int) -> float:
        """Return the rate of false positives to expect among a number of candidates.

        Raises:
            InputError: more than ``MOST_CANDIDATES`` times those of the calibration.
        """
        expected = expected_fpir(self.rate, self.candidates, candidates)
        if candidates > MOST_CANDIDATES * self.candidates:
            raise InputError(
                f"at most {MOST_CANDIDATES * self.candidates} candidates for a threshold that was "
                f"calibrated among {self.candidates}",
                f"{candidates}, where about {100 * expected:.2g} % of unknown people would pass "
                f"instead of {100 * self.rate:.2g} %",
                "calibrate among more, or search fewer with --camera, --since or --until",
            )
        return expected


def expected_fpir(rate: float, calibrated: int, candidates: int) -> float:
    """Return the rate of false positives among another number of candidates.

    Args:
        rate: the rate among ``calibrated`` candidates.
        calibrated: their number.
        candidates: the other number.

    >>> round(expected_fpir(0.1, 100, 200), 4)  # 1 - 0.9 ** 2
    0.19
    """
    return -math.expm1(candidates / calibrated * math.log1p(-rate))


def check_thresholds(path: Path) -> None:
    """Raise unless ``write_thresholds`` can write a file: a new one, or a thresholds file.

    Raises:
        InputError: another file is there, or the folder is missing.
    """
    if not path.parent.is_dir():
        raise InputError(
            f"a folder at {path.parent}", "none", "make it, or choose another --output"
        )
    check_output(path, _MARK)


def write_thresholds(
    path: Path, model: str, results: Sequence[tuple[PairThreshold, dict[str, Any]]]
) -> None:
    """Write a thresholds file; replace one that this function wrote.

    Args:
        path: the file.
        model: digest of the model.
        results: each threshold, and what its calibration measured, which is kept for the reader.

    Raises:
        InputError: another file is there, or the folder cannot be written to.
    """
    document = {
        "schema": _SCHEMA,
        "version": _VERSION,
        "model": model,
        "thresholds": [{**asdict(pair), "measured": facts} for pair, facts in results],
    }
    document["document_sha256"] = document_sha256(document)
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_output(path, text.encode(), _MARK)


def read_threshold(path: Path, model: str, probes: str, gallery: str) -> PairThreshold:
    """Return the threshold of a model and a pair of modalities out of a thresholds file.

    Args:
        path: the file.
        model: digest of the model.
        probes: modality of the queries.
        gallery: modality of the rows, or ``all``.

    Raises:
        InputError: the file is missing, damaged or of another kind; or its thresholds are of
            another model or of other pairs.
    """
    document = _read(path)
    if document["model"] != model:
        raise InputError(
            f"thresholds of model {model[:16]} in {path}",
            f"those of model {document['model'][:16]}",
            "calibrate with this model",
        )
    pairs = {(pair.probes, pair.gallery): pair for pair in document["thresholds"]}
    if (probes, gallery) not in pairs:
        raise InputError(
            f"a threshold for {probes} queries among {gallery} images in {path}",
            ", ".join(f"{one} among {other}" for one, other in pairs) or "none",
            "search with --in for a pair that it has, or calibrate with such embeddings",
        )
    return pairs[probes, gallery]


def _read(path: Path) -> dict[str, Any]:
    remedy = "name a file that cmemd calibrate --output wrote"
    try:
        if not path.is_file():
            raise ValueError("no such file" if not path.exists() else "no plain file")
        with path.open("rb") as file:
            document = json.loads(file.read(_LIMIT))
        if document["schema"] != _SCHEMA or document["version"] != _VERSION:
            raise ValueError("another document")
        if document["document_sha256"] != document_sha256(document):
            raise ValueError("a document that was changed after it was written")
        document["thresholds"] = [
            PairThreshold(**{name: pair[name] for name in PairThreshold.__dataclass_fields__})
            for pair in document["thresholds"]
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise InputError(f"thresholds at {path}", reason, remedy) from error
    return document
