package handler

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
)

// incrementalAlterConfigs answers IncrementalAlterConfigs (44): single configs are set, deleted, appended to or taken from.
func (b *Broker) incrementalAlterConfigs(ctx context.Context, _ *server.Conn, _ wire.Header, req *kmsg.IncrementalAlterConfigsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	times := make(map[resource]int, len(req.Resources))
	for _, r := range req.Resources {
		times[resource{r.ResourceType, r.ResourceName}]++
	}
	for _, r := range req.Resources {
		id := resource{r.ResourceType, r.ResourceName}
		err := checkOnce(times[id])
		if err == nil {
			err = checkOps(r.Configs)
		}
		if err == nil {
			err = b.alter(ctx, id, req.ValidateOnly, func(old map[string]string) (map[string]string, error) {
				return b.applyOps(id, old, r.Configs)
			})
		}
		result := kmsg.NewIncrementalAlterConfigsResponseResource()
		result.ResourceType, result.ResourceName = r.ResourceType, r.ResourceName
		result.ErrorCode, result.ErrorMessage = b.answer(ctx, "IncrementalAlterConfigs", err)
		resp.Resources = append(resp.Resources, result)
	}
	return resp, nil
}

func checkOps(ops []kmsg.IncrementalAlterConfigsRequestResourceConfig) error {
	seen := make(map[string]bool, len(ops))
	var nulls []string
	for _, op := range ops {
		if seen[op.Name] {
			return invalidRequest("Error due to duplicate config keys")
		}
		seen[op.Name] = true
		if op.Value == nil && op.Op != kmsg.IncrementalAlterConfigOpDelete {
			nulls = append(nulls, op.Name)
		}
	}
	return checkNulls(nulls)
}

// applyOps computes the new overrides of a resource.
func (b *Broker) applyOps(id resource, old map[string]string, ops []kmsg.IncrementalAlterConfigsRequestResourceConfig) (map[string]string, error) {
	next := withChanges(old)
	for _, op := range ops {
		switch op.Op {
		case kmsg.IncrementalAlterConfigOpSet:
			next[op.Name] = *op.Value
		case kmsg.IncrementalAlterConfigOpDelete:
			delete(next, op.Name)
		case kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract:
			text, err := b.alterList(id, next, op)
			if err != nil {
				return nil, err
			}
			next[op.Name] = text
		default:
			return nil, invalidRequest("Unknown operations type %d", op.Op)
		}
	}
	return next, nil
}

// alterList adds to or takes from a list. Where nothing is set yet the list begins as the table's default, as in Kafka.
func (b *Broker) alterList(id resource, current map[string]string, op kmsg.IncrementalAlterConfigsRequestResourceConfig) (string, error) {
	key, ok := b.lookupKey(id.kind, op.Name)
	if !ok || key.Type != configs.List {
		verb := "APPEND"
		if op.Op == kmsg.IncrementalAlterConfigOpSubtract {
			verb = "SUBTRACT"
		}
		return "", refuse(kerr.InvalidConfig, "Can't %s to key %s because its type is not LIST.", verb, op.Name)
	}
	text, set := current[op.Name]
	if !set {
		text = key.Default
	}
	var list []string
	for _, member := range strings.Split(text, ",") {
		if member = strings.TrimSpace(member); member != "" {
			list = append(list, member)
		}
	}
	for _, member := range strings.Split(*op.Value, ",") {
		member = strings.TrimSpace(member)
		at := slices.Index(list, member)
		switch {
		case op.Op == kmsg.IncrementalAlterConfigOpAppend && at < 0:
			list = append(list, member)
		case op.Op == kmsg.IncrementalAlterConfigOpSubtract && at >= 0:
			list = slices.Delete(list, at, at+1)
		}
	}
	return strings.Join(list, ","), nil
}
