"""Batched optimal transport between small point sets: cost matrices in, plans out.

docs/transport.md says which solver serves which size, and how fast.
"""

from cmemd.losses.transport.exact import exact_plan
from cmemd.losses.transport.sinkhorn import sinkhorn_plan

__all__ = ["exact_plan", "sinkhorn_plan"]
