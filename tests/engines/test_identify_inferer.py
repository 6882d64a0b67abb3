"""Which inferers count as the same, so that embeddings of an earlier run are taken up."""

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer

from monai_deepssim.engines import AutocastInferer, identify_inferer


class TransformingInferer(SimpleInferer):
    """An inferer of a user, with a setting of any kind."""

    def __init__(self, setting):
        self.setting = setting


class Anything:
    pass


def test_monai_s_default_has_no_name():
    assert identify_inferer(None) == identify_inferer(SimpleInferer()) == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.5, 0.25),
        (torch.float16, torch.bfloat16),
        ([1, (2, "a")], [1, (2, "b")]),
        ({"size": 3}, {"size": 4}),
        (torch.ones(2), torch.zeros(2)),
        (torch.ones(2, dtype=torch.bfloat16), torch.ones(1, 2, dtype=torch.bfloat16)),
        (torch.flip, torch.roll),
    ],
)
def test_settings_are_compared_whatever_plain_type_they_have(one, other):
    assert identify_inferer(TransformingInferer(one)) == identify_inferer(TransformingInferer(one))
    assert identify_inferer(TransformingInferer(one)) != identify_inferer(TransformingInferer(other))


@pytest.mark.parametrize("setting", [lambda x: x, Anything(), [Anything()], torch.nn.Linear(1, 1)])
def test_what_cannot_be_compared_is_never_the_same(setting):
    inferer = TransformingInferer(setting)
    assert identify_inferer(inferer) != identify_inferer(inferer)


def test_inferers_of_this_package_and_of_monai_can_be_compared():
    for make in (lambda: SlidingWindowInferer(64), lambda: AutocastInferer("float16")):
        assert identify_inferer(make()) == identify_inferer(make())
    assert identify_inferer(AutocastInferer("float16")) != identify_inferer(AutocastInferer("bfloat16"))
