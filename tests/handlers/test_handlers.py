"""The handlers in MONAI's trainer and evaluator, on one process and on two."""

import pytest
import torch
from ignite.engine import Engine
from memorization_ranks import check, make_embedder, make_images, run_rank, train_and_validate
from two_processes import run_on_two_processes

from monai_deepssim.handlers import DeepSSIMHandler, MemorizationHandler


@pytest.mark.parametrize("key_metric", ["copy_fraction", "deepssim"])
@pytest.mark.parametrize("decollate", [False, True], ids=["batches", "decollated"])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_validation_gives_the_metrics_of_all_images_as_key_and_as_additional_metric(batch_size, decollate, key_metric):
    training_images, inputs = make_images()
    network, evaluator = train_and_validate(
        training_share=training_images,
        validation_share=inputs,
        batch_size=batch_size,
        decollate=decollate,
        key_metric=key_metric,
    )
    check(network, evaluator, key_metric)


def test_two_processes_give_what_one_gives_also_when_one_has_nothing(tmp_path):
    run_on_two_processes(run_rank, str(tmp_path))


def test_a_decollated_batch_is_embedded_in_one_call_and_images_of_other_sizes_one_by_one():
    sizes = []

    class Embedder(torch.nn.Module):
        def forward(self, x):
            sizes.append(tuple(x.shape))
            return torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)

    def run(shapes):
        handler = DeepSSIMHandler(Embedder(), output_transform=lambda output: output)
        engine = Engine(lambda engine, images: ([*images], [*images]))
        handler.attach(engine, "deepssim")
        sizes.clear()
        result = engine.run([[torch.rand(1, *shape) for shape in shapes]]).metrics["deepssim"]
        assert result == pytest.approx(1)
        return list(sizes)

    assert run([(16, 16)] * 3) == [(6, 1, 16, 16)]
    assert run([(16, 16), (20, 16)]) == [(2, 1, 16, 16), (2, 1, 20, 16)]


def test_the_training_images_are_embedded_once_when_the_engine_first_runs():
    training_images, inputs = make_images()
    passes = []

    class Loader:
        def __iter__(self):
            passes.append(1)
            return iter(training_images.split(4))

    handler = MemorizationHandler(make_embedder(), Loader())
    engine = Engine(lambda engine, images: {"pred": images})
    handler.attach(engine, "copy_fraction")
    assert not passes
    for _ in range(2):
        assert engine.run([inputs]).metrics["copy_fraction"] == pytest.approx(0.4)
    assert len(passes) == 1


def test_without_a_training_loader_the_metric_has_to_be_fitted():
    training_images, inputs = make_images()
    handler = MemorizationHandler(make_embedder(), None, threshold=-1.0)

    def run():
        engine = Engine(lambda engine, images: {"pred": images})
        handler.attach(engine, "copy_fraction")
        return engine.run([inputs]).metrics["copy_fraction"]

    with pytest.raises(RuntimeError, match=r"call fit\(training_loader\) first"):
        run()
    handler.metric_fn.fit([training_images])
    assert run() == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_metrics_are_those_of_the_cpu():
    training_images, inputs = make_images()

    def run(device):
        embedder = make_embedder().to(device)
        engine = Engine(lambda engine, images: (images.to(device), images.flip(3).to(device)))
        DeepSSIMHandler(embedder, output_transform=lambda output: output).attach(engine, "deepssim")
        handler = MemorizationHandler(
            embedder, [training_images], device=device, output_transform=lambda output: (output[0], None)
        )
        handler.attach(engine, "copy_fraction")
        return engine.run(inputs.split(2)).metrics

    expected, found = run("cpu"), run("cuda")
    assert found["deepssim"] == pytest.approx(expected["deepssim"], abs=1e-4)
    assert found["copy_fraction"] == expected["copy_fraction"] == pytest.approx(0.4)
