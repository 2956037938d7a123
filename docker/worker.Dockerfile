# What renders: one Celery worker process a container, on a CPU (target cpu) or on one NVIDIA GPU (target gpu).
#   docker build -f docker/worker.Dockerfile --target cpu --tag pianofarm-worker:cpu .
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

# --- what our code needs: a layer that changes only with a requirement file ---------------------------------------------
# C headers (of TensorFlow) serve compilers, and nothing is compiled here. Bytecode is made now, because the root file system
# is read-only when this runs.
FROM tools AS packages-cpu
COPY requirements/worker.txt requirements/
RUN /tools/bin/pip --python /opt/pianofarm/bin/python install --quiet --no-compile --require-hashes --no-deps --requirement requirements/worker.txt \
 && rm -rf /opt/pianofarm/lib/python3.*/site-packages/tensorflow/include \
 && /opt/pianofarm/bin/python -m compileall -q /opt/pianofarm/lib

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
# Whatever is written goes to the state folder or to /tmp: mount both, and the root can be read-only.
ENV PATH=/opt/pianofarm/bin:${PATH} \
    PIANOFARM_STATE_DIR=/var/lib/pianofarm \
    HOME=/tmp \
    NUMBA_CACHE_DIR=/var/lib/pianofarm/numba \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2
USER 10001:10001
WORKDIR /var/lib/pianofarm
# Within PIANOFARM_SOFT_SHUTDOWN_S of this signal the render in hand is finished or handed back to the farm.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=20s --start-period=120s --retries=4 CMD ["python", "-m", "pianofarm_worker.probe", "live"]
ENTRYPOINT ["python", "-m", "pianofarm_worker.single"]

FROM runtime AS cpu
ENV CUDA_VISIBLE_DEVICES=-1
COPY --from=packages-cpu /opt/pianofarm /opt/pianofarm
COPY --from=code /opt/pianofarm /opt/pianofarm
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pianofarm worker (CPU)" \
      org.opencontainers.image.description="Renders piano MIDI to audio with DDSP-Piano on CPU cores" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# --- the GPU's packages and target, last: an engine without BuildKit builds every stage above the target ------------------
FROM tools AS packages-gpu
COPY requirements/worker-gpu.txt requirements/
RUN /tools/bin/pip --python /opt/pianofarm/bin/python install --quiet --no-compile --require-hashes --no-deps --requirement requirements/worker-gpu.txt \
 && rm -rf /opt/pianofarm/lib/python3.*/site-packages/tensorflow/include \
 && /opt/pianofarm/bin/python -m compileall -q /opt/pianofarm/lib

FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-gpu /opt/pianofarm /opt/pianofarm
COPY --from=code /opt/pianofarm /opt/pianofarm
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pianofarm worker (GPU)" \
      org.opencontainers.image.description="Renders piano MIDI to audio with DDSP-Piano on one NVIDIA GPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
