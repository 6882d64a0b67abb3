"""A training set against a synthetic set: the steps put together, their files, reports and workflows."""

import lazy_loader

# The workflows wait seconds for PyTorch, which listing the bundles does not need.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "audit": ["Audit"],
        "clean_up.copy_filter": ["CopyFilter"],
        "clean_up.deduplication": ["Deduplication"],
        "embedder_training": ["EmbedderTraining"],
        "as_function": ["find_copies"],
        "result": ["AuditResult"],
    },
)
