"""What each of the two processes of test_uneven_shares.py runs, where a spawned process can import it."""

import os
from datetime import timedelta

import pytest
import torch
from torch import distributed

from monai_deepssim.metrics import DeepSSIMMetric, SSIMMatchingMetric, compute_ssim_matching_errors


def make_data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 3, generator=generator), torch.randn(5, 1, 16, 16, generator=generator)


def make_embedder() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16 * 16, 4))


def run_rank(rank: int, rendezvous: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    embeddings, images = make_data()
    expected, _ = compute_ssim_matching_errors(embeddings, images)
    shares = {
        "uneven": (slice(0, 3), slice(3, 5)),
        "rank 1 empty": (slice(0, 5), None),
        "rank 0 empty": (None, slice(0, 5)),
    }
    for name, share in shares.items():
        matching, deepssim = SSIMMatchingMetric(), DeepSSIMMetric(make_embedder(), reduction="none")
        mine = share[rank]
        if mine is not None:
            matching(embeddings[mine], images[mine])
            deepssim(images[mine], images.flip(-1)[mine])
        torch.testing.assert_close(matching.aggregate(), expected, msg=lambda text, name=name: f"{name}: {text}")
        assert [len(buffer) for buffer in matching.get_buffer()] == [5, 5]
        whole = DeepSSIMMetric(make_embedder())._compute_tensor(images, images.flip(-1))
        torch.testing.assert_close(deepssim.aggregate(), whole)

    everywhere_empty = SSIMMatchingMetric()
    with pytest.raises(ValueError, match="nothing to aggregate"):
        everywhere_empty.aggregate()

    disagreeing = SSIMMatchingMetric()
    disagreeing(embeddings, images if rank == 0 else images[..., :12])
    with pytest.raises(ValueError, match=r"different shapes: .*\(1, 16, 12\).*\(1, 16, 16\)"):
        disagreeing.aggregate()
    distributed.barrier()
    # Not by destroy_process_group: in torch 2.4 it can wait for a thread of gloo that waits for the interpreter's lock.
    os._exit(0)
