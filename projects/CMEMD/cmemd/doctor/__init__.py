"""Examines a copy of a data set: what is there, against what should be.

The data sets' own builders stop at the first thing they cannot use; this reports on any tree.
"""

from cmemd.doctor.examine import LAYOUTS, examine
from cmemd.doctor.report import Report, Severity

__all__ = ["LAYOUTS", "Report", "Severity", "examine"]
