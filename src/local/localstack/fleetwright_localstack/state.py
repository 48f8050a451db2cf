"""The one lock around emulated machines, and the revision every change bumps.

moto isn't thread-safe and LocalStack serves each request in its own thread.
Whoever reads or changes groups and instances holds ``LOCK``. It is the lock of
``CHANGED`` too, so that a waiter sees a change as a whole or not at all.

It is the very lock under which moto makes an account's backend when first
asked for it. With one of our own, a thread that makes a backend (and tags
things there) and a thread that asks for one would each wait for the other.
"""

import threading
import time

from moto.core.base_backend import backend_lock

LOCK = backend_lock
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
