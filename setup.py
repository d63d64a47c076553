"""Packages ``projects/CMEMD/cmemd`` and the configurations; pyproject.toml has the rest."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

CONFIGS = ("configs", "projects/CMEMD/configs")


class BuildWithConfigs(build_py):
    """Also copies the configurations, side by side as here: a ``_BASE_`` is relative."""

    def run(self) -> None:
        """Build the package as setuptools does, then add the configurations."""
        super().run()
        if self.editable_mode:  # the checkout has them
            return
        for folder in CONFIGS:
            target = Path(self.build_lib, "cmemd/_configs", folder)
            shutil.copytree(folder, target, dirs_exist_ok=True)


setup(
    package_dir={"": "projects/CMEMD"},
    packages=find_packages("projects/CMEMD"),
    cmdclass={"build_py": BuildWithConfigs},
)
