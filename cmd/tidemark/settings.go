package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/tidemarkmq/tidemark/broker"
)

const (
	envPrefix    = "TIDEMARK_"
	maxFileBytes = 1 << 20
)

// setting is one leaf of broker.Config, as files, flags and the environment name it.
type setting struct {
	key   string // dotted, such as etcd.endpoints
	help  string
	value reflect.Value
}

func (s setting) env() string {
	return envPrefix + strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(s.key))
}

// settings walks the `key` tags of c. The values are settable and belong to c.
func settings(c *broker.Config) []setting {
	var all []setting
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			key := f.Tag.Get("key")
			if key == "-" {
				continue
			}
			if f.Type.Kind() == reflect.Struct {
				walk(prefix+key+".", v.Field(i))
				continue
			}
			all = append(all, setting{key: prefix + key, help: f.Tag.Get("help"), value: v.Field(i)})
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return all
}

// usage is the flag's help: its meaning, the kind of its value and the default.
func (s setting) usage() string {
	kind, shown := "string", fmt.Sprint(s.value.Interface())
	switch v := s.value.Interface().(type) {
	case int, int64:
		kind = "number"
		if strings.HasSuffix(s.key, "-bytes") {
			kind = "bytes"
		}
	case bool:
		kind = "bool"
	case time.Duration:
		kind = "duration"
	case []string:
		kind, shown = "list", strings.Join(v, ",")
	case map[string]string:
		kind, shown = "name=value,...", ""
	}
	text := s.help + " (`" + kind + "`"
	if !s.value.IsZero() && shown != "" {
		text += ", default " + shown
	}
	return text + ")"
}

// set parses text as the setting's type: lists are separated by commas, maps are NAME=VALUE lists.
func (s setting) set(text string) error {
	var err error
	switch target := s.value.Addr().Interface().(type) {
	case *string:
		*target = text
	case *int:
		*target, err = strconv.Atoi(text)
	case *bool:
		*target, err = strconv.ParseBool(text)
	case *int64:
		*target, err = strconv.ParseInt(text, 10, 64)
	case *time.Duration:
		*target, err = time.ParseDuration(text)
	case *[]string:
		*target = splitList(text)
	case *map[string]string:
		for _, pair := range splitList(text) {
			name, value, ok := strings.Cut(pair, "=")
			if !ok {
				return fmt.Errorf("%s: %q is not NAME=VALUE", s.key, pair)
			}
			(*target)[name] = value
		}
	default:
		err = fmt.Errorf("a %T cannot be set from text", target)
	}
	if err != nil {
		return fmt.Errorf("%s: %q: %w", s.key, text, err)
	}
	return nil
}

func splitList(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

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
	doc := map[string]any{}
	if err := yaml.Unmarshal(text, &doc); err != nil {
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
			if sub, ok := v.(map[string]any); ok && hasPrefix(byKey, key+".") {
				walk(key+".", sub)
				continue
			}
			errs = append(errs, fmt.Errorf("unknown key %q", key))
		}
	}
	walk("", doc)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func hasPrefix(byKey map[string]setting, prefix string) bool {
	for key := range byKey {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// applyEnv overrides c from TIDEMARK_ variables. A variable that is no setting is an error that names it, but for those
// that a Kubernetes service called tidemark injects and those of the project's own tests.
func applyEnv(c *broker.Config, environ []string) error {
	byEnv := map[string]setting{}
	for _, s := range settings(c) {
		byEnv[s.env()] = s
	}
	var errs []error
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		if s, ok := byEnv[name]; ok {
			errs = append(errs, s.set(value))
			continue
		}
		foreign := []string{"TIDEMARK_SERVICE_", "TIDEMARK_PORT", "TIDEMARK_TEST_", "TIDEMARK_TOOLS", "TIDEMARK_LOG_"}
		if !slices.ContainsFunc(foreign, func(p string) bool { return strings.HasPrefix(name, p) }) {
			errs = append(errs, fmt.Errorf("unknown environment variable %s", name))
		}
	}
	return errors.Join(errs...)
}

// addFlags gives every setting a flag of its name. The returned function applies those that were given, after file and
// environment, so that flags win.
func addFlags(fs *flag.FlagSet, c *broker.Config) (apply func() error) {
	var given []func() error
	for _, s := range settings(c) {
		fs.Func(s.key, s.usage(), func(text string) error {
			given = append(given, func() error { return s.set(text) })
			return nil
		})
	}
	return func() error {
		var errs []error
		for _, set := range given {
			errs = append(errs, set())
		}
		return errors.Join(errs...)
	}
}
