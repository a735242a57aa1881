#!/usr/bin/env bash
# Runs Apache Kafka's command-line tools against a broker and checks what they print.
#   tools.sh HOST:PORT FOLDER_OF_KAFKA_JARS
set -euo pipefail
bootstrap=$1
jars=$2
topic=tools-$$-$RANDOM
passed=0
failed=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# run NAME PATTERN CLASS ARGS…: standard input goes to the tool; its output must match the pattern, if there is one.
run() {
  local name=$1 pattern=$2 class=$3 status=0
  shift 3
  timeout 90 java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$jars/*" "$class" "$@" >"$out" 2>&1 || status=$?
  if [ "$status" -eq 0 ] && { [ -z "$pattern" ] || grep -qE -- "$pattern" "$out"; }; then
    passed=$((passed + 1))
    echo "$name: passed"
  else
    failed=$((failed + 1))
    echo "$name: FAILED (status $status, wanted /$pattern/)"
    head -n 30 "$out"
  fi
}

topics=org.apache.kafka.tools.TopicCommand
configs=kafka.admin.ConfigCommand
groups=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand
at=(--bootstrap-server "$bootstrap")

run 'topics --create' "Created topic $topic" $topics "${at[@]}" --create --topic "$topic" --partitions 3 --replication-factor 1 --config retention.ms=3600000 </dev/null
run 'topics --list' "^$topic\$" $topics "${at[@]}" --list </dev/null
run 'topics --describe' "Topic: $topic.*PartitionCount: 3.*retention.ms=3600000" $topics "${at[@]}" --describe --topic "$topic" </dev/null
run 'topics --alter' '' $topics "${at[@]}" --alter --topic "$topic" --partitions 5 </dev/null
run 'topics --describe after --alter' "PartitionCount: 5" $topics "${at[@]}" --describe --topic "$topic" </dev/null
run 'configs --alter' 'Completed updating config' $configs "${at[@]}" --alter --entity-type topics --entity-name "$topic" --add-config max.message.bytes=2000000 </dev/null
run 'configs --describe' 'max.message.bytes=2000000 sensitive=false' $configs "${at[@]}" --describe --entity-type topics --entity-name "$topic" </dev/null
run 'configs --describe --all' 'segment.bytes=1073741824' $configs "${at[@]}" --describe --all --entity-type topics --entity-name "$topic" </dev/null
run 'configs --delete-config' 'Completed updating config' $configs "${at[@]}" --alter --entity-type topics --entity-name "$topic" --delete-config max.message.bytes </dev/null
run 'configs broker' 'num.partitions=' $configs "${at[@]}" --describe --all --entity-type brokers --entity-name "$(java -cp "$jars/*" $topics "${at[@]}" --describe --topic "$topic" 2>/dev/null | sed -nE '2s/.*Leader: ([0-9]+).*/\1/p')" </dev/null
run 'console producer' '' org.apache.kafka.tools.ConsoleProducer "${at[@]}" --topic "$topic" --reader-property parse.key=true --reader-property key.separator=: --compression-codec zstd < <(seq 1 1000 | sed 's/.*/k&:value &/')
run 'console consumer' 'Processed a total of 1000 messages' org.apache.kafka.tools.consumer.ConsoleConsumer "${at[@]}" --topic "$topic" --from-beginning --max-messages 1000 --group "$topic" --timeout-ms 60000 </dev/null
run 'console consumer prints values' '^k42[^0-9]+value 42$' org.apache.kafka.tools.consumer.ConsoleConsumer "${at[@]}" --topic "$topic" --from-beginning --max-messages 1000 --timeout-ms 60000 --formatter-property print.key=true </dev/null
run 'consumer groups --list' "^$topic\$" $groups "${at[@]}" --list </dev/null
run 'consumer groups --describe' "$topic +$topic +[0-4] +[0-9]+ +[0-9]+ +0 " $groups "${at[@]}" --describe --group "$topic" </dev/null
run 'consumer groups --reset-offsets' "$topic +$topic +[0-4] +0" $groups "${at[@]}" --reset-offsets --to-earliest --execute --group "$topic" --topic "$topic" </dev/null
run 'groups --list' "$topic.*Classic" org.apache.kafka.tools.GroupsCommand "${at[@]}" --list </dev/null
run 'get-offsets' "$topic:0:[0-9]+" org.apache.kafka.tools.GetOffsetShell "${at[@]}" --topic "$topic" --time -1 </dev/null
run 'producer-perf' '20000 records sent' org.apache.kafka.tools.ProducerPerformance --bootstrap-server "$bootstrap" --topic "$topic" --num-records 20000 --record-size 1024 --throughput -1 --command-property acks=all </dev/null
run 'consumer-perf' '[0-9]' org.apache.kafka.tools.ConsumerPerformance "${at[@]}" --topic "$topic" --num-records 20000 --timeout 60000 </dev/null
run 'broker-api-versions' 'Produce\(0\): ' org.apache.kafka.tools.BrokerApiVersionsCommand "${at[@]}" </dev/null
run 'cluster cluster-id' 'Cluster ID: [A-Za-z0-9_-]{22}' org.apache.kafka.tools.ClusterTool cluster-id "${at[@]}" </dev/null
run 'log-dirs' '"partition":"'"$topic"'-0","size":' org.apache.kafka.tools.LogDirsCommand "${at[@]}" --describe --topic-list "$topic" </dev/null
run 'consumer groups --delete' 'Deletion of requested consumer groups' $groups "${at[@]}" --delete --group "$topic" </dev/null
run 'topics --delete' '' $topics "${at[@]}" --delete --topic "$topic" </dev/null
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
