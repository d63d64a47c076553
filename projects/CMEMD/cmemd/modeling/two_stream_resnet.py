"""Two-stream ResNet: shallow stages for each modality, then a global and a local stream."""

import copy

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import CfgNode
from fastreid.layers import get_norm
from fastreid.modeling.backbones.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from cmemd.errors import InputError
from cmemd.modeling.pretrained import load_imagenet_weights
from cmemd.modeling.two_stream import TwoStream

__all__ = ["NarrowResNet", "TwoStreamResNet", "build_two_stream_resnet_backbone"]

# depth: block, blocks per stage, non-local layers per stage; as in fast-reid
_DEPTHS = {
    "18x": (BasicBlock, (2, 2, 2, 2), (0, 0, 0, 0)),
    "34x": (BasicBlock, (3, 4, 6, 3), (0, 0, 0, 0)),
    "50x": (Bottleneck, (3, 4, 6, 3), (0, 2, 3, 0)),
    "101x": (Bottleneck, (3, 4, 23, 3), (0, 2, 9, 0)),
}


class NarrowResNet(ResNet):
    """fast-reid's ResNet with every channel count multiplied by ``width``.

    For CPUs and small data; a chosen option, not from the paper. Takes fast-reid's arguments.
    """

    def __init__(self, width: float, last_stride: int, bn_norm: str, *args: object) -> None:
        self.width = width  # read by _make_layer while fast-reid's constructor runs
        super().__init__(last_stride, bn_norm, *args)
        self.conv1 = nn.Conv2d(3, self._scaled(64), 7, stride=2, padding=3, bias=False)
        self.bn1 = get_norm(bn_norm, self._scaled(64))
        self.random_init()

    def _scaled(self, channels: int) -> int:
        return max(8, round(channels * self.width))

    def _make_layer(
        self, block: type[nn.Module], planes: int, *args: object, **kwargs: object
    ) -> nn.Sequential:
        if planes == 64:
            self.inplanes = self._scaled(64)  # the first stage follows the scaled stem
        return super()._make_layer(block, self._scaled(planes), *args, **kwargs)


class TwoStreamResNet(TwoStream):
    """conv1, layer1 and layer2 for each modality; layer3 and layer4 for each stream.

    Paper, Fig. 2. All copies of a stage start from the same weights (chosen, not from the paper).

    Args:
        resnet: fast-reid's ResNet. Its layer3 and layer4 become the global stream; the other
            stages are copies.
        local: whether to build the local stream.
        recompute: whether a training keeps the input of each stage alone; see
            ``cmemd.modeling.recomputation``.
    """

    def __init__(self, *, resnet: ResNet, local: bool = True, recompute: bool = False) -> None:
        stem, stream = _stem(resnet), _stream(resnet)
        super().__init__(
            stem=stem,
            global_stream=stream,
            local_stream=copy.deepcopy(stream) if local else None,
            feat_dim=resnet.inplanes,
            depth=4,
            embedding=len(stem) - 2,
            recompute=recompute,
        )


def _stem(resnet: ResNet) -> nn.Sequential:
    """Return conv1 to layer2 of a ResNet."""
    return nn.Sequential(
        resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, _stage(resnet, 1), _stage(resnet, 2)
    )


def _stream(resnet: ResNet) -> nn.Sequential:
    """Return layer3 and layer4 of a ResNet."""
    return nn.Sequential(_stage(resnet, 3), _stage(resnet, 4))


def _stage(resnet: ResNet, number: int) -> nn.Sequential:
    """Return a stage's blocks, each followed by its non-local layer, if any."""
    blocks = list(getattr(resnet, f"layer{number}"))
    non_local = dict(
        zip(getattr(resnet, f"NL_{number}_idx"), getattr(resnet, f"NL_{number}", ()), strict=False)
    )
    return nn.Sequential(
        *(m for i, block in enumerate(blocks) for m in (block, non_local.get(i)) if m is not None)
    )


def build_two_stream_resnet_backbone(cfg: CfgNode) -> TwoStreamResNet:
    """Build the backbone from ``cfg.MODEL.BACKBONE``; fast-reid's keys keep their meaning.

    The local stream exists only if ``cfg.MODEL.HEADS.GRANULARITIES`` has local features.

    Raises:
        InputError: an unknown depth, a FEAT_DIM that is not the network's, a narrow network
            with non-local layers or ImageNet weights, or weights that cannot be loaded.
    """
    backbone = cfg.MODEL.BACKBONE
    if backbone.DEPTH not in _DEPTHS:
        raise InputError(
            "a known MODEL.BACKBONE.DEPTH", repr(backbone.DEPTH), f"choose {', '.join(_DEPTHS)}"
        )
    block, blocks, non_local = _DEPTHS[backbone.DEPTH]
    arguments = (
        backbone.LAST_STRIDE,
        backbone.NORM,
        backbone.WITH_IBN,
        backbone.WITH_SE,
        backbone.WITH_NL,
        block,
        blocks,
        non_local,
    )
    if backbone.WIDTH == 1:
        resnet = ResNet(*arguments)
    elif backbone.WITH_NL or backbone.PRETRAIN:
        raise InputError(
            "MODEL.BACKBONE.WIDTH 1 with WITH_NL or PRETRAIN",
            backbone.WIDTH,
            "set WIDTH to 1, or WITH_NL and PRETRAIN to False",
        )
    else:
        resnet = NarrowResNet(backbone.WIDTH, *arguments)
    if resnet.inplanes != backbone.FEAT_DIM:
        raise InputError(
            f"MODEL.BACKBONE.FEAT_DIM {resnet.inplanes}, the channels of depth {backbone.DEPTH} "
            f"and width {backbone.WIDTH}",
            backbone.FEAT_DIM,
            f"set it to {resnet.inplanes}",
        )
    if backbone.PRETRAIN:
        load_imagenet_weights(resnet, backbone.PRETRAIN_PATH, backbone.DEPTH)
    return TwoStreamResNet(
        resnet=resnet,
        local="local" in cfg.MODEL.HEADS.GRANULARITIES,
        recompute=backbone.CHECKPOINT_ACTIVATIONS,
    )
