"""The command ``monai-deepssim``: options from the dataclasses of the workflows, names taken literally."""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import logging
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import monai_deepssim
from monai_deepssim.audit.options import AuditOptions, DeduplicationOptions, EmbedderTrainingOptions, FilterOptions
from monai_deepssim.benchmark.options import BenchmarkCommandOptions
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.options import option_fields, option_names, unknown_option
from monai_deepssim.progress import PROGRAM, quiet, say
from monai_deepssim.study.options import StudyOptions
from monai_deepssim.workflow.bundles import find_bundle, list_bundles

if TYPE_CHECKING:
    from monai_deepssim.workflow.workflow import Workflow

__all__ = ["main"]

_UNUSABLE_INPUT, _WIDTH = 2, 100
# Of each command: its options, those that are given by position, those that it does not have, a sentence.
_COMMANDS: dict[str, tuple[type, tuple[str, ...], tuple[str, ...], str]] = {
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
    "train-embedder": (
        EmbedderTrainingOptions,
        ("training_dir",),
        (),
        "train the embedder on images of your own",
    ),
    "benchmark": (BenchmarkCommandOptions, (), ("detectors",), "compare copy detectors on the same changed images"),
    "study": (StudyOptions, (), (), "train generators along a grid, and measure what makes them copy less"),
}
# Commands whose defaults are those of a bundle's config.
_BUNDLES = {"benchmark": "detector_benchmark", "study": "memorization_study"}
_OTHER_NAMES = {"output_dir": ("-o",), "holdout_dir": ("--holdout",)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: what was typed after ``monai-deepssim``; of this process by default.

    Returns:
        The exit status: 0 done, 2 for what cannot be used or decided, 3 for a gate that is not passed, 130 when
        interrupted.

    Example:
        >>> main(["bundle", "nothing_like_it"])
        2
    """
    try:
        typed = [_underscored(word) for word in (sys.argv[1:] if arguments is None else arguments)]
        given, unknown = _make_parser().parse_known_args(typed)
        nested, unknown = _nested_values(unknown) if given.command in _BUNDLES else ({}, unknown)
        if unknown:
            _refuse(given.command, unknown)
        if given.command == "bundle":
            for line in list_bundles() if given.name is None else [str(find_bundle(given.name))]:
                say(line)
            return 0
        return _run(given, nested)
    except UnusableInputError as error:
        say(f"{PROGRAM}: {error}", sys.stderr)
        return _UNUSABLE_INPUT
    except SystemExit as ended:
        return int(ended.code or 0)


def _underscored(word: str) -> str:
    """An option as it is named in Python; ``--top-k`` is one, too."""
    if not word.startswith("--"):
        return word
    name, sign, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{sign}{value}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UnusableInputError(f"{message}. {self.prog} --help lists what there is.")


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Finds copies of patients among synthetic medical images.",
        epilog=f"{PROGRAM} COMMAND --help lists the options of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {monai_deepssim.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (kind, positional, left_out, sentence) in _COMMANDS.items():
        added = _add_command(commands, name, sentence)
        sides = "".join(f" {entry.removesuffix('_dir').upper()}" for entry in positional)
        added.usage = f"{PROGRAM} {name}{sides} [options]"
        _add_options(added, kind, positional, left_out)
        if name in _BUNDLES:
            added.add_argument("--quick", action="store_true", help="small settings, for a first look in minutes")
            config = f"configs/inference.json of the bundle {_BUNDLES[name]}"
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


def _refuse(command: str, unknown: Sequence[str]) -> NoReturn:
    """Name what was typed and is not known, with the nearest option that is."""
    flag = next((entry for entry in unknown if entry.startswith("-")), None)
    if flag is None or command not in _COMMANDS:
        raise UnusableInputError(f"{unknown[0]!r} is one argument too many. Put a name with spaces into quotes.")
    kind, _, left_out, _ = _COMMANDS[command]
    known = [name for name in option_names(kind) if name not in left_out]
    known += ["quiet", "json"] + ["quick"] * (command in _BUNDLES)
    raise unknown_option(flag.lstrip("-").partition("=")[0], known)


def _nested_values(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Take options of several parts, such as ``--base#width 48``, out of what was typed: their values, and the rest."""
    values: dict[str, Any] = {}
    others, remaining = [], iter(words)
    for word in remaining:
        name, has_value, text = word.partition("=")
        if name.startswith("--") and "#" in name:
            values[name[2:]] = _parse(text if has_value else next(remaining, ""))
        else:
            others.append(word)
    return values, others


def _run(given: argparse.Namespace, nested: Mapping[str, Any]) -> int:
    kind = _COMMANDS[given.command][0]
    texts = {entry.name for entry in option_fields(kind) if entry.metadata["check"].is_text}
    values = {
        name: value if name in texts or not isinstance(value, str) else _parse(value)
        for name, value in vars(given).items()
        if name in option_names(kind)
    }
    workflow = _find_workflow(given.command)
    if given.command in _BUNDLES:
        values = _with_bundle_values(given.command, workflow.option_names(), values, nested, given.quick)
    folder = Path(values.get("output_dir") or kind.output_dir)  # type: ignore[attr-defined]
    summary = folder / ("filter.json" if given.command == "filter" else "summary.json")
    earlier = _time_of(summary)
    output = contextlib.redirect_stdout(sys.stderr) if given.json else contextlib.nullcontext()
    status = 0
    with quiet(given.quiet), output, _own_messages_alone(given.quiet):
        try:
            workflow(**values).run()
        except SystemExit as ended:
            status = int(ended.code or 0)
    # A summary of an earlier run says nothing of this one.
    if given.json and _time_of(summary) not in (None, earlier):
        print(json.dumps(json.loads(summary.read_text(encoding="utf-8")), indent=2))
    return status


@contextlib.contextmanager
def _own_messages_alone(is_quiet: bool) -> Iterator[None]:
    """Show no lines of MONAI, torch and Python about things that do not concern the user."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not is_quiet:
            warnings.filterwarnings("default", module="monai_deepssim")
        try:
            yield
        finally:
            logging.disable(disabled)


def _find_workflow(command: str) -> type[Workflow]:
    from monai_deepssim.audit import Audit, CopyFilter, Deduplication, EmbedderTraining
    from monai_deepssim.benchmark import DetectorBenchmark
    from monai_deepssim.study import MemorizationStudy

    workflows: dict[str, type[Workflow]] = {
        "filter": CopyFilter,
        "deduplicate": Deduplication,
        "train-embedder": EmbedderTraining,
        "benchmark": DetectorBenchmark,
        "study": MemorizationStudy,
    }
    return workflows.get(command, Audit)


def _with_bundle_values(
    command: str, names: Sequence[str], values: Mapping[str, Any], nested: Mapping[str, Any], is_quick: bool
) -> dict[str, Any]:
    """What was typed, and the values of the bundle's config for options that were not."""
    from monai_deepssim.study.workflows import parse_config

    folder, kind = find_bundle(_BUNDLES[command]), _COMMANDS[command][0]
    # Ids of the config that are no options of the workflow: its detectors refer to them. A path is none of the texts
    # that MONAI evaluates.
    overrides = dict(nested)
    for entry in option_fields(kind):
        if entry.name in values and entry.name not in names:
            overrides[entry.name] = entry.metadata["check"].read(entry.name, values[entry.name])
    for name, value in overrides.items():
        option = name.partition("#")[0]
        if option not in option_names(kind):
            raise unknown_option(option, option_names(kind))
        if option in values and option != name:
            raise UnusableInputError(f"--{name}: was given together with --{option}. Give one of them.")
        if isinstance(value, str) and value.startswith(("$", "@", "%")):
            raise UnusableInputError(f"--{name}: is {value!r}, wanted a value that does not begin with $, @ or %.")
    settings = [folder / "configs" / "quick.json"] if is_quick else []
    try:
        config = parse_config(folder.name, "inference", settings, overrides)
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableInputError(f"--{', --'.join(nested)}: there is no such part ({error}).") from error
    return {name: values[name] if name in values else config.get_parsed_content(name) for name in names}


def _time_of(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def _parse(text: str) -> Any:
    """A number, a list or another plain value where the text is one, else the text; nothing is evaluated."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
