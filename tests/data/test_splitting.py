"""Splits by patient."""

import pytest

from monai_deepssim.data import split_by_patient
from monai_deepssim.errors import UnusableInputError


def make_items(patients, scans=3):
    return [{"image": f"{p}-{s}.png", "patient_id": str(p)} for p in range(patients) for s in range(scans)]


def test_no_patient_is_in_both_parts_and_no_image_is_lost():
    items = make_items(10)
    larger, smaller = split_by_patient(items, 0.3, seed=1)
    assert {i["patient_id"] for i in larger}.isdisjoint(i["patient_id"] for i in smaller)
    assert sorted(i["image"] for i in larger + smaller) == sorted(i["image"] for i in items)
    assert len({i["patient_id"] for i in smaller}) == 3


def test_an_unknown_patient_is_a_patient_of_its_own():
    items = [{"image": f"{i}.png", "patient_id": ""} for i in range(10)]
    larger, smaller = split_by_patient(items, 0.2)
    assert (len(larger), len(smaller)) == (8, 2)


def test_the_seed_decides():
    items = make_items(30)
    assert split_by_patient(items, 0.3, seed=1) == split_by_patient(items, 0.3, seed=1)
    assert split_by_patient(items, 0.3, seed=1) != split_by_patient(items, 0.3, seed=2)


@pytest.mark.parametrize(("patients", "fraction"), [(1, 0.5), (5, 0.0), (5, 1.0)])
def test_a_split_that_leaves_a_part_empty_is_an_error(patients, fraction):
    with pytest.raises(UnusableInputError, match="patient"):
        split_by_patient(make_items(patients), fraction)
