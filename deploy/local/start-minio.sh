#!/usr/bin/env bash
# Starts a MinIO server on 127.0.0.1, with a bucket, and waits until it serves.
#   start-minio.sh [--dir DIR] [--port PORT] [--bucket NAME]
#     --dir DIR      where all local processes keep their things (default: ~/.local/state/tidemark-local)
#     --port PORT    default 9000; 0: a free one
#     --bucket NAME  default tidemark
# Prints minio.endpoint=URL, minio.bucket=NAME, and the files that hold the keys as minio.access-key-file=PATH and
# minio.secret-key-file=PATH.
set -euo pipefail
. "$(dirname "$0")/process.sh"
port=9000 bucket=tidemark
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=$2 ;;
    --port) port=$2 ;;
    --bucket) bucket=$2 ;;
    *) usage ;;
  esac
  shift 2 || usage
done
minio=$("$here/build-tools.sh" minio | sed -n 's/^minio=//p')
folder=$dir/minio
mkdir -p "$folder/data/$bucket" # a folder of the server's is a bucket
set -a
. "$here/minio.env"
set +a
(umask 077 && printf %s "$MINIO_ROOT_USER" >"$folder/access-key" && printf %s "$MINIO_ROOT_PASSWORD" >"$folder/secret-key")

if running minio; then
  chosen=$(cat "$folder/port")
else
  for attempt in 1 2 3 4 5; do
    chosen=$port
    [ "$port" != 0 ] || chosen=$(free_port)
    launch minio "$minio" server --quiet --address "127.0.0.1:$chosen" "$folder/data"
    if await minio "$chosen" minio/health/ready; then break; fi
    halt minio KILL
    if [ "$attempt" = 5 ] || [ "$port" != 0 ] || ! port_taken minio; then complain minio; exit 1; fi
  done
  echo "$chosen" >"$folder/port"
fi
echo "minio.endpoint=http://127.0.0.1:$chosen"
echo "minio.bucket=$bucket"
echo "minio.access-key-file=$folder/access-key"
echo "minio.secret-key-file=$folder/secret-key"
