"""The command line: every verb, loaded when it is asked for; errors of the user in one line."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import click

# Every verb, in the order in which one uses them: coopexport/commands/<verb>.py.
COMMANDS = (
    "init",
    "prune",
    "shrink",
    "bottleneck",
    "variants",
    "layers",
    "calibrate",
    "search",
    "split",
    "precision",
    "targets",
    "build",
    "engines",
    "links",
    "bench",
    "table",
    "select",
    "report",
    "serve",
    "doctor",
    "agent",
    "probe",
    "demo",
)
# Which extra brings a package that only some commands need.
EXTRAS = {"torch": "torch", "onnxruntime": "cpu", "matplotlib": "report", "sklearn": "demo", "tensorrt_rtx": "rtx"}
INTERRUPTED = "interrupted; files that are there are whole, run the command again to go on"
ROOMS = ("jetson", "exporter", "engines", "calibration", "benchmarks")


class LazyCommands(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all commands, in the order in which one uses them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, or None."""
        if cmd_name not in COMMANDS:
            return None
        return getattr(importlib.import_module(f"coopexport.commands.{cmd_name}"), cmd_name)  # type: ignore[no-any-return]


def _print_version(context: click.Context, _option: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        from jetson.version import VERSION  # not before it is sure that this is our own package

        click.echo(f"coopexport, version {VERSION}")
        context.exit()


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Run one neural network on two machines: shrink, split, encode, measure, select.

    Start with `coopexport demo`, or with `coopexport init` in the folder of your own network.
    """


def check_no_hidden_rooms() -> None:
    """Exit with one line when something of the user's hides one of our packages, before any of them is imported.

    That happens with `python -m coopexport` in a folder that has, say, a `benchmarks` package of its own, and with such
    a folder on PYTHONPATH.
    """
    for room in ROOMS:
        source = own_source(room)
        found = importlib.util.find_spec(room)
        origin = None if found is None or found.origin is None else Path(found.origin).resolve()
        if origin == source:
            continue
        place = origin.parent if origin is not None and origin.name == "__init__.py" else origin
        fail(
            f"{place or room} hides coopexport's own package '{room}'; rename it, take its folder off PYTHONPATH, or "
            "run the command `coopexport` instead of `python -m coopexport`; coopexport doctor names all such"
        )


def import_own_rooms() -> None:
    """Import our packages from where this file lies, whatever hides them: for `doctor`, which names what does.

    One that is imported already stays: under another object of its name its modules would not be found.
    """
    for room in ROOMS:
        source = own_source(room)
        file = getattr(sys.modules.get(room), "__file__", None)
        if file is not None and Path(file).resolve() == source:
            continue
        spec = importlib.util.spec_from_file_location(room, source, submodule_search_locations=[str(source.parent)])
        assert spec is not None
        assert spec.loader is not None
        sys.modules[room] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[room])


def own_source(room: str) -> Path:
    """Return the file of one of our packages; exits with one line when it is gone.

    Uninstalling another distribution that installed files into ours takes them away.
    """
    source = Path(__file__).resolve().parents[1] / room / "__init__.py"
    if not source.is_file():
        fail(
            f"{source} is missing, which is coopexport's own: install coopexport again (pip install --force-reinstall)"
        )
    return source


def run() -> None:
    """Run the command line: user errors become one line and exit code 2."""
    if sys.argv[1:2] == ["doctor"]:
        import_own_rooms()
    else:
        check_no_hidden_rooms()
    from jetson.errors import CoopexportError

    interrupted = []

    def interrupt(number: int, frame: object) -> NoReturn:
        interrupted.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        main(standalone_mode=False)
    except click.exceptions.Exit as exit_request:
        sys.exit(exit_request.exit_code)
    except (click.Abort, KeyboardInterrupt):
        fail(INTERRUPTED, 130)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        name = "" if context is None else f" (see {context.command_path} --help)"
        fail(error.format_message() + name)
    except CoopexportError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        fail(f"this needs {error.name}, which is not installed: pip install 'coopexport[{extra}]'")
    except OSError as error:
        # Full disks, read-only mounts, missing rights: the system's own words, and which file.
        where = f"{error.filename}: " if error.filename else ""
        fail(f"{where}{os.strerror(error.errno) if error.errno else error}")
    except Exception:
        if interrupted:  # libraries that were interrupted while they load raise errors of their own
            fail(INTERRUPTED, 130)
        raise


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one line to the standard error and exit."""
    click.echo(f"coopexport: error: {' '.join(message.split())}", err=True)
    sys.exit(code)
