"""What the documents list is what there is."""

import re
from pathlib import Path

from cmemd.evaluation.protocols import PROTOCOLS

DOCS = Path(__file__).parents[1] / "docs"


def test_every_protocol_is_described_and_no_other():
    table = (DOCS / "scoring.md").read_text().split("## Protocols")[1].split("\n\n")[1]
    assert re.findall(r"^\| `([^`]+)`", table, flags=re.MULTILINE) == list(PROTOCOLS)
