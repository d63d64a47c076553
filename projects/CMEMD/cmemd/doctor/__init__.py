"""Examine a copy of a data set: compare what is there with what should be.

The data sets' own builders stop at the first fault; this reports all faults of any tree. Importing
this package is cheap: NumPy and Pillow are loaded with the first name that needs them.
"""

import pkgutil
from typing import TYPE_CHECKING

from cmemd.data.layouts import llcm, regdb, sysu

if TYPE_CHECKING:  # type checkers do not follow __getattr__ below
    from cmemd.doctor.examination import examine as examine
    from cmemd.doctor.own import examine_own as examine_own
    from cmemd.doctor.report import Report as Report
    from cmemd.doctor.report import Severity as Severity

# Name of a layout -> what examines its folders and lists.
EXAMINERS = {
    sysu.LAYOUT.name: "cmemd.doctor.sysu:examine_sysu",
    regdb.LAYOUT.name: "cmemd.doctor.regdb:examine_regdb",
    llcm.LAYOUT.name: "cmemd.doctor.llcm:examine_llcm",
}
_HOMES = {
    "examine_own": "cmemd.doctor.own:examine_own",
    "examine": "cmemd.doctor.examination:examine",
    "Report": "cmemd.doctor.report:Report",
    "Severity": "cmemd.doctor.report:Severity",
}

__all__ = ["EXAMINERS", *_HOMES]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return pkgutil.resolve_name(_HOMES[name])
