package main

import (
	"errors"
	"flag"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/broker"
)

const envPrefix = "TIDEMARK_"

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

// isBytes tells whether the value is a number of bytes, which may have a unit.
func (s setting) isBytes() bool {
	return s.value.Kind() == reflect.Int64 && strings.HasSuffix(s.key, "-bytes")
}

// usage is the flag's help: its meaning, the kind of its value and the default.
func (s setting) usage() string {
	kind, shown := "string", fmt.Sprint(s.value.Interface())
	switch v := s.value.Interface().(type) {
	case int, int64:
		kind = "number"
		if s.isBytes() {
			kind, shown = "bytes", formatBytes(s.value.Int())
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
	want := ""
	switch target := s.value.Addr().Interface().(type) {
	case *string:
		*target = text
	case *int:
		want = "a whole number"
		*target, err = strconv.Atoi(text)
	case *bool:
		want = "true or false"
		*target, err = strconv.ParseBool(text)
	case *int64:
		want = "a whole number"
		if s.isBytes() {
			want = "a number of bytes, also with a unit: KiB, MiB, GiB, KB, MB or GB, as in 64MiB"
			*target, err = parseBytes(text)
		} else {
			*target, err = strconv.ParseInt(text, 10, 64)
		}
	case *time.Duration:
		want = "a duration with its unit, as in 250ms, 5s or 10m"
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
		return fmt.Errorf("%s: a %T cannot be set from text", s.key, target)
	}
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%s: %q is too large", s.key, text)
	case err != nil:
		return fmt.Errorf("%s: %q is not %s", s.key, text, want)
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
