"""Ranks do units of work once each, and none waits for one that has failed or died."""

import os
import subprocess
import sys
import time

import pytest
import torch
from rank_threads import on_ranks
from torch.distributed import TCPStore

import monai_deepssim.ranks as ranks_module
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.ranks import Ranks, current_ranks, device_of_rank


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_each_unit_is_done_once_and_all_ranks_have_all_results_in_order(size, count) -> None:
    done = []

    def work(unit: int) -> bytes:
        done.append(unit)
        return str(unit).encode()

    results = on_ranks(size, lambda ranks: ranks.share(count, work))
    assert results == [[str(unit).encode() for unit in range(count)]] * size
    assert sorted(done) == list(range(count))


def test_ranks_that_were_given_other_units_do_not_go_on() -> None:
    ended = on_ranks(2, lambda ranks: ranks.share(3 + ranks.rank, lambda unit: b""))
    assert all(isinstance(error, (RuntimeError, SystemExit)) for error in ended)
    assert any("[3, 4] units, want the same number" in str(error) for error in ended)


def test_what_the_first_rank_gives_is_what_all_have() -> None:
    assert on_ranks(3, lambda ranks: ranks.of_first([ranks.rank, "a"])) == [[0, "a"]] * 3


def test_a_slow_rank_leaves_the_work_to_the_others() -> None:
    done = {0: 0, 1: 0}

    def work(unit: int) -> bytes:
        rank = current_ranks().rank
        done[rank] += 1
        time.sleep(0.3 if rank else 0.001)
        return b""

    on_ranks(2, lambda ranks: ranks.share(40, work))
    assert done[0] > 30
    assert sum(done.values()) == 40


def test_results_larger_than_the_store_takes_at_once_arrive_whole() -> None:
    content = os.urandom(9 * 2**20)
    assert on_ranks(2, lambda ranks: ranks.gather(content if ranks.rank else b"")) == [[b"", content]] * 2


def test_what_was_exchanged_does_not_stay_in_the_store() -> None:
    stores = on_ranks(2, lambda ranks: (ranks.gather(b"x" * 100), ranks.wait(), ranks._store)[-1])
    assert not stores[0].check(["step/1/0/0"])


def test_an_error_ends_all_ranks_and_is_said_by_the_rank_that_has_it() -> None:
    def work(ranks: Ranks) -> None:
        if ranks.rank == 1:
            raise UnusableInputError("b.png: is empty")
        ranks.wait()

    first, second, third = on_ranks(3, work)
    assert isinstance(second, UnusableInputError)
    assert str(second).startswith("rank 1 on ")
    assert str(second).endswith(": b.png: is empty")
    assert [(type(ended), ended.code) for ended in (first, third)] == [(SystemExit, 2)] * 2


def test_an_error_that_all_ranks_have_is_said_once() -> None:
    def work(ranks: Ranks) -> None:
        raise UnusableInputError("no such folder")

    ended = on_ranks(3, work)
    assert sorted(type(error).__name__ for error in ended) == ["SystemExit", "SystemExit", "UnusableInputError"]


def test_rank_0_says_what_ended_a_rank_on_another_machine(monkeypatch) -> None:
    hosts = {0: "here", 1: "node7"}
    monkeypatch.setattr("socket.gethostname", lambda: hosts[current_ranks().rank])

    def work(ranks: Ranks) -> None:
        if ranks.rank == 1:
            raise UnusableInputError("b.png: is empty")
        ranks.wait()

    assert str(on_ranks(2, work)[0]) == "rank 1 on node7: b.png: is empty"


def test_a_rank_that_no_longer_answers_is_named(monkeypatch) -> None:
    monkeypatch.setattr(ranks_module, "_PATIENCE_SECONDS", 0.3)

    def work(ranks: Ranks) -> None:
        if ranks.rank == 0:
            ranks.wait()

    assert "rank 1 of 2 has not answered" in str(on_ranks(2, work)[0])


def test_ranks_that_see_different_things_do_not_go_on() -> None:
    ended = on_ranks(2, lambda ranks: ranks.check_agreement(f"{10 + ranks.rank} images", "--training_dir"))
    assert any("sees 10 images, rank 1 on" in str(error) for error in ended)
    assert not any(result is None for result in ended)


def test_each_rank_of_a_machine_takes_a_gpu_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    asked = [torch.device("cuda"), torch.device("cuda", 0), torch.device("cpu")]
    assert [device_of_rank(device) for device in asked] == asked  # alone
    taken = on_ranks(2, lambda _: [str(device_of_rank(device)) for device in asked])
    assert taken == [["cuda:1", "cuda:0", "cpu"]] * 2


def test_processes_talk_and_the_status_of_rank_0_arrives(tmp_path) -> None:
    program = (
        "import sys; from monai_deepssim.ranks import joined_ranks\n"
        "with joined_ranks() as ranks:\n"
        "    print(b''.join(ranks.share(3, lambda unit: bytes([97 + unit]))).decode(), ranks.rank)\n"
        "    sys.exit(3 if ranks.is_first else 0)\n"
    )
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    environment = {
        **os.environ,
        **address,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert outputs == ["abc 0\n", "abc 1\n"]
    assert [process.returncode for process in started] == [3, 0]
