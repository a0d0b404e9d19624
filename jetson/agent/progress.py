"""What the agent says while it works: lines for a person on stderr, or one JSON object per line on stdout."""

import json
import sys
from typing import Any, Callable, Dict

from jetson.errors import one_line

# An event: "event" and what belongs to it.
Tell = Callable[[Dict[str, Any]], None]
_STEPS = {
    "building": "building",
    "checking": "checking with golden data",
    "timing": "measuring",
    "measuring": "measuring",
    "memory": "measuring memory",
}
# Between two lines of one step.
_PAUSE_S = 1.0


def open_progress(as_json: bool) -> Tell:
    """Return the function that tells events. Once nobody listens any more (a lost connection), it says nothing."""
    listening = [True]

    def tell(event: Dict[str, Any]) -> None:
        if not listening[0]:
            return
        try:
            if as_json:
                sys.stdout.write(json.dumps(event, allow_nan=False) + "\n")
                sys.stdout.flush()
            else:
                sys.stderr.write(describe_event(event) + "\n")
                sys.stderr.flush()
        except (BrokenPipeError, ConnectionError):
            # What is being built is kept on this machine: whoever comes back finds it.
            listening[0] = False

    return tell


def relay(tell: Tell, where: Dict[str, Any], step: str) -> Tell:
    """Return a function that passes a step's own events on, not more often than somebody can read them.

    `where`: which item it is. The events hold `seconds` since the step began.
    """
    last = [-_PAUSE_S]

    def pass_on(event: Dict[str, Any]) -> None:
        if event["seconds"] - last[0] >= _PAUSE_S:
            last[0] = event["seconds"]
            tell(dict(event, event="working", step=step, **where))

    return pass_on


def describe_event(event: Dict[str, Any]) -> str:
    """Return an event as a line for a person; raises KeyError, TypeError or ValueError for what is none."""
    return one_line(_described(event))


def _described(event: Dict[str, Any]) -> str:
    kind, name = event["event"], event.get("name", "")
    where = "[{}/{}] {}".format(event["number"], event["count"], name) if "number" in event else name
    if kind == "working":
        steps = " {}/{}".format(event["done"], event["steps"]) if event.get("steps", 0) > 1 else ""
        phase = " ({}{})".format(event["phase"], steps) if event.get("phase") else ""
        return "{}: {}, {:.0f} s{}".format(where, _STEPS.get(event["step"], event["step"]), event["seconds"], phase)
    if kind == "note":
        return "{}: {}".format(where, event["text"]) if where else event["text"]
    if kind == "failed":
        return "{}: failed: {}".format(where, event["reason"])
    if kind == "built":
        how = "on this device already" if event["reused"] else "built in {:.0f} s".format(event["seconds"])
        return "{}: {}, {:,} bytes, {}".format(where, how, event["bytes"], event["checked"])
    if kind == "measured":
        return "{}: median {:.3f} ms of {} runs".format(where, event["median_ms"], event["samples"])
    if kind == "done":
        return "{} of {} done; {}".format(event["succeeded"], event["count"], event["output"])
    return json.dumps(event, sort_keys=True)
