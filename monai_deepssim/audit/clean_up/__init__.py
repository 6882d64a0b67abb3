"""The workflows that clean a set: synthetic images without their copies, a training set without its duplicates."""

from __future__ import annotations

__all__: list[str] = []
