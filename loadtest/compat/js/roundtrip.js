// Passes records through a broker with kafkajs: an idempotent producer, uncompressed and gzip, then a consumer group that
// must see each record once, in order per key, and resume from its committed offsets; and the admin client.
//
//   node roundtrip.js HOST:PORT
'use strict'
const assert = require('node:assert/strict')
const { Kafka, CompressionTypes, logLevel } = require('kafkajs')

const partitions = 3
const keys = 7
const records = 500
const tail = 10
const key = i => `key-${i % keys}`
const value = (codec, i) => `${codec}-${i}-` + (i === records / 2 ? '0'.repeat(200000) : '')

async function consume(kafka, topic, n, check) {
  const consumer = kafka.consumer({ groupId: topic, sessionTimeout: 10000 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  let left = n
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${left} records never came`)), 60000)
    const end = err => { clearTimeout(timer); err ? reject(err) : resolve() }
    consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        if (left === 0) return
        try {
          check(message)
          left--
          await consumer.commitOffsets([{ topic, partition, offset: (BigInt(message.offset) + 1n).toString() }])
        } catch (err) {
          left = 0
          return end(err)
        }
        if (left === 0) end()
      },
    }).catch(end)
  })
  await consumer.disconnect()
}

async function trip(kafka, codec, compression) {
  const topic = `kafkajs-${codec}-${Date.now()}`
  const admin = kafka.admin()
  await admin.connect()
  assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: partitions }], waitForLeaders: true }), true)
  const meta = await admin.fetchTopicMetadata({ topics: [topic] })
  assert.equal(meta.topics[0].partitions.length, partitions)

  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (let first = 0; first < records; first += 50) {
    const messages = []
    for (let i = first; i < first + 50; i++) messages.push({ key: key(i), value: value(codec, i), headers: { codec } })
    await producer.send({ topic, compression, acks: -1, messages })
  }
  await producer.disconnect()

  const seen = {}
  const check = m => {
    const k = m.key.toString()
    const nth = seen[k] ?? 0
    seen[k] = nth + 1
    const i = nth * keys + Number(k.slice(4))
    assert.equal(m.value.toString(), value(codec, i))
    assert.equal(m.headers.codec.toString(), codec)
  }
  await consume(kafka, topic, records - tail, check)
  await consume(kafka, topic, tail, check)

  const offsets = await admin.fetchOffsets({ groupId: topic, topics: [topic] })
  assert.equal(offsets[0].partitions.reduce((sum, p) => sum + Number(p.offset), 0), records)
  const ends = await admin.fetchTopicOffsets(topic)
  assert.equal(ends.reduce((sum, p) => sum + Number(p.high), 0), records)
  await admin.deleteGroups([topic])
  await admin.deleteTopics({ topics: [topic] })
  await admin.disconnect()
}

async function main() {
  const kafka = new Kafka({ clientId: 'compat', brokers: [process.argv[2]], logLevel: logLevel.ERROR })
  let passed = 0
  let failed = 0
  for (const [codec, compression] of [['none', CompressionTypes.None], ['gzip', CompressionTypes.GZIP]]) {
    try {
      await trip(kafka, codec, compression)
      passed++
      console.log(`kafkajs, ${codec}: passed`)
    } catch (err) {
      failed++
      console.log(`kafkajs, ${codec}: FAILED: ${err.stack}`)
    }
  }
  console.log(`${passed} passed, ${failed} failed`)
  process.exit(failed ? 1 : 0)
}

main()
