"""``python -m monai_deepssim bundle NAME`` prints where a bundle lies; without a name it lists them."""

from __future__ import annotations

import argparse
import sys

from monai_deepssim.audit.bundles import find_bundle, list_bundles
from monai_deepssim.errors import UnusableInputError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line of the package.

    Args:
        arguments: what was typed after ``python -m monai_deepssim``; of this process by default.

    Returns:
        The exit status: 0, or 2 when there is no such bundle.

    Example:
        >>> main(["bundle", "nothing_like_it"])
        2
    """
    parser = argparse.ArgumentParser(prog="python -m monai_deepssim", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    bundle = commands.add_parser("bundle", help="print the folder of a bundle, or list the bundles")
    bundle.add_argument("name", nargs="?", help="name of the bundle; without it, all names are listed")
    given = parser.parse_args(arguments)
    try:
        print("\n".join(list_bundles()) if given.name is None else find_bundle(given.name))
    except UnusableInputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
