"""The command ``monai-deepssim``, which ``python -m monai_deepssim`` is, too."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; an interrupt ends it with status 130, also while torch is still being imported.

    Args:
        arguments: what was typed after ``monai-deepssim``; of this process by default.
    """
    try:
        from monai_deepssim.command import main as run

        return run(arguments)
    except KeyboardInterrupt:
        print("monai-deepssim: interrupted. The same command continues where this stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
