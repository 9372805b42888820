"""Command line of the service: its settings, and the reading of one picture."""

import argparse
import itertools
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from service.classifier import InvalidWeights, load_first
from service.features import MAX_GREY
from service.images import InvalidImage
from service.number import read_one
from service.reading.background import MIN_CONTRAST
from service.reading.stages import Show, Stage, ignore
from service.settings import PREFIX, InvalidSetting, Settings, read_server_settings, read_settings

SHOWN_SIDE = 280  # pixels: smaller stages are enlarged to about this longer side


def main() -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser("python -m service", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("settings", help="print the settings in effect, one per line")
    reading = "print the digit in a picture and its probabilities"
    read = commands.add_parser("read", help=reading, description=reading)
    read.add_argument("picture", type=Path, metavar="PICTURE", help="a picture file")
    stages = "create this folder and write every intermediate image as a numbered PNG"
    read.add_argument("--stages", type=Path, metavar="FOLDER", help=stages)
    arguments = parser.parse_args()
    try:
        settings = read_settings(os.environ)
        if arguments.command == "settings":
            _print_settings(settings)
        else:
            _read(arguments.picture, arguments.stages, settings)
    except (InvalidSetting, InvalidWeights, InvalidImage) as error:
        sys.exit(f"digits: {error}")
    except OSError as error:
        sys.exit(f"digits: {error.filename}: {error.strerror}")


def _print_settings(settings: Settings) -> None:
    """Print the settings in effect, after a check that the weights can be loaded."""
    load_first(settings.weights)
    server = read_server_settings(os.environ)
    print(f"DIGITS_WEIGHTS={os.pathsep.join(map(str, settings.weights))}")
    print(f"DIGITS_HOST={server.host}")
    print(f"DIGITS_KEEPALIVE={server.keepalive}")
    print(f"DIGITS_ACCESS_LOG={server.access_log}")
    print(f"DIGITS_API_KEYS={'*' * len(settings.api_keys)}")  # one star per key
    print(f"DIGITS_ALLOWED_ORIGINS={' '.join(settings.allowed_origins)}")
    for name, limit in settings.limits._asdict().items():
        print(f"{PREFIX}{name.upper()}={limit}")
    print(f"PORT={server.port}")
    print(f"WEB_CONCURRENCY={server.workers}")
    print(f"SCRIPT_NAME={server.script_name}")


def _read(path: Path, stages: Path | None, settings: Settings) -> None:
    """Print the digit in a picture file; write the stages of its reading."""
    classifier = load_first(settings.weights)
    show = _writer(stages) if stages else ignore
    image = read_one(path.read_bytes(), classifier, settings.limits.max_pixels, show)
    scores = classifier.score(image[np.newaxis])
    digit = classifier.classes[scores.probabilities[0].argmax()]
    is_digit = "" if scores.is_digit is None else f"is_digit: {scores.is_digit[0]:.4f}"
    if classifier.refused(scores):
        raise InvalidImage(f"this does not look like a digit ({is_digit}; nearest digit: {digit})")
    print(f"digit: {digit}")
    print(f"probability: {scores.probabilities[0].max():.4f}")
    if is_digit:
        print(is_digit)


def _writer(folder: Path) -> Show:
    """Return a function that writes each stage as a numbered PNG into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = itertools.count(1)

    def write(name: str, stage: Stage) -> None:
        image = np.asarray(stage)
        if name == "ink":  # of any level: show it from black to white
            image = image / max(image.max(), MIN_CONTRAST)
        if image.dtype != np.uint8:
            image = np.rint(np.clip(image, 0, 1) * MAX_GREY).astype(np.uint8)
        factor = max(1, SHOWN_SIDE // max(image.shape[:2]))
        enlarged = image.repeat(factor, 0).repeat(factor, 1)
        Image.fromarray(enlarged).save(folder / f"{next(numbers)}-{name}.png")

    return write


if __name__ == "__main__":
    main()
