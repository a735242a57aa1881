package access

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func noEnv(string) string { return "" }

func TestProperties(t *testing.T) {
	for text, want := range map[string]struct {
		tls  bool
		sasl string
		err  string
	}{
		"": {},
		"# a comment\n\nsecurity.protocol=PLAINTEXT": {},
		"security.protocol=ssl":                      {tls: true},
		"security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.username=u\nsasl.password=p":                                                                                 {tls: true, sasl: "SCRAM-SHA-512"},
		"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"u\" password=\"p;=\";": {sasl: "PLAIN"},
		"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=GSSAPI\nsasl.username=u\nsasl.password=p":                                                                                  {err: "GSSAPI"},
		"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN":                                                                                                                     {err: "user and a password"},
		"security.protocol=TLS":                               {err: "security.protocol"},
		"ssl.truststore.password=x":                           {err: "ssl.truststore.password"},
		"security.protocol=SSL\nssl.truststore.type=JKS":      {err: "JKS"},
		"security.protocol=SSL\nssl.ca.location=/nonexistent": {err: "/nonexistent"},
		"nonsense": {err: "nonsense"},
	} {
		a, err := parse([]byte(text), noEnv)
		if want.err != "" {
			if err == nil || !strings.Contains(err.Error(), want.err) {
				t.Errorf("%q: %v, want something about %q", text, err, want.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if (a.TLS != nil) != want.tls || (a.SASL != nil) != (want.sasl != "") || a.SASL != nil && a.SASL.Name() != want.sasl {
			t.Errorf("%q: %+v", text, a)
		}
	}
}

func TestPasswordOfTheEnvironmentWins(t *testing.T) {
	a, err := parse([]byte("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=u\nsasl.password=file"), func(name string) string {
		if name == PasswordVariable {
			return "env"
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	_, first, err := a.SASL.Authenticate(t.Context(), "h")
	if err != nil || string(first) != "\x00u\x00env" {
		t.Errorf("%q, %v", first, err)
	}
}

func TestJAAS(t *testing.T) {
	const jaas = `module required username="a b" password="p=\"" other=x;`
	if got := jaasValue(jaas, "username"); got != "a b" {
		t.Errorf("%q", got)
	}
	if got := jaasValue(jaas, "other"); got != "x" {
		t.Errorf("%q", got)
	}
}

func TestReadNamesItsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "client.properties")
	if err := os.WriteFile(file, []byte("nonsense=1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(file, noEnv); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
	if a, err := Read("", noEnv); err != nil || a.TLS != nil || len(a.Options()) != 0 {
		t.Errorf("%+v, %v", a, err)
	}
}
