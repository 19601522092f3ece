"""The page of ``make serve``: the API to read and to try, and the Executions that it ends.

All of it comes from this machine: Swagger UI from its package, the API's description from ``docs/``.
"""

import importlib.util
import json
import mimetypes
from pathlib import Path
from urllib.parse import urlsplit

from local.gateway import Response
from local.signing import signed
from local.studio import Studio

PREFIX = "/_local/"

_ROOT = Path(__file__).parent.parent
# Below the prefix as they are in the repository, so that the reference of one to the other holds.
_DOCUMENTS = ("docs/openapi.yaml", "src/end_conversation/command.schema.json")


class Page:
    """The page, and what its script asks for.

    Args:
        studio: Whose Executions are shown.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._files = {"/": Path(__file__).with_name("page.html")}
        self._files |= {PREFIX + name: _ROOT / name for name in _DOCUMENTS}
        self._files |= {f"{PREFIX}swagger-ui/{file.name}": file for file in _swagger_ui().iterdir()}

    @staticmethod
    def has(target: str) -> bool:
        """Whether a request is for the page, and not for the API."""
        path = urlsplit(target).path
        return path == "/" or path.startswith(PREFIX)

    def respond(self, method: str, target: str, body: bytes) -> Response:
        """The answer to a request of the page."""
        path = urlsplit(target).path
        if method in {"GET", "HEAD"} and path in self._files:
            file = self._files[path]
            media_type = mimetypes.guess_type(file.name)[0] or "application/yaml"
            return Response(200, file.read_bytes(), (("content-type", media_type),))
        match method, path.removeprefix(PREFIX):
            case "GET", "executions":
                return _json(
                    [execution.shown(self._studio.url) for execution in self._studio.executions.all()]
                )
            case "POST", "executions":
                like = next(self._studio.executions.all())
                return _json(self._studio.seed(like.flow_sid, contact=like.contact).shown(self._studio.url))
            case "POST", "signatures":
                return _json(signed(body))
        return Response(404, b"")


def _swagger_ui() -> Path:
    package = importlib.util.find_spec("flask_swagger_ui")
    if package is None or package.origin is None:
        raise OSError("Swagger UI is not installed")
    return Path(package.origin).with_name("dist")


def _json(document: object) -> Response:
    return Response(200, json.dumps(document).encode(), (("content-type", "application/json"),))
