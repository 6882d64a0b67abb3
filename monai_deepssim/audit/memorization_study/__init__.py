"""The workflow that the bundle ``memorization_study`` runs: generators trained along a grid, and how much they copy."""

from __future__ import annotations

__all__: list[str] = []
