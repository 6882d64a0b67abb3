"""Write what follows from options, columns, detectors and readers: ids of configs, and tables of docs.

python docs/write_options.py
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai_deepssim.audit import Audit, CopyFilter, Deduplication
from monai_deepssim.audit.options import AuditOptions, DeduplicationOptions, FilterOptions
from monai_deepssim.benchmark import DetectorBenchmark
from monai_deepssim.benchmark.options import BenchmarkCommandOptions, BenchmarkOptions
from monai_deepssim.data.readers import (
    COMPRESSED_SYNTAXES,
    PASSED_OVER_CLASSES,
    PASSED_OVER_TYPES,
    READERS,
    SECONDARY_CAPTURES,
    format_names,
    unread_suffixes,
)
from monai_deepssim.metrics import SUPPORTED_DETECTORS
from monai_deepssim.options import option_fields
from monai_deepssim.report import TABLES as COLUMNS
from monai_deepssim.study import MemorizationStudy
from monai_deepssim.study.options import StudyOptions
from monai_deepssim.workflow.workflow import Workflow

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ROOT / "bundles"
CONFIGS: dict[str, type[Workflow]] = {
    "memorization_audit/configs/inference.json": Audit,
    "memorization_audit/configs/filter.json": CopyFilter,
    "memorization_audit/configs/deduplicate.json": Deduplication,
    "detector_benchmark/configs/inference.json": DetectorBenchmark,
    "memorization_study/configs/inference.json": MemorizationStudy,
}
# The table of a page, by the name in its marker: a dataclass, those whose options are left out, and the config.
TABLES = {
    "audit": (AuditOptions, None, "memorization_audit/configs/inference.json"),
    "filter": (FilterOptions, AuditOptions, "memorization_audit/configs/filter.json"),
    "benchmark": (BenchmarkOptions, None, "detector_benchmark/configs/inference.json"),
    "detector_files": (BenchmarkCommandOptions, BenchmarkOptions, "detector_benchmark/configs/inference.json"),
    "study": (StudyOptions, None, "memorization_study/configs/inference.json"),
}
_LONGEST_DEFAULT, _LINE_LENGTH = 40, 120


def updated_files() -> Iterator[tuple[Path, str]]:
    """Yield each file that follows from options or readers, and what it should be."""
    for name, workflow in CONFIGS.items():
        path = BUNDLES / name
        config = with_options(json.loads(path.read_text(encoding="utf-8")), workflow)
        if workflow is DetectorBenchmark:
            config["detectors"] = with_detectors(config["detectors"])
        yield path, json.dumps(config, indent=4, ensure_ascii=False) + "\n"
    for path in sorted(BUNDLES.glob("*/configs/metadata.json")):
        metadata = json.loads(path.read_text(encoding="utf-8"))
        if "data_type" in metadata:
            metadata["data_type"] = ", ".join(reader.name for reader in READERS)
            yield path, json.dumps(metadata, indent=4, ensure_ascii=False) + "\n"
    for path in (ROOT / "README.md", ROOT / "docs" / "data.md", *sorted(BUNDLES.glob("*/docs/README.md"))):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"<!-- formats: (\w+) -->", text):
            pattern = rf"(<!-- formats: {name} -->).*?(<!-- end of formats -->)"
            text = re.sub(pattern, lambda found, name=name: found[1] + formats(name) + found[2], text, flags=re.DOTALL)
        for name in re.findall(r"<!-- options: (\w+) -->", text):
            pattern = rf"(<!-- options: {name} -->\n).*?(<!-- end of options -->)"
            text = re.sub(pattern, lambda found, name=name: found[1] + table(name) + found[2], text, flags=re.DOTALL)
        yield path, text
    path = ROOT / "docs" / "clean_up.md"
    names = ", ".join(f"`{entry.name}`" for entry in option_fields(DeduplicationOptions))
    yield path, replaced(path, "option names: deduplicate", "option names", textwrap.fill(names, _LINE_LENGTH) + "\n")
    path = ROOT / "docs" / "auditing.md"
    text = path.read_text(encoding="utf-8")
    for name in COLUMNS:
        pattern = rf"(<!-- columns: {name} -->\n).*?(<!-- end of columns -->)"
        text = re.sub(pattern, lambda found, name=name: found[1] + column_table(name) + found[2], text, flags=re.DOTALL)
    yield path, text
    path = ROOT / "docs" / "detectors.md"
    yield path, replaced(path, "detectors", "detectors", detector_table())


def replaced(path: Path, start: str, end: str, text: str) -> str:
    """Read a page with what is between two markers replaced."""
    pattern = rf"(<!-- {start} -->\n).*?(<!-- end of {end} -->)"
    return re.sub(pattern, lambda found: found[1] + text + found[2], path.read_text(encoding="utf-8"), flags=re.DOTALL)


def column_table(name: str) -> str:
    """Make the table of the columns of a file."""
    rows = [f"| `{column}` | {entry.meaning} |" for column, entry in COLUMNS[name].items()]
    return "\n".join(["| column | meaning |", "| --- | --- |", *rows]) + "\n"


def with_detectors(detectors: dict[str, Any]) -> dict[str, Any]:
    """Give the config of the benchmark each detector that it does not have yet."""
    added = {}
    for name, kind in SUPPORTED_DETECTORS.items():
        if 2 not in kind.spatial_dims:
            continue  # its pairs are slices
        parameters = inspect.signature(kind).parameters
        weights = {"embedder": "@checkpoint" if kind.shipped_weights else None} if "embedder" in parameters else {}
        target = f"{kind.__module__}.{kind.__name__}"
        added[name] = {"_target_": target, "_mode_": "callable", **weights, "device": "@device"}
    return {**detectors, **{name: added[name] for name in added if name not in detectors}}


def detector_table() -> str:
    """Make the table of detectors: name, class, the first sentence of its docstring, and what it needs."""
    lines = ["| name | class | score of a pair | needs |", "| --- | --- | --- | --- |"]
    for name, kind in SUPPORTED_DETECTORS.items():
        sentence = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", first_sentence(kind))
        lines.append(f"| `{name}` | `{kind.__name__}` | {sentence} | {kind.needs} |")
    return "\n".join(lines) + "\n"


def first_sentence(kind: type) -> str:
    paragraph = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=\w)[.:;] |[.]$", paragraph)[0]


def with_options(config: dict[str, Any], workflow: type[Workflow]) -> dict[str, Any]:
    """Give a config an id for each option, in their order; an id that is there keeps its value."""
    target = f"{workflow.__module__.rpartition('.')[0]}.{workflow.__name__}".replace(".clean_up", "")
    (component,) = (key for key, value in config.items() if isinstance(value, dict) and value.get("_target_") == target)
    defaults = plain_defaults(workflow.options_class)
    names = workflow.option_names()
    keys = list(config)
    first = keys[: keys.index("bundle_root") + 1]
    others = [key for key in keys if key not in names and key not in first and key != component]
    before = [key for key in others if keys.index(key) < keys.index(component)]
    after = [key for key in others if key not in before]
    return {
        **{key: config[key] for key in first},
        **{name: config.get(name, defaults.get(name)) for name in names},
        **{key: config[key] for key in before},
        component: {"_target_": target, **{name: f"@{name}" for name in names}},
        **{key: config[key] for key in after},
    }


def plain_defaults(kind: type) -> dict[str, Any]:
    return {entry.name: plain(entry.default) for entry in option_fields(kind)}


def plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    return f"./{value}" if isinstance(value, Path) else value


def table(name: str) -> str:
    """Make the table of options of a page."""
    kind, base, config_name = TABLES[name]
    known = {entry.name for entry in option_fields(base)} if base else set()
    config = json.loads((BUNDLES / config_name).read_text(encoding="utf-8"))
    fields = [entry for entry in option_fields(kind) if entry.name not in known]
    groups = dict.fromkeys(entry.metadata["group"] for entry in fields)
    lines = ["| option | default | takes | meaning |", "| --- | --- | --- | --- |"]
    for group in groups:
        lines += [f"| **{group}** | | | |"] if len(groups) > 1 else []
        for entry in fields:
            if entry.metadata["group"] == group:
                default = default_words(config.get(entry.name, plain(entry.default)))
                takes = entry.metadata["check"].kind.replace("|", "\\|")
                lines.append(f"| `{entry.name}` | {default} | {takes} | {entry.metadata['meaning']} |")
    return "\n".join(lines) + "\n"


def formats(name: str) -> str:
    """Say what the readers read: in words, as a table, where pixel sizes come from, what is not read or passed over."""
    if name == "names":
        return format_names()
    if name == "unread":
        return ", ".join(f"`{suffix}`" for suffix in unread_suffixes())
    if name in _DICOM_TABLES:
        lines = _DICOM_TABLES[name]()
    elif name == "pixel_sizes":
        sources: dict[str, list[str]] = {}
        for reader in READERS:
            sources.setdefault(reader.pixel_size_from, []).append(reader.name)
        lines = ["| format | a pixel's height and width come from |", "| --- | --- |"]
        lines += [f"| {', '.join(names)} | {source} |" for source, names in sources.items()]
    else:
        lines = ["| format | suffix | taken as |", "| --- | --- | --- |"]
        for reader in READERS:
            suffixes = ", ".join(f"`{suffix}`" for suffix in reader.suffixes)
            needs = f"{reader.extra_for} need" if reader.extra_for else "needs"
            extra = f"; {needs} `pip install 'monai-deepssim[{reader.extra}]'`" if reader.extra else ""
            lines.append(f"| {reader.name} | {suffixes} | {reader.taken_as}{extra} |")
    return "\n" + "\n".join(lines) + "\n"


def passed_over_table() -> list[str]:
    """Make the table of DICOM files that hold no image to audit."""
    captures = ", ".join(f"`{kind}`" for kind in SECONDARY_CAPTURES)
    return [
        *("| passed over as | known by |", "| --- | --- |"),
        *(f"| {reason} | SOPClassUID `{kind}` |" for kind, reason in PASSED_OVER_CLASSES.items()),
        *(f"| {reason} | `{value}` in ImageType |" for value, reason in PASSED_OVER_TYPES.items()),
        f"| a secondary capture beside acquired images | SOPClassUID {captures} |",
        "| no image: reports, plans, structures, presentation states, waveforms, documents, raw data | no Rows |",
    ]


def syntax_table() -> list[str]:
    """Make the table of compressed transfer syntaxes."""
    return [
        *("| transfer syntax | UID | needs |", "| --- | --- | --- |"),
        *(f"| {syntax.name} | `{syntax}` | {needs} |" for syntax, needs in COMPRESSED_SYNTAXES.items()),
    ]


_DICOM_TABLES = {"passed_over_dicom": passed_over_table, "compressed_dicom": syntax_table}


def default_words(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if value is None or value in ([], "") or text.startswith(("$", "@")):
        return ""
    return f"`{text}`" if len(text) <= _LONGEST_DEFAULT else "see the config"


if __name__ == "__main__":
    for file, content in updated_files():
        if file.read_text(encoding="utf-8") != content:
            file.write_text(content, encoding="utf-8")
            print(f"wrote {file.relative_to(ROOT)}")
