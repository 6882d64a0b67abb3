"""The sync over two processes, with uneven shares and with a rank that has nothing."""

import torch
from uneven_shares_ranks import run_rank


def test_two_processes_give_what_one_gives_also_when_one_has_nothing(tmp_path) -> None:
    torch.multiprocessing.spawn(run_rank, args=(str(tmp_path / "rendezvous"),), nprocs=2)
