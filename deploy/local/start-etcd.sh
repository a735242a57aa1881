#!/usr/bin/env bash
# Starts etcd on 127.0.0.1 and waits until it serves.
#   start-etcd.sh [--dir DIR] [--port PORT] [--nodes N]
#     --dir DIR     where all local processes keep their things (default: ~/.local/state/tidemark-local)
#     --port PORT   client port of the first node (default 2379); 0, and for the other nodes always: a free one
#     --nodes N     1, 3 or 5 nodes (default 1): processes etcd-1 … etcd-N
# Prints etcd.endpoints=URL,… A cluster that was started before comes back with its data and on its former ports.
set -euo pipefail
. "$(dirname "$0")/process.sh"
port=2379 nodes=1
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=$2 ;;
    --port) port=$2 ;;
    --nodes) nodes=$2 ;;
    *) usage ;;
  esac
  shift 2 || usage
done
case $nodes in 1 | 3 | 5) ;; *) die "--nodes is 1, 3 or 5" ;; esac
etcd=$("$here/build-tools.sh" etcd | sed -n 's/^etcd=//p')

# choose_ports: one line CLIENT PEER for each node, kept from the first start on, because nodes know each other by them.
choose_ports() {
  local i client
  for i in $(seq "$nodes"); do
    if [ "$i" = 1 ] && [ "$port" != 0 ]; then client=$port; else client=$(free_port); fi
    echo "$client $(free_port)"
  done
}

start_node() {
  local i=$1 client=$2 peer=$3 cluster=$4 folder=$dir/etcd-$1
  mkdir -p "$folder"
  sed -E -e "s#^name:.*#name: etcd-$i#" -e "s#^data-dir:.*#data-dir: '$folder/data'#" \
    -e "s#^(listen|advertise)-client-urls:.*#\1-client-urls: http://127.0.0.1:$client#" \
    -e "s#^(listen|initial-advertise)-peer-urls:.*#\1-peer-urls: http://127.0.0.1:$peer#" \
    -e "s#^initial-cluster:.*#initial-cluster: $cluster#" "$here/etcd.yaml" >"$folder/etcd.yaml"
  running "etcd-$i" || launch "etcd-$i" "$etcd" --config-file "$folder/etcd.yaml"
}

start_all() {
  local i=0 client peer cluster=
  while read -r client peer; do i=$((i + 1)); cluster+="${cluster:+,}etcd-$i=http://127.0.0.1:$peer"; done <"$ports"
  i=0
  while read -r client peer; do i=$((i + 1)); start_node "$i" "$client" "$peer" "$cluster"; done <"$ports"
  i=0
  while read -r client peer; do i=$((i + 1)); await "etcd-$i" "$client" health || { failed=etcd-$i; return 1; }; done <"$ports"
}

mkdir -p "$dir"
ports=$dir/etcd.ports
if [ -e "$ports" ]; then
  [ "$(wc -l <"$ports")" -eq "$nodes" ] || die "$dir holds a cluster of another number of nodes"
  start_all || { complain "$failed"; exit 1; }
else
  for i in $(seq "$nodes"); do [ ! -e "$dir/etcd-$i/data" ] || die "$dir/etcd-$i has data, but the ports of its cluster are not known"; done
  for attempt in 1 2 3 4 5; do
    choose_ports >"$ports"
    if start_all; then break; fi
    for i in $(seq "$nodes"); do halt "etcd-$i" KILL; done
    for i in $(seq "$nodes"); do rm -rf "$dir/etcd-$i/data"; done # nobody has used it
    rm -f "$ports"
    if [ "$attempt" = 5 ] || ! port_taken "$failed"; then complain "$failed"; exit 1; fi
  done
fi
echo "etcd.endpoints=$(sed 's|^\([0-9]*\) .*|http://127.0.0.1:\1|' "$ports" | paste -sd, -)"
