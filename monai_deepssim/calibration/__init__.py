"""Thresholds and p-values with error rates."""

from monai_deepssim.calibration.bootstrap import bootstrap_weights, percentile_interval
from monai_deepssim.calibration.class_thresholds import ClassThresholds, choose_class_thresholds
from monai_deepssim.calibration.conformal import conformal_p_values
from monai_deepssim.calibration.detection_curve import (
    MILD_CHANGES,
    MILD_VOLUME_CHANGES,
    DetectionCurve,
    DetectionPoint,
    compute_detection_curve,
)
from monai_deepssim.calibration.detection_rates import compute_detection_rates, resample_detection_rates
from monai_deepssim.calibration.duplicate_null import LeftOut, leave_out_duplicates
from monai_deepssim.calibration.false_discovery import (
    REALISTIC_COPY_FRACTION,
    Discoveries,
    benjamini_hochberg,
    discoveries_at_fdr,
    fewest_discoverable,
    find_discoveries,
)
from monai_deepssim.calibration.gate import Gate, decide_gate
from monai_deepssim.calibration.gate_caveats import GateCaveat
from monai_deepssim.calibration.gate_evidence import GateEvidence, GateRules, MemorizedPatients, SecondOpinion
from monai_deepssim.calibration.gate_headline import Headline, headline
from monai_deepssim.calibration.gate_reasons import GateReason
from monai_deepssim.calibration.generalized_pareto import (
    fit_generalized_pareto,
    generalized_pareto_fit_p_value,
    generalized_pareto_survival,
)
from monai_deepssim.calibration.limits import images_needed, upper_limit
from monai_deepssim.calibration.members import (
    MEMBER_ATTACK,
    MIN_MEMBER_PATIENTS,
    MemberComparison,
    compare_members,
)
from monai_deepssim.calibration.mutual_pairs import find_partners
from monai_deepssim.calibration.null_images import choose_null_images, keep_strangers, num_null_images
from monai_deepssim.calibration.null_scores import (
    HOLDOUT_CAVEAT,
    LEAVE_ONE_OUT_CAVEAT,
    NullScores,
    leave_one_out_null,
)
from monai_deepssim.calibration.proportions import Proportion, proportion_interval
from monai_deepssim.calibration.score_classes import (
    COPY_LABELS,
    PUBLISHED_THRESHOLDS,
    SMALL_VOLUME_THRESHOLDS,
    VERIFIED_THRESHOLDS,
    VOLUME_THRESHOLDS,
    WHOLE_IMAGE_AREA,
    Thresholds,
    is_copy,
    volume_thresholds,
)
from monai_deepssim.calibration.score_scale import stretch_scores
from monai_deepssim.calibration.score_tail import TAIL_ASSUMPTION, ScoreTail, fit_score_tail
from monai_deepssim.calibration.thresholds import (
    Threshold,
    choose_threshold,
    measure_threshold,
    percentile_threshold,
)
from monai_deepssim.calibration.unexplained import Unexplained, find_unexplained

__all__ = [
    "COPY_LABELS",
    "HOLDOUT_CAVEAT",
    "LEAVE_ONE_OUT_CAVEAT",
    "MEMBER_ATTACK",
    "MILD_CHANGES",
    "MILD_VOLUME_CHANGES",
    "MIN_MEMBER_PATIENTS",
    "PUBLISHED_THRESHOLDS",
    "REALISTIC_COPY_FRACTION",
    "SMALL_VOLUME_THRESHOLDS",
    "TAIL_ASSUMPTION",
    "VERIFIED_THRESHOLDS",
    "VOLUME_THRESHOLDS",
    "WHOLE_IMAGE_AREA",
    "ClassThresholds",
    "DetectionCurve",
    "DetectionPoint",
    "Discoveries",
    "Gate",
    "GateCaveat",
    "GateEvidence",
    "GateReason",
    "GateRules",
    "Headline",
    "LeftOut",
    "MemberComparison",
    "MemorizedPatients",
    "NullScores",
    "Proportion",
    "ScoreTail",
    "SecondOpinion",
    "Threshold",
    "Thresholds",
    "Unexplained",
    "benjamini_hochberg",
    "bootstrap_weights",
    "choose_class_thresholds",
    "choose_null_images",
    "choose_threshold",
    "compare_members",
    "compute_detection_curve",
    "compute_detection_rates",
    "conformal_p_values",
    "decide_gate",
    "discoveries_at_fdr",
    "fewest_discoverable",
    "find_discoveries",
    "find_partners",
    "find_unexplained",
    "fit_generalized_pareto",
    "fit_score_tail",
    "generalized_pareto_fit_p_value",
    "generalized_pareto_survival",
    "headline",
    "images_needed",
    "is_copy",
    "keep_strangers",
    "leave_one_out_null",
    "leave_out_duplicates",
    "measure_threshold",
    "num_null_images",
    "percentile_interval",
    "percentile_threshold",
    "proportion_interval",
    "resample_detection_rates",
    "stretch_scores",
    "upper_limit",
    "volume_thresholds",
]
