"""Which synthetic files are kept after an audit, and why the others are not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from monai_deepssim.audit.clean_up.file_units import file_units, locations_of, relative_to_source, source_root
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.audit.sources import Side
from monai_deepssim.data import Repeat
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.report import as_table

__all__ = ["FILTER_COLUMNS", "decide_files"]

_TWIN, _DISCOVERY, _UNEXPLAINED = "twin", "discovery", "unexplained"

#: Columns of the manifest.
FILTER_COLUMNS = ["file", "kept", "class", "score", "training_path", "patient_id", "decided_by", "reason"]


def decide_files(result: AuditResult, leave_out: Collection[str]) -> pd.DataFrame:
    """Decide about every file in the folder of the synthetic images.

    A file is left out when its closest slice is of a class that is left out, or when any of its slices could not be
    used: what could not be looked at is not known not to be a copy. The files of a DICOM series share one decision.

    Args:
        result: result of the audit.
        leave_out: classes, ``duplicate`` among them; ``twin`` for copies of a synthetic copy, ``discovery`` for what is
            closer than chance explains, and ``unexplained`` for what stands apart from all other images.

    Returns:
        A row per file, in the order of their paths: the columns of :data:`FILTER_COLUMNS`, and ``location``, which is
        empty for a file that was ignored. ``file`` is relative to the source, and the file's place among those that are
        kept. ``class`` is ``duplicate``, ``part``, ``similar`` or ``different``, by the closest slice; ``twin``,
        ``discovery`` or ``unexplained`` of a file that is left out because of that; ``skipped`` where that or another
        slice could not be used; ``ignored`` of a file that is not an image, and of a link to one that is kept. A
        file that repeats another one shares its decision.

    Raises:
        UnusableInputError: if discoveries are to be left out, and there was nothing to compare with.
    """
    side = result.synthetic.side
    root = source_root(side)
    indices = result.synthetic.images.indices
    matches = {int(indices[match.Index]): match for match in result.matches.itertuples()}
    problems = result.synthetic.images.problems
    suspicious = _suspicious(result, leave_out)
    if _DISCOVERY in leave_out and result.discoveries is None:
        raise UnusableInputError(
            "--leave_out: has discovery, but there are no images of two patients to tell what chance explains. "
            "Give --holdout_dir, or leave it out."
        )
    rows: list[dict[str, Any]] = []
    repeats = _repeated_files(side)
    for unit in file_units(side.items, side.repeats):
        judged = [matches[index] for index in unit.indices if index in matches]
        closest = max(judged, key=lambda match: match.score, default=None)
        unusable = [index for index in unit.indices if index in problems]
        apart = next((match for match in judged if match.Index in suspicious), None)
        if apart is not None and closest is not None and closest.label not in leave_out:
            kept, label, closest = False, suspicious[apart.Index], apart
            reason = f"{_why_suspicious(apart, label)}, though {_reason(apart, result)}"
        elif closest is not None and (closest.label in leave_out or not unusable):
            kept, label = closest.label not in leave_out, closest.label
            reason = _reason(closest, result)
        else:
            kept, label = False, "skipped"
            reason = f"could not be used: {problems[unusable[0]]}"
        num_files = sum(file not in repeats for file in unit.files)
        if num_files > 1 and not kept:
            reason += f" (the whole series of {num_files} files is left out)"
        decision = {"kept": kept, "class": label, "reason": reason}
        if closest is not None:
            decision |= {"score": closest.score, "decided_by": closest.synthetic_path}
            decision |= {"training_path": closest.training_path, "patient_id": closest.patient_id}
        for file in unit.files:
            repeat = {} if file not in repeats else _decide_repeat(repeats[file], decision)
            rows.append({**decision, **repeat, "file": relative_to_source(file, root), "location": file})
    for ignored in side.ignored:
        reason = f"no image that was audited: {ignored['reason']}"
        rows.append({"file": ignored["path"], "location": "", "kept": False, "class": "ignored", "reason": reason})
    return as_table(rows, [*FILTER_COLUMNS, "location"]).sort_values("file", kind="stable", ignore_index=True)


def _repeated_files(side: Side) -> dict[str, Repeat]:
    """The repeats by their files, but for those that are files of other items too."""
    files = {file for item in side.items for file in locations_of(item)}
    return {file: repeat for repeat in side.repeats for file in locations_of(repeat.item) if file not in files}


def _decide_repeat(repeat: Repeat, decision: Mapping[str, Any]) -> dict[str, Any]:
    if repeat.is_link and decision["kept"]:
        return {"kept": False, "class": "ignored", "reason": f"a link to {repeat.first}, which is kept"}
    return {"reason": f"a repeat of {repeat.first} ({repeat.reason}), which is {decision['reason']}"}


def _suspicious(result: AuditResult, leave_out: Collection[str]) -> dict[Any, str]:
    """Rows of the matches that are no copies and suspicious all the same, with their class, of those left out."""
    apart = result.matches.index[result.matches["unexplained"].astype(bool)] if _UNEXPLAINED in leave_out else []
    close = result.close.index if _DISCOVERY in leave_out else []
    twins = result.matches.index[result.matches["twin_of"] != ""] if _TWIN in leave_out else []
    return {**dict.fromkeys(apart, _UNEXPLAINED), **dict.fromkeys(close, _DISCOVERY), **dict.fromkeys(twins, _TWIN)}


def _why_suspicious(match: Any, label: str) -> str:
    if label == _TWIN:
        return f"a copy of {match.twin_of}, which is a copy, with a score of {match.twin_score:.3f}"
    return (
        "apart from all other images"
        if label == _UNEXPLAINED
        else f"closer than chance explains (q {match.q_value:.2g})"
    )


def _reason(match: Any, result: AuditResult) -> str:
    nearest = f"nearest training image {match.training_path} ({match.patient_id or 'patient unknown'})"
    limits = result.thresholds
    if match.label == "duplicate":
        return f"a copy: its score of {match.score:.3f} with the {nearest} is above {limits.duplicate:g}"
    if match.label == "part":
        return f"a part copy: its score of {match.score:.3f} with the {nearest} is above {limits.duplicate:g}"
    if match.label == "similar":
        return f"similar, not a copy: its score of {match.score:.3f} with the {nearest} is above {limits.similar:g}"
    lowest = limits.duplicate if limits.similar is None else limits.similar
    return f"different: its score of {match.score:.3f} with the {nearest} is not above {lowest:g}"
