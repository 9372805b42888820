"""What tritonclient gets of a service: python triton.py HOST:PORT EXPECTED.npz PICTURE."""

import asyncio
import sys

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

MODEL = "digits"


def inputs(array: np.ndarray, datatype: str, binary: bool) -> list:
    tensor = triton.InferInput("image", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return [tensor]


def requests(images: np.ndarray, picture: bytes) -> list[list]:
    """Return the inputs of the same images in every layout."""
    rows = images.reshape(len(images), 784)
    pictures = np.array([picture] * len(images), object)
    return [
        inputs(images, "UINT8", True),
        inputs(images, "UINT8", False),
        inputs(rows, "UINT8", True),
        inputs(rows, "UINT8", False),
        inputs(pictures, "BYTES", True),
    ]


def outputs(binary: bool) -> list:
    names = ("is_digit", "digit", "probabilities")
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def check(result, expected, version: str) -> None:
    for name in ("probabilities", "digit", "is_digit"):
        np.testing.assert_allclose(result.as_numpy(name), expected[name], rtol=1e-6)
    response = result.get_response()
    assert (response["model_name"], response["model_version"]) == (MODEL, version)
    assert response.get("id", "r-7") == "r-7"


def raised(call, *arguments, **more) -> InferenceServerException:
    try:
        call(*arguments, **more)
    except InferenceServerException as error:
        return error
    raise AssertionError(f"answered: {arguments}")


def refused(call, *arguments, status: str, words: str, **more) -> None:
    error = raised(call, *arguments, **more)
    assert error.status() == status, error
    assert words in error.message(), error


def check_sync(address: str, expected, picture: bytes) -> None:
    images = expected["images"]
    client = triton.InferenceServerClient(address, concurrency=2)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    metadata = client.get_model_metadata(MODEL)
    (version,) = metadata["versions"]
    assert client.is_model_ready(MODEL, version)
    assert not client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready("mnist")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    for given in requests(images, picture):
        check(client.infer(MODEL, given), expected, version)
        for binary in (True, False):
            result = client.infer(
                MODEL, given, version, outputs(binary), "r-7", parameters={"unknown": 1}
            )
            check(result, expected, version)
            assert ("data" in result.get_output("digit")) is not binary
        for algorithm in ("gzip", "deflate"):
            result = client.infer(
                MODEL,
                given,
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            check(result, expected, version)
    check(client.async_infer(MODEL, requests(images, picture)[0]).get_result(), expected, version)
    for array, datatype in (
        (images[0], "UINT8"),
        (images[:, :27], "UINT8"),
        (images.astype(np.float32), "FP32"),
        (images.astype(np.int64), "INT64"),
        (np.array([[picture]], object), "BYTES"),
    ):
        for binary in (True, False):
            if datatype != "BYTES" or binary:
                given = inputs(array, datatype, binary)
                refused(client.infer, MODEL, given, status="400", words=datatype)
    given = inputs(images, "UINT8", True)
    refused(client.infer, MODEL, given, "1", status="404", words="version '1'")
    refused(client.infer, "mnist", given, status="404", words="mnist")
    top = [triton.InferRequestedOutput("probabilities", class_count=3)]
    refused(client.infer, MODEL, given, outputs=top, status="400", words="classification")
    no_picture = inputs(np.array([b"no picture"], object), "BYTES", True)
    refused(client.infer, MODEL, no_picture, status="415", words="image 0")
    refused(client.get_model_config, MODEL, status="404", words="config")
    client.close()


async def check_aio(address: str, expected, picture: bytes) -> None:
    async with triton_aio.InferenceServerClient(address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(MODEL)
        (version,) = (await client.get_model_metadata(MODEL))["versions"]
        calls = [
            client.infer(MODEL, given, version, request_compression_algorithm=algorithm)
            for given in requests(expected["images"], picture)
            for algorithm in (None, "gzip", "deflate")
        ]
        for result in await asyncio.gather(*calls):
            check(result, expected, version)
        wrong = inputs(expected["images"][0], "UINT8", True)
        (error,) = await asyncio.gather(client.infer(MODEL, wrong), return_exceptions=True)
        assert "UINT8 [28, 28]" in error.message()


if __name__ == "__main__":
    address, path, picture = sys.argv[1:]
    with np.load(path) as archive:
        expected = dict(archive)
    with open(picture, "rb") as file:
        upload = file.read()
    check_sync(address, expected, upload)
    asyncio.run(check_aio(address, expected, upload))
    print("as expected")
