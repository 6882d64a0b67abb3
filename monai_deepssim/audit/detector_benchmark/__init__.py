"""The workflow that the bundle ``detector_benchmark`` runs: every detector on the same pairs, under every change."""

from __future__ import annotations

__all__: list[str] = []
