#!/usr/bin/env bash
# Brings deploy/compose.yaml up for real, renders a MIDI file from the producer's container, looks at every part, takes it down.
#
# Ours are the images of `make images`, made here if they are not there. Services whose images cannot be pulled run from stand-ins
# (standins.yaml): Debian's own Redis and Prometheus, and an S3 server from PyPI.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=docker/engine.sh
. docker/engine.sh

compose=${COMPOSE:-.venv-ops/bin/docker-compose}
[ -x "$compose" ] || skip "$compose is not there: make $compose"
start_engine
choose_base

export FARM_VERSION=${TAG:-local} FARM_WORKERS=2 FARM_SECRETS=$PWD/.state/compose-test/secrets COMPOSE_PROJECT_NAME=pianofarm-test
rm -rf .state/compose-test
mkdir -p .state/compose-test

for image in "pianofarm:$FARM_VERSION producer.Dockerfile producer" "pianofarm-flower:$FARM_VERSION producer.Dockerfile flower" \
  "pianofarm-worker:$FARM_VERSION-cpu worker.Dockerfile cpu"; do
  read -r tag dockerfile target <<<"$image"
  # The layers of an unchanged image are there already: this takes seconds.
  build "$tag" "docker/$dockerfile" "$target"
done
if ! docker image inspect pianofarm-standins:test >/dev/null 2>&1; then
  need_debootstrap
  docker/base-image.sh pianofarm-standins:test redis-server prometheus prometheus-alertmanager
fi
build pianofarm-s3:test tests/compose/s3.Dockerfile

deploy/secrets.sh "$FARM_SECRETS"
files=(--file deploy/compose.yaml --file tests/compose/standins.yaml --profile cpu)
[ ! -e deploy/prometheus/prometheus.yml ] || files+=(--profile monitoring)
farm() { "$compose" "${files[@]}" "$@"; }
producer() { farm run --rm --no-deps -T --volume "$PWD/examples:/music:ro" "$@"; }
ask() { producer --entrypoint python producer - "$@" <tests/compose/inside.py; }

finish() {
  code=$?
  if [ $code != 0 ]; then farm ps --all; farm logs --tail 30 --no-color; fi 2>&1 | tail -150 >&2
  farm --profile tools down --volumes --timeout 60 >/dev/null 2>&1 || true
  _stop_engine
  exit $code
}
trap finish EXIT

step() { printf '\n== %s\n' "$1"; }

step "up, until every part says that it is healthy"
farm up --detach --wait --wait-timeout 300
farm ps --format '{{.Service}}\t{{.Status}}' | sort

step "a MIDI file from the producer's container, through the farm, to bytes"
ask renders

step "the command line, the same way"
producer producer doctor
producer producer submit /music/pedal-study.mid --duration 3 --out /tmp/audio

step "no part is root, or can write to its root file system"
for service in worker-cpu sweeper exporter flower; do
  # shellcheck disable=SC2016  # expanded in the container
  farm exec -T "$service" sh -c 'test "$(id -u)" != 0 && ! touch /should-not-be 2>/dev/null' || { echo "$service is not closed" >&2; exit 1; }
  echo "$service: uid $(farm exec -T "$service" id -u), read-only root"
done

step "closed to strangers"
ask closed

step "seen"
case " ${files[*]} " in *monitoring*) ask seen prometheus ;; *) ask seen ;; esac

step "a worker that is stopped hands its work over"
ask handover submit
docker stop --time 150 "$(farm ps --quiet worker-cpu | head -1)" >/dev/null
ask handover wait

step "passed"
