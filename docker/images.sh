#!/usr/bin/env bash
# Builds the images and runs each: `docker/images.sh [producer|flower|cpu|gpu]...`, all without arguments. Prints their sizes.
# BASE_IMAGE names the base (best with a digest); TAG the tag, "local" by default.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=docker/engine.sh
. docker/engine.sh

TAG=${TAG:-local}
[ $# -gt 0 ] || set -- producer flower cpu gpu
start_engine
choose_base

# As in production: no write to the root file system, no capability, no new privilege, not root.
hardened=(--rm --read-only --cap-drop ALL --security-opt no-new-privileges --network none
  --tmpfs /tmp --tmpfs "/var/lib/pianofarm:uid=10001,gid=10001")

for target in "$@"; do
  case $target in
    producer)
      image=pianofarm:$TAG
      build "$image" docker/producer.Dockerfile producer
      docker run "${hardened[@]}" "$image" --version
      docker run "${hardened[@]}" --entrypoint python "$image" -c '
import importlib.util, pianofarm, pianofarm_worker.sweeper, pianofarm_worker.exporter
assert importlib.util.find_spec("tensorflow") is None, "the producer image must not hold TensorFlow"
import numpy.random, numpy.fft, numpy.linalg, rich.console, rich.syntax  # what docker/slim.sh cut must not be missed
rich.console.Console().print(rich.syntax.Syntax("import this", "python"))'
      ;;
    flower)
      image=pianofarm-flower:$TAG
      build "$image" docker/producer.Dockerfile flower
      docker run "${hardened[@]}" --entrypoint celery "$image" --app=farm_view flower --help >/dev/null
      ;;
    cpu | gpu)
      image=pianofarm-worker:$TAG-$target
      build "$image" docker/worker.Dockerfile "$target"
      # A real render, in the container, on its CPU: the GPU image must work without a GPU too.
      docker run "${hardened[@]}" --env CUDA_VISIBLE_DEVICES=-1 --volume "$PWD/examples:/music:ro" --entrypoint pianofarm "$image" \
        render /music/pedal-study.mid /tmp/out.wav --duration 3 --json
      ;;
    *) echo "no target $target: producer, flower, cpu, gpu" >&2; exit 2 ;;
  esac
done

base=$(docker image inspect --format '{{.Size}}' "$BASE_IMAGE")
echo "image                     MB   of which base   (base: $BASE_IMAGE)"
for target in "$@"; do
  case $target in producer) image=pianofarm:$TAG ;; flower) image=pianofarm-flower:$TAG ;; *) image=pianofarm-worker:$TAG-$target ;; esac
  size=$(docker image inspect --format '{{.Size}}' "$image")
  awk -v image="$image" -v size="$size" -v base="$base" 'BEGIN { printf "%-24s %5.0f %10.0f\n", image, size / 1e6, base / 1e6 }'
  if [ "$target" = producer ] && [ $((size - base)) -ge 85000000 ]; then
    echo "the producer image adds 85 MB or more to its base: on a Debian base of 114 MB it would pass 200 MB" >&2
    exit 1
  fi
done
