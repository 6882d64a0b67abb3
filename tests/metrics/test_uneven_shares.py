"""The sync over two processes, with uneven shares and with a rank that has nothing."""

from two_processes import run_on_two_processes
from uneven_shares_ranks import run_rank


def test_two_processes_give_what_one_gives_also_when_one_has_nothing(tmp_path) -> None:
    run_on_two_processes(run_rank, str(tmp_path / "rendezvous"))
