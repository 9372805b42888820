"""CPU time of the reading of pictures, by kind and by stage, compared with other programs.

python -m benchmarks.reading [--rounds 7] [--kinds NAME ...] [--against REVISION]
    [--digits 100] [--drawn 30] [--stretched FOLDER] [--corrupted FILE] [--omniglot ZIP]

Compares with Pillow's decoding of the same file and, if .venv-peers is installed, with
the OpenCV reading and the CNN of tutorials. With --against, compares with another
revision of the service too: its time, and its answers to the pictures of
benchmarks.robustness, of a folder and a file in its formats, and of Omniglot.
"""

import argparse
import json
import pickle
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import robustness
from benchmarks.against import checkout
from benchmarks.everyday import KINDS, uploads
from benchmarks.nondigits import omniglot
from benchmarks.rounds import ratios, spread
from benchmarks.servers import PEERS_BIN, ROOT

READERS = Path(__file__).parent / "readers.py"
OURS, OPENCV, PILLOW = "ours", "OpenCV and a CNN", "Pillow's decoding"
MILLISECONDS = 1e3
CONFIDENT = 0.9  # probability
N_CHARACTERS = 4_000  # of Omniglot, about
NO_DIGIT = -1  # label
NAME = 30  # characters of a kind's name

Answer = tuple[int, float] | None  # a digit and its probability, or a refusal
Seconds = dict[tuple[str, str, str], list[float]]  # by kind, reader and work: by round


class Reader(NamedTuple):
    """A running process of benchmarks/readers.py."""

    name: str
    process: subprocess.Popen[str]

    def ask(self, work: str, path: Path) -> Any:
        """Have the uploads of a file read, and return the result."""
        print(work, path, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            sys.exit(f"{self.name} has failed to read {path}")
        return json.loads(line)


@contextmanager
def running(name: str, python: str = sys.executable, tree: Path = ROOT) -> Iterator[Reader]:
    """Run a reader until the end of the block; it imports the service of a source tree."""
    # the folder of the script, with its module `numbers`, must not be on the path
    command = [python, "-P", str(READERS), name]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=tree, env={"PYTHONPATH": str(tree)}, stdin=pipe, stdout=pipe, text=True
    ) as process:
        yield Reader(name, process)


def measure(flags: argparse.Namespace) -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        readers = {OURS: running("service"), PILLOW: running("pillow")}
        if PEERS_BIN.exists():
            readers[OPENCV] = running("opencv", str(PEERS_BIN / "python"))
        if flags.against:
            tree = stack.enter_context(checkout(flags.against))
            readers[flags.against] = running("service", tree=tree)
        asked = {name: stack.enter_context(reader) for name, reader in readers.items()}
        names = [name for name in KINDS if any(part in name for part in flags.kinds)]
        files = {name: Path(folder, f"{i}.pickle") for i, name in enumerate(names)}
        for name, path in files.items():
            path.write_bytes(pickle.dumps(uploads(name, KINDS[name][1])))
        _print_ratios(_times(asked, files, flags.rounds), names, flags.against)
        _print_stages(asked[OURS], files, flags.rounds)
        if flags.against:
            _compare_answers(asked[OURS], asked[flags.against], Path(folder, "answers"), flags)


def _times(readers: dict[str, Reader], files: dict[str, Path], n_rounds: int) -> Seconds:
    """Time every reader with every kind in interleaved rounds, after one to warm up."""
    seconds: Seconds = {}
    for n in range(1 + n_rounds):
        for kind, path in files.items():
            for name, reader in readers.items():
                for work in ("decode",) if name == PILLOW else ("read", "answer"):
                    spent = reader.ask(work, path) / KINDS[kind][1]
                    if n:
                        seconds.setdefault((kind, name, work), []).append(spent)
    return seconds


def _print_ratios(seconds: Seconds, kinds: list[str], against: str | None) -> None:
    """Print the CPU time of each kind, and the medians of the ratios of each round."""
    read, answer = (OURS, "read"), (OURS, "answer")
    pairs = [(read, (PILLOW, "decode"), "reading / decoding")]
    if any(name == OPENCV for _, name, _ in seconds):
        pairs.append((answer, (OPENCV, "answer"), "answer / OpenCV, CNN"))
    if against:
        pairs.append((read, (against, "read"), f"reading / {against}"[:20]))
        pairs.append((answer, (against, "answer"), f"answer / {against}"[:20]))
    n_rounds = len(next(iter(seconds.values())))
    print(f"CPU of one picture, medians (ranges) of {n_rounds} interleaved rounds, one thread")
    heads = "".join(f"{head:<22}" for _, _, head in pairs)
    print(f"{'':<{NAME}}{'reading, ms':<13}{'answer, ms':<12}{heads}")
    for kind in kinds:
        times = (MILLISECONDS * statistics.median(seconds[kind, *who]) for who in (read, answer))
        line = f"{kind:<{NAME}}" + "{:<13.2f}{:<12.2f}".format(*times)
        for ours, other, _ in pairs:
            line += f"{spread(ratios(seconds[kind, *ours], seconds[kind, *other])):<22}"
        print(line.rstrip(), flush=True)


def _print_stages(reader: Reader, files: dict[str, Path], n_rounds: int) -> None:
    """Print the CPU time of each stage: the medians of some rounds."""
    print("\nms until each stage is shown, from the one before")
    for kind, path in files.items():
        rounds = [reader.ask("stages", path) for _ in range(n_rounds)]
        medians = {
            stage: MILLISECONDS / KINDS[kind][1] * statistics.median(r[stage] for r in rounds)
            for stage in rounds[0]
        }
        stages = ", ".join(f"{stage} {spent:.2f}" for stage, spent in medians.items())
        print(f"{kind:<{NAME}}{stages}", flush=True)


def _compare_answers(ours: Reader, other: Reader, path: Path, flags: argparse.Namespace) -> None:
    """Count the pictures to which two revisions answer differently."""
    print(f"\nanswers unlike those of {flags.against}: another digit, or a refusal of only one")
    n = n_changed = n_lost = 0
    for name, files, labels in _rows(flags):
        path.write_bytes(pickle.dumps(files))
        pairs = zip(ours.ask("answers", path), other.ask("answers", path), labels, strict=True)
        changed = [each for each in pairs if _digit(each[0]) != _digit(each[1])]
        n_lost += sum(_is_lost(*each) for each in changed)
        n, n_changed = n + len(files), n_changed + len(changed)
        if changed:
            print(f"{name:<{NAME}}{len(changed)} of {len(files):,}", flush=True)
    print(
        f"{n_changed} of {n:,} pictures ({n_changed / n:.3%}); "
        f"{n_lost} from right to wrong with p >= {CONFIDENT} before or after"
    )


def _rows(flags: argparse.Namespace) -> Iterator[tuple[str, list[bytes], list[int]]]:
    """Yield the name, the pictures and their labels of each row; NO_DIGIT for no label."""
    rows = {
        **robustness.kinds(flags.digits, flags.drawn),
        **robustness.stretched(flags.stretched),
        **robustness.of_file(flags.corrupted),
    }
    for name, draw in rows.items():
        files, labels = draw()
        yield name, files, labels.tolist()
    if flags.omniglot:
        files = omniglot(flags.omniglot, N_CHARACTERS)
        yield "Omniglot", files, [NO_DIGIT] * len(files)


def _digit(answer: Answer) -> int | None:
    return answer and answer[0]


def _is_lost(ours: Answer, other: Answer, label: int) -> bool:
    """Return whether the other revision is right and ours is not, and one is confident."""
    confidence = max(answer[1] if answer else 0 for answer in (ours, other))
    return _digit(other) == label != _digit(ours) and confidence >= CONFIDENT


def main() -> None:
    """Parse the flags and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kinds", nargs="+", default=[""], help="parts of the kinds' names")
    parser.add_argument("--against", help="commit, branch or tag to compare with")
    parser.add_argument("--digits", type=int, default=100, help="test digits per corruption")
    parser.add_argument("--drawn", type=int, default=30, help="pictures per style and scene")
    parser.add_argument(
        "--stretched", type=Path, help="folder of .npz files with arrays `images` and `labels`"
    )
    parser.add_argument(
        "--corrupted", type=Path, help=".npz file of `labels` and of images by corruption"
    )
    parser.add_argument("--omniglot", type=Path, help="zip of Omniglot's pictures")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
