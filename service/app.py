"""The WSGI application."""

import os
import sys

from flask import Flask

from service.feedback import make_folder
from service.settings import InvalidSetting, Settings, read_settings
from service.web import auth, cors, inference_protocol, openapi, operations, problems, ui
from service.web.extension import NAME, Extension
from service.web.families import new_metrics
from service.web.fast_path import FastPath
from service.web.feedback import feedback
from service.web.model_store import Classifier, InvalidWeights, ModelStore
from service.web.predict import predict
from service.web.steps import add_server_timing

# the name of each is an operationId in openapi.json, or one without OF_VERSION
VIEWS = (
    *(predict, feedback, operations.live, operations.ready, operations.metrics, operations.model),
    *(operations.openapi, ui.page, ui.docs, ui.script, ui.style),
    *inference_protocol.VIEWS,
)


def create_app(classifier: Classifier | None = None, settings: Settings | None = None) -> Flask:
    """Build the application, by default with the settings of the environment.

    Without a classifier, it serves the weights file of the settings. Exits with a
    one-line message if a setting or the weights file is invalid.
    """
    try:
        settings = settings or read_settings(os.environ)
        paths = () if classifier else settings.weights
        if settings.feedback_dir:
            make_folder(settings.feedback_dir)
        metrics = new_metrics()
        models = ModelStore(classifier, paths, metrics)
    except (InvalidSetting, InvalidWeights) as error:
        sys.exit(f"digits: {error}")
    limits = settings.limits
    app = Flask(__name__, static_folder=None, template_folder="web/templates")
    app.config.update(
        MAX_CONTENT_LENGTH=limits.max_bytes,
        # Flask answers OPTIONS with an empty HTML page
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider's
    app.url_map.merge_slashes = False  # no redirect to another path
    keys, origins = auth.ApiKeys(settings.api_keys), cors.Cors(settings.allowed_origins)
    extension = Extension(models, metrics, keys, limits, origins, settings.feedback_dir)
    app.extensions[NAME] = extension
    views = {view.__name__: view for view in VIEWS}
    for path, method, operation in openapi.operations(openapi.describe()):
        name = operation["operationId"]
        view = views[name.removesuffix(inference_protocol.OF_VERSION)]
        rule = path.replace("{", "<").replace("}", ">")  # OpenAPI's parameters as Flask's
        app.add_url_rule(rule, name, view, methods=[method])
    inference_protocol.init_app(app)
    cors.init_app(app, extension.cors)
    auth.init_app(app, extension.api_keys)
    app.before_request(ui.add_slash)
    app.after_request(add_server_timing)
    problems.init_app(app)
    app.wsgi_app = FastPath(app.wsgi_app, extension)  # type: ignore[method-assign]  # as Flask's docs do
    return app
