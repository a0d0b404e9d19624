"""Why a server refuses a request: a number on the wire, and what the device makes of it."""

from typing import Dict

BUSY, LATE, DAMAGED, FAILED, UNKNOWN_ROUTE, WRONG_RELEASE, MALFORMED = 1, 2, 3, 4, 5, 6, 8
WORDS: Dict[int, str] = {
    BUSY: "the server's queue is full",
    LATE: "it could not be answered within its deadline",
    DAMAGED: "its payload is damaged, or of another pair",
    FAILED: "the tail failed",
    UNKNOWN_ROUTE: "the server does not serve this pair",
    WRONG_RELEASE: "the server has another release",
    MALFORMED: "the server does not understand it",
}


def words_of(reason: int) -> str:
    """Return what a reason means; reasons of later versions are named by their number."""
    return WORDS.get(reason, "the server refuses it (reason {})".format(reason))
