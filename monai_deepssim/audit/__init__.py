"""The workflows that bundles run, their files and reports: audit, cleaning up, benchmark, study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monai_deepssim.audit.bundles import find_bundle, list_bundles

if TYPE_CHECKING:
    from monai_deepssim.audit.audit import Audit
    from monai_deepssim.audit.clean_up.copy_filter import CopyFilter
    from monai_deepssim.audit.clean_up.deduplication import Deduplication
    from monai_deepssim.audit.detector_benchmark.benchmark import DetectorBenchmark
    from monai_deepssim.audit.memorization_study.study import MemorizationStudy

__all__ = [
    "Audit",
    "CopyFilter",
    "Deduplication",
    "DetectorBenchmark",
    "MemorizationStudy",
    "find_bundle",
    "list_bundles",
]


def __getattr__(name: str) -> Any:
    # The command that prints where a bundle lies should not wait seconds for PyTorch, which the workflows need.
    if name == "Audit":
        from monai_deepssim.audit.audit import Audit

        return Audit
    if name == "CopyFilter":
        from monai_deepssim.audit.clean_up.copy_filter import CopyFilter

        return CopyFilter
    if name == "Deduplication":
        from monai_deepssim.audit.clean_up.deduplication import Deduplication

        return Deduplication
    if name == "DetectorBenchmark":
        from monai_deepssim.audit.detector_benchmark.benchmark import DetectorBenchmark

        return DetectorBenchmark
    if name == "MemorizationStudy":
        from monai_deepssim.audit.memorization_study.study import MemorizationStudy

        return MemorizationStudy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
