"""A rank that is killed ends the others in words; the next run, on any number of processes, ends as if undisturbed."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fork_server import ForkServer, Outcome
from torch.distributed import TCPStore

AUDIT = ["audit", "training", "synthetic", "-o", "out", "--controls", "none", "--batch_size", "2"]
_SEED, _NUM_KILLS = 20, 2


@pytest.fixture(scope="module")
def run_ranks(fork_server):
    """Run the audit on two ranks, of which one may be killed at a change of a file."""
    second = ForkServer()

    def run(folder: Path, killed: int = 0, at: int = 0) -> list[Outcome]:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2"}
        # The store is here and not in rank 0, as torchrun has it.
        shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}

        def run_rank(rank: int) -> Outcome:
            disturbance = {"how": "kill", "at": at} if at and rank == killed else {}
            environment = {**shared, "RANK": str(rank)}
            return (fork_server, second)[rank].run(AUDIT, folder, **disturbance, environment=environment)

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(run_rank, range(2)))

    yield run
    second.close()


def tables_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "out").glob("*.csv"))}


def test_a_rank_that_is_killed_at_any_time_costs_only_what_it_had_not_written(
    run_ranks, fork_server, make_folders, tmp_path
) -> None:
    alone = make_folders(tmp_path / "alone")
    assert fork_server.run(AUDIT, alone).status == 0
    undisturbed = run_ranks(make_folders(tmp_path / "ranks"))
    assert [outcome.status for outcome in undisturbed] == [0, 0], undisturbed
    assert undisturbed[1].out == undisturbed[1].err == ""  # rank 0 speaks for all
    assert tables_of(tmp_path / "ranks") == tables_of(alone)
    assert (tmp_path / "ranks" / "out" / "exit_status").read_text() == "0\n"

    draw = random.Random(_SEED)
    for number in range(_NUM_KILLS):
        folder, killed = make_folders(tmp_path / str(number)), number % 2
        at = draw.randint(2, undisturbed[killed].calls // 2)
        outcomes = run_ranks(folder, killed, at)
        assert outcomes[killed].status == -9, outcomes
        other = outcomes[1 - killed]
        assert other.status == 2
        assert f"rank {killed} of 2 has not answered" in other.err
        assert "Traceback" not in other.err
        again = run_ranks(folder) if number else [fork_server.run(AUDIT, folder)]
        assert [outcome.status for outcome in again] == [0] * len(again)
        assert tables_of(folder) == tables_of(alone)
        assert not list((folder / "out").rglob("*.partial"))
