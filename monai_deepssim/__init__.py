"""Finds copies of patients among synthetic medical images, as a plugin for MONAI.

:func:`find_copies` audits a synthetic set, and so do the command ``monai-deepssim`` and MONAI's bundles. The rooms, in
the order of the data: :mod:`~monai_deepssim.data` and :mod:`~monai_deepssim.transforms` make tensors of files,
:mod:`~monai_deepssim.networks` embeds them, :mod:`~monai_deepssim.search` proposes candidates,
:mod:`~monai_deepssim.similarity` compares them on the pixels, :mod:`~monai_deepssim.metrics` scores,
:mod:`~monai_deepssim.calibration` says how sure that is, and :mod:`~monai_deepssim.audit` makes a result of it.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "audit.as_function": ["find_copies", "find_duplicates", "remove_copies"],
        "audit.embedder": ["deepssim", "load_embedder"],
        "audit.result": ["AuditResult"],
        "errors": ["UnusableInputError"],
        "release.verification": ["verify_release"],
    },
)
