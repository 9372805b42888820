"""Errors as problem documents."""

import json

from flask import Flask

from service.web import problems


def test_unknown_path_is_a_problem_document(client):
    reply = client.get("/nowhere")

    assert reply.status_code == 404
    assert reply.mimetype == "application/problem+json"
    assert json.loads(reply.data) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "/nowhere does not exist; POST a picture to /predict",
    }


def test_wrong_method_names_the_allowed_one(client):
    reply = client.delete("/predict")

    assert reply.status_code == 405
    assert "POST" in reply.headers["Allow"]
    assert "DELETE is not allowed on /predict" in json.loads(reply.data)["detail"]


def test_unexpected_error_is_logged_and_its_traceback_not_sent(caplog):
    app = Flask("bug")
    problems.init_app(app)

    @app.get("/")
    def fail() -> str:
        return str(1 / 0)

    reply = app.test_client().get("/")

    assert reply.status_code == 500
    assert reply.mimetype == "application/problem+json"
    assert "ZeroDivision" not in reply.text
    assert "ZeroDivision" in caplog.text


def test_options_is_refused_like_any_other_wrong_method(client):
    reply = client.options("/predict")

    assert reply.status_code == 405
    assert json.loads(reply.data)["detail"] == ("OPTIONS is not allowed on /predict; use POST")
