#!/usr/bin/env bash
# Starts etcd, MinIO and a broker on 127.0.0.1, and waits until all serve. stop.sh stops them.
#   start-all.sh [--dir DIR] [--free-ports] [--tidemark PATH]
#     --dir DIR        where they keep their things (default: ~/.local/state/tidemark-local)
#     --free-ports     on ports that are free, instead of 2379, 9000, 9092 and 9644
#     --tidemark PATH  the program; default: built from this tree
# Prints what start-etcd.sh, start-minio.sh and start-broker.sh print.
set -euo pipefail
. "$(dirname "$0")/process.sh"
ports=(2379 9000 9092 9644) tidemark=()
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=$2; shift 2 || usage ;;
    --free-ports) ports=(0 0 0 0); shift ;;
    --tidemark) tidemark=(--tidemark "$2"); shift 2 || usage ;;
    *) usage ;;
  esac
done
"$here/start-etcd.sh" --dir "$dir" --port "${ports[0]}"
"$here/start-minio.sh" --dir "$dir" --port "${ports[1]}"
"$here/start-broker.sh" --dir "$dir" --port "${ports[2]}" --admin-port "${ports[3]}" "${tidemark[@]+"${tidemark[@]}"}"
