"""The findings of an audit in the words of data protection law: singling out, linkability and inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_deepssim.report.sentences import count_words, has_volumes, suspicious_beside_copies

__all__ = ["members_measures", "privacy_risks"]


def privacy_risks(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Map the findings to the three risks by which anonymity is judged.

    The risks are those of recital 26 of the GDPR as the Article 29 Working Party reads it in its opinion 05/2014 on
    anonymisation techniques (WP 216).

    Args:
        summary: content of ``summary.json``.

    Returns:
        ``risk``, ``question``, ``findings``, ``covered`` and ``not_covered`` of each, without names.
    """
    members, of_volumes = summary["members"], has_volumes(summary)
    membership = "not tested: it takes held-out images" if members is None else str(members["sentence"])
    singling_out = ""
    if members is not None and members["singling_out_risk_interval"] is not None:
        low, high = members["singling_out_risk_interval"]
        singling_out = f" Risk above that of people who were not in training: {members['singling_out_risk']:.3f} "
        singling_out += f"(95 % interval {low:.3f} to {high:.3f})."
    return [
        {
            "risk": "Singling out",
            "question": "Can the record of one person be isolated?",
            "finding": f"{_copies(summary)} {_people(summary)}{singling_out}",
            "covered": "Volumes that reproduce a training volume as a whole."
            if of_volumes
            else "Images that reproduce a training image, or a large part of one.",
            "not_covered": f"{'Parts of a volume, such as some slices' if of_volumes else 'Small parts of an image'}, "
            "text burned into it, headers and file names.",
        },
        {
            "risk": "Linkability",
            "question": "Can two records of one person be linked?",
            "finding": _links(summary),
            "covered": "Links from a synthetic image to an image of the training set that was given.",
            "not_covered": "Links to other images of these people, such as an archive of the hospital.",
        },
        {
            "risk": "Inference",
            "question": "Can something about a person be deduced?",
            "finding": f"Membership in the training set: {membership}",
            "covered": "Whether a person's image was in training, by the nearest synthetic image."
            if members is not None
            else "Nothing.",
            "not_covered": "Attributes such as a diagnosis, and attacks on the generator itself.",
        },
    ]


def _copies(summary: Mapping[str, Any]) -> str:
    copies = count_words(summary["num_copies"], "synthetic image is a copy", "synthetic images are copies")
    others = suspicious_beside_copies(summary)
    more = f"; {count_words(others, 'more is', 'more are')} suspicious" if others else ""
    return f"{copies} of a training image{more}."


def _people(summary: Mapping[str, Any]) -> str:
    patients, unknown = summary["num_patients"], summary["num_memorized_without_patient"]
    if not summary["num_memorized"]:
        return "No patient is known to be affected."
    if not patients:
        return f"{count_words(unknown, 'training image')} of unknown patients are affected."
    more = f", and {count_words(unknown, 'training image')} of unknown patients" if unknown else ""
    return f"{count_words(patients, 'patient is', 'patients are')} affected{more}."


def _links(summary: Mapping[str, Any]) -> str:
    others = suspicious_beside_copies(summary)
    more = count_words(others, "more suspicious image", "more suspicious images")
    if not summary["num_memorized"]:
        suspects = f"; {count_words(others, 'suspicious image')} may be" if others else ""
        return f"No synthetic image was linked to a training image{suspects}."
    return (
        f"{count_words(summary['num_copies'], 'synthetic image')} can be linked to "
        f"{count_words(summary['num_memorized'], 'training image')}{f', and {more} may be' if others else ''}."
    )


def members_measures(members: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Write the measures of members against non-members, each with its interval where it has one.

    Args:
        members: entry of ``summary.json``.

    Returns:
        Name and value of each.
    """
    names = {
        "auc": "Area under the ROC curve (0.5: guessing)",
        "tpr_at_1_fpr": "Members recognised at 1 % false accusations",
        "tpr_at_0.1_fpr": "Members recognised at 0.1 % false accusations",
        "advantage": "Advantage over guessing (0: none, 1: certainty)",
        "singling_out_risk": "Risk of singling out above that of non-members",
    }
    rows = []
    for key, name in names.items():
        value, interval = members[key], members[f"{key}_interval"]
        if value is not None:
            ends = "" if interval is None else " (95 % interval {:.3f} to {:.3f})".format(*interval)
            rows.append((name, f"{value:.3f}{ends}"))
    if members["epsilon_lower_bound"] is not None:
        rows.append(("Lower bound on epsilon", f"{members['epsilon_lower_bound']:.3g}"))
    return rows
