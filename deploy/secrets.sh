#!/usr/bin/env bash
# Makes the secrets of a farm: `deploy/secrets.sh [FOLDER]`, deploy/secrets by default. What is there already is kept.
#
# Addresses in it are the names of compose.yaml's services; REDIS_ADDRESS and S3_ENDPOINT replace them. The folder is closed to
# other users of the host; the files in it are open, because containers read them under user ids of their own.
set -euo pipefail

folder=${1:-$(dirname "$0")/secrets}
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

random() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }
keep() { # keep FILE < CONTENT: writes a file that is not there, whole or not at all
  if [ -e "$folder/$1" ]; then cat >/dev/null; else cat >"$folder/$1.tmp" && chmod 644 "$folder/$1.tmp" && mv "$folder/$1.tmp" "$folder/$1"; fi
}

if [ ! -e "$folder/farm.env" ]; then
  redis_password=$(random 24) s3_access=$(random 10) s3_secret=$(random 24)
  # One identity, for one bucket.
  keep s3.json <<END
{"identities": [{"name": "pianofarm", "credentials": [{"accessKey": "$s3_access", "secretKey": "$s3_secret"}],
  "actions": ["Admin:pianofarm", "Read:pianofarm", "Write:pianofarm", "List:pianofarm", "Tagging:pianofarm"]}]}
END
  # Commands that only an operator needs are closed; `probe` may say PING. Redis keeps the password's hash only.
  keep redis.acl <<END
user default off
user probe on nopass resetkeys resetchannels -@all +ping
user pianofarm on #$(printf %s "$redis_password" | sha256sum | cut -d' ' -f1) ~* &* +@all -@admin -@dangerous +info
END
  keep farm.env <<END
PIANOFARM_REDIS_URL=redis://pianofarm:$redis_password@${REDIS_ADDRESS:-redis:6379}/0
PIANOFARM_S3_ENDPOINT=${S3_ENDPOINT:-http://seaweedfs:8333}
PIANOFARM_S3_ACCESS_KEY=$s3_access
PIANOFARM_S3_SECRET_KEY=$s3_secret
END
fi
printf 'operator:%s\n' "$(random 12)" | keep flower-login
random 12 | keep grafana-password
echo "secrets in $folder: $(cd "$folder" && echo ./*)"
