"""``report_shareable.html``: what an audit found, without names, identifiers and pixels, so that it can be sent."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from monai_deepssim.csv_cells import plain_cell
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.report.audit_report import describe
from monai_deepssim.report.figures import score_histogram
from monai_deepssim.report.html import report_environment

__all__ = ["SHAREABLE_REPORT", "render_shareable", "shareable_report"]

#: Name of this report in the folder of an audit.
SHAREABLE_REPORT = "report_shareable.html"

# How many images a patient has in the training set, others may know: with it a row of a table would be a name.
_COPIES_PER_PATIENT = (("1 copy", 1, 1), ("2 to 4 copies", 2, 4), ("5 copies or more", 5, np.inf))
_REPEAT_PATHS = ("path", "repeats")
_REMOVED = "[name removed]"


def shareable_report(folder: Path) -> str:
    """Make the report that can be shared of an audit that is finished, from its summary and tables alone.

    Args:
        folder: folder of the audit, with ``summary.json``, ``matches.csv`` and ``patients.csv``.

    Returns:
        The HTML.

    Raises:
        UnusableInputError: if the folder holds no finished audit.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        tables = {name: _read_table(folder / f"{name}.csv") for name in ("matches", "patients")}
        return render_shareable(summary, tables)
    except FileNotFoundError as error:
        raise UnusableInputError(
            f"{folder}: has no {Path(error.filename).name}, want the folder of a finished audit. Give its --output_dir."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnusableInputError(
            f"{folder}: holds no audit of this version ({type(error).__name__}: {error}). Rerun the audit, which "
            "continues with what is there."
        ) from error


def _read_table(path: Path) -> DataFrame:
    # Names such as "NA" are names.
    return pd.read_csv(path, dtype=str, keep_default_na=False, encoding_errors="surrogateescape").apply(
        lambda column: pd.to_numeric(column, errors="coerce") if column.name in _NUMBERS else column.map(plain_cell)
    )


_NUMBERS = {"score", "num_training", "num_memorized", "num_copies", "max_score"}


def render_shareable(summary: Mapping[str, Any], tables: Mapping[str, DataFrame]) -> str:
    """Make the report without names, identifiers and pixels.

    Args:
        summary: content of ``summary.json``.
        tables: ``matches`` and ``patients``, with the columns of the CSV files of these names.

    Returns:
        The HTML.
    """
    described = describe(_without_names(summary, tables))
    scores = tables["matches"]["score"].to_numpy(float)
    patients = tables["patients"]
    copies = patients["num_copies"][patients["patient_id"] != ""].to_numpy(int)
    by_copies = [
        (words, int(((copies >= least) & (copies <= most)).sum())) for words, least, most in _COPIES_PER_PATIENT
    ]
    histogram = score_histogram(scores, described["summary"]["thresholds"])
    template = report_environment().get_template("shareable.html")
    return template.render(**described, histogram=histogram, patients=by_copies if len(copies) else [])


def _without_names(summary: Mapping[str, Any], tables: Mapping[str, DataFrame]) -> dict[str, Any]:
    """Keep of a summary what a shareable report shows, and take every known name out of its sentences."""
    secrets = _secrets(summary, tables)
    safe = _redact(dict(summary), _pattern(secrets))
    # Texts by themselves, which are no sentences of ours.
    for name in ("training_dir", "synthetic_dir", "output_dir"):
        safe[name] = ""
    safe["holdout_dir"] = None if summary["holdout_dir"] is None else ""
    safe["run"] = {"package_version": summary["run"]["package_version"]}
    safe["skipped"] = [{} for _ in summary["skipped"]]
    safe["ignored_files"] = {
        side: [{"kind": file["kind"]} for file in files] for side, files in summary["ignored_files"].items()
    }
    safe["repeats"] = {side: [{} for _ in repeats] for side, repeats in summary["repeats"].items()}
    safe["identical_training"] = {**summary.get("identical_training", {"num_of_two_patients": 0}), "images": []}
    safe["fingerprints"] = {"synthetic": summary["fingerprints"]["synthetic"]}
    for name in ("contamination", "second_opinion"):
        if summary[name] is not None:
            safe[name] = {**safe[name], "paths": []}
    safe["selection"] = None
    if summary["selection"]:
        safe["selection"] = "its images were chosen by their scores."
    return safe


def _secrets(summary: Mapping[str, Any], tables: Mapping[str, DataFrame]) -> set[str]:
    """Every name that an audit knows: of files and the folders that they are in, of patients, and of who ran it."""
    paths = [str(summary[name] or "") for name in ("training_dir", "synthetic_dir", "holdout_dir", "output_dir")]
    paths += [entry["path"] for entry in summary["skipped"]]
    paths += [entry["path"] for files in summary["ignored_files"].values() for entry in files]
    paths += [entry[name] for repeats in summary["repeats"].values() for entry in repeats for name in _REPEAT_PATHS]
    paths += [path for pair in (summary["contamination"] or {"paths": []})["paths"] for path in pair]
    identical = summary.get("identical_training", {"images": []})["images"]
    paths += [entry[name] for entry in identical for name in ("path", "identical_to")]
    # The name of the program is none.
    _, *words = shlex.split(summary["run"]["command"]) or [""]
    # Names of options are no secrets; what was given for them may be.
    names = [entry[name] for entry in identical for name in ("patient_id", "other_patient_id")]
    names += [str(summary["run"]["user"] or ""), *(word for word in words if not word.startswith("--"))]
    names += [word.partition("=")[2] for word in words if word.startswith("--")]
    for table in tables.values():
        for column in table.columns:
            if column.endswith("_path"):
                paths += table[column].tolist()
            if column.endswith("patient_id"):
                names += table[column].tolist()
    parts = [part for path in paths for part in re.split(r"[/\\#]", path)]
    return {*names, *paths, *parts, *(Path(part).stem for part in parts)}


def _pattern(secrets: Iterable[str]) -> re.Pattern[str] | None:
    # A number or a word of ours may be somebody's identifier; in a sentence of ours it says nothing of them.
    telling = {secret for secret in secrets if len(secret) > 3 and not re.fullmatch(r"[a-z]+|[\d.]+", secret)}
    if not telling:
        return None
    longest_first = sorted(telling, key=len, reverse=True)
    return re.compile("|".join(rf"(?<!\w){re.escape(secret)}(?!\w)" for secret in longest_first))


def _redact(value: Any, pattern: re.Pattern[str] | None) -> Any:
    if pattern is None:
        return value
    if isinstance(value, str):
        return pattern.sub(_REMOVED, value)
    if isinstance(value, Mapping):
        return {name: _redact(entry, pattern) for name, entry in value.items()}
    return [_redact(entry, pattern) for entry in value] if isinstance(value, list) else value
