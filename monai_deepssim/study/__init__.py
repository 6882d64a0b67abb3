"""What makes a generator copy less, measured on a grid of trainings: the bundle ``memorization_study``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"study": ["MemorizationStudy"]})
