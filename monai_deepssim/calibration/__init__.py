"""Thresholds and p-values with error rates."""

__all__: list[str] = []
