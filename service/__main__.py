"""Command line: the settings of the service, and pictures without a server."""

import argparse
import os
import signal
import sys
from pathlib import Path

ARRAY = ".npy"
OUTPUTS = (".csv", ".jsonl", ARRAY)
CLASSIFY = "write the digits in pictures and in arrays of images, in one process per CPU"


def main() -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser("python -m service", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("settings", help="print the settings in effect, one per line")
    reading = "print the digit in a picture, its probability and `is_digit`"
    read = commands.add_parser("read", help=reading, description=reading)
    read.add_argument("picture", type=Path, metavar="PICTURE", help="a picture file")
    stages = "create this folder and write every intermediate image as a numbered PNG"
    read.add_argument("--stages", type=Path, metavar="FOLDER", help=stages)
    keeping = "list or erase the corrections that the service keeps"
    feedback = commands.add_parser("feedback", help=keeping, description=keeping)
    feedback.add_argument("action", choices=("list", "erase"))
    feedback.add_argument("names", nargs="*", metavar="NAME", help="of corrections (default: all)")
    folder = "the folder of the corrections (default: DIGITS_FEEDBACK_DIR)"
    feedback.add_argument("--dir", type=Path, metavar="FOLDER", help=folder)
    _add_flags(commands.add_parser("classify", help=CLASSIFY, description=CLASSIFY))
    _run(_parsed(parser))


def digits_classify() -> None:
    """Run the command `classify`, as a program of its own."""
    parser = argparse.ArgumentParser("digits-classify", description=CLASSIFY)
    parser.set_defaults(command="classify")
    _add_flags(parser)
    _run(_parsed(parser))


def _add_flags(parser: argparse.ArgumentParser) -> None:
    pictures = "picture files, folders of them, and .npy files of uint8 (N, 28, 28)"
    parser.add_argument("pictures", nargs="+", metavar="PICTURE|FOLDER|ARRAY", help=pictures)
    output = "write .csv, .jsonl or .npy (default: CSV to standard output); if interrupted, "
    output += "the same command continues"
    parser.add_argument("--output", type=_output, metavar="FILE", help=output)
    several = "read the number in each picture, a row of digits"
    parser.add_argument("--several", action="store_true", help=several)


def _output(text: str) -> Path:
    """Return the path of an output whose suffix is known."""
    path = Path(text)
    if path.suffix not in OUTPUTS:
        raise argparse.ArgumentTypeError(f"{text!r} does not end with {', '.join(OUTPUTS)}")
    return path


def _parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line; exit with its usage if flags exclude each other."""
    flags = parser.parse_args()
    if flags.command == "classify":
        is_array = [name.endswith(ARRAY) for name in flags.pictures]
        if flags.several and (any(is_array) or (flags.output and flags.output.suffix == ARRAY)):
            parser.error(f"--several is for pictures, and writes .csv or .jsonl, not {ARRAY}")
        if flags.output and os.path.realpath(flags.output) in map(os.path.realpath, flags.pictures):
            parser.error(f"--output: {flags.output} is one of the pictures")
    return flags


def _run(flags: argparse.Namespace) -> None:
    """Run a command, and exit with its status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from within an import
    # None if it is closed: print would write to standard output
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115  # until the end
    # read by numpy when it is imported: each process computes in one thread
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    from service.local.commands import run

    sys.exit(run(flags))


if __name__ == "__main__":
    main()
