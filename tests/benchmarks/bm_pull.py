"""What a step along each alignment's gradient does to the gap and to the variation within.

    python tests/benchmarks/bm_pull.py

prints, for constructed batches of 6 people with 4 + 4 unit features (means over 20 seeds), the
change per unit of a gradient step, relative to the value: of the squared distance of a person's two
centres ("gap"), and of the variance around them ("within"); and the share of the squared gradient
that moves the centres. A loss that closes the gap alone has 0 within. No time is measured.
"""

import cmemd.compat  # noqa: F401  before torch and fastreid

import torch
from fastreid.config import CfgNode
from torch.nn import functional

from cmemd.config import load_config
from cmemd.data.grouping import IdentityRows
from cmemd.losses.alignment import build_alignment
from cmemd.losses.interface import LossOutput

PEOPLE, EACH, CHANNELS, SEEDS = 6, 4, 64, 20
# Spread between people, within a modality of a person, and between the modalities.
BATCHES = {"no gap": (1, 1, 0), "gap half of within": (1, 1, 0.5), "gap twice": (1, 0.5, 1)}
KERNEL = {"DISTANCE": "kernel"}
LOSSES = (
    ("uniform", {}),
    ("cm_emd", {}),
    ("cm_emd_debiased", {"SHARE": 0.5}),
    ("cm_emd_debiased", {"SHARE": 1.0}),
    ("cm_emd_debiased", {"SHARE": 1.0, "CLAMP": True}),
    ("sinkhorn_divergence", {"EPSILON": 0.05}),
    ("sinkhorn_divergence", {"EPSILON": 0.5}),
    ("centre", {}),
    ("mmd", {}),
    ("uniform", KERNEL),
    ("cm_emd", KERNEL),
    ("cm_emd_debiased", {"SHARE": 0.5, **KERNEL}),
)


def batch_of(between, within, gap, seed):
    """Return unit features (N, D) and their rows."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        x = torch.randn(*shape, CHANNELS, dtype=torch.float64, generator=generator)
        return x / CHANNELS**0.5

    centres, shift = between * noise(PEOPLE, 1), gap * (noise(1, 1) + noise(PEOPLE, 1) / 2) / 2
    sides = [centres + within * noise(PEOPLE, EACH) + sign * shift for sign in (1, -1)]
    features = functional.normalize(torch.cat(sides, 1).flatten(0, 1), dim=-1)
    rows = torch.arange(len(features)).view(PEOPLE, 2 * EACH)
    return features, IdentityRows(rows[:, :EACH], rows[:, EACH:])


def pull(loss, features, rows):
    """Return the relative changes of gap and variance, and the share that moves the centres."""
    leaf = features[:, None].clone().requires_grad_()
    value = LossOutput.of(loss({"global": leaf}, rows)).terms["global"]
    step = -torch.autograd.grad(value, leaf)[0][:, 0]
    points, steps = ([x[side] for side in rows] for x in (features, step))
    centres, moves = ([x.mean(1) for x in sides] for sides in (points, steps))
    apart, closer = centres[0] - centres[1], moves[0] - moves[1]
    gap = 2 * (apart * closer).sum() / apart.square().sum()
    around = torch.cat([x - c[:, None] for x, c in zip(points, centres, strict=True)])
    within = 2 * (around * torch.cat(steps)).sum() / around.square().sum()
    share = EACH * sum(x.square().sum() for x in moves) / step.square().sum()
    return torch.stack((gap, within, torch.nan_to_num(share)))


def main():
    """Print a table for each kind of batch."""
    defaults = dict(load_config("").MODEL.LOSSES.ALIGN)
    for title, spreads in BATCHES.items():
        print(f"\n{title + ':':58}{'gap':>8}{'within':>8}{'on centres':>12}")
        for name, options in LOSSES:
            node = CfgNode(defaults | options | {"NAME": name, "NORMALIZE": False})
            loss = build_alignment(node)
            found = [pull(loss, *batch_of(*spreads, seed)) for seed in range(SEEDS)]
            gap, within, share = torch.stack(found).mean(0).tolist()
            words = " ".join(f"{key} {value}" for key, value in options.items())
            print(f"{name + ' ' + words:58}{gap:+8.3f}{within:+8.3f}{share:12.2f}")


if __name__ == "__main__":
    main()
