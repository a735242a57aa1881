package handler

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/metadata"
)

const (
	ofTopic   = kmsg.ConfigResourceTypeTopic
	ofBroker  = kmsg.ConfigResourceTypeBroker
	ofLogger  = kmsg.ConfigResourceTypeBrokerLogger
	ofMetrics = kmsg.ConfigResourceTypeClientMetrics
	ofGroup   = kmsg.ConfigResourceTypeGroupConfig
)

func (f *fixture) describe(version int16, kind kmsg.ConfigResourceType, name string, only ...string) kmsg.DescribeConfigsResponseResource {
	f.t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, only
	req.Resources = append(req.Resources, r)
	req.IncludeSynonyms, req.IncludeDocumentation = true, true
	resp := call[*kmsg.DescribeConfigsResponse](f, version, req)
	if len(resp.Resources) != 1 || resp.Resources[0].ResourceName != name || resp.Resources[0].ResourceType != kind {
		f.t.Fatalf("describe %v %q: %+v", kind, name, resp.Resources)
	}
	return resp.Resources[0]
}

func TestDescribeConfigsSaysAnEmptyMessageWhenAllIsWell(t *testing.T) {
	f := newFixture(t, nil)
	r := f.describe(4, kmsg.ConfigResourceTypeBroker, "")
	if r.ErrorCode != 0 || r.ErrorMessage == nil || *r.ErrorMessage != "" {
		t.Errorf("error %d, message %v, want 0 and an empty one", r.ErrorCode, r.ErrorMessage)
	}
}

func (f *fixture) config(kind kmsg.ConfigResourceType, resource, name string) kmsg.DescribeConfigsResponseResourceConfig {
	f.t.Helper()
	r := f.describe(4, kind, resource, name)
	if r.ErrorCode != 0 || len(r.Configs) != 1 {
		f.t.Fatalf("describe %s of %q: code %d %q, %d configs", name, resource, r.ErrorCode, str(r.ErrorMessage), len(r.Configs))
	}
	return r.Configs[0]
}

func TestDescribeConfigs(t *testing.T) {
	f := newFixture(t, map[string]string{"node.id": "7"})
	f.create("orders", 1, "retention.ms", "1000")
	versions(t, 32, func(t *testing.T, version int16) {
		r := f.describe(version, ofTopic, "orders")
		if r.ErrorCode != 0 || len(r.Configs) < 33 {
			t.Fatalf("%d, %d configs", r.ErrorCode, len(r.Configs))
		}
		for _, c := range r.Configs {
			if version >= 3 && (c.ConfigType == 0 || str(c.Documentation) == "") {
				t.Errorf("%s: type %d, documentation %q", c.Name, c.ConfigType, str(c.Documentation))
			}
			if c.Name != "retention.ms" {
				continue
			}
			if str(c.Value) != "1000" || c.ReadOnly || c.Source != kmsg.ConfigSourceDynamicTopicConfig || len(c.ConfigSynonyms) != 1 {
				t.Errorf("%+v", c)
			}
		}
		if r := f.describe(version, ofBroker, "7", "node.id", "no.such"); len(r.Configs) != 1 || !r.Configs[0].ReadOnly || str(r.Configs[0].Value) != "7" || r.Configs[0].Source != kmsg.ConfigSourceStaticBrokerConfig {
			t.Errorf("node.id: %+v", r.Configs)
		}
	})
}

func TestDescribeConfigsResources(t *testing.T) {
	f := newFixture(t, nil)
	invalid := kerr.InvalidRequest.Code
	for _, c := range []struct {
		kind kmsg.ConfigResourceType
		name string
		code int16
		text string
	}{
		{ofTopic, "missing", kerr.UnknownTopicOrPartition.Code, ""},
		{ofTopic, "a/b", kerr.InvalidTopicException.Code, ""},
		{ofBroker, "", 0, ""},
		{ofBroker, "8", invalid, "Unexpected broker id, expected 7 or empty string, but received 8"},
		{ofBroker, "x", invalid, "Broker id must be an integer, but it is: x"},
		{ofLogger, "7", 0, ""},
		{ofLogger, "", invalid, "Broker id must not be empty"},
		{ofLogger, "8", invalid, "Unexpected broker id, expected 7 but received 8"},
		{ofMetrics, "sub", 0, ""},
		{ofMetrics, "", invalid, "Client metrics subscription name must not be empty"},
		{ofGroup, "g", 0, ""},
		{ofGroup, "", invalid, "Group name must not be empty"},
		{3, "x", invalid, "Unsupported resource type: 3"},
	} {
		r := f.describe(4, c.kind, c.name)
		if r.ErrorCode != c.code || c.text != "" && str(r.ErrorMessage) != c.text || len(r.Configs) != 0 {
			t.Errorf("%v %q: %d %q, %d configs; want %d %q", c.kind, c.name, r.ErrorCode, str(r.ErrorMessage), len(r.Configs), c.code, c.text)
		}
	}
}

type op struct {
	name string
	op   kmsg.IncrementalAlterConfigOp
	with *string
}

func (f *fixture) incremental(version int16, validateOnly bool, kind kmsg.ConfigResourceType, resource string, ops ...op) (int16, string) {
	f.t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = validateOnly
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kind, resource
	for _, o := range ops {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Op, c.Value = o.name, o.op, o.with
		r.Configs = append(r.Configs, c)
	}
	req.Resources = append(req.Resources, r)
	resp := call[*kmsg.IncrementalAlterConfigsResponse](f, version, req)
	if len(resp.Resources) != 1 || resp.Resources[0].ResourceName != resource || resp.Resources[0].ResourceType != kind {
		f.t.Fatalf("%+v", resp.Resources)
	}
	return resp.Resources[0].ErrorCode, str(resp.Resources[0].ErrorMessage)
}

const (
	set      = kmsg.IncrementalAlterConfigOpSet
	del      = kmsg.IncrementalAlterConfigOpDelete
	appendTo = kmsg.IncrementalAlterConfigOpAppend
	subtract = kmsg.IncrementalAlterConfigOpSubtract
)

func TestIncrementalAlterConfigs(t *testing.T) {
	versions(t, 44, func(t *testing.T, version int16) {
		f := newFixture(t, nil)
		topic := f.create("orders", 2, "retention.ms", "1000")
		steps := []struct {
			ops  []op
			name string
			want string
		}{
			{[]op{{"max.message.bytes", set, ptr("5000")}}, "max.message.bytes", "5000"},
			{[]op{{"cleanup.policy", appendTo, ptr("compact")}}, "cleanup.policy", "delete,compact"},
			{[]op{{"cleanup.policy", appendTo, ptr("compact,delete")}}, "cleanup.policy", "delete,compact"},
			{[]op{{"cleanup.policy", subtract, ptr("delete")}}, "cleanup.policy", "compact"},
			{[]op{{"cleanup.policy", del, nil}, {"retention.ms", del, ptr("x")}}, "cleanup.policy", "delete"},
		}
		for _, s := range steps {
			before := f.config(ofTopic, "orders", s.name)
			if code, text := f.incremental(version, true, ofTopic, "orders", s.ops...); code != 0 {
				t.Fatalf("%s: %d %s", s.name, code, text)
			}
			if got := f.config(ofTopic, "orders", s.name); str(got.Value) != str(before.Value) {
				t.Fatalf("validation changed %s", s.name)
			}
			if code, text := f.incremental(version, false, ofTopic, "orders", s.ops...); code != 0 {
				t.Fatalf("%s: %d %s", s.name, code, text)
			}
			if got := f.config(ofTopic, "orders", s.name); str(got.Value) != s.want {
				t.Errorf("%s is %q, want %q", s.name, str(got.Value), s.want)
			}
		}
		if got := f.config(ofTopic, "orders", "retention.ms"); got.Source != kmsg.ConfigSourceDefaultConfig {
			t.Errorf("retention.ms is still set: %+v", got)
		}
		for i := range topic.Partitions {
			p, ok := f.Partitions.Get(metadata.PartitionID{Topic: topic.ID, Partition: i})
			if !ok || p.Config().MaxMessageBytes != 5000 {
				t.Errorf("partition %d does not follow", i)
			}
		}
	})
}

func TestIncrementalAlterConfigsRefusals(t *testing.T) {
	f := newFixture(t, nil)
	f.create("orders", 1)
	invalid, config := kerr.InvalidRequest.Code, kerr.InvalidConfig.Code
	one := ptr("1")
	for _, c := range []struct {
		kind kmsg.ConfigResourceType
		name string
		ops  []op
		code int16
		text string
	}{
		{ofTopic, "", []op{{"segment.ms", set, one}}, invalid, "Default topic resources are not allowed."},
		{ofTopic, "a/b", []op{{"segment.ms", set, one}}, kerr.InvalidTopicException.Code, ""},
		{ofTopic, "missing", []op{{"segment.ms", set, one}}, kerr.UnknownTopicOrPartition.Code, ""},
		{ofTopic, "missing", []op{{"no.such", set, one}}, config, "Unknown topic config name: no.such"},
		{ofTopic, "orders", []op{{"no.such", set, one}}, config, "Unknown topic config name: no.such"},
		{ofTopic, "orders", []op{{"segment.ms", set, ptr("0")}}, config, "Invalid value 0 for configuration segment.ms: Value must be at least 1"},
		{ofTopic, "orders", []op{{"segment.ms", appendTo, one}}, config, "Can't APPEND to key segment.ms because its type is not LIST."},
		{ofTopic, "orders", []op{{"no.such", subtract, one}}, config, "Can't SUBTRACT to key no.such because its type is not LIST."},
		{ofTopic, "orders", []op{{"segment.ms", set, one}, {"segment.ms", del, nil}}, invalid, "Error due to duplicate config keys"},
		{ofTopic, "orders", []op{{"segment.ms", set, nil}, {"preallocate", appendTo, nil}}, invalid, "Null value not supported for : segment.ms, preallocate"},
		{ofTopic, "orders", []op{{"segment.ms", 9, one}}, invalid, "Unknown operations type 9"},
		{ofBroker, "8", []op{{"log.retention.ms", set, one}}, invalid, "Unexpected broker id, expected 7, but received 8"},
		{ofBroker, "x", []op{{"log.retention.ms", set, one}}, invalid, "Node id must be an integer, but it is: x"},
		{ofBroker, "", []op{{"node.id", set, one}}, invalid, "Cannot update these configs dynamically: node.id"},
		{ofBroker, "", []op{{"log.retentoin.ms", set, one}}, invalid, "Unknown broker config name: log.retentoin.ms"},
		{ofLogger, "7", []op{{"root", set, ptr("DEBUG")}}, invalid, ""},
		{ofMetrics, "sub", []op{{"interval.ms", set, one}}, invalid, ""},
		{ofGroup, "g", []op{{"consumer.session.timeout.ms", set, one}}, invalid, ""},
		{3, "x", []op{{"a", set, one}}, invalid, "Unknown resource type 3"},
	} {
		for _, validateOnly := range []bool{true, false} {
			code, text := f.incremental(1, validateOnly, c.kind, c.name, c.ops...)
			if code != c.code || text == "" || c.text != "" && text != c.text {
				t.Errorf("%v %q %v: %d %q, want %d %q", c.kind, c.name, c.ops, code, text, c.code, c.text)
			}
		}
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	for range 2 {
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = ofTopic, "orders"
		req.Resources = append(req.Resources, r)
	}
	resp := call[*kmsg.IncrementalAlterConfigsResponse](f, 1, req)
	if len(resp.Resources) != 2 || resp.Resources[0].ErrorCode != invalid || str(resp.Resources[1].ErrorMessage) != "Each resource must appear at most once." {
		t.Errorf("twice: %+v", resp.Resources)
	}
}

func TestAlterConfigs(t *testing.T) {
	versions(t, 33, func(t *testing.T, version int16) {
		f := newFixture(t, nil)
		f.create("orders", 1, "retention.ms", "1000", "segment.ms", "2000")
		alter := func(validateOnly bool, with ...string) (int16, string) {
			req := kmsg.NewPtrAlterConfigsRequest()
			req.ValidateOnly = validateOnly
			r := kmsg.NewAlterConfigsRequestResource()
			r.ResourceType, r.ResourceName = ofTopic, "orders"
			for i := 0; i+1 < len(with); i += 2 {
				c := kmsg.NewAlterConfigsRequestResourceConfig()
				c.Name, c.Value = with[i], &with[i+1]
				if with[i+1] == "null" {
					c.Value = nil
				}
				r.Configs = append(r.Configs, c)
			}
			req.Resources = append(req.Resources, r)
			resp := call[*kmsg.AlterConfigsResponse](f, version, req)
			return resp.Resources[0].ErrorCode, str(resp.Resources[0].ErrorMessage)
		}
		if code, text := alter(true, "retention.ms", "5"); code != 0 {
			t.Fatal(code, text)
		}
		if got := f.config(ofTopic, "orders", "retention.ms"); str(got.Value) != "1000" {
			t.Fatal("validation changed a config")
		}
		if code, text := alter(false, "retention.ms", "null"); code != kerr.InvalidRequest.Code || !strings.HasPrefix(text, "Null value not supported") {
			t.Error(code, text)
		}
		if code, text := alter(false, "retention.ms", "1", "retention.ms", "2"); code != kerr.InvalidRequest.Code {
			t.Error(code, text)
		}
		if code, text := alter(false, "retention.ms", "-9"); code != kerr.InvalidConfig.Code {
			t.Error(code, text)
		}
		if code, text := alter(false, "retention.ms", "5"); code != 0 {
			t.Fatal(code, text)
		}
		if got := f.config(ofTopic, "orders", "retention.ms"); str(got.Value) != "5" {
			t.Errorf("%+v", got)
		}
		if got := f.config(ofTopic, "orders", "segment.ms"); got.Source != kmsg.ConfigSourceDefaultConfig {
			t.Errorf("a config that was not given stays set: %+v", got)
		}
	})
}

func TestDynamicBrokerConfigs(t *testing.T) {
	f := newFixture(t, nil)
	topic := f.create("orders", 1)
	own := f.create("own", 1, "max.message.bytes", "9000")
	limit := func(topic *metadata.Topic) int {
		p, ok := f.Partitions.Get(metadata.PartitionID{Topic: topic.ID})
		if !ok {
			t.Fatal("not open")
		}
		return p.Config().MaxMessageBytes
	}
	if code, text := f.incremental(1, false, ofBroker, "", op{"message.max.bytes", set, ptr("4000")}); code != 0 {
		t.Fatal(code, text)
	}
	if limit(topic) != 4000 || limit(own) != 9000 {
		t.Errorf("cluster default: %d and %d", limit(topic), limit(own))
	}
	if code, text := f.incremental(1, false, ofBroker, "7", op{"message.max.bytes", set, ptr("3000")}); code != 0 {
		t.Fatal(code, text)
	}
	if limit(topic) != 3000 {
		t.Errorf("this broker's: %d", limit(topic))
	}
	got := f.config(ofBroker, "7", "message.max.bytes")
	if str(got.Value) != "3000" || got.Source != kmsg.ConfigSourceDynamicBrokerConfig || len(got.ConfigSynonyms) != 3 {
		t.Errorf("%+v", got)
	}
	got = f.config(ofBroker, "", "message.max.bytes")
	if str(got.Value) != "4000" || got.Source != kmsg.ConfigSourceDynamicDefaultBrokerConfig || len(got.ConfigSynonyms) != 1 {
		t.Errorf("%+v", got)
	}
	if code, text := f.incremental(1, false, ofBroker, "7", op{"message.max.bytes", del, nil}); code != 0 {
		t.Fatal(code, text)
	}
	if limit(topic) != 4000 {
		t.Errorf("after the deletion: %d", limit(topic))
	}
	if made := f.create("later", 1); limit(made) != 4000 {
		t.Errorf("a new topic: %d", limit(made))
	}
}

func TestListConfigResources(t *testing.T) {
	f := newFixture(t, nil)
	f.create("orders", 1)
	versions(t, 74, func(t *testing.T, version int16) {
		resp := call[*kmsg.ListConfigResourcesResponse](f, version, kmsg.NewPtrListConfigResourcesRequest())
		if want := map[bool]int{true: 0, false: 3}[version == 0]; resp.ErrorCode != 0 || len(resp.ConfigResources) != want {
			t.Errorf("%+v", resp)
		}
	})
	req := kmsg.NewPtrListConfigResourcesRequest()
	req.ResourceTypes = []int8{2}
	if resp := call[*kmsg.ListConfigResourcesResponse](f, 1, req); len(resp.ConfigResources) != 1 || resp.ConfigResources[0].Name != "orders" || resp.ConfigResources[0].Type != 2 {
		t.Errorf("%+v", resp)
	}
	req.ResourceTypes = []int8{2, 3}
	if resp := call[*kmsg.ListConfigResourcesResponse](f, 1, req); resp.ErrorCode != kerr.UnsupportedVersion.Code || len(resp.ConfigResources) != 0 {
		t.Errorf("%+v", resp)
	}
}
