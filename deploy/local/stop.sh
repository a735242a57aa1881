#!/usr/bin/env bash
# Stops what the start scripts have started: brokers first, which drain into the object store, then MinIO and etcd.
#   stop.sh [--dir DIR] [--kill] [NAME…]
#     --dir DIR   where they keep their things (default: ~/.local/state/tidemark-local)
#     --kill      at once, with SIGKILL, as a crash would
#     NAME…       such as broker-1, minio or etcd-1; without one all of them
# Data stays. A process that does not end within a minute makes this fail, and is left alone.
set -euo pipefail
. "$(dirname "$0")/process.sh"
signal=TERM
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=$2; shift 2 || usage ;;
    --kill) signal=KILL; shift ;;
    -*) usage ;;
    *) break ;;
  esac
done
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  for file in "$dir"/broker-*/pid "$dir"/minio/pid "$dir"/etcd-*/pid; do
    if [ -e "$file" ]; then names+=("$(basename "$(dirname "$file")")"); fi
  done
fi
failed=0
for name in "${names[@]+"${names[@]}"}"; do
  halt "$name" "$signal" || failed=1
done
exit $failed
