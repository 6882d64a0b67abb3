"""What the workflows of all bundles and commands share: options in, words and an exit status out."""

import lazy_loader

# The workflows wait seconds for PyTorch, which listing the bundles does not need.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bundles": ["find_bundle", "list_bundles"],
        "config_steps": ["run_steps"],
        "workflow": ["Workflow"],
    },
)
