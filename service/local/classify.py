"""The command classify: digits in many pictures, in one process per CPU."""

import argparse
import hashlib
import json
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import numpy as np

from service import __version__
from service.classifier import load_first
from service.features import IMAGE_SIZE, Images
from service.local.answers import Format, Result, format_of, shown
from service.local.digits import Answer, Digits, InvalidImage
from service.local.output import File, Stream
from service.local.progress import Progress
from service.local.tasks import ARRAY, Task, open_images, tasks
from service.local.workers import Done, Pool
from service.number import read_number
from service.settings import Settings, allowed_cpus

SOME_INVALID = 1  # exit status: some pictures could not be read
SIGNALLED = 128  # exit status, plus the number of the signal
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KILLED = "two processes were killed while they read it; it may take too much memory"


@dataclass(frozen=True)
class Work:
    """What a process does with a task."""

    digits: Digits
    form: Format
    max_bytes: int  # of a picture file
    is_several: bool

    def __call__(self, task: Task, begin: Callable[[int], None], fatal: set[int]) -> Done:
        """Read the pictures or the images of a task; write rows of answers."""
        results: list[Result] = []
        if task.images:
            (path,), images = task.paths, task.images
            name = shown(path)
            names = [f"{name}[{i}]" for i in images]
            array = open_images(path)[images.start : images.stop]
            results += self.digits.read_images(np.array(array))
        else:
            names, read = [*map(shown, task.paths)], []
            for i, path in enumerate(task.paths):
                begin(i)
                read.append(InvalidImage(KILLED) if i in fatal else self._read(path))
            results += read if self.is_several else self._scored(read)
        n_errors = sum(isinstance(result, InvalidImage) for result in results)
        return Done(self.form.rows(names, results), n_errors)

    def _scored(self, read: list[Images | InvalidImage]) -> list[Answer | InvalidImage]:
        """Classify images (28, 28) together; keep the errors among them in their places."""
        images = [each for each in read if not isinstance(each, InvalidImage)]
        answers = iter(self.digits.score(np.array(images, np.uint8).reshape(-1, *IMAGE_SIZE)))
        return [each if isinstance(each, InvalidImage) else next(answers) for each in read]

    def _read(self, path: str) -> Any:
        """Read a picture file as an image (28, 28) or as a number; return any error."""
        try:
            upload = _content(path, self.max_bytes)
            if self.is_several:
                return read_number(upload, self.digits.classifier, self.digits.max_pixels)
            return self.digits.image_of(upload)
        except InvalidImage as error:
            return error
        except OSError as error:
            return InvalidImage(error.strerror)


def classify(flags: argparse.Namespace, settings: Settings) -> int:
    """Write the answers; return the exit status. Raises SystemExit after a signal."""
    digits = Digits(load_first(settings.weights), settings.limits.max_pixels)
    for name in flags.pictures:
        if name.endswith(ARRAY):
            open_images(name)  # raises its error before any work
    suffix = flags.output.suffix if flags.output else ".csv"
    form = format_of(suffix, flags.several, digits.classifier.classes)
    work = Work(digits, form, settings.limits.max_bytes, flags.several)
    written = os.path.realpath(flags.output) if flags.output else ""
    named = partial(tasks, flags.pictures, written)
    output = File(flags.output, form, _identity(flags, work)) if flags.output else Stream(form)
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        _write(named, work, output)
    except BaseException as error:
        output.save()
        if isinstance(error, SystemExit) and flags.output:
            _report("stopped; the same command continues")
        raise
    output.finish()
    if not output.state.rows:
        _report("there are no pictures")
    if n := output.state.n_errors:
        _report(f"{n:,} of {output.state.rows:,} could not be read: see the column 'error'")
    return SOME_INVALID if n else 0


def _write(named: Callable[[], Iterator[Task]], work: Work, output: File | Stream) -> None:
    """Write the answers that are not written yet."""
    rest = output.remaining(named)
    if first := output.state.rows:
        _report(f"continuing after {first:,} rows")
    bar = None
    if sys.stderr.isatty() and not (isinstance(output, Stream) and sys.stdout.isatty()):
        bar = Progress(max((task.end for task in named()), default=0), first)
    with closing(Pool(work, allowed_cpus()).results(rest)) as results, bar or nullcontext():
        for task, done in results:
            output.write(task, done)
            if bar:
                bar.show(task.end)


def _identity(flags: argparse.Namespace, work: Work) -> str:
    """Return a digest of what, beside the pictures, the answers depend on."""
    model, limits = work.digits.classifier.version, (work.digits.max_pixels, work.max_bytes)
    options = flags.pictures, flags.several, flags.output.suffix, model, limits, __version__
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()


def _content(path: str, max_bytes: int) -> bytes:
    """Return the bytes of a picture file; raise InvalidImage for other files."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidImage("not a file of pixels, but a pipe or a device")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise InvalidImage(f"the file has more than {max_bytes:,} bytes (DIGITS_MAX_BYTES)")
    return content


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; do not block on a pipe that nobody writes to."""
    return os.open(path, flags | os.O_NONBLOCK)


def _stop(number: int, frame: FrameType | None) -> None:
    """End the program after a signal; a second one changes nothing."""
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(SIGNALLED + number)


def _report(text: str) -> None:
    print(f"digits: {text}", file=sys.stderr)
