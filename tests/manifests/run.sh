#!/usr/bin/env bash
# Checks what is deployed, with tools that need no cluster and no engine: Dockerfiles, scripts, compose file, systemd units, and
# every overlay as Kubernetes would get it.
set -euo pipefail
cd "$(dirname "$0")/../.."
ops=$PWD/.venv-ops/bin
out=$PWD/.state/manifests
rm -rf "$out"
mkdir -p "$out"

step() { printf '== %s\n' "$1"; }

step "Dockerfiles (hadolint), scripts (shellcheck)"
"$ops/hadolint" docker/*.Dockerfile tests/compose/*.Dockerfile
"$ops/shellcheck" -x docker/*.sh deploy/*.sh tests/compose/*.sh tests/manifests/*.sh

step "compose file, every profile"
deploy/secrets.sh "$out/secrets" >/dev/null
FARM_SECRETS=$out/secrets "$ops/docker-compose" --file deploy/compose.yaml --profile '*' config --quiet
FARM_SECRETS=$out/secrets "$ops/docker-compose" --file deploy/compose.yaml --file tests/compose/standins.yaml --profile '*' config --quiet

step "systemd units"
if command -v systemd-analyze >/dev/null; then
  # The programs are not installed where this runs; everything else must be right.
  if systemd-analyze verify deploy/systemd/*.service 2>&1 | grep -v 'is not executable: No such file or directory'; then exit 1; fi
else
  echo "skipped: no systemd-analyze here"
fi

step "Kubernetes overlays (kustomize, kubernetes-validate, KEDA models, checkov)"
if command -v kubectl >/dev/null; then build="kubectl kustomize"; elif command -v kustomize >/dev/null; then build="kustomize build"; else
  echo "skipped: neither kubectl nor kustomize here (https://kubernetes.io/docs/tasks/tools)"
  exit 0
fi
# The overlay that docs/operations.md shows is built as well, in a copy.
rm -rf "$out/k8s"
cp -r k8s "$out/k8s"
"$ops/python" tests/manifests/documented_overlay.py "$out/k8s/overlays/ours"
for overlay in k8s/overlays/*/ k8s/examples/ "$out/k8s/overlays/ours/"; do
  name=$(basename "$overlay")
  $build "$overlay" >"$out/$name.yaml"
  # An example is judged together with the policies that it lives under.
  if [ "$name" = examples ]; then { echo ---; cat "$out/dev.yaml"; } >>"$out/$name.yaml"; fi
  "$ops/python" tests/manifests/check_rendered.py "$out/$name.yaml"
  "$ops/checkov" --config-file k8s/.checkov.yaml --file "$out/$name.yaml" 2>"$out/$name.checkov.log" || { cat "$out/$name.checkov.log"; exit 1; }
done

step "the autoscaler's queries (promtool)"
if command -v promtool >/dev/null; then
  promtool check config k8s/components/monitoring/prometheus.yml >"$out/promtool.log" || { cat "$out/promtool.log"; exit 1; }
  "$ops/python" tests/manifests/check_queries.py "$out/production.yaml" "$out/queries"
  promtool test rules "$out/queries/test.yml"
else
  echo "skipped: no promtool here (Debian: prometheus)"
fi
