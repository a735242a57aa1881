#!/usr/bin/env bash
# Builds the servers that Tidemark needs and tests run against, etcd and MinIO, from their Go modules at the versions that
# loadtest/compat/{etcd,minio}/go.mod pin. They go to $TIDEMARK_TOOLS (default ${XDG_CACHE_HOME:-$HOME/.cache}/tidemark-tools),
# below a folder named by the version: what is there is not built again. MinIO takes some minutes the first time.
#   build-tools.sh [etcd] [minio]     both without an argument; prints NAME=PATH of each
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tools=${TIDEMARK_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tidemark-tools}

# build NAME PACKAGE
build() {
  local name=$1 package=$2 version folder unfinished
  cd "$here/../../loadtest/compat/$name"
  version=$(go list -m -f '{{.Version}}' "$package")
  folder=$tools/$name-$version
  if [ ! -x "$folder/$name" ]; then
    echo "building $name $version" >&2
    mkdir -p "$folder"
    unfinished=$folder/$name.$$
    trap 'rm -f "$unfinished"' EXIT
    nice go build -trimpath -o "$unfinished" "$package"
    mv "$unfinished" "$folder/$name"
    trap - EXIT
  fi
  echo "$name=$folder/$name"
}

[ $# -gt 0 ] || set -- etcd minio
for tool in "$@"; do
  case $tool in
    etcd) (build etcd go.etcd.io/etcd/server/v3) ;;
    minio) (build minio github.com/minio/minio) ;;
    *) echo "usage: $0 [etcd] [minio]" >&2; exit 2 ;;
  esac
done
