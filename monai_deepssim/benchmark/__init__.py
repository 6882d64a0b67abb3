"""Detectors compared on labelled pairs and searches, under many perturbations: the bundle ``detector_benchmark``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"benchmark": ["DetectorBenchmark"]})
