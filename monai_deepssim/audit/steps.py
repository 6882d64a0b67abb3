"""The steps of an audit, from options to files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.inferers import Inferer

from monai_deepssim.audit.evidence import gather_evidence
from monai_deepssim.audit.judgement import judge
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.report import write_results
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.audit.sources import Side
from monai_deepssim.progress import Stages
from monai_deepssim.similarity import kernels_are_compiled

__all__ = ["audit_stages", "perform_audit", "write_result"]

_STAGES = {
    "making_demo": "Make a demo: phantoms, and copies among them",
    "listing": "List the images",
    "compiling": "Compile the comparison on the pixels, once on this machine",
    "fingerprints": "Fingerprint the files",
    "embedding_training": "Embed the training images",
    "embedding_synthetic": "Embed the synthetic images",
    "embedding_holdout": "Embed the held-out images",
    "comparing_sides": "Compare how the sides were preprocessed",
    "local_features": "Find local features of the training images",
    "search": "Compare each synthetic image with its nearest training images",
    "error_rates": "Measure what images score that are not copies",
    "controls": "Plant controls, copies of training images, and look for them",
    "members": "Compare training with held-out images by their nearest synthetic image",
    "memorization_index": "Compute the Memorization Index",
    "report": "Write tables and report",
}


def perform_audit(
    options: AuditOptions,
    *,
    sides: Sequence[Side] | None = None,
    write: bool = True,
    inferer: Inferer | None = None,
    handlers: Sequence[Any] = (),
) -> AuditResult:
    """Do an audit and write its files.

    Args:
        options: checked.
        sides: the training, the synthetic and any held-out side, where they are known already; by default the folders
            that the options name are listed.
        write: whether the result goes into files; embeddings and verified pairs do in any case.
        inferer: MONAI inferer that calls the embedder.
        handlers: Ignite handlers to attach to the evaluators that embed.

    Returns:
        What was found, which is also in the files.

    Raises:
        UnusableInputError: if the images, the embedder or the output folder cannot be used.
    """
    stages = audit_stages(options)
    evidence = gather_evidence(options, stages, sides=sides, inferer=inferer, handlers=handlers)
    result = judge(evidence, options, stages)
    if write:
        write_result(result, stages)
    return result


def audit_stages(options: AuditOptions, further: Mapping[str, str] | None = None) -> Stages:
    """Name the stages of an audit.

    Args:
        options: checked.
        further: titles of the stages behind those of the audit, by name.
    """
    wanted = {
        "making_demo": options.demo,
        "compiling": options.verify and not kernels_are_compiled(),
        "embedding_holdout": options.has_holdout,
        "local_features": options.verify and options.volumes == "none",
        "controls": options.controls is not None,
        "members": options.has_holdout,
        "memorization_index": options.memorization_index,
    }
    return Stages({**{name: title for name, title in _STAGES.items() if wanted.get(name, True)}, **(further or {})})


def write_result(result: AuditResult, stages: Stages) -> None:
    """Write the files of an audit into its output folder.

    Raises:
        UnusableInputError: if one cannot be written.
    """
    with stages("report"):
        write_results(result.options.output_dir, result)
