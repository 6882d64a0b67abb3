"""The audit: the workflow that the bundle ``memorization_audit`` runs, its files and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monai_deepssim.audit.bundles import find_bundle, list_bundles

if TYPE_CHECKING:
    from monai_deepssim.audit.audit import Audit

__all__ = ["Audit", "find_bundle", "list_bundles"]


def __getattr__(name: str) -> Any:
    # The command that prints where a bundle lies should not wait seconds for PyTorch, which the audit needs.
    if name == "Audit":
        from monai_deepssim.audit.audit import Audit

        return Audit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
