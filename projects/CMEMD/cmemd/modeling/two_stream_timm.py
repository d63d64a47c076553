"""Two-stream networks of timm's models: vision transformers, ConvNeXt and ResNet.

Shape legend: N images of H x W; a grid of h x w patches; L tokens, the grid's behind P others, such
as the class token; C channels.
"""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cmemd.compat  # noqa: F401  before fastreid, and before timm, which imports torchvision

import torch
from fastreid.config import CfgNode
from torch import Tensor, nn

from cmemd.data.transform import image_sizes
from cmemd.errors import InputError, MissingDependencyError
from cmemd.modeling.pretrained import read_state
from cmemd.modeling.two_stream import TwoStream

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

__all__ = ["TokenEmbedding", "TokenMap", "build_two_stream_timm_backbone", "patch_grid"]

logger = logging.getLogger(__name__)

_NAME, _PATH = "MODEL.BACKBONE.TIMM.NAME", "MODEL.BACKBONE.PRETRAIN_PATH"
_FAMILIES = "VisionTransformer, ConvNeXt or ResNet"
# What timm's models have behind their features, which no stream has.
_HEADS = ("head.", "head_drop.", "fc.", "fc_norm.", "attn_pool.")
_SHOWN = 3  # names in an error


class _Parts(NamedTuple):
    """The layers of a timm model.

    Attributes:
        embedding: before the first block.
        blocks: blocks of a transformer, or stages.
        tails: what follows the last block of the global and of the local stream, if anything.
        signed: whether its maps have negative numbers.
    """

    embedding: Sequence[nn.Module]
    blocks: Sequence[nn.Module]
    tails: tuple[Sequence[nn.Module], Sequence[nn.Module]]
    signed: bool


class TokenEmbedding(nn.Module):
    """Cut images into patches, and make tokens with positions of them; as timm does.

    Args:
        vit: gives its layers, which are shared, not copied.
        grid: h and w of the patches, to which the position embeddings are resampled.
        stride: rows and columns from one patch to the next; below the patch size they overlap.
    """

    def __init__(
        self, vit: "VisionTransformer", grid: tuple[int, int], stride: Sequence[int]
    ) -> None:
        from timm.layers.pos_embed import resample_abs_pos_embed

        super().__init__()
        self.proj, self.norm = vit.patch_embed.proj, vit.patch_embed.norm
        self.proj.stride = tuple(stride)
        self.cls_token, self.reg_token = vit.cls_token, vit.reg_token
        self.pos_embed = None
        self._prefix_has_position = not vit.no_embed_class
        if vit.pos_embed is not None:
            resampled = resample_abs_pos_embed(
                vit.pos_embed.detach(),
                new_size=list(grid),
                old_size=list(vit.patch_embed.grid_size),
                num_prefix_tokens=vit.num_prefix_tokens if self._prefix_has_position else 0,
            )
            self.pos_embed = nn.Parameter(resampled.clone())
        self.pos_drop, self.norm_pre = vit.pos_drop, vit.norm_pre
        self._grid = tuple(grid)

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens (N, L, C) of images (N, 3, H, W).

        Raises:
            InputError: the images do not give the grid that the positions are for.
        """
        patches = self.proj(images)
        if patches.shape[2:] != self._grid:
            raise InputError(
                f"images that give {self._grid[0]} x {self._grid[1]} patches",
                f"{patches.shape[2]} x {patches.shape[3]} of images of {images.shape[2]} x "
                f"{images.shape[3]}",
                "position embeddings are of one size: use images of INPUT.SIZE_TEST",
            )
        tokens = self.norm(patches.flatten(2).transpose(1, 2))
        given = [token for token in (self.cls_token, self.reg_token) if token is not None]
        prefix = [token.expand(images.shape[0], -1, -1) for token in given]
        if self.pos_embed is not None and not self._prefix_has_position:
            tokens = tokens + self.pos_embed
        tokens = torch.cat([*prefix, tokens], 1)
        if self.pos_embed is not None and self._prefix_has_position:
            tokens = tokens + self.pos_embed
        return self.norm_pre(self.pos_drop(tokens))


class TokenMap(nn.Module):
    """Turn the last tokens into a feature map, on which stripes are rows of patches.

    Args:
        norm: timm's last norm.
        grid: h and w of the patches.
        prefix: P, number of tokens before those of the grid.
        class_token: return the first token, as a map of 1 x 1, in place of the grid.
    """

    def __init__(
        self, norm: nn.Module, grid: tuple[int, int], prefix: int, *, class_token: bool = False
    ) -> None:
        super().__init__()
        self.norm = norm
        self._grid, self._prefix, self._class_token = tuple(grid), prefix, class_token

    def forward(self, tokens: Tensor) -> Tensor:
        """Return a map (N, C, h, w) of tokens (N, L, C)."""
        tokens = self.norm(tokens)
        if self._class_token:
            return tokens[:, 0, :, None, None]
        return tokens[:, self._prefix :].mT.unflatten(2, self._grid)


def patch_grid(size: Sequence[int], patch: Sequence[int], stride: Sequence[int]) -> tuple[int, int]:
    """Return h and w of the grid of patches of an image.

    >>> patch_grid((256, 128), (16, 16), (12, 12))
    (21, 10)

    Args:
        size: height and width of the image.
        patch: those of a patch.
        stride: rows and columns from one patch to the next.
    """
    high, wide = (
        max((length - own) // step + 1, 0)
        for length, own, step in zip(size, patch, stride, strict=True)
    )
    return high, wide


def build_two_stream_timm_backbone(cfg: CfgNode) -> TwoStream:
    """Build the backbone from ``cfg.MODEL.BACKBONE``; no weights are ever downloaded.

    The local stream exists only if ``cfg.MODEL.HEADS.GRANULARITIES`` has local features.

    Raises:
        MissingDependencyError: timm is not installed.
        InputError: an unknown model or one of another family, keys or image sizes that do not fit
            it, or weights that are missing, damaged or of another model.
    """
    keys = cfg.MODEL.BACKBONE
    model = _create(cfg)
    if keys.PRETRAIN:
        _load(model, keys.TIMM.NAME, keys.PRETRAIN_PATH)
    parts = _FAMILY[type(model).__name__](model, cfg)
    _check_heads(cfg, parts, model.num_features)
    depth, first, last = len(parts.blocks), keys.TIMM.STEM_DEPTH, keys.TIMM.STREAM_DEPTH
    if max(first, 0) + last > depth:
        raise InputError(
            f"MODEL.BACKBONE.TIMM.STEM_DEPTH and STREAM_DEPTH of at most {depth} together, the "
            f"blocks or stages of {keys.TIMM.NAME}",
            f"{first} and {last}",
            "lower one of them",
        )
    layers, before = [*parts.embedding, *parts.blocks], len(parts.embedding)
    stem = layers[: before + first] if first >= 0 else []
    trunk, deep = layers[len(stem) : len(layers) - last], layers[len(layers) - last :]
    own, local = parts.tails
    has_local = "local" in cfg.MODEL.HEADS.GRANULARITIES
    return TwoStream(
        stem=nn.Sequential(*stem),
        trunk=nn.Sequential(*trunk) if trunk else None,
        global_stream=nn.Sequential(*deep, *own),
        local_stream=nn.Sequential(*copy.deepcopy(deep), *local) if has_local else None,
        feat_dim=model.num_features,
        depth=depth,
        embedding=before,
        recompute=keys.CHECKPOINT_ACTIVATIONS,
    )


# ---- timm's models --------------------------------------------------------------------------


def _create(cfg: CfgNode) -> Any:
    """Return a new model of timm's, of one of our families."""
    try:
        import timm
    except ImportError as error:
        if error.name not in (None, "timm"):
            raise
        raise MissingDependencyError(
            "expected timm for MODEL.BACKBONE.NAME build_two_stream_timm_backbone, got an "
            "installation without it: pip install 'cmemd[timm]'"
        ) from None
    keys = cfg.MODEL.BACKBONE
    name = keys.TIMM.NAME
    if not timm.is_model(name):  # a name as hf-hub:... would be downloaded
        raise InputError(
            f"{_NAME} out of timm {timm.__version__}'s models",
            repr(name),
            "`python -c 'import timm; print(timm.list_models())'` lists them; such as "
            "vit_base_patch16_224, convnext_tiny, resnet50",
        )
    family = _family(name)
    options: dict[str, Any] = {"drop_path_rate": keys.DROP_PATH_RATIO}
    if family == "VisionTransformer":
        options |= {
            "pos_drop_rate": keys.DROP_RATIO,
            "proj_drop_rate": keys.DROP_RATIO,
            "attn_drop_rate": keys.ATT_DROP_RATE,
        }
    else:
        if keys.DROP_RATIO or keys.ATT_DROP_RATE:
            raise InputError(
                f"MODEL.BACKBONE.DROP_RATIO and ATT_DROP_RATE 0 with {name}",
                f"{keys.DROP_RATIO} and {keys.ATT_DROP_RATE}",
                "transformers alone have these: set DROP_PATH_RATIO",
            )
        options["output_stride"] = 16 * keys.LAST_STRIDE
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, **options)
    except (RuntimeError, TypeError, NotImplementedError, AssertionError) as error:
        raise InputError(
            f"a model of timm that takes {', '.join(options)} as {_NAME}",
            f"{name!r}, which fails ({' '.join(str(error).split())[:120]})",
            "choose another, or keep these keys at their defaults",
        ) from None


def _family(name: str) -> str:
    """Return the class of a model, one of ``_FAMILY``."""
    import timm

    try:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:  # a tag that timm does not know
        raise InputError(
            f"{_NAME} with a tag that timm knows", repr(name), " ".join(str(error).split())[:200]
        ) from None
    family = type(model).__name__
    if family not in _FAMILY or type(model).__module__.split(".")[0] != "timm":
        raise InputError(
            f"{_NAME} of a {_FAMILIES} of timm", f"{name!r}, a {family}", "choose another model"
        )
    return family


def _transformer(vit: "VisionTransformer", cfg: CfgNode) -> _Parts:
    from timm.layers.patch_embed import PatchEmbed

    keys = cfg.MODEL.BACKBONE
    if type(vit.patch_embed) is not PatchEmbed:
        raise InputError(
            f"{_NAME} whose patches are one convolution",
            f"{keys.TIMM.NAME!r}, with {type(vit.patch_embed).__name__}",
            "choose a transformer without a network before it",
        )
    grid, stride = _grid(vit.patch_embed.patch_size, cfg), keys.STRIDE_SIZE
    if keys.TIMM.CLASS_TOKEN and vit.cls_token is None:
        raise _no_class_token(cfg)
    prefix = vit.num_prefix_tokens
    own = TokenMap(copy.deepcopy(vit.norm), grid, prefix, class_token=keys.TIMM.CLASS_TOKEN)
    local = TokenMap(copy.deepcopy(vit.norm), grid, prefix)
    embedding = [TokenEmbedding(vit, grid, stride)]
    return _Parts(embedding, list(vit.blocks), ([own], [local]), signed=True)


def _grid(patch: Sequence[int], cfg: CfgNode) -> tuple[int, int]:
    """Return the grid of patches of all images, training and test."""
    stride = cfg.MODEL.BACKBONE.STRIDE_SIZE
    if any(step > own for step, own in zip(stride, patch, strict=True)):
        raise InputError(
            f"MODEL.BACKBONE.STRIDE_SIZE of at most {list(patch)}, the patches of "
            f"{cfg.MODEL.BACKBONE.TIMM.NAME}",
            list(stride),
            "a larger one would skip pixels",
        )
    train, test = (patch_grid(size, patch, stride) for size in image_sizes(cfg.INPUT))
    if train != test or 0 in train:
        raise InputError(
            f"images in training and test of one size, of at least {list(patch)}, for position "
            "embeddings",
            f"grids of {list(train)} and {list(test)} patches",
            "change INPUT.SIZE_TRAIN, SIZE_TEST or CROP",
        )
    return train


def _convnext(model: Any, cfg: CfgNode) -> _Parts:
    tails = [[one] if list(one.parameters()) else [] for one in _two(model.norm_pre)]
    return _stages([model.stem], model.stages, (tails[0], tails[1]), cfg, signed=True)


def _resnet(model: Any, cfg: CfgNode) -> _Parts:
    stem = [model.conv1, model.bn1, model.act1, model.maxpool]
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    return _stages(stem, stages, ([], []), cfg, signed=False)


def _stages(
    embedding: Sequence[nn.Module],
    stages: Sequence[nn.Module],
    tails: tuple[Sequence[nn.Module], Sequence[nn.Module]],
    cfg: CfgNode,
    *,
    signed: bool,
) -> _Parts:
    if cfg.MODEL.BACKBONE.TIMM.CLASS_TOKEN:
        raise _no_class_token(cfg)
    return _Parts(embedding, list(stages), tails, signed)


def _two(module: nn.Module) -> tuple[nn.Module, nn.Module]:
    return module, copy.deepcopy(module)


_FAMILY: Mapping[str, Callable[[Any, CfgNode], _Parts]] = {
    "VisionTransformer": _transformer,
    "ConvNeXt": _convnext,
    "ResNet": _resnet,
}


def _no_class_token(cfg: CfgNode) -> InputError:
    return InputError(
        f"a {_NAME} with a class token for MODEL.BACKBONE.TIMM.CLASS_TOKEN",
        repr(cfg.MODEL.BACKBONE.TIMM.NAME),
        "set CLASS_TOKEN to False",
    )


def _check_heads(cfg: CfgNode, parts: _Parts, channels: int) -> None:
    """Raise unless the heads can pool the maps."""
    name = cfg.MODEL.BACKBONE.TIMM.NAME
    if channels != cfg.MODEL.BACKBONE.FEAT_DIM:
        raise InputError(
            f"MODEL.BACKBONE.FEAT_DIM {channels}, the channels of {name}",
            cfg.MODEL.BACKBONE.FEAT_DIM,
            f"set it to {channels}",
        )
    if parts.signed and cfg.MODEL.HEADS.POOL_LAYER.startswith("GeneralizedMean"):
        raise InputError(
            f"MODEL.HEADS.POOL_LAYER GlobalAvgPool with {name}",
            cfg.MODEL.HEADS.POOL_LAYER,
            "a power mean takes negative numbers for 0, and half of these features are negative",
        )


# ---- Weights --------------------------------------------------------------------------------


def _load(model: nn.Module, name: str, source: str) -> None:
    """Load weights of timm's model of this name, all but what is behind its features.

    Args:
        model: gets the weights, in place.
        name: of the model.
        source: a file; "" takes what the Hugging Face cache of this machine has.
    """
    path = Path(source) if source else _cached(model, name)
    what = f"weights of timm's {name}"
    remedy = f"set {_PATH} to a file of this model, or {_NAME} to the file's"
    state = _features(read_state(path, what, remedy))
    expected = _features(model.state_dict())
    differences = {
        "missing": sorted(expected.keys() - state.keys()),
        "unexpected": sorted(state.keys() - expected.keys()),
        "of another shape": [
            f"{key} {list(state[key].shape)} instead of {list(expected[key].shape)}"
            for key in sorted(expected.keys() & state.keys())
            if state[key].shape != expected[key].shape
        ],
    }
    if any(differences.values()):
        told = "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{', ...' * (len(names) > _SHOWN)}"
            for kind, names in differences.items()
            if names
        )
        raise InputError(f"{what} in {path}", f"those of another model ({told})", remedy)
    model.load_state_dict(state, strict=False)
    logger.info("Loaded weights of %s, %s, into both stems and both streams", name, path)


def _features(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if not key.startswith(_HEADS)}


def _cached(model: nn.Module, name: str) -> Path:
    """Return the file of a model's weights in the Hugging Face cache; nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache  # comes with timm

    hub = getattr(model, "pretrained_cfg", {}).get("hf_hub_id")  # a user's own may have none
    for file in ("model.safetensors", "pytorch_model.bin") if hub else ():
        path = try_to_load_from_cache(str(hub), file)
        if isinstance(path, str):
            return Path(path)
    raise InputError(
        f"a file of weights of timm's {name} in {_PATH}, or in the Hugging Face cache",
        "none",
        f"download it yourself{f', `hf download {hub}`' * bool(hub)}, or set "
        "MODEL.BACKBONE.PRETRAIN to False; no run downloads weights of timm",
    )
