# An S3 server for the compose test where SeaweedFS' image cannot be had. Not for deployments.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY tests/compose/s3-packages.txt /tmp/
RUN python3 -m venv /opt/s3 \
 && /opt/s3/bin/pip install --quiet --require-hashes --no-deps --requirement /tmp/s3-packages.txt
COPY tests/compose/s3-server.sh /usr/local/bin/s3-server
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["s3-server"]
