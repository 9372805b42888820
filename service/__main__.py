"""Tell how the service would be run: python -m service settings."""

import os
import sys

from service.settings import (
    PREFIX,
    InvalidSetting,
    read_server_settings,
    read_settings,
)


def main() -> None:
    """Print the settings in effect, one a line."""
    if sys.argv[1:] != ["settings"]:
        sys.exit("usage: python -m service settings")
    try:
        settings = read_settings(os.environ)
        server = read_server_settings(os.environ)
    except InvalidSetting as error:
        sys.exit(f"digits: {error}")
    print(f"DIGITS_WEIGHTS={os.pathsep.join(map(str, settings.weights))}")
    print(f"DIGITS_HOST={server.host}")
    print(f"DIGITS_ACCESS_LOG={server.access_log:d}")
    print(f"DIGITS_API_KEYS={'*' * len(settings.api_keys)}")  # a star for each
    for name, limit in settings.limits._asdict().items():
        print(f"{PREFIX}{name.upper()}={limit}")
    print(f"PORT={server.port}")
    print(f"WEB_CONCURRENCY={server.workers}")


if __name__ == "__main__":
    main()
