"""Packages ``projects/CMEMD/cmemd``; every other setting is in pyproject.toml."""

from setuptools import find_packages, setup

setup(package_dir={"": "projects/CMEMD"}, packages=find_packages("projects/CMEMD"))
