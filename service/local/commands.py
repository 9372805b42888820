"""The commands of `python -m service`, their errors and their exit status."""

import argparse
import os
import sys

from service.classifier import InvalidWeights, load_first
from service.feedback import NotKept, UnknownCorrection, make_folder
from service.images import InvalidImage
from service.local.classify import classify
from service.local.feedback import feedback
from service.local.output import Busy
from service.local.read import read
from service.local.workers import WorkersKilled
from service.settings import PREFIX, InvalidSetting, Settings, read_server_settings, read_settings

# Exit statuses. That of a failed `classify` differs from that for unreadable pictures, and
# that of a closed pipe is a shell's for a program that SIGPIPE has ended.
FAILED = {"settings": 1, "read": 1, "feedback": 1, "classify": 2}
PIPE_CLOSED = 141
INVALID = (InvalidSetting, InvalidWeights, InvalidImage, UnknownCorrection)


def run(flags: argparse.Namespace) -> int:
    """Run the command that is named; print its error in one line. Return the exit status."""
    try:
        settings = read_settings(os.environ)
        if flags.command == "classify":
            return classify(flags, settings)
        if flags.command == "feedback":
            feedback(flags, settings)
        elif flags.command == "read":
            read(flags.picture, flags.stages, settings)
        else:
            _print_settings(settings)
        return 0
    except BrokenPipeError:  # the program that read the output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except (*INVALID, Busy, NotKept, WorkersKilled) as error:
        print(f"digits: {error}", file=sys.stderr)
    except OSError as error:
        # what cannot be read is a row of the answers: the error is one of writing
        name = getattr(flags, "output", None) or error.filename or "standard output"
        print(f"digits: {name}: {error.strerror}", file=sys.stderr)
    return FAILED[flags.command]


def _print_settings(settings: Settings) -> None:
    """Print the settings in effect, after a check of the files that they name."""
    load_first(settings.weights)
    if settings.feedback_dir:
        make_folder(settings.feedback_dir)
    server = read_server_settings(os.environ)
    print(f"DIGITS_WEIGHTS={os.pathsep.join(map(str, settings.weights))}")
    print(f"DIGITS_HOST={server.host}")
    print(f"DIGITS_KEEPALIVE={server.keepalive}")
    print(f"DIGITS_ACCESS_LOG={server.access_log}")
    print(f"DIGITS_API_KEYS={'*' * len(settings.api_keys)}")  # one star per key
    print(f"DIGITS_ALLOWED_ORIGINS={' '.join(settings.allowed_origins)}")
    print(f"DIGITS_FEEDBACK_DIR={settings.feedback_dir or ''}")
    for name, limit in settings.limits._asdict().items():
        print(f"{PREFIX}{name.upper()}={limit}")
    print(f"PORT={server.port}")
    print(f"WEB_CONCURRENCY={server.workers}")
    print(f"SCRIPT_NAME={server.script_name}")
