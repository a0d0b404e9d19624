"""A lock between processes that a kill releases."""

import contextlib
import fcntl
import os
from typing import Callable, Iterator, Optional


@contextlib.contextmanager
def locked(path: str, on_wait: Optional[Callable[[], None]] = None) -> Iterator[bool]:
    """Hold the lock at `path` (a file that is made for it and removed again); yields whether there is one.

    There is none on a file system without locks or where the file cannot be made: those who only save work by the
    lock go on without it. `on_wait` is called once when another process holds it. The kernel releases it when the
    holder ends in whatever way; a lock file that a kill leaves behind is taken over by the next one.
    """
    descriptor = _acquire(path, on_wait)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            # Removed while it is held: whoever waits for it sees that the name is gone and makes it anew.
            with contextlib.suppress(OSError):
                os.unlink(path)
            os.close(descriptor)


def _acquire(path: str, on_wait: Optional[Callable[[], None]]) -> Optional[int]:
    """Return a descriptor that holds the lock, or None where there are no locks."""
    while True:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return None
        try:
            held = _wait(descriptor, on_wait)
            on_wait = None
            if not held:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                os.close(descriptor)
                return None
            if _is_named(descriptor, path):
                return descriptor
        except BaseException:  # an interruption while waiting, too
            os.close(descriptor)
            raise
        os.close(descriptor)


def _wait(descriptor: int, on_wait: Optional[Callable[[], None]]) -> bool:
    """Wait for the lock on an open file; returns False where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        if on_wait is not None:
            on_wait()
    except OSError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return True


def _is_named(descriptor: int, path: str) -> bool:
    """Tell whether the open file is still the one at `path`, and not one that its last holder removed."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)
