# Two images: `service` answers requests and contains no torch; `training` is the offline
# training job. A builder without BuildKit, which builds stages in this order up to the
# target, needs no torch for `service`.
ARG BASE=python:3.13-slim

FROM ${BASE} AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PATH=/venv/bin:$PATH
# Volumes are mounted on /weights, /feedback and /cache; created here, they belong to this user.
RUN groupadd --gid 10001 digits \
    && useradd --uid 10001 --gid digits --no-create-home --home-dir /nonexistent digits \
    && install --directory --owner digits --group digits /weights /feedback /cache
WORKDIR /app

# The dependencies have a stage of their own: a change to the code does not reinstall
# them, and pip stays out of the environments that are copied.
FROM ${BASE} AS serving-venv
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python3 -m venv --without-pip /venv
COPY pyproject.toml constraints.txt ./
RUN python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*project["dependencies"], sep="\n", file=open("serving.txt", "w")); print(*project["optional-dependencies"]["training"], sep="\n", file=open("training.txt", "w"))' \
    && python3 -m pip --python /venv/bin/python install --quiet \
        --constraint constraints.txt --requirement serving.txt

FROM base AS service
ARG REVISION=unknown
ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="digits" \
      org.opencontainers.image.description="Classifies handwritten digits over HTTP" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=serving-venv /venv /venv
COPY service service
ENV DIGITS_HOST=0.0.0.0 PORT=8000
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# /livez and not /readyz: Swarm replaces a container that is unhealthy, and one that has too
# much work is not ready. The service listens only after the weights are loaded.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s \
    CMD ["python3", "-IS", "-c", "import os, socket as s; c = s.create_connection(('127.0.0.1', os.environ['PORT']), 4); c.sendall(b'GET /livez HTTP/1.0\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in c.recv(99))"]
CMD ["gunicorn", "-c", "service/gunicorn.conf.py", "service.app:create_app()"]

FROM serving-venv AS training-venv
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python3 -m pip --python /venv/bin/python install --quiet \
        --constraint constraints.txt --requirement training.txt \
        --extra-index-url ${TORCH_INDEX} --retries 0 --timeout 10

FROM base AS training
LABEL org.opencontainers.image.title="digits training" \
      org.opencontainers.image.description="Trains a logistic regression on MNIST by gradient descent" \
      org.opencontainers.image.licenses="MIT"
COPY --from=training-venv /venv /venv
COPY service service
COPY training training
ENV XDG_CACHE_HOME=/cache MPLCONFIGDIR=/tmp
USER 10001:10001
ENTRYPOINT ["python3", "-m", "training", "--output", "/weights/digits.safetensors"]

# what `docker build .` builds
FROM service
