package handler

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/configs"
	"github.com/tidemarkmq/tidemark/broker/server"
	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// deletion is one topic of a DeleteTopics request, and what became of it.
type deletion struct {
	name *string
	id   metadata.TopicID
	err  error
}

// deleteTopics answers DeleteTopics (20).
func (b *Broker) deleteTopics(ctx context.Context, _ *server.Conn, h wire.Header, req *kmsg.DeleteTopicsRequest) (kmsg.Response, error) {
	ctx, cancel := adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	im := b.Meta.Image()
	asked := namedDeletions(h.Version, req)
	if b.Configs.BrokerBool(b.layers(im), configs.DeleteTopics) {
		asked = resolveDeletions(im, asked)
	} else {
		err := error(kerr.TopicDeletionDisabled)
		if h.Version < 3 {
			err = invalidRequest("Topic deletion is disabled.")
		}
		for i := range asked {
			asked[i].err = err
		}
	}

	resp := kmsg.NewPtrDeleteTopicsResponse()
	for _, d := range asked {
		if d.err == nil {
			d.err = b.deleteTopic(ctx, d.id, *d.name)
		}
		result := kmsg.NewDeleteTopicsResponseTopic()
		result.Topic, result.TopicID = d.name, d.id
		result.ErrorCode, result.ErrorMessage = b.answer(ctx, "DeleteTopics", d.err)
		resp.Topics = append(resp.Topics, result)
	}
	return resp, nil
}

func namedDeletions(version int16, req *kmsg.DeleteTopicsRequest) []deletion {
	var asked []deletion
	if version < 6 {
		for i := range req.TopicNames {
			asked = append(asked, deletion{name: &req.TopicNames[i]})
		}
		return asked
	}
	for _, t := range req.Topics {
		asked = append(asked, deletion{name: t.Topic, id: t.TopicID})
	}
	return asked
}

// resolveDeletions finds the topics and refuses what is asked for twice, as Kafka does: by the same name, by the same id,
// or by a name and the id behind it. Whatever is asked for twice gets one answer.
func resolveDeletions(im *metadata.Image, asked []deletion) []deletion {
	names, ids := make(map[string]int), make(map[metadata.TopicID]int)
	for _, d := range asked {
		switch {
		case d.name != nil && d.id == metadata.TopicID{}:
			names[*d.name]++
		case d.name == nil && d.id != metadata.TopicID{}:
			ids[d.id]++
		}
	}
	answeredNames, answeredIDs := make(map[string]bool), make(map[metadata.TopicID]bool)
	var out []deletion
	for _, d := range asked {
		byName, byID := d.name != nil, d.id != metadata.TopicID{}
		switch {
		case !byName && !byID:
			d.err = invalidRequest("Neither topic name nor id were specified.")
		case byName && byID:
			d.err = invalidRequest("You may not specify both topic name and topic id.")
		case byName:
			if answeredNames[*d.name] {
				continue
			}
			answeredNames[*d.name] = true
			d = resolveName(im, d, names[*d.name], ids)
		default:
			if answeredIDs[d.id] {
				continue
			}
			answeredIDs[d.id] = true
			if topic, ok := im.TopicByID(d.id); ok && ids[d.id] == 1 && names[topic.Name] == 1 {
				continue // answered with the name
			}
			d = resolveID(im, d, ids[d.id])
		}
		out = append(out, d)
	}
	return out
}

func resolveName(im *metadata.Image, d deletion, times int, ids map[metadata.TopicID]int) deletion {
	topic, ok := im.Topic(*d.name)
	switch {
	case times > 1:
		d.err = invalidRequest("Duplicate topic name.")
	case !ok:
		d.err = kerr.UnknownTopicOrPartition
	case ids[topic.ID] > 0:
		d.id, d.err = topic.ID, invalidRequest("The provided topic name maps to an ID that was already supplied.")
	default:
		d.id = topic.ID
	}
	return d
}

func resolveID(im *metadata.Image, d deletion, times int) deletion {
	topic, ok := im.TopicByID(d.id)
	switch {
	case times > 1:
		d.err = invalidRequest("Duplicate topic id.")
	case !ok:
		d.err = kerr.UnknownTopicID
	default:
		d.name = &topic.Name
	}
	return d
}

// deleteTopic takes the topic out of the metadata, which is the moment it is gone, and stops serving it. Its objects are
// reaped later.
func (b *Broker) deleteTopic(ctx context.Context, id metadata.TopicID, name string) error {
	err := b.Meta.DeleteTopic(ctx, id)
	if errors.Is(err, metadata.ErrNotFound) {
		return kerr.UnknownTopicOrPartition
	}
	if err != nil {
		return err
	}
	b.Opener.ClosePartitions(id)
	b.logger.InfoContext(ctx, "topic deleted", "topic", name, "id", id)
	return nil
}
