#!/usr/bin/env bash
# Starts a Tidemark broker on 127.0.0.1 and waits until it serves.
#   start-broker.sh [--dir DIR] [--node-id N] [--port PORT] [--admin-port PORT] [--tidemark PATH] [--config FILE] [-- FLAG…]
#     --dir DIR          where all local processes keep their things (default: ~/.local/state/tidemark-local)
#     --node-id N        default 1; the process is called broker-N
#     --port PORT        for Kafka clients, default 9092; 0: a free one
#     --admin-port PORT  default 9644; 0: a free one
#     --tidemark PATH    the program; default: built from this tree
#     --config FILE      default broker.yaml beside this script
#     -- FLAG…           further flags of `tidemark broker`
# The etcd and MinIO that run in DIR are used, or else those that FILE or the flags name.
# Prints bootstrap.servers=HOST:PORT and admin=HOST:PORT.
set -euo pipefail
. "$(dirname "$0")/process.sh"
node=1 port=9092 admin_port=9644 tidemark='' config=$here/broker.yaml
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=$2 ;;
    --node-id) node=$2 ;;
    --port) port=$2 ;;
    --admin-port) admin_port=$2 ;;
    --tidemark) tidemark=$2 ;;
    --config) config=$2 ;;
    --) shift; break ;;
    *) usage ;;
  esac
  shift 2 || usage
done
name=broker-$node
folder=$dir/$name
mkdir -p "$folder"

flags=(--node-id "$node" --listeners "127.0.0.1:$port" --admin-listener "127.0.0.1:$admin_port" --data-dir "$folder/data")
if running etcd-1; then
  flags+=(--etcd.endpoints "$(sed 's|^\([0-9]*\) .*|http://127.0.0.1:\1|' "$dir/etcd.ports" | paste -sd, -)")
fi
if running minio; then
  flags+=(--object-store.url "s3://tidemark/cluster-1?endpoint=http://127.0.0.1:$(cat "$dir/minio/port")&region=us-east-1&path-style=true"
    --object-store.access-key-file "$dir/minio/access-key" --object-store.secret-key-file "$dir/minio/secret-key")
fi

# report: what the process itself has printed and logged when it was ready.
report() {
  sed -n '/^bootstrap.servers=/p' "$folder/out"
  sed -nE 's/.*[" ]admin"?[=:]"?([^" ]+:[0-9]+).*/admin=\1/p' "$folder/log" | tail -n 1
}

if ! running "$name"; then
  if [ -z "$tidemark" ]; then
    tidemark=$folder/tidemark
    (cd "$here/../.." && go build -o "$tidemark" ./cmd/tidemark)
  fi
  launch "$name" "$tidemark" broker --config "$config" "${flags[@]}" "$@"
  deadline=$((SECONDS + patience))
  until grep -q '^bootstrap.servers=' "$folder/out"; do
    if ! running "$name" || [ $SECONDS -ge $deadline ]; then complain "$name"; halt "$name" TERM; exit 1; fi
    sleep 0.05
  done
  admin=$(report | sed -n 's/^admin=.*://p')
  if [ -n "$admin" ]; then await "$name" "$admin" readyz || { complain "$name"; halt "$name" TERM; exit 1; }; fi
fi
report
