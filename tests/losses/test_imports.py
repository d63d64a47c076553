"""What the losses need: only torch."""

import os
import subprocess
import sys

CODE = """
import sys

ABSENT = ("fastreid", "torchvision", "numpy", "scipy", "lap", "ot", "yaml", "yacs", "PIL", "cv2")
sys.modules.update(dict.fromkeys(ABSENT))  # as if they were not installed

import torch
from cmemd.errors import MissingDependencyError
from cmemd.losses import build, distributed
from cmemd.losses.cm_dl import cm_dl_loss
from cmemd.losses.cm_emd import cm_emd_loss, ground_cost
from cmemd.losses.transport import exact_plan, sinkhorn_plan
from cmemd.losses.triplet import triplet_loss

assert "cmemd.compat" not in sys.modules
images = torch.eye(4)[None]
cost = ground_cost(images, images)
assert cm_emd_loss(cost, exact_plan(cost)) == 0
assert sinkhorn_plan(cost, 0.1).shape == (1, 4, 4)
assert cm_dl_loss(images) == 0
assert triplet_loss(images[0], torch.arange(4), 0.3, True, True).isfinite()
for size, name in (((9, 9), "lapx"), ((15, 16), "pot")):
    try:
        exact_plan(torch.ones(1, *size))
    except MissingDependencyError as error:
        print(str(error).rsplit(": ", 1)[1])
"""


def test_the_losses_run_where_only_torch_is_installed():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "run `pip install lapx`\nrun `pip install pot`\n"
