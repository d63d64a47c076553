"""The versions that a results file names."""

import cmemd
from cmemd.evaluation import versions


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(versions, "_PACKAGES", ("numpy", "no-such-package"))
    found = versions.versions()
    assert found["numpy"]
    assert found["no-such-package"] is None
    assert found["cmemd"] == cmemd.__version__


def test_there_is_no_commit_outside_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "versions.py"))
    assert versions.versions()["commit"] is None
