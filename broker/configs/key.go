// Package configs is the table of Kafka's topic and broker configs as Tidemark takes them: names, types, defaults,
// rules, synonyms between the two, and the typed view of a topic's effective configs.
//
// The package is pure: no goroutines, no I/O, no clock. A Registry is immutable after New and safe for concurrent use.
// The names, the rules and the wording of refusals follow Apache Kafka (ConfigDef, LogConfig, ServerTopicConfigSynonyms,
// DynamicBrokerConfig), because operators' tools match on them.
package configs

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Type is a config's type; the numbers are those of the DescribeConfigs response (KIP-569).
type Type int8

// The types, with Kafka's numbers.
const (
	Unknown  Type = 0
	Bool     Type = 1
	String   Type = 2
	Int      Type = 3
	Short    Type = 4
	Long     Type = 5
	Double   Type = 6
	List     Type = 7
	Class    Type = 8
	Password Type = 9
)

// String returns Kafka's name of the type.
func (t Type) String() string {
	names := [...]string{"UNKNOWN", "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD"}
	if int(t) < 0 || int(t) >= len(names) {
		return names[0]
	}
	return names[t]
}

// Scope says how a broker config may be changed while the broker runs (KIP-226).
type Scope int8

// The scopes. Topic keys carry ClusterWide: they may always be changed.
const (
	ReadOnly    Scope = iota // only in the broker's configuration file
	PerBroker                // dynamically, for one broker
	ClusterWide              // dynamically, for one broker or as the cluster's default
)

// Key describes one config. The zero rule accepts every value of the type.
type Key struct {
	Name    string
	Type    Type
	Default string // canonical form; meaningless if Null
	Null    bool   // there is no default
	Doc     string
	Scope   Scope

	// Synonyms lists, for a topic key, the broker keys that give its default, the strongest first.
	Synonyms []Synonym

	rule rule
}

// Sensitive tells whether the value must never be shown.
func (k *Key) Sensitive() bool { return k.Type == Password }

// Synonym names a broker key whose value, multiplied by Millis if that is not zero, is a topic key's default.
type Synonym struct {
	Name   string
	Millis int64 // milliseconds per unit of the broker key; 0 = the value is taken as it is
}

// Error is a refused config. Its text is meant for the user, in Kafka's words where Kafka has some.
type Error struct{ Message string }

func (e *Error) Error() string { return e.Message }

func refuse(format string, args ...any) error { return &Error{Message: fmt.Sprintf(format, args...)} }

// invalid is Kafka's ConfigException(name, value, reason).
func invalid(name, value, reason string) error {
	return refuse("Invalid value %s for configuration %s: %s", value, name, reason)
}

// value is a parsed config: int64, float64, bool, string or []string, by the key's type.
type value any

// parse reads text by the key's type and checks the rule. The text may have blanks around it, as in Kafka.
func (k *Key) parse(text string) (value, error) {
	v, err := k.parseType(text)
	if err != nil {
		return nil, err
	}
	if k.rule != nil {
		if err := k.rule(k.Name, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (k *Key) parseType(text string) (value, error) {
	trimmed := strings.TrimSpace(text)
	switch k.Type {
	case Bool:
		switch strings.ToLower(trimmed) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, invalid(k.Name, text, "Expected value to be either true or false")
	case Int, Short, Long:
		bits := map[Type]int{Int: 32, Short: 16, Long: 64}[k.Type]
		n, err := strconv.ParseInt(trimmed, 10, bits)
		if err != nil {
			return nil, invalid(k.Name, text, "Not a number of type "+k.Type.String())
		}
		return n, nil
	case Double:
		f, err := strconv.ParseFloat(trimmed, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, invalid(k.Name, text, "Not a number of type "+k.Type.String())
		}
		return f, nil
	case List:
		return splitList(trimmed), nil
	default:
		return trimmed, nil
	}
}

// splitList reads a comma-separated list. A member that is named again counts once (KIP-1161).
func splitList(text string) []string {
	list := []string{}
	if text == "" {
		return list
	}
	seen := make(map[string]bool)
	for member := range strings.SplitSeq(text, ",") {
		if member = strings.TrimSpace(member); !seen[member] {
			seen[member] = true
			list = append(list, member)
		}
	}
	return list
}

// format is the canonical text of a parsed value, as Kafka shows it.
func format(v value) string {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		s := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	case []string:
		return strings.Join(v, ",")
	case string:
		return v
	}
	return ""
}

// rule checks a parsed value; nil accepts all.
type rule func(name string, v value) error

func atLeast(minimum int64) rule {
	return func(name string, v value) error {
		if v.(int64) < minimum {
			return invalid(name, format(v), "Value must be at least "+strconv.FormatInt(minimum, 10))
		}
		return nil
	}
}

func between(minimum, maximum int64) rule {
	low := atLeast(minimum)
	return func(name string, v value) error {
		if err := low(name, v); err != nil {
			return err
		}
		if v.(int64) > maximum {
			return invalid(name, format(v), "Value must be no more than "+strconv.FormatInt(maximum, 10))
		}
		return nil
	}
}

func fraction(name string, v value) error {
	switch f := v.(float64); {
	case f < 0:
		return invalid(name, format(v), "Value must be at least 0")
	case f > 1:
		return invalid(name, format(v), "Value must be no more than 1")
	}
	return nil
}

func oneOf(valid ...string) rule {
	return func(name string, v value) error {
		for _, s := range valid {
			if s == v.(string) {
				return nil
			}
		}
		return invalid(name, v.(string), "String must be one of: "+strings.Join(valid, ", "))
	}
}

// listOf accepts a list, maybe empty, of valid members.
func listOf(valid ...string) rule {
	one := oneOf(valid...)
	return func(name string, v value) error {
		for _, s := range v.([]string) {
			if s == "" {
				return refuse("Configuration '%s' values must not be empty.", name)
			}
			if err := one(name, s); err != nil {
				return err
			}
		}
		return nil
	}
}

func gzipLevel(name string, v value) error {
	if n := v.(int64); n != -1 && (n < 1 || n > 9) {
		return invalid(name, format(v), "Value must be between 1 and 9 or equal to -1")
	}
	return nil
}

// throttledReplicas accepts *, or partition:broker pairs.
func throttledReplicas(name string, v value) error {
	list := v.([]string)
	if strings.Join(list, "") == "*" {
		return nil
	}
	for _, s := range list {
		partition, broker, ok := strings.Cut(s, ":")
		if s != "" && (!ok || !digits(partition) || !digits(broker)) {
			return invalid(name, "["+strings.Join(list, ", ")+"]", name+" must be the literal '*' or a list of replicas "+
				"in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...")
		}
	}
	return nil
}

func digits(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}
