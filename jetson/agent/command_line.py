"""The agent's commands. What they need is imported when they run: `--version` answers at once."""

import argparse
import sys
from typing import Any, List

from jetson.errors import CoopexportError, one_line

UNKNOWN_VERSION = "from a source folder"
_INTERRUPTED = "interrupted; what is finished is kept on this device, run the command again to go on"


def main(arguments: List[str], version: str = UNKNOWN_VERSION) -> int:
    """Run one command and return its exit code: 0; 2 with one line on stderr for what the user can mend.

    `version`: what `--version` answers; the one file that is copied to devices knows it.
    """
    if arguments[:1] == ["step"]:  # one step of an item, started by the agent itself
        from jetson.agent.item_process import do_step

        return do_step(arguments[1])
    options = _parser(version).parse_args(arguments)
    try:
        return _run(options)
    except CoopexportError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        _fail(_INTERRUPTED)
        return 130
    except OSError as error:
        where = "{}: ".format(error.filename) if error.filename else ""
        return _fail("{}{}".format(where, error.strerror or one_line(error)))


def _run(options: Any) -> int:
    if options.command == "probe":
        from jetson.agent.probe_command import probe

        return probe(options.json)
    from jetson.device.numpy_check import check_numpy

    check_numpy()  # the modules that come next import it
    if options.command == "build":
        from jetson.agent.build_command import build

        return build(options.order, options.output, options.maker, options.json)
    if options.command == "check":
        from jetson.agent.check_command import check

        return check(options.order, options.result, options.maker, options.json)
    if options.command == "run":
        from jetson.client.run_command import RunOptions, run

        known = {key: value for key, value in vars(options).items() if key in RunOptions._fields}
        return run(RunOptions(**known), options.json)
    from jetson.agent.bench_command import BenchOptions, bench

    given = BenchOptions(options.order, options.result or "", options.output or "", options.rounds, options.maker)
    return bench(given, options.json)


def _parser(version: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coop-agent.pyz", description="Look at this device, and build, check and measure engines on it."
    )
    parser.add_argument("--version", action="version", version="coop-agent " + version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    probe = commands.add_parser("probe", help="say what this device is: board, TensorRT, power mode, clocks, memory")
    build = commands.add_parser("build", help="build the engines of an order, check each, write them into one file")
    check = commands.add_parser("check", help="run the engines of a result on the golden data of their order")
    bench = commands.add_parser("bench", help="measure what an order asks for, and build first what is missing")
    for command in (build, check, bench):
        command.add_argument("order", help="the order: a file that `coopexport build --order`, or bench --order, wrote")
    check.add_argument("result", help="the result: a file that `build` wrote")
    bench.add_argument(
        "result", nargs="?", help="the result of the order; default: build it, or take it from the store"
    )
    build.add_argument("--output", help="where the result goes; default: beside the order, as ORDER.result.zip")
    bench.add_argument(
        "--output", help="where the latency run goes; default: beside the result or order, as RESULT.run.json"
    )
    bench.add_argument("--rounds", type=_positive, help="runs that are kept; default: as the order says, or 200")
    for command in (build, check, bench):
        command.add_argument(
            "--with", dest="maker", choices=("module", "trtexec"), default="",
            help="TensorRT's Python module or trtexec; default: the module where it is",
        )  # fmt: skip
    run = commands.add_parser("run", help="run frames through this device and its edge server, by a plan")
    _add_run_options(run)
    for command in (probe, build, check, bench, run):
        command.add_argument("--json", action="store_true", help="one JSON object per line on stdout")
    return parser


def _add_run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("--plan", required=True, help="plan.json of coopexport select, its variants' folders beside it")
    run.add_argument("--target", required=True, help="what its engines here were built for, e.g. orin-nano")
    run.add_argument("--frames", required=True, help="a .npy, .npz or .ppm file, a folder of such, - or camera:0")
    run.add_argument("--repeat", action="store_true", help="begin anew when the files end")
    run.add_argument("--rate", type=float, default=0.0, help="frames per second at most; default: as many as can be")
    run.add_argument("--edge", default="", help="HOST:PORT of coopexport serve; default: this device alone")
    run.add_argument("--name", default="", help="what this device is called there; default: its host name")
    run.add_argument("--deadline-ms", type=float, help="answer alone where the edge would be later than this")
    run.add_argument("--depth", type=_positive, default=2, help="frames under way to the edge at once; default: 2")
    run.add_argument("--as-ready", dest="in_order", action="store_false", help="results as they come, in any order")
    run.add_argument("--way", type=int, help="always the candidate of this number, not the plan's choice")
    run.add_argument("--authority", help="PEM file of who signs the server's certificate: speak TLS")
    run.add_argument("--certificate", help="PEM file of this device's own certificate")
    run.add_argument("--key", help="PEM file of its key")
    run.add_argument("--slowdown", type=float, default=1.0, help="compute so many times slower; for experiments")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("{} is not above 0".format(number))
    return number


def _fail(message: str) -> int:
    sys.stderr.write("coop-agent: error: {}\n".format(one_line(message)))
    return 2
