"""What can be typed after ``monai-deepssim``: the commands, their options and their help."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import monai_deepssim
from monai_deepssim.audit.options import AuditOptions, DeduplicationOptions, FilterOptions
from monai_deepssim.audit.training_options import EmbedderTrainingOptions
from monai_deepssim.benchmark.options import BenchmarkCommandOptions
from monai_deepssim.benchmark.reproduction_options import ReproductionOptions
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.options import option_fields
from monai_deepssim.progress import PROGRAM
from monai_deepssim.release.options import ReportOptions, VerifyOptions
from monai_deepssim.study.options import StudyOptions

__all__ = ["BUNDLES", "COMMANDS", "ON_RANKS", "make_parser"]

_WIDTH = 100
#: Of each command: its options, those that are given by position, those that it does not have, a sentence.
COMMANDS: dict[str, tuple[type, tuple[str, ...], tuple[str, ...], str]] = {
    "audit": (AuditOptions, ("training_dir", "synthetic_dir"), (), "find copies of training images in a synthetic set"),
    "filter": (FilterOptions, ("training_dir", "synthetic_dir"), (), "write a synthetic set without its copies"),
    "deduplicate": (
        DeduplicationOptions,
        ("training_dir",),
        (),
        "write a training set with one of each group of repeated images",
    ),
    "demo": (
        AuditOptions,
        (),
        ("training_dir", "synthetic_dir", "holdout_dir", "patient_id_pattern"),
        "make phantoms with planted copies, and audit them",
    ),
    "verify": (
        VerifyOptions,
        ("audit_dir", "released_dir"),
        (),
        "compare a folder to be released with what was audited",
    ),
    "report": (ReportOptions, ("audit_dir",), (), "make the report without names and pixels of a finished audit"),
    "train-embedder": (
        EmbedderTrainingOptions,
        ("training_dir",),
        (),
        "train the embedder on images of your own",
    ),
    "benchmark": (BenchmarkCommandOptions, (), ("detectors",), "compare copy detectors on the same changed images"),
    "reproduce": (ReproductionOptions, (), (), "evaluate detectors by the protocol published with DeepSSIM"),
    "study": (StudyOptions, (), (), "train generators along a grid, and measure what makes them copy less"),
}
#: Commands whose defaults are those of a bundle's config.
BUNDLES = {"benchmark": "detector_benchmark", "study": "memorization_study"}
#: Commands whose work several processes share.
ON_RANKS = ("audit", "filter", "deduplicate", "demo")
_OTHER_NAMES = {"output_dir": ("-o",), "output_file": ("-o",), "holdout_dir": ("--holdout",)}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UnusableInputError(f"{message}. {self.prog} --help lists what there is.")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands; options that are not typed are not in what it returns.

    Example:
        >>> vars(make_parser().parse_args(["verify", "AUDIT", "RELEASED"]))["released_dir"]
        'RELEASED'
    """
    parser = _Parser(
        prog=PROGRAM,
        description="Finds copies of patients among synthetic medical images.",
        epilog=f"{PROGRAM} COMMAND --help lists the options of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {monai_deepssim.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (kind, positional, left_out, sentence) in COMMANDS.items():
        added = _add_command(commands, name, sentence)
        sides = "".join(f" {entry.removesuffix('_dir').upper()}" for entry in positional)
        added.usage = f"{PROGRAM} {name}{sides} [options]"
        _add_options(added, kind, positional, left_out)
        if name in ON_RANKS:
            added.add_argument(
                "--processes",
                metavar="<whole number>",
                help="processes of this machine that share the work, each with its part of the cores. Default: 1.",
            )
        if name in BUNDLES:
            added.add_argument("--quick", action="store_true", help="small settings, for a first look in minutes")
            config = f"configs/inference.json of the bundle {BUNDLES[name]}"
            added.epilog = f"Options without a default have that of {config};\n--NAME#PART VALUE changes a part of one."
    bundle = _add_command(commands, "bundle", "print the folder of a MONAI bundle, or list the bundles")
    bundle.add_argument("name", nargs="?", help="name of the bundle; without it, all names are listed")
    return parser


def _add_command(commands: Any, name: str, sentence: str) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(
        name,
        help=sentence,
        description=sentence[0].upper() + sentence[1:] + ".",
        formatter_class=partial(argparse.RawTextHelpFormatter, max_help_position=30, width=_WIDTH),
        allow_abbrev=False,
    )
    return added


def _add_options(
    parser: argparse.ArgumentParser, kind: type, positional: Sequence[str], left_out: Sequence[str]
) -> None:
    """Add the options of a dataclass, by group, each with what it takes, what it means and its default."""
    groups: dict[str, Any] = {}
    for entry in option_fields(kind):
        if entry.name in left_out:
            continue
        check, group = entry.metadata["check"], entry.metadata["group"]
        default = "" if entry.default in (None, ()) else f" Default: {_default_words(entry.default)}."
        meaning = "\n".join(textwrap.wrap(entry.metadata["meaning"] + default, _WIDTH - 32)).replace("%", "%%")
        if entry.name in positional:
            parser.add_argument(entry.name, metavar=entry.name.removesuffix("_dir").upper(), help=meaning)
            continue
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        names = [*_OTHER_NAMES.get(entry.name, ()), f"--{entry.name}"]
        bare = {"nargs": "?", "const": True} if check.kind == "true or false" else {}
        groups[group].add_argument(
            *names,
            dest=entry.name,
            default=argparse.SUPPRESS,
            metavar=f"<{check.kind}>",
            help=meaning,
            **bare,
        )
    terminal = parser.add_argument_group("Terminal")
    terminal.add_argument("--quiet", action="store_true", help="print errors alone")
    terminal.add_argument(
        "--json", action="store_true", help="print the summary as JSON, and everything else to standard error"
    )


def _default_words(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
