#!/bin/sh
# Removes from an environment what no container of ours reads; the argument is the environment.
set -eu
packages=$(echo "$1"/lib/python3.*/site-packages)
# Object storage, and the ways to its credentials.
find "$packages/botocore/data" -mindepth 1 -maxdepth 1 -type d \
  ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} +
rm -rf "$packages"/boto3/data/[!s]* "$packages"/boto3/examples
find "$packages" -type d -name tests -path '*/numpy/*' -prune -exec rm -rf {} +
# Compilers' parts of NumPy, which it loads only when asked for.
rm -rf "$packages"/numpy/distutils "$packages"/numpy/f2py "$packages"/numpy/_core/include
# Of 250 languages to colour, tracebacks need Python's.
find "$packages/pygments/lexers" -name '*.py' ! -name __init__.py ! -name _mapping.py ! -name python.py ! -name special.py -delete
find "$packages" -name '*.pyi' -delete
# The sound font of a synthesizer that we do not use, and libraries for linkers.
rm -f "$packages"/pretty_midi/*.sf2
find "$packages" -name '*.a' -delete
