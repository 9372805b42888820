"""Work of a run: the pictures and the images that are named on the command line."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np
from numpy.lib.format import open_memmap

from service.features import IMAGE_SIZE, Images
from service.images import InvalidImage

PICTURES, IMAGES = 32, 1_000  # of a task, which takes a process up to a second
ARRAY = ".npy"
SHAPES = (IMAGE_SIZE, (IMAGE_SIZE[0] * IMAGE_SIZE[1],))  # of an image in an array


class Task(NamedTuple):
    """Consecutive rows of the answers."""

    paths: list[str]  # of pictures, or the one of an array
    images: range  # of the array (N, 28, 28)
    end: int  # the rows of this task and all before it
    digest: str  # of what was named up to the end of this task


def tasks(named: Sequence[str], output: str) -> Iterator[Task]:
    """Split pictures, the pictures in folders, and arrays into tasks, in order.

    The file `output`, a real path, is no picture, and a hidden file in a folder is none.
    """
    digest, n = hashlib.sha256(), 0
    for is_array, names in groupby(named, lambda name: name.endswith(ARRAY)):
        if is_array:
            for name in names:
                digest.update(_signature(name))
                n_images = len(open_images(name))
                for first in range(0, n_images, IMAGES):
                    images = range(first, min(first + IMAGES, n_images))
                    n += len(images)
                    yield Task([name], images, n, digest.hexdigest())
        else:
            pictures = _pictures(names, output)
            while paths := list(islice(pictures, PICTURES)):
                for path in paths:
                    digest.update(_signature(path))
                n += len(paths)
                yield Task(paths, range(0), n, digest.hexdigest())


def _pictures(names: Iterable[str], output: str) -> Iterator[str]:
    for name in names:
        if os.path.isdir(name):
            yield from _files(name, output)
        else:
            yield name


def _files(folder: str, output: str) -> Iterator[str]:
    """Yield the files in a folder and its subfolders, sorted by name."""
    rest = [folder]  # a stack: folders may be nested deeper than calls
    while rest:
        path = rest.pop()
        # a link to a folder may lead to one that contains it
        if path is not folder and (os.path.islink(path) or not os.path.isdir(path)):
            if os.path.realpath(path) != output:
                yield path
            continue
        try:
            names = sorted(os.listdir(path), reverse=True)
        except OSError:
            yield path  # whose reading has the same error
            continue
        rest += [os.path.join(path, name) for name in names if not name.startswith(".")]


def _signature(path: str) -> bytes:
    """Return what distinguishes a file from others, and from itself after a change."""
    try:
        status = os.stat(path)
    except OSError:
        return os.fsencode(path) + b"\0\0"
    return os.fsencode(path) + b"\0%d %d\0" % (status.st_size, status.st_mtime_ns)


def open_images(path: str) -> Images:
    """Map the images (N, 28, 28) of an .npy file into memory; raise InvalidImage."""
    if os.path.exists(path) and not os.path.isfile(path):  # numpy would wait for a pipe
        raise InvalidImage(f"{path}: not a file")
    try:
        array = open_memmap(path, mode="r")
    except OSError as error:
        raise InvalidImage(f"{path}: {error.strerror}") from None
    # the header is a Python literal: a malformed one raises many types of errors
    except Exception as error:
        raise InvalidImage(f"{path}: not an .npy file of images: {error}") from None
    if array.dtype != np.uint8 or array.shape[1:] not in SHAPES:
        raise InvalidImage(
            f"{path}: the array is {array.dtype} {array.shape}; save uint8 (N, 28, 28) of grey "
            "levels from 0 to 255"
        )
    return array.reshape(-1, *IMAGE_SIZE)
