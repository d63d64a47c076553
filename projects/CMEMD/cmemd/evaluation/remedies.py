"""Remedies at test time for mixed-modality galleries, with parameters from validation identities.

* k-reciprocal re-ranking (``cmemd.evaluation.rerank``);
* the same with neighbours from each modality in turn;
* distances centred per pair of modalities (``cmemd.evaluation.mixed``).

The settings of re-ranking are those of a grid with the highest mAP on validation identities.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from cmemd.data.layouts.permutations import RandPermCam
from cmemd.errors import InputError
from cmemd.evaluation.mixed import fit_centring
from cmemd.evaluation.protocols import Protocol
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.scoring import BalancedReranking, Remedy, Reranking, score

__all__ = ["GRID", "check_remedies", "choose_remedies"]

GRID = tuple(itertools.product((5, 10, 20), (1, 3, 6), (0.3, 0.5, 0.7)))  # k1, k2, weight [chosen]


def check_remedies(protocols: Sequence[Protocol]) -> None:
    """Raise unless each protocol is a mixed one.

    Raises:
        InputError: names the others.
    """
    others = [protocol.name for protocol in protocols if protocol.mixture is None]
    if others:
        raise InputError(
            "remedies with mixed protocols only",
            ", ".join(others),
            "leave --validation or TEST.REMEDIES out, or score the mixed protocol by itself",
        )


def choose_remedies(
    validation: Samples,
    protocol: Protocol,
    sampling: str,
    perm: RandPermCam | None,
    distance: str,
) -> list[Remedy]:
    """Return each remedy with its parameters.

    Args:
        validation: images of validation identities.
        protocol: a mixed one; the first trial of it on these images compares the settings.
        sampling: see ``score_all``.
        perm: see ``score_all``.
        distance: ``euclidean`` or ``cosine``.

    Raises:
        InputError: validation identities that the protocol cannot be scored on.
    """
    first = replace(protocol, trials=1)
    chosen: list[Remedy] = []
    for kind in (Reranking, BalancedReranking):
        # Of equal settings the first one wins.
        best = max(
            (kind(*settings) for settings in GRID),
            key=lambda remedy: score(validation, first, sampling, perm, distance, remedy).mean()[
                "mAP"
            ],
        )
        chosen.append(best)
    return [*chosen, fit_centring(validation, distance)]
