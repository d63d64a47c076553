"""Every key that this plugin adds to fast-reid's configuration, and how one is loaded.

Each key says where its meaning comes from: [P] the paper, [S] the first author's follow-up,
[C] chosen by this project, not from the paper.
"""

import difflib
import os
from ast import literal_eval
from collections.abc import Sequence

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import CfgNode, get_cfg

from cmemd.config_file import find_config, read_config_file
from cmemd.data.layouts import llcm, own, regdb, sysu
from cmemd.data.palettes import NO_PALETTE
from cmemd.data.resizing import DEFAULT_RESIZE
from cmemd.data.sensors import WHITE_HOT
from cmemd.errors import InputError

__all__ = ["add_cmemd_config", "default_config", "load_config"]


def add_cmemd_config(cfg: CfgNode) -> None:
    """Add this plugin's keys, with their defaults, to a fast-reid configuration, in place."""
    # Seed of all random numbers; -1 draws one, which the run's record and results name [C]. On one
    # CPU the same seed repeats a run bit by bit, interrupted or not, with any NUM_WORKERS. Other
    # numbers of processes or threads see the same batches, but add up in another order.
    cfg.SEED = -1

    # Backend of torch.compile for the training pass: "inductor", which makes kernels for the card;
    # "aot_eager", which only traces; "none" [C]. The first step takes minutes then. Results are
    # equal within rounding; evaluation, checkpoints and export use the plain network.
    cfg.MODEL.COMPILE = "none"

    # ---- Backbone -------------------------------------------------------------------------
    # Factor on all channel counts; 1 is ResNet [P]. Less is for CPUs and small data [C].
    cfg.MODEL.BACKBONE.WIDTH = 1.0
    # Whether a training keeps the input of each stage alone and computes the rest again for the
    # backward pass: a fraction of the memory, about a third more work, equal gradients [C].
    cfg.MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS = False
    # Whether the backbone keeps its first weights and statistics. Its pooled features of each
    # training image are computed once, into a folder in DATALOADER.CACHE or else OUTPUT_DIR; heads
    # and losses are trained on them. Of the augmentations FLIP alone is possible. For CPUs [C].
    cfg.MODEL.BACKBONE.FROZEN = False
    # Models of the package timm, for NAME build_two_stream_timm_backbone; docs/backbones.md. These
    # also read fast-reid's STRIDE_SIZE, DROP_PATH_RATIO, DROP_RATIO and ATT_DROP_RATE.
    cfg.MODEL.BACKBONE.TIMM = CfgNode()
    # Name of a vision transformer, ConvNeXt or ResNet in timm, as "vit_base_patch16_224" [C].
    cfg.MODEL.BACKBONE.TIMM.NAME = ""
    # Blocks of a transformer, or stages, of which each modality has its own, beside what is before
    # them; 0 for that alone, -1 for nothing: all is shared. 2 stages as the paper's ResNet [C].
    cfg.MODEL.BACKBONE.TIMM.STEM_DEPTH = 2
    # Last blocks or stages, of which the global and the local stream each have their own [C].
    cfg.MODEL.BACKBONE.TIMM.STREAM_DEPTH = 2
    # Whether a transformer's class token is the global feature; else its patches are pooled [C].
    cfg.MODEL.BACKBONE.TIMM.CLASS_TOKEN = False
    # Whether images, activations and filters lie in memory channel by channel of each pixel, as
    # tensor cores read them. Results are equal within rounding [C].
    cfg.MODEL.CHANNELS_LAST = False

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
    # "cm_emd", optimal transport [P]. In its place [C]: "none"; "cm_emd_debiased" and
    # "sinkhorn_divergence", less the transport within each modality; pairs weighted by another
    # plan: "uniform", "sinkhorn", "partial", "unbalanced", "affinity", or "batch_transport" and
    # "batch_nearest" over all pairs of the batch; or whole clouds compared: "centre", "kl", "mmd".
    cfg.MODEL.LOSSES.ALIGN.NAME = "cm_emd"
    # lambda_align; the terms of all features are summed. 0 leaves the loss out [C].
    cfg.MODEL.LOSSES.ALIGN.WEIGHT = 0.1
    # Number of epochs at the start in which the weight is 0 [C].
    cfg.MODEL.LOSSES.ALIGN.START_EPOCH = 0
    # Iterations over which the weight then rises from 0, linearly; 0: constant [C].
    cfg.MODEL.LOSSES.ALIGN.WARMUP_ITERS = 0
    # d, ground distance: "sqeuclidean", "euclidean", "cosine", "manhattan" (over the root of the
    # number of channels), or, for weighted pairs, "kernel", which levels off as MMD's does [C]. All
    # but "kl" have one.
    cfg.MODEL.LOSSES.ALIGN.DISTANCE = "sqeuclidean"
    # Whether features are L2-normalised before distances are taken [C].
    cfg.MODEL.LOSSES.ALIGN.NORMALIZE = True
    # Of plans: each feature's "own" costs, or one plan for all features, made of the costs of the
    # "global" feature or of "all", concatenated [C].
    cfg.MODEL.LOSSES.ALIGN.PLAN_FEATURE = "own"
    # "sinkhorn", "sinkhorn_divergence" and "unbalanced": entropic regularisation, in units of the
    # ground distance [C].
    cfg.MODEL.LOSSES.ALIGN.EPSILON = 0.05
    # "affinity": temperature of the softmax, in units of the ground distance [C].
    cfg.MODEL.LOSSES.ALIGN.TEMPERATURE = 0.1
    # "partial": the share of an identity's mass that is moved; the pairs that are farthest apart
    # stay out [C].
    cfg.MODEL.LOSSES.ALIGN.MASS = 0.75
    # "unbalanced": what a missing share of an image's mass costs, in units of the ground distance
    # [C].
    cfg.MODEL.LOSSES.ALIGN.MARGINAL_PENALTY = 0.5
    # "batch_nearest": number of images of the other modality that each image is drawn to [C].
    cfg.MODEL.LOSSES.ALIGN.NEIGHBOURS = 1
    # "cm_emd_debiased": the share, 0 to 1, of the transport within each modality that is subtracted
    # [C]. 0 is CM-EMD; near 1, and with a large WEIGHT, identities may spread over each other.
    cfg.MODEL.LOSSES.ALIGN.SHARE = 0.5
    # Whether the difference is at least 0, for each identity and feature [C].
    cfg.MODEL.LOSSES.ALIGN.CLAMP = False
    # Whether gradients flow through the transport within each modality, not only through that
    # between them [C]. False needs CLAMP True, or else the gradient is CM-EMD's.
    cfg.MODEL.LOSSES.ALIGN.WITHIN_GRADIENT = True
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
    # Soft labels of CAJ+ [C]: what the second view of an image is classified as teaches the first.
    cfg.MODEL.LOSSES.SOFT_LABELS = CfgNode()
    # Its factor; 0 leaves the loss out, 1 is its authors'. Above 0, VISIBLE_VIEWS must be 2 [C].
    cfg.MODEL.LOSSES.SOFT_LABELS.WEIGHT = 0.0
    # Soft ranks between the modalities on the global feature, of MCJA [C].
    cfg.MODEL.LOSSES.RANK = CfgNode()
    # Its factor; 0 leaves the loss out, 1 is its authors' [C].
    cfg.MODEL.LOSSES.RANK.WEIGHT = 0.0
    # Of the regularisation: the authors' 0.5. As it falls, near distances get farther ranks [C].
    cfg.MODEL.LOSSES.RANK.STRENGTH = 0.5
    # Weighted regularised triplet loss on the global feature (AGW, arXiv 2001.04193).
    cfg.MODEL.LOSSES.WRT = CfgNode()
    # Its factor; 0 leaves the loss out [C].
    cfg.MODEL.LOSSES.WRT.WEIGHT = 0.0
    # Whether the gap between positives and negatives is squared, its sign kept, as in the code of
    # CAJ (ICCV 2021) [C].
    cfg.MODEL.LOSSES.WRT.SQUARED = False
    # Hetero-centre triplet loss on every feature (hijune6/Hetero-center-triplet-loss-for-VT-Re-ID).
    cfg.MODEL.LOSSES.HCT = CfgNode()
    # Its factor; 0 leaves the loss out. Its authors take 1 for SYSU-MM01, 2 for RegDB [C].
    cfg.MODEL.LOSSES.HCT.WEIGHT = 0.0
    # How much nearer its own identity's centre must be than another's: its authors' [C].
    cfg.MODEL.LOSSES.HCT.MARGIN = 0.3
    # Modality-shared enhancement loss on the global feature (PMT, AAAI 2023).
    cfg.MODEL.LOSSES.MSEL = CfgNode()
    # Its factor; 0 leaves the loss out, 0.5 is its authors' [C].
    cfg.MODEL.LOSSES.MSEL.WEIGHT = 0.0
    # First epoch with it, from 0: its authors' is 6 [C].
    cfg.MODEL.LOSSES.MSEL.START_EPOCH = 0
    # Discriminative centre loss on the global feature (PMT, AAAI 2023).
    cfg.MODEL.LOSSES.DCL = CfgNode()
    # Its factor; 0 leaves the loss out, 0.5 is its authors' [C].
    cfg.MODEL.LOSSES.DCL.WEIGHT = 0.0
    # First epoch with it, from 0: its authors' is 6 [C].
    cfg.MODEL.LOSSES.DCL.START_EPOCH = 0

    # ---- Data -----------------------------------------------------------------------------
    # K_v, K_t: visible and thermal images of each identity in a batch. The number of identities is
    # P = SOLVER.IMS_PER_BATCH / (K_v + K_t). fast-reid's NUM_INSTANCE is not read. 8 + 8 [S].
    cfg.DATALOADER.NUM_VISIBLE = 8
    cfg.DATALOADER.NUM_THERMAL = 8
    # Views of each visible image in a batch, each augmented by itself: 1, or 2 as in CAJ [C].
    # IMS_PER_BATCH stays the number of images that are read: a batch of two views has
    # P x (2 K_v + K_t) rows, and losses see 2 K_v visible images of each identity.
    cfg.DATALOADER.VISIBLE_VIEWS = 1
    # Number of batches that each loader worker reads ahead [C]. All lie in shared memory, /dev/shm.
    cfg.DATALOADER.PREFETCH = 2
    # Folder of caches of resized training images; "" for none [C]. Pixels are the same. The first
    # run writes height x width x 3 bytes an image, the next ones read them.
    cfg.DATALOADER.CACHE = ""
    # What resizes images, in training, evaluation and the exported model [C]: "pillow" gives
    # fast-reid's pixels; "opencv" is faster, and gives others.
    cfg.INPUT.RESIZE = DEFAULT_RESIZE
    # How thermal counts of more than 8 bits become grey levels, in training, evaluation and the
    # exported model [C]: "LOW:HIGH", "percentile:1,99" (of each file) or "agc"; "" for none, so
    # that such images are refused. 8-bit images stay as they are.
    cfg.INPUT.THERMAL_RANGE = ""
    # False colours to turn back into grey levels: "jet", "inferno", "ironbow"; "none" [C].
    cfg.INPUT.THERMAL_PALETTE = NO_PALETTE
    # "white-hot", or "black-hot" where warm things are dark: these images are inverted [C].
    cfg.INPUT.THERMAL_POLARITY = WHITE_HOT
    # Augmentations of which an image takes one, each as often, instead of all [C]; () for none.
    cfg.INPUT.ONE_OF = ()
    # ---- Augmentations of recipes; projects/CMEMD/configs/recipes uses them. All keys are [C] and
    # off by default; defaults are the authors'. IMAGES says which a row changes: "all",
    # "visible" or "thermal" ones, or the "first" or the "second" view of visible ones.
    # Luma in all channels; CAJ+'s first view.
    cfg.INPUT.GREY = CfgNode()
    cfg.INPUT.GREY.ENABLED = False
    cfg.INPUT.GREY.IMAGES = "visible"
    # Share of images.
    cfg.INPUT.GREY.PROB = 0.1
    # Grey of three random weights, b / (sum of b) with b ~ Beta(BETA, BETA): RLE's moderate half,
    # or MCJA's weighted grey with BETA 1.
    cfg.INPUT.LINEAR_GREY = CfgNode()
    cfg.INPUT.LINEAR_GREY.ENABLED = False
    cfg.INPUT.LINEAR_GREY.IMAGES = "all"
    cfg.INPUT.LINEAR_GREY.PROB = 0.5
    cfg.INPUT.LINEAR_GREY.BETA = 0.3
    # One channel as a grey image, with a rectangle of another; MCJA's.
    cfg.INPUT.CHANNEL_CUTMIX = CfgNode()
    cfg.INPUT.CHANNEL_CUTMIX.ENABLED = False
    cfg.INPUT.CHANNEL_CUTMIX.IMAGES = "visible"
    cfg.INPUT.CHANNEL_CUTMIX.PROB = 0.5
    # A random blend of the image and one of its channels; MCJA's.
    cfg.INPUT.SPECTRUM_JITTER = CfgNode()
    cfg.INPUT.SPECTRUM_JITTER.ENABLED = False
    cfg.INPUT.SPECTRUM_JITTER.IMAGES = "visible"
    cfg.INPUT.SPECTRUM_JITTER.PROB = 0.5
    # Rectangles whose channels are scaled to maximum 1 and multiplied by b ~ Beta(BETA, BETA),
    # until a pixel's factors multiply to less than 0.1: RLE's radical half.
    cfg.INPUT.LINEAR_ERASING = CfgNode()
    cfg.INPUT.LINEAR_ERASING.ENABLED = False
    cfg.INPUT.LINEAR_ERASING.IMAGES = "all"
    cfg.INPUT.LINEAR_ERASING.PROB = 0.5
    cfg.INPUT.LINEAR_ERASING.BETA = 0.4
    # One rectangle erased, by CAJ's rules: area 0.02 to 0.4, height over width 0.3 to 1 / 0.3.
    cfg.INPUT.CHANNEL_ERASING = CfgNode()
    cfg.INPUT.CHANNEL_ERASING.ENABLED = False
    cfg.INPUT.CHANNEL_ERASING.IMAGES = "all"
    cfg.INPUT.CHANNEL_ERASING.PROB = 0.5
    # Grey level of each channel there. CAJ sets normalised values to 0.4914, 0.4822 and 0.4465:
    # PIXEL_MEAN + PIXEL_STD x 0.4914, and so on, rounded.
    cfg.INPUT.CHANNEL_ERASING.VALUE = (152, 144, 129)
    # One of R, G and B copied to all three; CAJ's. Channels are copied as MODEL.PIXEL_MEAN and
    # PIXEL_STD normalise them.
    cfg.INPUT.CHANNEL_EXCHANGE = CfgNode()
    cfg.INPUT.CHANNEL_EXCHANGE.ENABLED = False
    cfg.INPUT.CHANNEL_EXCHANGE.IMAGES = "visible"
    cfg.INPUT.CHANNEL_EXCHANGE.PROB = 1.0
    # CAJ's step for infrared images: a quarter each a copy of one channel, as above. LUMA is the
    # share of the last quarter that becomes the luma of normalised channels; the rest stays.
    cfg.INPUT.CHANNEL_STEP = CfgNode()
    cfg.INPUT.CHANNEL_STEP.ENABLED = False
    cfg.INPUT.CHANNEL_STEP.IMAGES = "thermal"
    cfg.INPUT.CHANNEL_STEP.LUMA = 0.5
    # First epochs of a training in which visible images are grey, as thermal ones are; 0 for none.
    # After PMT, AAAI 2023 [C].
    cfg.INPUT.GREY_EPOCHS = 0
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
    cfg.DATASETS.OWN = CfgNode()
    # Lists of images, .csv or .parquet, from the working folder; () lists FOLDER by its names. One
    # list may stand by itself. docs/own_data.md has the columns [C].
    cfg.DATASETS.OWN.LIST = ()
    # Where relative paths of lists start, "" for each list's folder. Without lists, the folder of
    # images below fast-reid's root, "" for "Own" [C].
    cfg.DATASETS.OWN.FOLDER = ""
    # Name of the data set in results [C].
    cfg.DATASETS.OWN.NAME = own.LAYOUT.dataset
    # Whose identities these are, for the leak guard: one naming for all lists, or one for each; ()
    # takes NAME. Equal identities of one naming are one person [C].
    cfg.DATASETS.OWN.NAMING = ()
    # Licence of the images in your words, for model cards [C].
    cfg.DATASETS.OWN.LICENCE = ""
    # Share of the identities to test on, where the lists have no column "split" [C].
    cfg.DATASETS.OWN.TEST_SHARE = 0.3
    # As for REGDB, where the lists have no rows "val" [C].
    cfg.DATASETS.OWN.VALIDATION_SHARE = 0.0
    # Chooses the identities of both shares; another seed gives another split [C].
    cfg.DATASETS.OWN.SPLIT_SEED = 0

    # ---- Solver ---------------------------------------------------------------------------
    # Which checkpoint is scored on the test set at the end [C]. "last": the last one. "validation":
    # the best on held-out training identities, scored on the test set once. "best_on_test": the
    # best on the test set, fast-reid's habit; its metrics are biased upwards.
    cfg.SOLVER.SELECTION = "last"
    # Minutes between checkpoints, beside those of CHECKPOINT_PERIOD; 0 for none. The next
    # checkpoint replaces such a one [C].
    cfg.SOLVER.CHECKPOINT_MINUTES = 10.0

    # Half precision of fast-reid's SOLVER.AMP: "bfloat16" or "float16". The backbone computes in
    # it, the head and the losses in float32, and evaluations all in float32 [C].
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    # Parts in which a step reads its batch, one after the other: IMS_PER_BATCH stays the images of
    # a step, and memory is that of IMS_PER_BATCH / ACCUMULATE [C].
    cfg.SOLVER.ACCUMULATE = 1
    # Factor on the rate of each block of the backbone, or stage, against the one behind it; 1 for
    # equal rates. What is before the first block has one factor more, the heads have none. After
    # BEiT, arXiv 2106.08254 [C].
    cfg.SOLVER.LAYER_DECAY = 1.0
    # EMA weights: an average over about the last 1 / (1 - DECAY) steps, which evaluation, export
    # and MODEL.WEIGHTS use; 0 for none [C].
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.DECAY = 0.0

    # ---- Test -----------------------------------------------------------------------------
    # What is reported; SOLVER.SELECTION compares (Rank-1 + mAP) / 2 under the first [C].
    cfg.TEST.PROTOCOLS = ("sysu-all-1shot", "sysu-indoor-1shot")
    # Gallery sampling: "official" (needs exp/rand_perm_cam.mat), "python", or "auto": official
    # where its file is there [C].
    cfg.TEST.DRAW = "auto"
    # Number of queries in OUTPUT_DIR/ranked_gallery.png; 0 for no picture [C].
    cfg.TEST.RANKED_GALLERY = 6
    # Of mixed protocols: share of thermal images in the gallery, and of visible ones among the
    # queries; 0 and 1 are the protocols of one direction [C].
    cfg.TEST.MIXED_RATIO = 0.5
    # Score mixed protocols again after three remedies, whose parameters are chosen on the
    # validation identities [C].
    cfg.TEST.REMEDIES = False
    # Rules of own-... protocols; docs/scoring.md explains them.
    cfg.TEST.OWN = CfgNode()
    # Gallery samplings of one image per identity and camera; 0: one gallery of all images [C].
    cfg.TEST.OWN.TRIALS = 0
    # Chooses these images, and those that a ratio leaves out [C].
    cfg.TEST.OWN.SEED = 0
    # Remove gallery images of the query's own identity and camera [C].
    cfg.TEST.OWN.IGNORE_SAME_CAMERA = False
    # Remove those of its own identity, camera and tracklet [C].
    cfg.TEST.OWN.IGNORE_SAME_TRACKLET = False
    # Seconds; remove gallery images that were taken longer before or after. 0: none [C].
    cfg.TEST.OWN.WITHIN = 0.0
    # What takes a rank of the CMC: "identities" or "images" [C].
    cfg.TEST.OWN.CMC = "identities"
    # Rates of false positives at which misses are given, where queries without a gallery identity
    # exist [C].
    cfg.TEST.OWN.FPIR = (0.01, 0.1)
    # Whether to keep the test features, in OUTPUT_DIR/features.npz [C].
    cfg.TEST.SAVE_FEATURES = False
    # Whether TensorBoard gets pictures of each evaluation: CMC, distances, ranked gallery [C].
    cfg.TEST.TENSORBOARD = False
    # Score weights even on identities that they were trained on; the results then say so [C].
    cfg.TEST.ALLOW_LEAK = False

    # Services that get a copy of the logged scalars: "wandb", "mlflow". Their own environment
    # variables say where they write, such as WANDB_MODE and MLFLOW_TRACKING_URI [C].
    cfg.TRACKERS = ()


def default_config() -> CfgNode:
    """Return fast-reid's defaults and ours, as a configuration that can be changed."""
    cfg = get_cfg()
    add_cmemd_config(cfg)
    return cfg


def load_config(config_file: str | os.PathLike[str], opts: Sequence[str] = ()) -> CfgNode:
    """Return a frozen configuration: fast-reid's defaults, ours, a yaml's, then overrides.

    A value takes the type of its key's default. A whole number may stand for a float, a list for a
    tuple. Ranges are the business of ``cmemd.engine.setup``.

    Args:
        config_file: path of a yaml, or the name of one that comes with the package, as "demo"; ""
            for the defaults alone.
        opts: KEY VALUE pairs, flat.

    Raises:
        InputError: a missing or malformed file, an unknown key or a value of a wrong type.
    """
    cfg = default_config()
    for entry in read_config_file(find_config(config_file)) if config_file else ():
        _set(cfg, entry.key, entry.value, f" in {entry.place}")
    if len(opts) % 2:
        known = set(_keys(cfg))
        wrong = next((word for word in opts[::2] if word not in known), opts[-1])
        raise InputError(
            "overrides as KEY VALUE pairs",
            f"{len(opts)} words, with {wrong!r} in the place of a key",
            "put a space between key and value, and quotes around a value with spaces",
        )
    for key, text in zip(opts[::2], opts[1::2], strict=True):
        _set(cfg, key, text, "")
    cfg.freeze()
    return cfg


def _set(cfg: CfgNode, key: str, value: object, where: str) -> None:
    """Set one key.

    Args:
        cfg: is changed in place.
        key: as in "SOLVER.BASE_LR".
        value: of a yaml, or a word of the command line.
        where: the place of the key, for messages.
    """
    *groups, name = key.split(".")
    node = cfg
    for group in groups:
        node = node.get(group) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or name not in node:
        near = difflib.get_close_matches(key.upper(), _keys(cfg), 1)
        raise InputError(
            "a key of the configuration",
            f"{key!r}{where}",
            f"did you mean {near[0]}?" if near else "`cmemd keys` lists them all",
        )
    default = node[name]
    if isinstance(default, CfgNode):
        raise InputError(
            f"keys below {key}{where}",
            repr(value),
            f"it is a group: set {key}.{next(iter(default))}, say",
        )
    kept = _literal(value)
    if isinstance(default, str) and isinstance(value, str) and not isinstance(kept, str):
        kept = value  # a folder may be called 2024
    try:
        node[name] = _as_type_of(default, kept)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"{_TYPES[type(default)]} for {key}{where}", repr(kept), f"such as {default!r}"
        ) from None


_TYPES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    tuple: "a list",
}


def _literal(value: object) -> object:
    """Return what a text stands for, as yacs reads it: "(1, 2)" is a tuple."""
    if not isinstance(value, str):
        return value
    try:
        return literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def _as_type_of(default: object, value: object) -> object:
    """Return a value in the type of a key's default.

    >>> _as_type_of(1.0, 2), _as_type_of((1,), [2, 3])
    (2.0, (2, 3))

    Raises:
        TypeError: it is of another type.
        ValueError: it is text that is no number.
        OverflowError: it is a whole number beyond all floats.
    """
    kind = type(default)
    if type(value) is kind:
        return value
    if kind is float and (type(value) is int or isinstance(value, str)):
        return float(value)  # of text: "inf" and "nan", which are no literals
    if kind in (list, tuple) and isinstance(value, list | tuple):
        return kind(value)
    if default == () and isinstance(value, str):  # only lists of texts are empty by default
        return (value,)
    raise TypeError


def _keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    keys = []
    for name, value in cfg.items():
        keys.append(prefix + name)
        if isinstance(value, CfgNode):
            keys += _keys(value, f"{prefix}{name}.")
    return keys
