#!/bin/sh
# Removes from an environment what no container of ours reads; the argument is the environment.
set -eu
packages=$(echo "$1"/lib/python3.*/site-packages)
# Object storage, and the ways to its credentials.
find "$packages/botocore/data" -mindepth 1 -maxdepth 1 -type d \
  ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} +
rm -rf "$packages"/boto3/data/[!s]* "$packages"/boto3/examples
find "$packages" -type d -name tests -path '*/numpy/*' -prune -exec rm -rf {} +
find "$packages" -name '*.pyi' -delete
# The sound font of a synthesizer that we do not use, and libraries for linkers.
rm -f "$packages"/pretty_midi/*.sf2
find "$packages" -name '*.a' -delete
