"""Every key that this plugin adds to fast-reid's configuration, and how one is loaded.

Each key says where its meaning comes from: [P] the paper, [S] the first author's follow-up,
[C] chosen by this project, not from the paper.
"""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import cmemd.compat  # noqa: F401  before fastreid

import yaml
from fastreid.config import CfgNode, get_cfg

from cmemd.data.layouts import llcm, regdb, sysu
from cmemd.errors import InputError

__all__ = ["add_cmemd_config", "load_config"]


def add_cmemd_config(cfg: CfgNode) -> None:
    """Add this plugin's keys, with their defaults, to a fast-reid configuration, in place."""
    # Seed of all random numbers; -1 draws one, which the run's record and results name [C]. On one
    # CPU the same seed repeats a run bit by bit, interrupted or not, with any NUM_WORKERS. Other
    # numbers of processes or threads see the same batches, but add up in another order.
    cfg.SEED = -1

    # ---- Backbone -------------------------------------------------------------------------
    # Factor on all channel counts; 1 is ResNet [P]. Less is for CPUs and small data [C].
    cfg.MODEL.BACKBONE.WIDTH = 1.0

    # ---- Heads ----------------------------------------------------------------------------
    # Kinds of features, coarse to fine [P]; for ablations the last one or two can be left out [C].
    cfg.MODEL.HEADS.GRANULARITIES = ("global", "local", "accumulated")
    # S, number of horizontal stripes: 6 was best in the follow-up's study [S].
    cfg.MODEL.HEADS.STRIPES = 6
    # How the positive local weights of the holistic feature [P] are learned [C]: "model", one per
    # stripe; "image", from each image's local features. They sum to 1.
    cfg.MODEL.HEADS.LOCAL_WEIGHTS = "model"
    # beta, share of the local part in the test feature; 1 - beta is the global part's [S].
    cfg.MODEL.HEADS.TEST_BETA = 0.6
    # Whether accumulated features join the test feature's local part [C].
    cfg.MODEL.HEADS.TEST_ACCUMULATED = False

    # ---- Losses ---------------------------------------------------------------------------
    # Pulls the modalities of each identity together, on every feature of every granularity.
    cfg.MODEL.LOSSES.ALIGN = CfgNode()
    # "cm_emd", optimal transport [P]. In its place [C]: "none"; pairs weighted by another plan:
    # "uniform", "sinkhorn", "affinity"; or whole clouds compared: "centre", "kl", "mmd".
    cfg.MODEL.LOSSES.ALIGN.NAME = "cm_emd"
    # lambda_align; the terms of all features are summed. 0 leaves the loss out [C].
    cfg.MODEL.LOSSES.ALIGN.WEIGHT = 0.1
    # Iterations over which the weight rises from 0, linearly; 0: constant [C].
    cfg.MODEL.LOSSES.ALIGN.WARMUP_ITERS = 0
    # d, ground distance: "sqeuclidean", "euclidean" or "cosine" [C]. All but "kl" have one.
    cfg.MODEL.LOSSES.ALIGN.DISTANCE = "sqeuclidean"
    # Whether features are L2-normalised before distances are taken [C].
    cfg.MODEL.LOSSES.ALIGN.NORMALIZE = True
    # "sinkhorn": entropic regularisation, in units of the ground distance [C].
    cfg.MODEL.LOSSES.ALIGN.EPSILON = 0.05
    # "affinity": temperature of the softmax, in units of the ground distance [C].
    cfg.MODEL.LOSSES.ALIGN.TEMPERATURE = 0.1
    # "kl": added to each variance, relative to the features' mean square [C].
    cfg.MODEL.LOSSES.ALIGN.VARIANCE_FLOOR = 0.1
    # CM-DL [P] on the holistic feature.
    cfg.MODEL.LOSSES.DL = CfgNode()
    # lambda_dl; 0 leaves the loss out [C].
    cfg.MODEL.LOSSES.DL.WEIGHT = 0.1
    # Bound 1 / EPS on the ratio, relative to the total variance [C].
    cfg.MODEL.LOSSES.DL.EPS = 1e-6
    # Parts of other baselines [C], on the global feature. "TripletLoss" in fast-reid's
    # MODEL.LOSSES.NAME adds its triplets, with MODEL.LOSSES.TRI; this is the centre-cluster loss.
    cfg.MODEL.LOSSES.CENTRE = CfgNode()
    # Its factor; 0 leaves the loss out [C].
    cfg.MODEL.LOSSES.CENTRE.WEIGHT = 0.0
    # Distance below which the centres of two identities are pushed apart: its authors' [C].
    cfg.MODEL.LOSSES.CENTRE.MARGIN = 0.7
    # Whether features are L2-normalised first [C].
    cfg.MODEL.LOSSES.CENTRE.NORMALIZE = True

    # ---- Data -----------------------------------------------------------------------------
    # K_v, K_t: visible and thermal images of each identity in a batch. The number of identities is
    # P = SOLVER.IMS_PER_BATCH / (K_v + K_t). fast-reid's NUM_INSTANCE is not read. 8 + 8 [S].
    cfg.DATALOADER.NUM_VISIBLE = 8
    cfg.DATALOADER.NUM_THERMAL = 8
    cfg.DATASETS.SYSUMM01 = CfgNode()
    # Folder of the data set below fast-reid's root ($FASTREID_DATASETS, default "datasets") [C].
    cfg.DATASETS.SYSUMM01.FOLDER = sysu.LAYOUT.folder
    # Train on the 99 validation identities too, as the field does [C].
    cfg.DATASETS.SYSUMM01.TRAIN_WITH_VAL = True
    cfg.DATASETS.REGDB = CfgNode()
    # As for SYSUMM01 [C].
    cfg.DATASETS.REGDB.FOLDER = regdb.LAYOUT.folder
    # Which of the ten published splits, 1 to 10; --trials goes through them [C].
    cfg.DATASETS.REGDB.TRIAL = 1
    # Share of the training identities held out for SOLVER.SELECTION "validation" [C].
    cfg.DATASETS.REGDB.VALIDATION_SHARE = 0.0
    cfg.DATASETS.LLCM = CfgNode()
    # As for SYSUMM01 [C].
    cfg.DATASETS.LLCM.FOLDER = llcm.LAYOUT.folder
    # As for REGDB [C].
    cfg.DATASETS.LLCM.VALIDATION_SHARE = 0.0

    # ---- Solver ---------------------------------------------------------------------------
    # Which checkpoint is scored on the test set at the end [C]. "last": the last one. "validation":
    # the best on held-out training identities, scored on the test set once. "best_on_test": the
    # best on the test set, fast-reid's habit; its metrics are biased upwards.
    cfg.SOLVER.SELECTION = "last"
    # Minutes between checkpoints, beside those of CHECKPOINT_PERIOD; 0 for none. The next
    # checkpoint replaces such a one [C].
    cfg.SOLVER.CHECKPOINT_MINUTES = 10.0

    # ---- Test -----------------------------------------------------------------------------
    # What is reported; SOLVER.SELECTION compares (Rank-1 + mAP) / 2 under the first [C].
    cfg.TEST.PROTOCOLS = ("sysu-all-1shot", "sysu-indoor-1shot")
    # Gallery sampling: "official" (needs exp/rand_perm_cam.mat), "python", or "auto": official
    # where its file is there [C].
    cfg.TEST.DRAW = "auto"
    # Number of queries in OUTPUT_DIR/ranked_gallery.png; 0 for no picture [C].
    cfg.TEST.RANKED_GALLERY = 6
    # Whether to keep the test features, in OUTPUT_DIR/features.npz [C].
    cfg.TEST.SAVE_FEATURES = False
    # Score weights even on identities that they were trained on; the results then say so [C].
    cfg.TEST.ALLOW_LEAK = False


def load_config(config_file: str | os.PathLike, opts: Sequence[str] = ()) -> CfgNode:
    """Return a frozen configuration: fast-reid's defaults, ours, a yaml's, then overrides.

    Args:
        config_file: path of a yaml; "" for the defaults alone.
        opts: KEY VALUE pairs, flat.

    Raises:
        InputError: a missing or malformed file, an unknown key or a value of a wrong type.
    """
    cfg = get_cfg()
    add_cmemd_config(cfg)
    if config_file and not Path(config_file).is_file():
        raise InputError(
            f"a configuration file at {config_file}", "no file", "--config-file names a yaml"
        )
    if len(opts) % 2:
        raise InputError(
            "overrides as KEY VALUE pairs",
            f"an odd number: {' '.join(opts)}",
            "put a space between key and value, and quotes around a value with spaces",
        )
    try:
        if config_file:
            cfg.merge_from_file(str(config_file))
        cfg.merge_from_list(list(opts))
    except (KeyError, AssertionError, ValueError, AttributeError, OSError, yaml.YAMLError) as error:
        raise InputError(
            "keys and values of the configuration",
            _explain(error, cfg),
            "projects/CMEMD/cmemd/config.py explains ours",
        ) from None
    cfg.freeze()
    return cfg


def _explain(error: Exception, cfg: CfgNode) -> str:
    """yacs's complaint in one line, with the nearest key if one is misspelt."""
    message = " ".join(str(error.args[0] if error.args else error).split())
    word = message.rsplit(" ", 1)[-1]
    near = difflib.get_close_matches(word, _keys(cfg), 1)
    return f"{message} (did you mean {near[0]}?)" if near and near[0] != word else message


def _keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    keys = []
    for name, value in cfg.items():
        keys.append(prefix + name)
        if isinstance(value, CfgNode):
            keys += _keys(value, f"{prefix}{name}.")
    return keys
