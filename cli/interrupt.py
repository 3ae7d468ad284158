"""Ctrl-C works at once, also while a solver or a matrix product is deep in native code.

Python delivers KeyboardInterrupt only between its own instructions. A watcher thread gives the main thread a moment
to end cleanly and otherwise ends the process with 130. That is safe: files are written to a temporary folder and
renamed, and the writing itself is Python code, which the exception does reach. Code that takes any error of a library
for an answer may take the interrupt for one: it is remembered and raised at the end. Native libraries call Python while
they load and end the process where that raises: only what follows is interrupted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from importlib.machinery import ExtensionFileLoader
from types import FrameType

GRACE_SECONDS = 1.0
AGAIN_SECONDS = 0.02  # between two tries to interrupt a thread that loads a library


@contextlib.contextmanager
def leave_on_interrupt() -> Iterator[None]:
    """Within it, SIGINT ends the process with 130 at the latest GRACE_SECONDS after it came."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch, wake = socket.socketpair()
    wake.setblocking(False)
    done, came, refused = threading.Event(), threading.Event(), threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        if _loads_native(frame):
            refused.set()
        else:
            signal.default_int_handler(number, frame)

    def watcher() -> None:
        while not came.is_set():
            data = watch.recv(64)
            if not data:
                return
            if signal.SIGINT in data:
                came.set()
        end = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < end:
            if done.wait(AGAIN_SECONDS):
                return
            if refused.is_set():
                refused.clear()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        with contextlib.suppress(OSError):
            os.write(2, b"interrupted: nothing is half-written\n")
        os._exit(130)

    def unheard(ignored: sys.UnraisableHookArgs) -> None:
        if ignored.exc_type is KeyboardInterrupt:  # it met a callback, which can't raise
            refused.set()
        else:
            told(ignored)

    told, sys.unraisablehook = sys.unraisablehook, unheard
    before = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    handled = signal.signal(signal.SIGINT, handler)
    thread = threading.Thread(target=watcher, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        signal.signal(signal.SIGINT, handled)
        signal.set_wakeup_fd(before)
        sys.unraisablehook = told
        wake.close()
        thread.join(timeout=1)
        watch.close()
        if came.is_set():
            raise KeyboardInterrupt


def _loads_native(frame: FrameType | None) -> bool:
    """Whether the code that a signal met is run by a native library that is being loaded."""
    while frame is not None:
        loads = frame.f_code.co_name in ("create_module", "exec_module")
        if loads and isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False
