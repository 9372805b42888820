"""Flask applications as tutorials write them, to compare the service with."""

import io

import numpy as np
from flask import Flask, Response, jsonify, request
from PIL import Image

from service.classifier import load
from service.features import FEATURES
from service.settings import EMBEDDED_WEIGHTS


def with_numpy() -> Flask:
    """Return an application that classifies the pixels with Pillow and numpy."""
    app, classifier = Flask(__name__), load(EMBEDDED_WEIGHTS)

    @app.post("/predict")
    def predict() -> Response:
        image = np.asarray(Image.open(request.files["image"].stream).convert("L"))
        probabilities = classifier.predict_proba(image[np.newaxis])[0].tolist()
        digit = int(np.argmax(probabilities))
        return jsonify(digit=digit, probability=probabilities[digit], probabilities=probabilities)

    return app


def with_torch() -> Flask:
    """Return an application that classifies with Pillow and torch."""
    import torch

    torch.set_num_threads(1)
    app, classifier = Flask(__name__), load(EMBEDDED_WEIGHTS)
    features = FEATURES[classifier.features]
    layer = torch.nn.Linear(*classifier.weight.shape)
    layer.load_state_dict(
        {
            "weight": torch.from_numpy(classifier.weight.T.copy()),
            "bias": torch.from_numpy(classifier.bias),
        }
    )

    @app.post("/predict")
    def predict() -> Response:
        upload = io.BytesIO(request.files["image"].read())
        image = np.asarray(Image.open(upload).convert("L"))
        with torch.no_grad():
            logits = layer(torch.from_numpy(features(image[np.newaxis])))
            probabilities = torch.softmax(logits, dim=1)[0]
        digit = int(probabilities.argmax())
        return jsonify(
            digit=digit,
            probability=float(probabilities[digit]),
            probabilities=probabilities.tolist(),
        )

    return app
