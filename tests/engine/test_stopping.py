import signal

from cmemd.engine.stopping import stop_at_signals


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
