#!/usr/bin/env bash
# Runs clients of other makers against a Kafka broker: kcat, sarama, kafka-go, kafkajs, aiokafka, confluent-kafka, and Apache
# Kafka's Java client and command-line tools.
#   run.sh HOST:PORT [CLIENT…]      CLIENT: kcat go js python java tools; all without one
# What the clients need is installed at pinned versions into $TIDEMARK_TOOLS (default: ~/.cache/tidemark-tools), once.
set -euo pipefail
bootstrap=$1
shift
cd "$(dirname "$0")"
tools=${TIDEMARK_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tidemark-tools}
mkdir -p "$tools"
clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=(kcat go js python java tools)
failed=()

# once NAME INPUT… -- COMMAND…: runs the command unless it has succeeded before with the same input files.
once() {
  local name=$1 mark sum
  shift
  local inputs=()
  while [ "$1" != -- ]; do inputs+=("$1"); shift; done
  shift
  sum=$(cat "${inputs[@]}" | sha256sum | cut -c1-16)
  mark=$tools/$name.$sum.done
  [ -e "$mark" ] && return
  "$@"
  touch "$mark"
}

kafka_jars() {
  local version
  version=$(sed -nE 's#.*<kafka.version>(.*)</kafka.version>.*#\1#p' java/pom.xml)
  jars=$tools/kafka-$version
  once "kafka-$version" java/pom.xml -- mvn -q -B -f java/pom.xml dependency:copy-dependencies -DoutputDirectory="$jars"
}

kcat_trip() {
  local topic=kcat-$$ codec got want
  for codec in none gzip snappy lz4 zstd; do
    want=$(seq 1 2000 | sed 's/.*/value-&/')
    kcat -P -b "$bootstrap" -t "$topic-$codec" -z "$codec" -X enable.idempotence=true <<<"$want"
    got=$(kcat -C -q -b "$bootstrap" -t "$topic-$codec" -o beginning -e)
    [ "$got" = "$want" ] || { echo "kcat, $codec: FAILED: other records came back than were sent"; return 1; }
    got=$(kcat -q -b "$bootstrap" -G "group-$topic-$codec" -X auto.offset.reset=earliest -X session.timeout.ms=6000 -c 2000 "$topic-$codec" | sort)
    [ "$got" = "$(sort <<<"$want")" ] || { echo "kcat, $codec: FAILED: the group read other records than were sent"; return 1; }
    echo "kcat, $codec: passed"
  done
}

go_trip() { (cd goclients && go run . "$bootstrap"); }

js_trip() {
  mkdir -p "$tools/js"
  cp js/package.json js/package-lock.json js/roundtrip.js "$tools/js/"
  once js js/package-lock.json -- npm ci --prefix "$tools/js" --no-audit --no-fund --silent
  KAFKAJS_NO_PARTITIONER_WARNING=1 node "$tools/js/roundtrip.js" "$bootstrap"
}

python_venv() {
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install -q --disable-pip-version-check -r python/requirements.txt
}

python_trip() {
  once venv python/requirements.txt -- python_venv
  "$tools/venv/bin/python" python/roundtrip.py "$bootstrap"
}

java_trip() {
  kafka_jars
  local classes
  classes=$(mktemp -d)
  javac -d "$classes" -cp "$jars/*" java/src/main/java/tidemark/*.java
  java -cp "$classes:$jars/*" tidemark.RoundTrip "$bootstrap"
  rm -r "$classes"
}

tools_trip() {
  kafka_jars
  java/tools.sh "$bootstrap" "$jars"
}

for client in "${clients[@]}"; do
  echo "== $client"
  began=$SECONDS
  ("${client}_trip") || failed+=("$client")
  echo "== $client: $((SECONDS - began)) s"
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
echo "all clients passed: ${clients[*]}"
