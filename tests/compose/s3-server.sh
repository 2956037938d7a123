#!/bin/sh
# ministack with the credentials that the farm has.
set -eu
# shellcheck source=/dev/null
. /run/secrets/farm.env
export AWS_ACCESS_KEY_ID="$PIANOFARM_S3_ACCESS_KEY" AWS_SECRET_ACCESS_KEY="$PIANOFARM_S3_SECRET_KEY"
export AUTH=true BIND_HOST=0.0.0.0 GATEWAY_PORT=8333 SERVICES=s3 S3_PERSIST=1 PERSIST_STATE=1
export S3_DATA_DIR=/data/objects STATE_DIR=/data/state HOME=/tmp SFTP_ENABLED=0 IOT_MTLS_ENABLED=0 LOG_LEVEL=WARNING
export DOCKER_HOST=unix:///tmp/no-docker
exec /opt/s3/bin/python -m ministack
