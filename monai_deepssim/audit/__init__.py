"""The workflows that bundles run, their files and their reports: the audit, and the benchmark of detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monai_deepssim.audit.bundles import find_bundle, list_bundles

if TYPE_CHECKING:
    from monai_deepssim.audit.audit import Audit
    from monai_deepssim.audit.detector_benchmark.benchmark import DetectorBenchmark

__all__ = ["Audit", "DetectorBenchmark", "find_bundle", "list_bundles"]


def __getattr__(name: str) -> Any:
    # The command that prints where a bundle lies should not wait seconds for PyTorch, which the workflows need.
    if name == "Audit":
        from monai_deepssim.audit.audit import Audit

        return Audit
    if name == "DetectorBenchmark":
        from monai_deepssim.audit.detector_benchmark.benchmark import DetectorBenchmark

        return DetectorBenchmark
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
