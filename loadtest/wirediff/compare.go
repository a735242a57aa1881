package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// difference is one field that the two brokers answered differently.
type difference struct {
	path            string // of the field, with the API in front, without indexes
	where           string // names of the elements on the way
	kafka, tidemark string
}

func (d difference) String() string {
	return fmt.Sprintf("%s%s\n    Kafka     %s\n    Tidemark  %s", d.path, d.where, d.kafka, d.tidemark)
}

// flat is an answer as lines: the path of each field with the names of the elements that it is in, and its value. What brokers
// name by themselves is replaced by what the sequence calls it, and the elements of lists are ordered by those names.
type flat struct {
	side   *side
	fields []field
}

type field struct{ path, where, value string }

func flatten(s *side, api string, resp kmsg.Response) []field {
	f := &flat{side: s}
	f.walk(api, "", reflect.ValueOf(resp).Elem())
	return f.fields
}

func (f *flat) add(path, where string, value any) {
	f.fields = append(f.fields, field{path, where, fmt.Sprint(value)})
}

func (f *flat) walk(path, where string, v reflect.Value) {
	if f.special(path, where, v) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			f.add(path, where, "null")
			return
		}
		f.walk(path, where, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if name == "Version" || name == "UnknownTags" || name == "ThrottleMillis" {
				continue
			}
			f.walk(path+"."+name, where, v.Field(i))
		}
	case reflect.Slice:
		f.list(path, where, v)
	case reflect.String:
		f.add(path, where, f.text(v.String()))
	default:
		f.add(path, where, v.Interface())
	}
}

// list walks the elements in the order of their names. Two of the same name are told apart by a number.
func (f *flat) list(path, where string, v reflect.Value) {
	if v.Type().Elem().Kind() != reflect.Struct {
		if v.IsNil() {
			f.add(path, where, "null")
			return
		}
		var parts []string
		for i := range v.Len() {
			parts = append(parts, f.text(fmt.Sprint(v.Index(i).Interface())))
		}
		if v.Type().Elem().Kind() == reflect.String {
			slices.Sort(parts)
		}
		f.add(path, where, parts)
		return
	}
	type element struct {
		name string
		v    reflect.Value
	}
	var all []element
	for i := range v.Len() {
		all = append(all, element{f.elementName(v.Index(i)), v.Index(i)})
	}
	slices.SortStableFunc(all, func(a, b element) int { return strings.Compare(a.name, b.name) })
	names, seen := []string{}, map[string]int{}
	for _, e := range all {
		name := e.name
		if seen[e.name]++; seen[e.name] > 1 {
			name += fmt.Sprintf("#%d", seen[e.name])
		}
		names = append(names, name)
		f.walk(path, where+" ["+name+"]", e.v)
	}
	f.add(path, where, fmt.Sprintf("%d elements: %s", len(names), strings.Join(names, ", ")))
}

// elementName puts together the fields that tell an element of a list from others.
func (f *flat) elementName(v reflect.Value) string {
	var parts []string
	for _, key := range []string{"Topic", "Name", "Group", "TopicID", "Partition", "ApiKey", "NodeID", "MemberID", "ConfigName", "ResourceName", "ResourceType"} {
		switch k := v.FieldByName(key); {
		case !k.IsValid():
		case key == "TopicID":
			if id := f.side.idName(k.Interface().([16]byte)); len(parts) == 0 || parts[0] == "" {
				parts = []string{id}
			}
		case k.Kind() == reflect.Pointer && k.IsNil():
		default:
			parts = append(parts, f.text(fmt.Sprint(reflect.Indirect(k).Interface())))
		}
	}
	return strings.Join(parts, " ")
}

// text replaces in a text what differs by nature.
func (f *flat) text(t string) string {
	t = strings.ReplaceAll(t, f.side.address, "HOST:PORT")
	for short, id := range f.side.names {
		if id != "" {
			t = strings.ReplaceAll(t, id, "member "+short)
		}
	}
	return f.side.short(t)
}

// isNow tells a time in milliseconds near the clock's.
func isNow(ms int64) bool {
	return time.Since(time.UnixMilli(ms)).Abs() < 30*time.Minute
}

// compare pairs the fields of two answers by path and names.
func compare(kafka, tidemark []field) []difference {
	type key struct{ path, where string }
	other := map[key]string{}
	for _, f := range tidemark {
		other[key{f.path, f.where}] = f.value
	}
	var out []difference
	for _, f := range kafka {
		k := key{f.path, f.where}
		switch value, ok := other[k]; {
		case !ok: // the list's line says which elements are missing
		case value != f.value:
			out = append(out, difference{f.path, f.where, f.value, value})
		}
	}
	return out
}
