package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestParseHeader(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame string
		want  Header
		body  string
		bad   bool
	}{
		{name: "v1", frame: "\x00\x03\x00\x01\x00\x00\x00\x09\x00\x02meBODY", want: Header{3, 1, 9, "me"}, body: "BODY"},
		{name: "v1, null client id", frame: "\x00\x03\x00\x01\x00\x00\x00\x09\xff\xffBODY", want: Header{3, 1, 9, ""}, body: "BODY"},
		{name: "v2", frame: "\x00\x03\x00\x09\x00\x00\x00\x09\x00\x02me\x00BODY", want: Header{3, 9, 9, "me"}, body: "BODY"},
		{name: "v2 with tags", frame: "\x00\x03\x00\x09\x00\x00\x00\x09\xff\xff\x02\x00\x01x\x05\x00BODY", want: Header{3, 9, 9, ""}, body: "BODY"},
		{name: "ApiVersions of the future", frame: "\x00\x12\x7f\xff\xff\xff\xff\xff\x00\x00\x00?", want: Header{18, 32767, -1, ""}, body: "?"},
		{name: "v0", frame: "\x00\x07\x00\x00\x00\x00\x00\x09BODY", want: Header{7, 0, 9, ""}, body: "BODY"},
		{name: "never flexible", frame: "\x00\x11\x00\x01\x00\x00\x00\x09\x00\x00BODY", want: Header{17, 1, 9, ""}, body: "BODY"},
		{name: "short", frame: "\x00\x03\x00\x01\x00", bad: true},
		{name: "unknown key", frame: "\x01\x03\x00\x01\x00\x00\x00\x09\x00\x00", bad: true},
		{name: "client id longer than the frame", frame: "\x00\x03\x00\x01\x00\x00\x00\x09\x7f\xff", bad: true},
		{name: "client id of negative length", frame: "\x00\x03\x00\x01\x00\x00\x00\x09\xff\xfe", bad: true},
		{name: "billions of tags", frame: "\x00\x03\x00\x09\x00\x00\x00\x09\x00\x00\xff\xff\xff\xff\x0f", bad: true},
		{name: "tag longer than the frame", frame: "\x00\x03\x00\x09\x00\x00\x00\x09\x00\x00\x01\x00\x7f", bad: true},
	} {
		h, body, err := ParseHeader([]byte(c.frame), "me")
		if c.bad {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || h != c.want || string(body) != c.body {
			t.Errorf("%s: %+v %q %v", c.name, h, body, err)
		}
	}
}

func TestUnsupportedApiVersions(t *testing.T) {
	got := AppendUnsupportedApiVersions(nil, 77)
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := resp.ReadFrom(got[8:]); err != nil {
		t.Fatal(err)
	}
	if resp.ErrorCode != 35 || len(resp.ApiKeys) != 1 || resp.ApiKeys[0].ApiKey != 18 || resp.ApiKeys[0].MaxVersion != 5 {
		t.Errorf("%+v", resp)
	}
	if !bytes.Equal(got[:8], []byte{0, 0, 0, 16, 0, 0, 0, 77}) || len(got) != 20 {
		t.Errorf("% x", got)
	}
}

func TestValidSoftware(t *testing.T) {
	for s, want := range map[string]bool{
		"": false, "a": true, "apache-kafka-java": true, "4.1.0": true, "-a": false, "a-": false, "a b": false, "é": false, ".": false, "a..b": true,
	} {
		if ValidSoftware(s) != want {
			t.Errorf("%q: want %v", s, want)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte("\x00\x03\x00\x09\x00\x00\x00\x09\xff\xff\x02\x00\x01x\x05\x00BODY"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, body, err := ParseHeader(frame, "")
		if err == nil && !bytes.HasSuffix(frame, body) {
			t.Errorf("%+v: body is no suffix", h)
		}
	})
}
