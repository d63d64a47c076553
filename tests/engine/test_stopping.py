import signal

import pytest

from cmemd.engine.stopping import stop_at_signals
from cmemd.errors import Stopped


def test_a_run_under_nohup_goes_on_when_its_terminal_closes():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_at_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.number
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_are_taken_and_their_handlers_restored():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before = signal.getsignal(number)
        with stop_at_signals() as stop:
            signal.raise_signal(number)
            assert stop.number == number
        assert signal.getsignal(number) is before


def test_a_second_signal_changes_nothing_under_torchrun(monkeypatch):
    # It may be the first one again, from torchrun and from a cluster's scheduler.
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    with stop_at_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.number == signal.SIGTERM


def test_where_nothing_is_to_be_saved_a_signal_ends_the_run_at_once():
    def signalled(stop, inside):
        if not inside:
            signal.raise_signal(signal.SIGTERM)
        with stop.at_once("all is saved"):
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("it goes on")

    for inside in (True, False):
        with stop_at_signals() as stop, pytest.raises(Stopped, match="all is saved") as stopped:
            signalled(stop, inside)
        assert stopped.value.status == 128 + signal.SIGTERM
