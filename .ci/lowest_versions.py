"""Print what ``setup.cfg`` says of versions: ``python .ci/lowest_versions.py constraints|extras|pythons``."""

import configparser
import re
import sys
from pathlib import Path

_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+) *>= *([0-9.]+)")


def main() -> None:
    """Print the lowest versions as pip's constraints, the extras that the tests need, or the Python versions."""
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
    extras = dict(config["options.extras_require"])
    if sys.argv[1] == "constraints":
        lines = "\n".join([config["options"]["install_requires"], *extras.values()]).split("\n")
        bounds = {match[1]: match[2] for match in map(_REQUIREMENT.match, lines) if match}
        print("\n".join(f"{name}=={version}" for name, version in bounds.items()))
    elif sys.argv[1] == "extras":
        print(",".join(sorted(set(extras) - {"dev", "docs"})))
    elif sys.argv[1] == "pythons":
        print("\n".join(re.findall(r"Python :: (3\.[0-9]+)$", config["metadata"]["classifiers"], re.MULTILINE)))
    else:
        sys.exit(f"got {sys.argv[1]!r}, want constraints, extras or pythons")


if __name__ == "__main__":
    main()
