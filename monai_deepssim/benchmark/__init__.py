"""Detectors compared under many perturbations (bundle ``detector_benchmark``) and by DeepSSIM's published protocol."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"benchmark": ["DetectorBenchmark"], "reproduction": ["Reproduction"]}
)
