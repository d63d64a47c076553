"""Batched optimal transport between small point sets: cost matrices in, plans out.

docs/transport.md lists which solver is used at which size, and how fast it is.
"""

from cmemd.losses.transport.exact import exact_plan
from cmemd.losses.transport.others import plan_to_others
from cmemd.losses.transport.partial import partial_plan, unbalanced_plan
from cmemd.losses.transport.sinkhorn import sinkhorn_plan

__all__ = ["exact_plan", "partial_plan", "plan_to_others", "sinkhorn_plan", "unbalanced_plan"]
