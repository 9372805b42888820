"""API-key authentication."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from flask import Flask, request
from werkzeug.exceptions import Unauthorized

from service.web.openapi import describe, operations

SCHEME = "bearer "
# environ key: whether the request carries an accepted API key, if that was checked
# before Flask; no client can set it, because a header's key begins with HTTP_
AUTHORIZED = "digits.authorized"


class ApiKeys:
    """The accepted API keys, as SHA-256 digests; without any, no key is required."""

    def __init__(self, digests: tuple[str, ...]) -> None:
        self.digests = digests

    def authorize(self, environ: Mapping[str, Any]) -> bool:
        """Return whether a request carries an accepted key, if one is required.

        The time it takes reveals nothing about the keys.
        """
        if not self.digests:
            return True
        keys = [environ.get("HTTP_X_API_KEY", "")]
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        if authorization.lower().startswith(SCHEME):
            keys.append(authorization[len(SCHEME) :].strip())
        digests = [hashlib.sha256(key.encode("latin-1")).hexdigest() for key in keys]
        matches = [
            hmac.compare_digest(digest, accepted) for digest in digests for accepted in self.digests
        ]
        return any(matches)


def init_app(app: Flask, api_keys: ApiKeys) -> None:
    """Require an API key on the routes that declare it."""
    protected = {op["operationId"] for _, _, op in operations(describe()) if "security" in op}

    @app.before_request
    def require_key() -> None:
        if request.endpoint not in protected:
            return
        is_authorized = request.environ.get(AUTHORIZED)
        if is_authorized is None:
            is_authorized = api_keys.authorize(request.environ)
        if not is_authorized:
            raise Unauthorized(
                "missing or unknown API key; send `Authorization: Bearer KEY` or `X-API-Key: KEY`"
            )
