"""Functions over arrays: any values, shapes and types give what they promise, or a message."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from monai_deepssim.calibration import benjamini_hochberg, conformal_p_values, proportion_interval
from monai_deepssim.search import NearestNeighbors
from monai_deepssim.similarity import aligned_ssim, pairwise_ssim, standardize

FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
SPECIAL = st.sampled_from([0.0, 1.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf")])
FLOATS = st.floats(-10, 10, width=32) | SPECIAL
UNIT = arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1))
REFUSALS = (ValueError, TypeError, RuntimeError)


def images(elements, size=12):
    shapes = st.tuples(st.integers(1, 3), st.just(1), st.just(size), st.just(size))
    return arrays.arrays(np.float32, shapes, elements=elements)


@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(0.05, 1))
@FEW
def test_ssim_of_images_is_symmetric_within_its_range_and_one_with_themselves(seed, number, contrast):
    batch = contrast * torch.rand(number, 1, 12, 12, generator=torch.Generator().manual_seed(seed))
    scores = pairwise_ssim(batch, batch, data_range=1.0)
    assert scores.shape == (len(batch), len(batch))
    assert torch.isfinite(scores).all()
    assert scores.abs().max() <= 1 + 1e-4
    assert torch.allclose(scores, scores.T, atol=1e-4)
    assert torch.allclose(scores.diagonal(), torch.ones(len(batch)), atol=1e-4)


@given(images(FLOATS))
@FEW
def test_ssim_of_any_numbers_is_a_table_or_refused(pixels):
    batch = torch.from_numpy(pixels)
    try:
        scores = pairwise_ssim(batch, batch)
    except REFUSALS as refused:
        assert str(refused)  # noqa: PT017
        return
    assert scores.shape == (len(batch), len(batch))


@given(images(st.floats(-10, 10, width=32)))
@FEW
def test_standardized_images_have_mean_0_and_deviation_1_or_are_constant(pixels):
    before = pixels.copy()
    batch = standardize(torch.from_numpy(pixels))
    assert torch.isfinite(batch).all()
    assert np.array_equal(pixels, before)
    for image, original in zip(batch, pixels, strict=True):
        if original.std() > 1e-3:
            assert abs(float(image.mean())) < 1e-2
            assert abs(float(image.std()) - 1) < 0.1


@pytest.mark.parametrize(
    "view",
    [
        lambda batch: batch.transpose(2, 3),
        lambda batch: batch.flip(3),
        lambda batch: batch[::2],
        lambda batch: batch[:, :, ::2, ::2],
        lambda batch: batch.expand(3, -1, -1, -1)[:2],
        lambda batch: batch.to(memory_format=torch.channels_last),
        lambda batch: batch.double(),
        lambda batch: batch.half().float(),
    ],
)
def test_a_view_gives_what_its_copy_gives(view):
    batch = view(torch.rand(1 if "expand" in view.__code__.co_names else 4, 1, 48, 48))
    copied = batch.clone(memory_format=torch.contiguous_format).float()
    assert torch.allclose(pairwise_ssim(batch.float(), batch.float()), pairwise_ssim(copied, copied), atol=1e-5)
    assert torch.allclose(standardize(batch).float(), standardize(copied), atol=1e-4)


@pytest.mark.parametrize("function", [pairwise_ssim, aligned_ssim], ids=lambda function: function.__name__)
@pytest.mark.parametrize(
    "shapes",
    [((0, 1, 64, 64),) * 2, ((2, 64, 64),) * 2, ((2, 1, 64),) * 2, ((1, 1, 64, 64), (1, 1, 65, 64)), ((),) * 2],
    ids=str,
)
def test_batches_of_no_images_and_of_other_shapes_are_empty_tables_or_refused(function, shapes):
    first, second = (torch.rand(shape) for shape in shapes)
    try:
        result = function(first, second)
    except (*REFUSALS, IndexError) as refused:
        assert str(refused)  # noqa: PT017
        return
    if isinstance(result, torch.Tensor):
        assert len(result) == len(first)


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 20), st.just(4)), elements=st.floats(-5, 5, width=32)))
@FEW
def test_the_nearest_neighbour_is_that_of_an_exhaustive_search(rows):
    embeddings = torch.from_numpy(rows)
    lengths = embeddings.norm(dim=1)
    if lengths.min() < 1e-6:
        return
    scores, indices = NearestNeighbors().fit(embeddings).kneighbors(embeddings, min(2, len(rows)))
    unit = embeddings / lengths.clamp(min=1e-12)[:, None]
    expected = (unit @ unit.T).max(1).values
    usable = lengths > 1e-3
    assert torch.allclose(scores[usable, 0], expected[usable], atol=1e-4)
    assert ((indices >= 0) & (indices < len(rows))).all()


def test_an_embedding_of_zeros_is_refused():
    with pytest.raises(ValueError, match="all zeros, so it has no cosine"):
        NearestNeighbors().fit(torch.zeros(1, 4))


def test_ssim_is_symmetric_where_images_are_nearly_constant():
    batch = torch.ones(2, 1, 12, 12)
    batch[0, 0, 0, 0], batch[1, 0, 0, 1] = 0.5, 0.0
    scores = pairwise_ssim(batch, batch, data_range=1.0)
    assert torch.allclose(scores, scores.T, atol=1e-4)


@pytest.mark.parametrize("rows", [torch.zeros(0, 4), torch.full((3, 4), torch.nan), torch.rand(3), torch.rand(3, 4, 5)])
def test_embeddings_that_are_none_are_refused_or_searched(rows):
    try:
        scores, _ = NearestNeighbors().fit(rows).kneighbors(torch.rand(2, 4), 1)
    except (*REFUSALS, IndexError) as refused:
        assert str(refused)  # noqa: PT017
        return
    assert scores.shape == (2, 1)


@given(UNIT, UNIT)
@FEW
def test_p_values_are_above_0_and_fall_as_scores_rise(scores, null):
    p_values = conformal_p_values(np.sort(scores), null)
    assert ((p_values > 0) & (p_values <= 1)).all()
    assert (np.diff(p_values) <= 1e-12).all()
    assert p_values.min() >= 1 / (len(null) + 1) - 1e-12


@given(UNIT)
@FEW
def test_q_values_are_no_smaller_than_p_values_and_keep_their_order(p_values):
    q_values = benjamini_hochberg(p_values)
    assert (q_values >= p_values - 1e-12).all()
    assert (q_values <= 1).all()
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(q_values[order]) >= -1e-12).all()


@given(st.lists(st.booleans(), min_size=1, max_size=60))
@FEW
def test_an_interval_holds_its_share(flags):
    found = proportion_interval(np.array(flags))
    assert 0 <= found.low <= np.mean(flags) + 1e-12
    assert np.mean(flags) - 1e-12 <= found.high <= 1
