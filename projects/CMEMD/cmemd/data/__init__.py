"""Data sets, their stand-ins, sampling and transforms."""
