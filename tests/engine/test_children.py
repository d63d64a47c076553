"""Trainings in processes of their own stop with the process that started them."""

import os
import signal
import sys
import threading
import time

import pytest

from cmemd.engine.children import Children, is_orphan, stopping_children
from cmemd.errors import Stopped

# It prints a line once it handles the signal, so that the test does not come too early.
WAITING = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
print("ready", flush=True)
time.sleep(60)
"""


def test_a_signal_reaches_every_running_child_and_keeps_others_from_starting(tmp_path):
    children, statuses = Children(), []

    def work(name):
        with open(tmp_path / name, "w") as out:
            statuses.append(children.run([sys.executable, "-c", WAITING], stdout=out))

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while not all((tmp_path / name).is_file() and (tmp_path / name).read_text() for name in "ab"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children.take(signal.SIGTERM, None)
    for thread in threads:
        thread.join()
    assert statuses == [7, 7]
    with pytest.raises(Stopped):
        children.run(["true"])


def test_the_context_ends_with_the_first_signal_that_came():
    def two_signals():
        with stopping_children() as children:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            assert children.number == signal.SIGTERM

    with pytest.raises(Stopped) as stopped:
        two_signals()
    assert stopped.value.status == 128 + signal.SIGTERM


def test_a_process_is_an_orphan_once_it_has_another_parent(monkeypatch):
    monkeypatch.delenv("CMEMD_PARENT", raising=False)
    assert not is_orphan()
    monkeypatch.setenv("CMEMD_PARENT", str(os.getppid()))
    assert not is_orphan()
    monkeypatch.setenv("CMEMD_PARENT", str(os.getpid()))  # no process is its own parent
    assert is_orphan()
