"""Ctrl-C in the middle of a test: raised where it is, or where Python loses it."""

from __future__ import annotations

import os
import signal
import time

__all__ = ["interrupt", "interrupt_in_a_finaliser"]


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_in_a_finaliser() -> None:
    """Raise KeyboardInterrupt where Python would print it, and goes on."""

    class Dying:
        def __del__(self) -> None:
            interrupt()
            time.sleep(0.01)

    Dying()
