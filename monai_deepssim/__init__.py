"""Finds copies of patients among synthetic medical images, as a plugin for MONAI.

The rooms, in the order in which data goes through them: :mod:`~monai_deepssim.data` and
:mod:`~monai_deepssim.transforms` make tensors of files, :mod:`~monai_deepssim.networks` embeds them,
:mod:`~monai_deepssim.search` finds the nearest training images, :mod:`~monai_deepssim.similarity` measures on the
pixels, :mod:`~monai_deepssim.metrics` turns that into scores and :mod:`~monai_deepssim.audit` into a report.
"""

__version__ = "0.1.0"
