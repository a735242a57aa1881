package metadata

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/tidemarkmq/tidemark/metadata/kv"
)

// Dump writes every key below prefix (default "/tidemark") with its decoded value, one a line, as of one revision. Values that
// cannot be decoded are shown as such and do not end the dump.
func Dump(ctx context.Context, w io.Writer, store kv.KV, prefix string) error {
	if prefix == "" {
		prefix = "/tidemark"
	}
	keys := keyspace{strings.TrimSuffix(prefix, "/")}
	out := bufio.NewWriter(w)
	start := keys.prefix + "/"
	n := 0
	rev, err := kv.Scan(ctx, store, start, kv.PrefixEnd(start), groupPage, func(p kv.Pair) error {
		n++
		name := strings.TrimPrefix(p.Key, keys.prefix)
		value, err := describe(name, p)
		if err != nil {
			value = fmt.Sprintf("damaged: %v: %.200x", err, p.Value)
		}
		lease := ""
		if p.Lease != 0 {
			lease = fmt.Sprintf(" lease %x", int64(p.Lease))
		}
		_, err = fmt.Fprintf(out, "%s @%d%s %s\n", name, p.ModRevision, lease, value)
		return err
	})
	if err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	if _, err := fmt.Fprintf(out, "%d keys at revision %d\n", n, rev); err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	return nil
}

// describe says what a value holds. JSON is shown as it is, after checking that it can be decoded.
func describe(name string, p kv.Pair) (string, error) {
	for dir, fn := range describers {
		if rest, ok := strings.CutPrefix(name, dir); ok {
			return fn(rest, p)
		}
	}
	return "", fmt.Errorf("%w: key of an unknown kind", ErrInvalid)
}

// describers by folder; no folder is the beginning of another.
var describers = map[string]func(rest string, p kv.Pair) (string, error){
	dirCluster:     asJSON(decodeCluster),
	dirBroker:      asJSON(decodeBroker),
	dirIncarnation: asJSON(decodeIncarnation),
	dirConfig:      asJSON(decodeConfigs),
	dirTopic:       asJSON(decodeTopic),
	dirDeleted:     asJSON(decodeTombstone),
	dirCreating:    asJSON(decodeCreation),
	dirName: func(_ string, p kv.Pair) (string, error) {
		id, err := parseTopic(string(p.Value))
		return "topic " + id.Hex(), err
	},
	dirPartition: func(rest string, p kv.Pair) (string, error) {
		if _, err := parsePartition(rest); err != nil {
			return "", err
		}
		v, err := decodePartition(p.Value)
		return fmt.Sprintf("owner %d/%d, leader epoch %d, log start %d, manifest %q generation %d, end %d, %d bytes", v.Owner, v.OwnerIncarnation,
			v.LeaderEpoch, v.LogStart, v.Manifest.Key, v.Manifest.Generation, v.Manifest.End, v.Manifest.SizeBytes), err
	},
	dirPending: func(rest string, p kv.Pair) (string, error) {
		id, seq, err := parsePending(rest)
		if err != nil {
			return "", err
		}
		v, err := decodePending(p.Value)
		return fmt.Sprintf("stream %s object %d, key %q, %d bytes, footer at %d, crc %08x, positions [%d, %d)", id, seq, v.Key, v.SizeBytes,
			v.FooterAt, v.CRC, v.From, v.To), err
	},
	dirStream: func(rest string, p kv.Pair) (string, error) {
		id, err := parseHex(rest, 16)
		if err != nil {
			return "", err
		}
		v, err := decodeStream(p.Value)
		return fmt.Sprintf("stream %s, owner %d, %s, recovering by %d, positions [%d, %d)", StreamID(id), v.Owner, v.State, v.RecoveringBy, v.First, v.End), err
	},
	dirCommitted: func(_ string, p kv.Pair) (string, error) {
		v, err := decodeCommitted(p.Value)
		return fmt.Sprintf("committed up to %d", v), err
	},
	dirEnsemble: func(_ string, p kv.Pair) (string, error) {
		v, err := decodeEnsemble(p.Value)
		return fmt.Sprintf("quorum %d of %v", v.Quorum, v.Members), err
	},
	dirProducers: func(_ string, p kv.Pair) (string, error) {
		v, err := decodeProducerIDs(p.Value)
		return fmt.Sprintf("next producer id %d", v), err
	},
	dirGroup: func(rest string, p kv.Pair) (string, error) {
		id, err := unescapeGroup(rest)
		if err != nil {
			return "", err
		}
		state, err := decodeGroup(p.Value)
		return fmt.Sprintf("group %q, state of %d bytes", id, len(state)), err
	},
	dirOffsets: describeOffsets,
	dirTransaction: func(rest string, p kv.Pair) (string, error) {
		id, err := unescapeGroup(rest)
		if err != nil {
			return "", err
		}
		v, err := decodeTransaction(p.Value)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("transactional id %q, %s, producer %d epoch %d (before: %d, epoch %d; next: %d), timeout %d ms, began %d, changed %d, version %d, partitions %v",
			id, v.Status, v.ProducerID, v.ProducerEpoch, v.PreviousProducerID, v.LastProducerEpoch, v.NextProducerID, v.TimeoutMillis, v.StartMillis, v.UpdateMillis, v.ClientVersion, v.Partitions), nil
	},
}

func describeOffsets(rest string, p kv.Pair) (string, error) {
	group, _, bucket, err := parseOffsets(rest)
	if err != nil {
		return "", err
	}
	entries, err := decodeBucket(p.Value)
	var b strings.Builder
	fmt.Fprintf(&b, "group %q, %d offsets", group, len(entries))
	for _, e := range entries {
		fmt.Fprintf(&b, "; %d: %d (epoch %d, committed %d, expires %d, %q)", bucket*offsetBucketPartitions+int32(e.partition), e.Offset, e.LeaderEpoch,
			e.CommitMillis, e.ExpireMillis, e.Metadata)
	}
	return b.String(), err
}

func asJSON[T any](decode func([]byte) (T, error)) func(string, kv.Pair) (string, error) {
	return func(_ string, p kv.Pair) (string, error) {
		_, err := decode(p.Value)
		return string(p.Value), err
	}
}
