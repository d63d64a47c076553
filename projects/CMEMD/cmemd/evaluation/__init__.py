"""Protocols, gallery sampling, ranking and scoring, without torch and fast-reid."""

__all__: list[str] = []
