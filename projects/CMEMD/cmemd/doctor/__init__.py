"""Examine a copy of a data set: compare what is there with what should be.

The data sets' own builders stop at the first fault; this reports all faults of any tree.
"""

from cmemd.doctor.examine import examine
from cmemd.doctor.report import Report, Severity

__all__ = ["Report", "Severity", "examine"]
