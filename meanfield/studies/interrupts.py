"""Ctrl-C that is never lost: Python prints a KeyboardInterrupt raised inside a finaliser, and goes on."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["hidden_interrupts", "interrupts_to", "lasting_interrupts"]


@contextmanager
def interrupts_to(act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` at each Ctrl-C, wherever this thread is then, in place of raising KeyboardInterrupt.

    Where Ctrl-C does nothing, as in the background of a shell, or is not Python's to handle, it is left so.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not _is_main_thread() or handler in (signal.SIG_IGN, None):
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _is_main_thread() -> bool:
    """Whether this is the one thread that Python interrupts."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def lasting_interrupts() -> Iterator[Callable[[], None]]:
    """Raise KeyboardInterrupt at Ctrl-C; if Python loses it, do so at the end, or where what is yielded is called."""
    arrived: list[bool] = []

    def interrupt() -> None:
        arrived.append(True)
        raise KeyboardInterrupt

    def raise_lost() -> None:
        if arrived:
            raise KeyboardInterrupt

    with interrupts_to(interrupt), _silent_loss():
        yield raise_lost
    raise_lost()


@contextmanager
def _silent_loss() -> Iterator[None]:
    """Print no KeyboardInterrupt that Python loses: it is raised again later."""
    if not _is_main_thread():
        yield
        return
    report = sys.unraisablehook

    def report_others(lost: sys.UnraisableHookArgs) -> None:
        if lost.exc_type is not KeyboardInterrupt:
            report(lost)

    sys.unraisablehook = report_others
    try:
        yield
    finally:
        sys.unraisablehook = report


@contextmanager
def hidden_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from the processes started meanwhile, for good, and from this thread until the end."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited, which a handler is not
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
