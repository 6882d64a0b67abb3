"""A training that ends at a step of its optimiser, as if it were killed there."""

from __future__ import annotations

import pytest
import torch


class KilledError(Exception):
    """In the place of a kill."""


def kill_at_step(monkeypatch: pytest.MonkeyPatch, optimizer: type[torch.optim.Optimizer], number: int) -> list[object]:
    """Let the optimiser's step of this number, counted from 1, raise; returns a list that grows with each step."""
    step, calls = optimizer.step, []

    def killed(self, *arguments, **keywords):
        calls.append(self)
        if len(calls) == number:
            raise KilledError
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(optimizer, "step", killed)
    return calls
