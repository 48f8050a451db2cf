"""The one lock around emulated machines, and the revision every change bumps.

moto isn't thread-safe and LocalStack serves each request in its own thread.
Whoever reads or changes groups and instances holds ``LOCK``. It is the lock of
``CHANGED`` too, so that a waiter sees a change as a whole or not at all.
"""

import threading
import time

LOCK = threading.RLock()
CHANGED = threading.Condition(LOCK)

# Starting from the clock makes a restarted emulator's revisions differ from
# those its clients remember. Milliseconds stay below 2^53, so JSON keeps them.
_revision = int(time.time() * 1000)


def revision() -> int:
    with LOCK:
        return _revision


def changed() -> None:
    """Records that a machine or group changed and wakes everyone who waits."""
    global _revision
    with CHANGED:
        _revision += 1
        CHANGED.notify_all()


def wait_for_change(since: int, seconds: float) -> int:
    """Waits until the revision isn't ``since``, for at most ``seconds``; returns it."""
    deadline = time.monotonic() + seconds
    with CHANGED:
        while _revision == since:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            CHANGED.wait(left)
        return _revision
