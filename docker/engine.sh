# shellcheck shell=bash
# To be sourced: finds a container engine, or starts Debian's for the time of this shell, or says why not and leaves with 0.
#
# Sets DOCKER_HOST where it starts one. Its images and containers stay in .state/docker, so that a second run is quick.

skip() { echo "skipped: $1"; exit 0; }

_engine_run=/run/pianofarm-docker
_engine_data=$PWD/.state/docker

_stop_engine() {
  [ -s "$_engine_run/pid" ] || return 0
  kill "$(cat "$_engine_run/pid")" 2>/dev/null || true
  for _ in $(seq 60); do [ -s "$_engine_run/pid" ] || break; sleep 0.5; done
  # The engine leaves its network's namespace mounted: nothing of it shall stay.
  umount "$_engine_run"/netns/* 2>/dev/null || true
}

start_engine() {
  if command -v docker >/dev/null && docker info >/dev/null 2>&1; then return 0; fi
  [ "$(id -u)" = 0 ] || skip "no container engine answers, and starting one needs root"
  if ! command -v dockerd >/dev/null; then
    command -v apt-get >/dev/null || skip "no container engine, and no apt-get to install Debian's docker.io"
    echo "installing docker.io ..."
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends docker.io iptables; } >/dev/null 2>&1 \
      || skip "docker.io cannot be installed here"
  fi
  mkdir -p "$_engine_run" "$_engine_data"
  echo "starting a container engine of our own (log: $_engine_data/engine.log) ..."
  setsid dockerd --data-root "$_engine_data/data" --exec-root "$_engine_run" --pidfile "$_engine_run/pid" \
    --host "unix://$_engine_run/sock" --default-ulimit nofile=4096:8192 >"$_engine_data/engine.log" 2>&1 &
  trap _stop_engine EXIT
  export DOCKER_HOST=unix://$_engine_run/sock
  for _ in $(seq 60); do
    if docker info >/dev/null 2>&1; then return 0; fi
    sleep 0.5
  done
  skip "a container engine cannot run here: $(tail -1 "$_engine_data/engine.log")"
}

# choose_base: sets BASE_IMAGE, by a pull where a registry answers, else made of this machine's Debian packages.
choose_base() {
  [ -z "${BASE_IMAGE:-}" ] || return 0
  if docker image inspect pianofarm-base:bookworm >/dev/null 2>&1; then
    BASE_IMAGE=pianofarm-base:bookworm
  elif timeout 120 docker pull --quiet python:3.11-slim-bookworm >/dev/null 2>&1; then
    BASE_IMAGE=python:3.11-slim-bookworm
  else
    echo "no registry answers: making a base image of Debian packages ..."
    need_debootstrap
    docker/base-image.sh pianofarm-base:bookworm
    BASE_IMAGE=pianofarm-base:bookworm
  fi
}

need_debootstrap() {
  [ "$(id -u)" = 0 ] || skip "making a base image needs root"
  command -v debootstrap >/dev/null || apt-get install -q -y --no-install-recommends debootstrap >/dev/null 2>&1 \
    || skip "debootstrap cannot be installed here"
}

# build TAG DOCKERFILE [TARGET]: --network host, because package indexes may be reachable from the host only.
build() {
  echo "building $1 ..."
  local log=.state/build-${1//[:\/]/-}.log
  mkdir -p .state
  docker build --network host --build-arg "BASE_IMAGE=$BASE_IMAGE" --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" \
    --file "$2" ${3:+--target "$3"} --tag "$1" . >"$log" 2>&1 || { tail -20 "$log" >&2; return 1; }
}

VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml | head -1)
REVISION=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
# The engine's own builder: BuildKit where it is a plugin, the classic one else. Both read our Dockerfiles.
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
