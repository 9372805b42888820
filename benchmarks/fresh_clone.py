"""Time from a fresh clone, by `make serve`, to the first answer; what was installed.

python3 benchmarks/fresh_clone.py [REPOSITORY]    (standard library only)
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent.parent
LIMIT = 600.0  # seconds to the first answer, downloads included
STOP_LIMIT = 60.0  # seconds


def measure(repository: str) -> None:
    """Clone, run `make serve`, post the README's picture, print the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "digits"
        subprocess.run(["git", "clone", "--quiet", repository, clone], check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        start = time.monotonic()
        serve = subprocess.Popen(
            ["make", "serve"],
            cwd=clone,
            env=os.environ | {"PORT": str(port)},
            start_new_session=True,
        )
        try:
            reply = _first_answer(port, (clone / "docs" / "digit.png").read_bytes(), serve)
            print(f"first answer after {time.monotonic() - start:.1f} s: {reply}")
        finally:
            os.killpg(serve.pid, signal.SIGTERM)
            serve.wait(timeout=STOP_LIMIT)
        packages = sorted(p.name for p in clone.glob(".venv/lib/*/site-packages/*.dist-info"))
        print("installed:", ", ".join(p.removesuffix(".dist-info") for p in packages))
        if any(p.startswith("torch-") for p in packages):
            sys.exit("torch was installed; the service must do without it")


def _first_answer(port: int, picture: bytes, serve: subprocess.Popen[bytes]) -> object:
    deadline = time.monotonic() + LIMIT
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", data=picture, headers={"Content-Type": "image/png"}
    )
    while serve.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=5) as reply:
                return json.load(reply)["digit"]
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit(f"no answer within {LIMIT:.0f} s, or `make serve` ended")


if __name__ == "__main__":
    measure(sys.argv[1] if len(sys.argv) > 1 else str(HERE))
