"""The command ``monai-deepssim``: options from the dataclasses of the workflows, names taken literally."""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from monai_deepssim.command_parser import BUNDLES, COMMANDS, ON_RANKS, make_parser
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import write_text
from monai_deepssim.options import option_fields, option_names, read_options, unknown_option
from monai_deepssim.progress import PROGRAM, quiet, say
from monai_deepssim.ranks import is_first_process
from monai_deepssim.release import verification_colour, verification_lines, verify_release
from monai_deepssim.release.options import ReportOptions, VerifyOptions
from monai_deepssim.started_ranks import read_num_processes, started_ranks
from monai_deepssim.workflow.bundles import find_bundle, list_bundles

if TYPE_CHECKING:
    from monai_deepssim.workflow.workflow import Workflow

__all__ = ["main"]

_UNUSABLE_INPUT = 2


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
        given, unknown = make_parser().parse_known_args(typed)
        nested, unknown = _nested_values(unknown) if given.command in BUNDLES else ({}, unknown)
        if unknown:
            _refuse(given.command, unknown)
        if given.command == "bundle":
            for line in list_bundles() if given.name is None else [str(find_bundle(given.name))]:
                say(line)
            return 0
        if given.command in _OF_FINISHED_AUDITS:
            return _run_on_finished_audit(given)
        if given.command not in ON_RANKS:
            return _run(given, nested)
        with started_ranks(read_num_processes(given.processes), typed):
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


def _refuse(command: str, unknown: Sequence[str]) -> NoReturn:
    """Name what was typed and is not known, with the nearest option that is."""
    flag = next((entry for entry in unknown if entry.startswith("-")), None)
    if flag is None or command not in COMMANDS:
        raise UnusableInputError(f"{unknown[0]!r} is one argument too many. Put a name with spaces into quotes.")
    kind, _, left_out, _ = COMMANDS[command]
    known = [name for name in option_names(kind) if name not in left_out]
    known += ["quiet", "json"] + ["quick"] * (command in BUNDLES) + ["processes"] * (command in ON_RANKS)
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


def _run_on_finished_audit(given: argparse.Namespace) -> int:
    """Run a command that only reads what an audit has written, and waits for no PyTorch."""
    kind = COMMANDS[given.command][0]
    options: Any = read_options(
        kind, {name: value for name, value in vars(given).items() if name in option_names(kind)}
    )
    output = contextlib.redirect_stdout(sys.stderr) if given.json else contextlib.nullcontext()
    with quiet(given.quiet), output:
        status, summary = _OF_FINISHED_AUDITS[given.command](options)
    if given.json:
        print(json.dumps(summary, indent=2))
    return status


def _verify(options: VerifyOptions) -> tuple[int, dict[str, Any]]:
    verification = verify_release(options.audit_dir, options.released_dir)
    colour: str | None = verification_colour(verification)
    for line in verification_lines(verification):
        say(line, colour=colour)
        colour = None
    return verification.status, verification.as_json()


def _report(options: ReportOptions) -> tuple[int, dict[str, Any]]:
    from monai_deepssim.report import SHAREABLE_REPORT, shareable_report

    target = options.output_file or options.audit_dir / SHAREABLE_REPORT
    write_text(target, shareable_report(options.audit_dir), private=False)
    say(f"Report without names, identifiers and pixels: {target}")
    return 0, {"shareable_report": str(target)}


_OF_FINISHED_AUDITS: dict[str, Callable[[Any], tuple[int, dict[str, Any]]]] = {"verify": _verify, "report": _report}


def _run(given: argparse.Namespace, nested: Mapping[str, Any]) -> int:
    kind = COMMANDS[given.command][0]
    texts = {entry.name for entry in option_fields(kind) if entry.metadata["check"].is_text}
    values = {
        name: value if name in texts or not isinstance(value, str) else _parse(value)
        for name, value in vars(given).items()
        if name in option_names(kind)
    }
    workflow = _find_workflow(given.command)
    if given.command in BUNDLES:
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
    if given.json and is_first_process() and _time_of(summary) not in (None, earlier):
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
    from monai_deepssim.benchmark import DetectorBenchmark, Reproduction
    from monai_deepssim.study import MemorizationStudy

    workflows: dict[str, type[Workflow]] = {
        "filter": CopyFilter,
        "deduplicate": Deduplication,
        "train-embedder": EmbedderTraining,
        "benchmark": DetectorBenchmark,
        "reproduce": Reproduction,
        "study": MemorizationStudy,
    }
    return workflows.get(command, Audit)


def _with_bundle_values(
    command: str, names: Sequence[str], values: Mapping[str, Any], nested: Mapping[str, Any], is_quick: bool
) -> dict[str, Any]:
    """What was typed, and the values of the bundle's config for options that were not."""
    from monai_deepssim.study.workflows import parse_config

    folder, kind = find_bundle(BUNDLES[command]), COMMANDS[command][0]
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
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return text
