"""The command ``monai-deepssim``, which ``python -m monai_deepssim`` is, too."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from monai_deepssim.interruptions import interruption_in_words, sigterm_raises

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; Ctrl-C ends it with status 130 and SIGTERM with 143, also while torch is still being imported.

    Args:
        arguments: what was typed after ``monai-deepssim``; of this process by default.
    """
    try:
        with sigterm_raises():
            from monai_deepssim.command import main as run

            return run(arguments)
    except KeyboardInterrupt as error:
        message, status = interruption_in_words(error)
        if os.environ.get("RANK", "0") == "0":  # the others are interrupted with it
            print(f"monai-deepssim: {message}", file=sys.stderr)
        return status


if __name__ == "__main__":
    sys.exit(main())
