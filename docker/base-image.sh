#!/usr/bin/env bash
# Makes a base image from Debian packages, for machines that reach a Debian mirror but no container registry.
#
#   docker/base-image.sh IMAGE [PACKAGE...]
#
# IMAGE gets a minimal Debian of this machine's mirror with Python 3.11, its venv module, the machine's trusted certificates, and
# the packages named. The mirror is the one this machine's apt already uses; the image forgets it again. Needs root, debootstrap,
# and an engine that `docker` reaches.
set -euo pipefail

image=${1:?usage: docker/base-image.sh IMAGE [PACKAGE...]}
shift
suite=${PIANOFARM_BASE_SUITE:-bookworm}
packages=(python3 python3-venv ca-certificates "$@")
cache=${PIANOFARM_DEB_CACHE:-$PWD/.state/debs}

[ "$(id -u)" = 0 ] || { echo "base-image.sh: debootstrap needs root" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "base-image.sh: apt-get install debootstrap" >&2; exit 2; }

# The line of `apt-get indextargets` that belongs to the suite's main section says where apt finds it.
# shellcheck disable=SC2016  # apt's own placeholders
mirror=$(apt-get indextargets --format '$(CREATED_BY) $(CODENAME) $(RELEASE) $(COMPONENT) $(REPO_URI)' \
  | awk -v suite="$suite" '$1 == "Packages" && ($2 == suite || $3 == suite) && $4 == "main" { print $5; exit }')
[ -n "$mirror" ] || { echo "base-image.sh: apt knows no mirror of $suite here (apt-get update?)" >&2; exit 2; }

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$cache"
debootstrap --variant=minbase --cache-dir="$cache" --include="$(IFS=,; echo "${packages[*]}")" "$suite" "$tree" "$mirror" >"$cache/debootstrap.log" \
  || { tail -5 "$cache/debootstrap.log" >&2; exit 1; }

# A company's own certificates, if the machine trusts any: package indexes may sit behind them.
[ ! -s /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/ca-certificates.crt"

# What no container reads, and what tells where the packages came from.
rm -rf "$tree"/usr/lib/*/gconv "$tree"/usr/share/{doc,man,info,locale,i18n,lintian} "$tree"/var/cache/{apt,debconf}/* "$tree"/var/lib/apt/lists/* "$tree"/var/log/*
: >"$tree/etc/apt/sources.list"

tar --directory="$tree" --numeric-owner --create . \
  | docker import --change 'CMD ["/bin/bash"]' --message "Debian $suite with ${packages[*]}" - "$image" >/dev/null
docker image inspect --format '{{.Size}}' "$image" | awk -v image="$image" '{ printf "%s: %.0f MB\n", image, $1 / 1e6 }'
