"""Who may ask: the keys that a request can bring."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

SCHEME = "bearer "


class Keys:
    """The SHA-256 digests of the keys that are let in; none at all lets everyone in."""

    def __init__(self, digests: tuple[str, ...]) -> None:
        self.digests = digests

    def admit(self, environ: Mapping[str, Any]) -> bool:
        """Tell whether a request brings a key, as `Authorization` or `X-API-Key`.

        How long it takes tells nothing of how near a wrong key is.
        """
        if not self.digests:
            return True
        keys = [environ.get("HTTP_X_API_KEY", "")]
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        if authorization.lower().startswith(SCHEME):
            keys.append(authorization[len(SCHEME) :].strip())
        brought = [hashlib.sha256(key.encode("latin-1")).hexdigest() for key in keys]
        found = [
            hmac.compare_digest(digest, known)
            for digest in brought
            for known in self.digests
        ]
        return any(found)
