"""The Memorization Index in MONAI's trainer and evaluator, on one process and on two."""

import pytest
import torch
from ignite.engine import Engine
from memorization_index_ranks import LAYERS, expected_index, make_images, make_network, run_rank, train_and_validate
from two_processes import run_on_two_processes

from monai_deepssim.handlers import MemorizationIndexHandler
from monai_deepssim.metrics import MeanMemorizationIndexMetric


@pytest.mark.parametrize("decollate", [False, True], ids=["batches", "decollated"])
@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_validation_gives_the_mean_index_of_all_images(batch_size, decollate):
    network, evaluator = train_and_validate(*make_images(), batch_size=batch_size, decollate=decollate, summary="mi")
    expected = expected_index(network)
    assert evaluator.state.metrics["index"] == pytest.approx(expected.mean().item(), abs=1e-3)
    details = evaluator.state.metric_details["index"]
    torch.testing.assert_close(details[:, 0], expected, atol=1e-3, rtol=0)
    assert details[:2, 1].tolist() == [4, 2]
    assert evaluator.state.key_metric_name == "index"


@pytest.mark.parametrize("summary", ["oni", "copy_fraction"])
def test_other_summaries_are_means_of_the_same_indices(summary):
    network, evaluator = train_and_validate(*make_images(), batch_size=3, decollate=True, summary=summary)
    expected = expected_index(network)
    values = {"oni": -expected.tanh(), "copy_fraction": (expected > 3).float()}[summary]
    assert evaluator.state.metrics["index"] == pytest.approx(values.mean().item(), abs=1e-3)


def test_two_processes_give_what_one_gives_also_when_one_has_nothing(tmp_path):
    run_on_two_processes(run_rank, str(tmp_path))


def test_whitening_and_null_are_fitted_once_and_the_network_stays_in_its_mode():
    training_images, inputs = make_images()
    passes = []

    class Loader:
        def __iter__(self):
            passes.append(1)
            return iter(training_images.split(10))

    network = make_network()
    handler = MemorizationIndexHandler(network, Loader(), layers=LAYERS, covariance="empirical")
    network.train()
    statistics = network[1].running_mean.clone()
    engine = Engine(lambda engine, images: {"pred": images})
    handler.attach(engine, "mi")
    values = [engine.run([inputs]).metrics["mi"] for _ in range(2)]
    assert values[0] == values[1]
    assert len(passes) == 1
    assert network.training
    assert torch.equal(network[1].running_mean, statistics)


def test_images_that_have_no_index_are_left_out():
    training_images, inputs = make_images()
    metric = MeanMemorizationIndexMetric(make_network(), layers=LAYERS, covariance="empirical").fit([training_images])
    metric(inputs)
    expected = metric.aggregate()
    metric.reset()
    metric(torch.cat([inputs, torch.full((2, 1, 16, 16), torch.nan)]))
    torch.testing.assert_close(metric.aggregate(), expected)
    metric.reset()
    metric(torch.full((2, 1, 16, 16), torch.nan))
    assert metric.aggregate().isnan()


def test_a_jittered_null_is_fitted_from_batches_as_from_one(tmp_path):
    training_images, inputs = make_images()
    options = {"layers": LAYERS, "covariance": "empirical", "null_jitter": True}
    indices = []
    for batches in ([training_images], training_images.split(6)):
        metric = MeanMemorizationIndexMetric(make_network(), **options).fit(batches)
        indices.append(metric(inputs)[:, 0])
    torch.testing.assert_close(*indices, atol=1e-3, rtol=0)


def test_what_cannot_be_used_is_named():
    with pytest.raises(ValueError, match="want one of mi, oni, copy_fraction"):
        MeanMemorizationIndexMetric(make_network(), "mean", layers=LAYERS)
    with pytest.raises(ValueError, match="without a threshold"):
        MeanMemorizationIndexMetric(make_network(), "copy_fraction", layers=LAYERS)
    with pytest.raises(ValueError, match="there are no training images"):
        MeanMemorizationIndexMetric(make_network(), layers=LAYERS).fit([])
