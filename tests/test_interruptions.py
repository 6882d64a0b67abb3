"""Limits of time: what is cut off, and that a caller's own alarm still goes off."""

import signal
import threading
import time

import pytest

from monai_deepssim.interruptions import time_limit


@pytest.fixture(autouse=True)
def handler():
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_what_takes_too_long_is_cut_off_and_what_does_not_is_left_alone():
    with pytest.raises(TimeoutError), time_limit(0.05):
        time.sleep(5)
    with time_limit(1):
        pass
    time.sleep(1.1)


def test_the_alarm_of_a_caller_goes_off_afterwards():
    rung = []
    signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
    signal.setitimer(signal.ITIMER_REAL, 1)
    with time_limit(5):
        pass
    assert not rung
    time.sleep(1.1)
    assert rung


def test_another_thread_has_no_limit():
    done = []

    def work():
        with time_limit(0.01):
            time.sleep(0.05)
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
