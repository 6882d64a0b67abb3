"""Whatever an option is given, it is read, or refused in words that name it; nothing else is raised."""

import math
from pathlib import Path

import pytest
from refusals import refusal_of

from monai_deepssim.audit.options import AuditOptions, DeduplicationOptions, FilterOptions
from monai_deepssim.audit.training_options import EmbedderTrainingOptions
from monai_deepssim.benchmark.options import BenchmarkCommandOptions
from monai_deepssim.options import option_fields, read_options
from monai_deepssim.release.options import ReportOptions, VerifyOptions
from monai_deepssim.study.options import StudyOptions


class Odd:
    """An object of another program."""


VALUES = {
    "nothing": None,
    "empty": "",
    "blank": "  ",
    "true": True,
    "zero": 0,
    "below zero": -1,
    "huge": 10**30,
    "half": 0.5,
    "not a number": math.nan,
    "infinite": math.inf,
    "long text": "x" * 5000,
    "null byte": "a\0b",
    "surrogate": "a\udc80",
    "expression": "$__import__('os').abort()",
    "reference": "@training_dir",
    "formula": "=1+1",
    "home of nobody": "~nobody-of-this-name/a",
    "deep": "[" * 5000 + "]" * 5000,
    "bytes": b"12",
    "list": [1, "$a", None],
    "nested": [[[[]]]],
    "mapping": {"_target_": "os.abort"},
    "numbers by name": {1: 2},
    "complex": 1j,
    "object": Odd(),
    "type": int,
}
KINDS = (
    AuditOptions,
    FilterOptions,
    DeduplicationOptions,
    EmbedderTrainingOptions,
    BenchmarkCommandOptions,
    StudyOptions,
    VerifyOptions,
    ReportOptions,
)
FIELDS = {entry.name: entry for kind in KINDS for entry in option_fields(kind)}


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_value_of_any_kind_is_read_or_refused_by_the_name_of_its_option(name):
    for what, value in VALUES.items():
        message = refusal_of(FIELDS[name].metadata["check"].read, name, value)
        assert message is None or message.startswith(f"--{name}: "), what


@pytest.mark.parametrize("what", VALUES)
def test_rules_over_several_options_refuse_in_words_too(what):
    for name in (
        "thresholds",
        "controls",
        "detector_options",
        "slices",
        "window",
        "patient_id_pattern",
        "volumes",
        "image_size",
    ):
        message = refusal_of(
            read_options, AuditOptions, {"training_dir": "a", "synthetic_dir": "b", name: VALUES[what]}
        )
        assert message is None or f"--{name}: " in message


def test_a_name_is_not_evaluated_when_it_is_read():
    options = read_options(AuditOptions, {"training_dir": "$print('evaluated')", "synthetic_dir": "@a"})
    assert (options.training_dir, options.synthetic_dir) == (Path("$print('evaluated')"), Path("@a"))


def test_detector_options_of_any_depth_end_in_words():
    depth = 10_000
    for text in ("a=" + "[" * depth, "a=" + "[" * depth + "]" * depth, "a=1," * depth, "=" * depth):
        message = refusal_of(FIELDS["detector_options"].metadata["check"].read, "detector_options", text)
        assert message is None or message.startswith("--detector_options: ")
