"""``python -m monai_deepssim`` is the command ``monai-deepssim``."""

import sys

from monai_deepssim.command import main

if __name__ == "__main__":
    sys.exit(main())
