package handler

import (
	"cmp"
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/partition"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// describeLogDirs answers DescribeLogDirs (35): one folder, the write-ahead log's, with the size of every partition that
// this broker serves. The size is the whole log's, most of which is in the object store; so the folder's own capacity,
// which would say nothing about it, is left unknown.
func (b *Broker) describeLogDirs(_ context.Context, _ *server.Conn, _ wire.Header, req *kmsg.DescribeLogDirsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = b.LogDir
	dir.TotalBytes, dir.UsableBytes = -1, -1

	wanted := make(map[string]map[int32]bool, len(req.Topics))
	for _, t := range req.Topics {
		if wanted[t.Topic] == nil {
			wanted[t.Topic] = make(map[int32]bool, len(t.Partitions))
		}
		for _, p := range t.Partitions {
			wanted[t.Topic][p] = true
		}
	}
	open := b.Partitions.All()
	slices.SortFunc(open, func(x, y *partition.Partition) int {
		return cmp.Or(cmp.Compare(x.Topic(), y.Topic()), cmp.Compare(x.ID().Partition, y.ID().Partition))
	})
	for _, p := range open {
		if req.Topics != nil && !wanted[p.Topic()][p.ID().Partition] {
			continue
		}
		if n := len(dir.Topics); n == 0 || dir.Topics[n-1].Topic != p.Topic() {
			topic := kmsg.NewDescribeLogDirsResponseDirTopic()
			topic.Topic = p.Topic()
			dir.Topics = append(dir.Topics, topic)
		}
		entry := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		entry.Partition, entry.Size = p.ID().Partition, p.SizeBytes()
		last := &dir.Topics[len(dir.Topics)-1]
		last.Partitions = append(last.Partitions, entry)
	}
	resp.Dirs = append(resp.Dirs, dir)
	return resp, nil
}
