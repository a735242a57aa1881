package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/tidemarkmq/tidemark/broker"
)

const maxFileBytes = 1 << 20

// setAny sets from a value as YAML has it.
func (s setting) setAny(v any) error {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		if _, isList := s.value.Interface().([]string); !isList {
			return fmt.Errorf("%s: a list stands where one value is expected", s.key)
		}
		list := make([]string, 0, len(v))
		for _, e := range v {
			list = append(list, fmt.Sprint(e))
		}
		s.value.Set(reflect.ValueOf(list))
		return nil
	case map[string]any:
		m, isMap := s.value.Interface().(map[string]string)
		if !isMap {
			return fmt.Errorf("%s: a mapping stands where one value is expected", s.key)
		}
		flatten("", v, func(name string, value any) { m[name] = fmt.Sprint(value) })
		return nil
	default:
		return s.set(fmt.Sprint(v))
	}
}

// flatten calls fn for every leaf of a mapping with its dotted name, so that `a: {b: 1}` and `a.b: 1` mean the same.
func flatten(prefix string, m map[string]any, fn func(name string, value any)) {
	for name, v := range m {
		if sub, ok := v.(map[string]any); ok {
			flatten(prefix+name+".", sub, fn)
			continue
		}
		fn(prefix+name, v)
	}
}

// applyFile reads a YAML configuration file into c. A key that is no setting is an error that names the key.
func applyFile(c *broker.Config, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return err
	}
	if len(text) > maxFileBytes {
		return fmt.Errorf("%s: larger than %d bytes", name, maxFileBytes)
	}
	doc, err := oneDocument(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	byKey := map[string]setting{}
	for _, s := range settings(c) {
		byKey[s.key] = s
	}
	var errs []error
	var walk func(prefix string, m map[string]any)
	walk = func(prefix string, m map[string]any) {
		for k, v := range m {
			key := prefix + k
			if s, ok := byKey[key]; ok {
				errs = append(errs, s.setAny(v))
				continue
			}
			if !hasPrefix(byKey, key+".") {
				errs = append(errs, fmt.Errorf("unknown key %q", key))
				continue
			}
			switch v := v.(type) {
			case nil: // a section of which nothing is stated
			case map[string]any:
				walk(key+".", v)
			default:
				errs = append(errs, fmt.Errorf("%s: one value or a list stands where a section of keys is expected, such as %s", key, example(byKey, key+".")))
			}
		}
	}
	walk("", doc)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// oneDocument decodes the one YAML document that a configuration file is; an empty file states nothing.
func oneDocument(text []byte) (map[string]any, error) {
	doc, second := map[string]any{}, any(nil)
	d := yaml.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	switch err := d.Decode(&second); {
	case err == nil:
		return nil, errors.New("a second YAML document begins in this file (a line `---`): a configuration is one document")
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return doc, nil
}

// example is the first of the keys below prefix by name.
func example(byKey map[string]setting, prefix string) string {
	first := ""
	for key := range byKey {
		if strings.HasPrefix(key, prefix) && (first == "" || key < first) {
			first = key
		}
	}
	return first
}

func hasPrefix(byKey map[string]setting, prefix string) bool {
	for key := range byKey {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}
