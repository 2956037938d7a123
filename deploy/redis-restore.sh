#!/bin/sh
# Makes an empty data folder of Redis (or Valkey) start from a snapshot: `deploy/redis-restore.sh dump.rdb FOLDER`.
#
# With an append-only file switched on the server ignores a dump.rdb beside it; as the base of an append-only file it is read.
set -eu
snapshot=${1:?usage: redis-restore.sh SNAPSHOT FOLDER}
folder=${2:?usage: redis-restore.sh SNAPSHOT FOLDER}
[ -s "$snapshot" ] || { echo "redis-restore.sh: no snapshot at $snapshot" >&2; exit 2; }
[ ! -e "$folder/appendonlydir" ] || { echo "redis-restore.sh: $folder holds data: move $folder/appendonlydir away first" >&2; exit 2; }
mkdir -p "$folder/appendonlydir"
cp "$snapshot" "$folder/appendonlydir/appendonly.aof.1.base.rdb"
echo 'file appendonly.aof.1.base.rdb seq 1 type b' >"$folder/appendonlydir/appendonly.aof.manifest"
