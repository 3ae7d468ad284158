"""Ctrl-C works at once, also while a solver or a matrix product is deep in native code.

Python delivers KeyboardInterrupt only between its own instructions. A watcher thread gives the main thread a moment
to end cleanly and otherwise ends the process with 130. That is safe: files are written to a temporary folder and
renamed, and the writing itself is Python code, which the exception does reach. Code that takes any error of a library
for an answer may take the interrupt for one (an import makes another error of it): it is remembered and raised at the
end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

GRACE_SECONDS = 1.0


@contextlib.contextmanager
def leave_on_interrupt() -> Iterator[None]:
    """Within it, SIGINT ends the process with 130 at the latest GRACE_SECONDS after it came."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch, wake = socket.socketpair()
    wake.setblocking(False)
    done, came = threading.Event(), threading.Event()

    def watcher() -> None:
        while True:
            data = watch.recv(64)
            if not data:
                return
            if signal.SIGINT not in data:
                continue
            came.set()
            if not done.wait(GRACE_SECONDS):
                with contextlib.suppress(OSError):
                    os.write(2, b"interrupted: nothing is half-written\n")
                os._exit(130)

    before = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=watcher, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        wake.close()
        thread.join(timeout=1)
        watch.close()
        if came.is_set():
            raise KeyboardInterrupt
