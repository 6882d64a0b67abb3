"""Where the sides differ in a way that copies can have, copies changed like that have to be found at every level."""

from types import SimpleNamespace

import pandas as pd
import pytest

from monai_deepssim.audit.decision import curve_of_controls
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.metrics import SIDE_DIFFERENCE_KINDS
from monai_deepssim.options import read_options
from monai_deepssim.transforms import CONTROL_CHANGES

MISSED = {"sharpness": ["blur_3"], "noise": ["noise_0.05"], "field_of_view": ["crop_20"]}


@pytest.mark.parametrize("kind", SIDE_DIFFERENCE_KINDS)
def test_strong_levels_have_to_be_found_where_the_sides_differ_like_that(kind) -> None:
    controls = pd.DataFrame(
        [
            {"change": one.change, "level": one.level, "unit": one.unit, "found": is_found, "patient_id": f"{number}"}
            for one in CONTROL_CHANGES
            for is_found in [one.name not in ("blur_3", "noise_0.05", "crop_20", "warp_2")]
            for number in range(20)
        ]
    )
    options = read_options(AuditOptions, {})
    differ = SimpleNamespace(differences=[SimpleNamespace(kind=kind)])
    curve = curve_of_controls(controls, differ, options)
    assert [point.name for point in curve.missed(options.min_recall)] == MISSED.get(kind, [])
    assert curve_of_controls(controls, SimpleNamespace(differences=[]), options).missed(options.min_recall) == []
