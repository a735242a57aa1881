package metered_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/acceptance"
	"github.com/tidemarkmq/tidemark/objectstore/faulty"
	"github.com/tidemarkmq/tidemark/objectstore/memory"
	"github.com/tidemarkmq/tidemark/objectstore/metered"
)

func TestAcceptance(t *testing.T) {
	acceptance.Run(t, func(t *testing.T) objectstore.Store {
		s, err := metered.New(memory.New(), noop.NewMeterProvider().Meter("test"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// collect returns the points of all instruments as lines.
func collect(t *testing.T, reader *sdk.ManualReader) []string {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	var lines []string
	add := func(name, unit string, set attribute.Set, value any) {
		lines = append(lines, fmt.Sprintf("%s %s %s = %v", name, unit, set.Encoded(attribute.DefaultEncoder()), value))
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		if m.Description == "" || !strings.HasPrefix(m.Name, "tidemark.objectstore.") {
			t.Errorf("instrument %q has no description, or a foreign name", m.Name)
		}
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				add(m.Name, m.Unit, p.Attributes, p.Value)
			}
		case metricdata.Histogram[float64]:
			for _, p := range data.DataPoints {
				add(m.Name, m.Unit, p.Attributes, fmt.Sprintf("%d in %v", p.Count, p.Sum))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := sdk.NewManualReader()
		meter := sdk.NewMeterProvider(sdk.WithReader(reader)).Meter("test")
		f := faulty.New(memory.New(), faulty.Rule{Op: faulty.Put, Fault: faulty.Slow, Delay: 2 * time.Second},
			faulty.Rule{Op: faulty.Put, Nth: 3, Fault: faulty.AppliedLost}, faulty.Rule{Op: faulty.Head, Nth: 2, Fault: faulty.Throttled})
		s, err := metered.New(f, meter)
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		put := func(key string) error {
			return s.Put(ctx, key, strings.NewReader("content"), objectstore.PutOptions{IfAbsent: true})
		}
		_, _, _ = put("k"), put("k"), put("l") // ok after 2 s, precondition, unknown
		_, _ = s.GetRange(ctx, "k", make([]byte, 5), 0)
		_, _ = s.GetRange(ctx, "k", make([]byte, 50), 0)
		_, _ = s.GetRange(ctx, "missing", make([]byte, 50), 0)
		_, _ = s.Head(ctx, "k")
		_, _ = s.Head(ctx, "k")
		_ = s.List(ctx, "", "", func(objectstore.Info) error {
			time.Sleep(time.Hour) // the callback's own time
			return errors.New("enough")
		})
		_ = s.Delete(ctx, "k", "l")
		_ = s.Delete(ctx, "../escape")
		want := []string{
			"tidemark.objectstore.bytes.received By  = 12",
			"tidemark.objectstore.bytes.sent By  = 7",
			"tidemark.objectstore.objects {object} kind=delete = 2",
			"tidemark.objectstore.objects {object} kind=list = 1",
			"tidemark.objectstore.request.duration s kind=delete,result=ok = 1 in 0",
			"tidemark.objectstore.request.duration s kind=delete,result=rejected = 1 in 0",
			"tidemark.objectstore.request.duration s kind=get,result=not_found = 1 in 0",
			"tidemark.objectstore.request.duration s kind=get,result=ok = 2 in 0",
			"tidemark.objectstore.request.duration s kind=head,result=ok = 1 in 0",
			"tidemark.objectstore.request.duration s kind=head,result=throttled = 1 in 0",
			"tidemark.objectstore.request.duration s kind=list,result=ok = 1 in 0",
			"tidemark.objectstore.request.duration s kind=put,result=ok = 1 in 2",
			"tidemark.objectstore.request.duration s kind=put,result=precondition_failed = 1 in 0",
			"tidemark.objectstore.request.duration s kind=put,result=unknown = 1 in 0",
			"tidemark.objectstore.requests.active {request} kind=delete = 0",
			"tidemark.objectstore.requests.active {request} kind=get = 0",
			"tidemark.objectstore.requests.active {request} kind=head = 0",
			"tidemark.objectstore.requests.active {request} kind=list = 0",
			"tidemark.objectstore.requests.active {request} kind=put = 0",
		}
		if got := collect(t, reader); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
