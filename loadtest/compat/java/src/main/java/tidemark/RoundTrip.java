package tidemark;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Passes records through a broker with Apache Kafka's Java client: an idempotent producer for each codec, then a consumer group
 * (classic protocol) that must see each record once, in order per key, and resume from its committed offsets; and the admin
 * client.
 */
public final class RoundTrip {
  private static final int PARTITIONS = 3;
  private static final int KEYS = 7;
  private static final int RECORDS = 500;
  private static final int TAIL = 10;
  private static final Duration WAIT = Duration.ofSeconds(60);

  private final String bootstrap;
  private final String codec;
  private final Map<String, Integer> seen = new HashMap<>();

  private RoundTrip(String bootstrap, String codec) {
    this.bootstrap = bootstrap;
    this.codec = codec;
  }

  public static void main(String[] args) {
    int passed = 0;
    int failed = 0;
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
      try {
        new RoundTrip(args[0], codec).run();
        passed++;
        System.out.println("java, " + codec + ": passed");
      } catch (Exception | AssertionError e) {
        failed++;
        System.out.println("java, " + codec + ": FAILED");
        e.printStackTrace(System.out);
      }
    }
    System.out.println(passed + " passed, " + failed + " failed");
    System.exit(failed == 0 ? 0 : 1);
  }

  private static byte[] key(int i) {
    return ("key-" + i % KEYS).getBytes(StandardCharsets.UTF_8);
  }

  private String value(int i) {
    return codec + "-" + i + "-" + (i == RECORDS / 2 ? "0".repeat(200_000) : "");
  }

  private void run() throws Exception {
    String topic = "java-" + codec + "-" + System.nanoTime();
    try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
      admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 1).configs(Map.of("retention.ms", "3600000")))).all().get();
      produce(topic);
      consume(topic, RECORDS - TAIL);
      consume(topic, TAIL);
      administer(admin, topic);
    }
  }

  private void produce(String topic) throws Exception {
    Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "compression.type", codec, "enable.idempotence", true, "acks", "all", "linger.ms", 5);
    List<Future<RecordMetadata>> sent = new ArrayList<>();
    try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
      for (int i = 0; i < RECORDS; i++) {
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, key(i), value(i).getBytes(StandardCharsets.UTF_8));
        record.headers().add("codec", codec.getBytes(StandardCharsets.UTF_8));
        sent.add(producer.send(record));
      }
      for (Future<RecordMetadata> f : sent) {
        check(f.get(WAIT.toSeconds(), TimeUnit.SECONDS).hasOffset(), "no offset");
      }
    }
  }

  private void consume(String topic, int n) {
    Map<String, Object> config = Map.of(
        "bootstrap.servers", bootstrap, "group.id", topic, "auto.offset.reset", "earliest", "enable.auto.commit", false, "max.poll.records", 1);
    long deadline = System.nanoTime() + WAIT.toNanos();
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      consumer.subscribe(List.of(topic));
      while (n > 0) {
        check(System.nanoTime() < deadline, n + " records never came");
        for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofSeconds(1))) {
          accept(r);
          consumer.commitSync(Map.of(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1, r.leaderEpoch(), "")));
          n--;
        }
      }
    }
  }

  private void accept(ConsumerRecord<byte[], byte[]> r) {
    String k = new String(r.key(), StandardCharsets.UTF_8);
    int nth = seen.merge(k, 1, Integer::sum) - 1;
    String want = value(nth * KEYS + Integer.parseInt(k.substring(4)));
    check(new String(r.value(), StandardCharsets.UTF_8).equals(want), "record of " + k + " out of order or damaged");
    check(new String(r.headers().lastHeader("codec").value(), StandardCharsets.UTF_8).equals(codec), "headers");
    check(r.leaderEpoch().isPresent(), "no leader epoch");
  }

  private void administer(Admin admin, String topic) throws Exception {
    ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
    check(admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value().equals("3600000"), "retention.ms");
    admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "7200000"), AlterConfigOp.OpType.SET)))).all().get();
    ConfigEntry altered = admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms");
    check(altered.value().equals("7200000") && altered.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "altered retention.ms");

    long total = 0;
    for (int p = 0; p < PARTITIONS; p++) {
      TopicPartition tp = new TopicPartition(topic, p);
      long end = admin.listOffsets(Map.of(tp, OffsetSpec.latest())).partitionResult(tp).get().offset();
      long last = admin.listOffsets(Map.of(tp, OffsetSpec.maxTimestamp())).partitionResult(tp).get().offset();
      check(end == 0 || last >= 0 && last < end, "offset of the maximum timestamp " + last + " with end " + end);
      total += end;
      if (end > 1) {
        admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(1))).all().get();
        check(admin.listOffsets(Map.of(tp, OffsetSpec.earliest())).partitionResult(tp).get().offset() == 1, "log start after DeleteRecords");
      }
    }
    check(total == RECORDS, "end offsets add up to " + total);
    admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(PARTITIONS + 2))).all().get();
    check(admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == PARTITIONS + 2, "partitions after increase");
    check(admin.listGroups(ListGroupsOptions.forConsumerGroups()).all().get().stream().anyMatch(g -> g.groupId().equals(topic)), "group not listed");
    check(admin.describeConsumerGroups(List.of(topic)).all().get().get(topic).members().isEmpty(), "group not empty");
    admin.deleteConsumerGroups(Set.of(topic)).all().get();
    admin.deleteTopics(List.of(topic)).all().get();
    try {
      admin.describeTopics(List.of(topic)).allTopicNames().get();
      throw new AssertionError("deleted topic still described");
    } catch (ExecutionException e) {
      check(e.getCause() instanceof UnknownTopicOrPartitionException, "describe of a deleted topic: " + e.getCause());
    }
  }

  private static void check(boolean ok, String what) {
    if (!ok) {
      throw new AssertionError(what);
    }
  }
}
