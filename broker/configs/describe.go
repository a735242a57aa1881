package configs

import (
	"slices"
	"strings"
)

// Source says where a value comes from; the numbers are those of the DescribeConfigs response.
type Source int8

// The sources, with Kafka's numbers.
const (
	SourceTopic          Source = 1 // the topic's own override
	SourceDynamicBroker  Source = 2 // set for this broker while running
	SourceDynamicDefault Source = 3 // set as the cluster's default while running
	SourceStatic         Source = 4 // the broker's configuration file
	SourceDefault        Source = 5 // the table
)

// Value is a config's text, or Null (no value, or one that must not be shown).
type Value struct {
	Text string
	Null bool
}

// Entry is one config as DescribeConfigs and CreateTopics answer it. Synonyms are in order of precedence, the one in
// effect first; none means that the table's default holds.
type Entry struct {
	Key      *Key
	Value    Value
	Source   Source
	ReadOnly bool
	Synonyms []Setting
}

// Setting is one layer's value of a config, under the name it is set with.
type Setting struct {
	Name   string
	Value  Value
	Source Source
}

// DescribeTopic lists every topic config, sorted by name, with the values that hold for the overrides.
func (r *Registry) DescribeTopic(l Layers, overrides map[string]string) []Entry {
	entries := make([]Entry, 0, len(r.topicNames))
	values := r.topicValues(l, overrides)
	for _, name := range r.topicNames {
		k := r.topic[name]
		e := Entry{Key: k, Value: r.show(k, values[name])}
		if _, ok := overrides[name]; ok {
			e.Synonyms = append(e.Synonyms, Setting{Name: name, Value: e.Value, Source: SourceTopic})
		}
		if len(k.Synonyms) > 0 {
			e.Synonyms = append(e.Synonyms, r.settings(l, k.Synonyms[0].Name)...)
		}
		entries = append(entries, e.settle())
	}
	return entries
}

// DescribeBroker lists every broker config, sorted by name, with the values that hold on this broker.
func (r *Registry) DescribeBroker(l Layers) []Entry {
	entries := make([]Entry, 0, len(r.brokerNames))
	for _, name := range r.brokerNames {
		k := r.broker[name]
		e := Entry{Key: k, Value: r.show(k, r.brokerValue(l, k)), ReadOnly: k.Scope == ReadOnly, Synonyms: r.settings(l, name)}
		entries = append(entries, e.settle())
	}
	return entries
}

// DescribeCluster lists only what is set as the cluster's default, sorted by name.
func (r *Registry) DescribeCluster(cluster map[string]string) []Entry {
	var entries []Entry
	for _, name := range r.brokerNames {
		if _, ok := cluster[name]; !ok {
			continue
		}
		k := r.broker[name]
		v := r.show(k, r.brokerValue(Layers{Cluster: cluster}, k))
		e := Entry{Key: k, Value: v, ReadOnly: k.Scope == ReadOnly, Synonyms: []Setting{{Name: name, Value: v, Source: SourceDynamicDefault}}}
		entries = append(entries, e.settle())
	}
	return entries
}

func (e Entry) settle() Entry {
	e.Source = SourceDefault
	if len(e.Synonyms) > 0 {
		e.Source = e.Synonyms[0].Source
	}
	return e
}

func (r *Registry) show(k *Key, v value) Value {
	if v == nil || k.Sensitive() {
		return Value{Null: true}
	}
	return Value{Text: format(v)}
}

// family lists the broker keys that mean the same in other units, the given one included.
func (r *Registry) family(name string) []string {
	for _, t := range r.topicNames {
		synonyms := r.topic[t].Synonyms
		if !slices.ContainsFunc(synonyms, func(s Synonym) bool { return s.Name == name }) {
			continue
		}
		names := make([]string, len(synonyms))
		for i, s := range synonyms {
			names[i] = s.Name
		}
		return names
	}
	return []string{name}
}

// settings collects the layers' values of a broker key and its other units, layer by layer. What comes before the first
// value under the name itself is left out, as Kafka does (ConfigHelper.configSynonyms): a value in another unit never
// stands first, because clients read the first as the one in effect.
func (r *Registry) settings(l Layers, of string) []Setting {
	names := r.family(of)
	var all []Setting
	add := func(layer map[string]string, source Source) {
		for _, name := range names {
			if text, ok := layer[name]; ok {
				v := Value{Text: strings.TrimSpace(text)}
				if r.broker[name].Sensitive() {
					v = Value{Null: true}
				}
				all = append(all, Setting{Name: name, Value: v, Source: source})
			}
		}
	}
	add(l.Broker, SourceDynamicBroker)
	add(l.Cluster, SourceDynamicDefault)
	add(r.static, SourceStatic)
	for _, name := range names {
		if k := r.broker[name]; !k.Null {
			all = append(all, Setting{Name: name, Value: r.show(k, defaultOf(k)), Source: SourceDefault})
		}
	}
	first := slices.IndexFunc(all, func(s Setting) bool { return s.Name == of })
	if first < 0 {
		return nil
	}
	return all[first:]
}

// defaultOf parses a key's default; the key must have one.
func defaultOf(k *Key) value {
	v, err := k.parseType(k.Default)
	if err != nil {
		panic("configs: default of " + k.Name + ": " + err.Error())
	}
	return v
}
