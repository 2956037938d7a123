# Everything but the synthesizer, without TensorFlow: the `pianofarm` command, the sweeper and the exporter (target producer), and
# Flower (target flower).
#   docker build -f docker/producer.Dockerfile --target producer --tag pianofarm .
# The base is any Debian with Python 3.11 and its venv module: the default, a digest of it, or what docker/base-image.sh makes.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# --- tools, which stay behind -----------------------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS tools
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY docker/build-tools.txt docker/
RUN python3 -m venv /tools \
 && /tools/bin/pip install --quiet --no-compile --require-hashes --no-deps --requirement docker/build-tools.txt \
 && python3 -m venv --without-pip /opt/pianofarm

# --- what our code needs ------------------------------------------------------------------------------------------------
# botocore describes 400 services of one vendor, and NumPy brings its tests: what stays is object storage and the ways to its
# credentials.
FROM tools AS packages
COPY requirements/client.txt requirements/
COPY docker/slim.sh docker/
RUN /tools/bin/pip --python /opt/pianofarm/bin/python install --quiet --no-compile --require-hashes --no-deps --requirement requirements/client.txt \
 && docker/slim.sh /opt/pianofarm

FROM packages AS packages-flower
COPY docker/flower.txt docker/
RUN /tools/bin/pip --python /opt/pianofarm/bin/python install --quiet --no-compile --require-hashes --no-deps --requirement docker/flower.txt

# --- our code, in an environment of the same place, laid over the packages at the end ------------------------------------
FROM tools AS code
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY common common
COPY producer producer
COPY worker worker
COPY training training
RUN /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /tools/bin/pip --python /opt/pianofarm/bin/python install --quiet --no-compile --no-index --no-deps /wheel/*.whl \
 && /opt/pianofarm/bin/python -m compileall -q /opt/pianofarm/lib

# --- what both targets run as ---------------------------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS runtime
RUN groupadd --system --gid 10001 pianofarm \
 && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/pianofarm --no-create-home --shell /usr/sbin/nologin pianofarm \
 && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/pianofarm
ENV PATH=/opt/pianofarm/bin:${PATH} \
    PIANOFARM_STATE_DIR=/var/lib/pianofarm \
    HOME=/tmp \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/pianofarm

FROM runtime AS producer
COPY --from=packages /opt/pianofarm /opt/pianofarm
COPY --from=code /opt/pianofarm /opt/pianofarm
# A producer lives as long as its command. What stays (sweeper, exporter) is probed by what runs it; this says if Python can start.
HEALTHCHECK --interval=60s --timeout=20s CMD ["pianofarm", "--version"]
ENTRYPOINT ["pianofarm"]
CMD ["--help"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pianofarm" \
      org.opencontainers.image.description="Client, command line, sweeper and exporter of the piano render farm" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS flower
COPY --from=packages-flower /opt/pianofarm /opt/pianofarm
COPY --from=code /opt/pianofarm /opt/pianofarm
COPY deploy/flower /opt/flower
ENV PYTHONPATH=/opt/flower
EXPOSE 5555
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5555/healthcheck', timeout=5)"]
ENTRYPOINT ["celery", "--app=farm_view", "--quiet", "flower", "--conf=/opt/flower/flowerconfig.py"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pianofarm flower" \
      org.opencontainers.image.description="Flower on the queues of the piano render farm: a view, not the truth" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
