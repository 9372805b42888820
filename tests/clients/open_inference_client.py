"""What open-inference-openapi gets of a service: python … HOST:PORT EXPECTED.npz PICTURE."""

import asyncio
import base64
import sys

import numpy as np
from open_inference.openapi.client import AsyncOpenInferenceClient, OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError
from open_inference.openapi.errors import BadRequestError, NotFoundError
from open_inference.openapi.types import InferenceRequest, RequestInput, RequestOutput, TensorData

MODEL = "digits"


def request(data: list, shape: list[int], datatype: str = "UINT8") -> InferenceRequest:
    tensor = RequestInput(
        name="image", shape=shape, datatype=datatype, data=TensorData.parse_obj(data)
    )
    names = ("digit", "probabilities")
    return InferenceRequest(inputs=[tensor], outputs=[RequestOutput(name=name) for name in names])


def check(reply, expected) -> None:
    digit, probabilities = (np.array(output.data.__root__) for output in reply.outputs)
    np.testing.assert_array_equal(digit, expected["digit"])
    shape = expected["probabilities"].shape
    np.testing.assert_allclose(probabilities.reshape(shape), expected["probabilities"], rtol=1e-6)


def check_sync(client: OpenInferenceClient, expected, picture: bytes) -> None:
    images = expected["images"]
    client.check_server_liveness()
    client.check_server_readiness()
    client.check_model_readiness(MODEL)
    assert client.read_server_metadata().name == "digits"
    (version,) = client.read_model_metadata(MODEL).versions
    client.check_model_version_readiness(MODEL, version)
    assert client.read_model_version_metadata(MODEL, version).inputs[0].shape == [-1, 28, 28]
    texts = [base64.b64encode(picture).decode()] * len(images)
    for given in (
        request(images.ravel().tolist(), list(images.shape)),
        request(images.tolist(), list(images.shape)),
        request(texts, [len(images)], "BYTES"),
    ):
        check(client.model_infer(MODEL, request=given), expected)
        check(client.model_version_infer(MODEL, version, request=given), expected)
    for call, error in (
        (lambda: client.check_model_version_readiness(MODEL, "1"), NotFoundError),
        (lambda: client.model_infer(MODEL, request=request([0], [1, 28])), BadRequestError),
        (lambda: client.model_infer("mnist", request=request([0], [1])), ApiError),
    ):
        assert raised(error, call).body["error"]


def raised(kind: type[ApiError], call) -> ApiError:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError("answered")


async def check_async(client: AsyncOpenInferenceClient, expected) -> None:
    await client.check_server_readiness()
    images = expected["images"]
    given = request(images.ravel().tolist(), list(images.shape))
    check(await client.model_infer(MODEL, request=given), expected)


if __name__ == "__main__":
    address, path, picture = sys.argv[1:]
    with np.load(path) as archive:
        expected = dict(archive)
    with open(picture, "rb") as file:
        check_sync(OpenInferenceClient(base_url=f"http://{address}"), expected, file.read())
    asyncio.run(check_async(AsyncOpenInferenceClient(base_url=f"http://{address}"), expected))
    print("as expected")
