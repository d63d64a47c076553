"""Protocols, ranking and scoring."""
