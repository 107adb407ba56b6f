package ping

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
)

func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// source reads a PingSource from all of its YAML but its name.
func source(t testing.TB, spec string) *sourcesv1.PingSource {
	t.Helper()
	var ps sourcesv1.PingSource
	if err := yaml.Unmarshal([]byte("metadata: {namespace: shop, name: nightly}\n"+spec), &ps); err != nil {
		t.Fatal(err)
	}
	return &ps
}

const toBroker = "sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default, namespace: shop}}"

func TestEvent(t *testing.T) {
	tick := time.Date(2026, 11, 23, 23, 30, 0, 0, time.FixedZone("", 3600))
	attributes := map[string]any{
		"specversion": "1.0", "type": "dev.knative.sources.ping",
		"source": "/apis/v1/namespaces/shop/pingsources/nightly", "time": "2026-11-23T22:30:00Z",
	}
	tests := []struct {
		name, spec string
		more       map[string]any
	}{
		{name: "without data", spec: `{` + toBroker + `}`},
		{name: "data", spec: `{` + toBroker + `, contentType: application/json, data: '{"run":"nightly"}'}`,
			more: map[string]any{"datacontenttype": "application/json", "data_base64": "eyJydW4iOiJuaWdodGx5In0="}},
		{name: "bytes", spec: `{` + toBroker + `, contentType: image/png, dataBase64: iVBORw==}`,
			more: map[string]any{"datacontenttype": "image/png", "data_base64": "iVBORw=="}},
		{name: "extensions", spec: `{` + toBroker + `, ceOverrides: {extensions: {tenant: a, aislerun: "7"}}}`,
			more: map[string]any{"tenant": "a", "aislerun": "7"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(source(t, "spec: "+tt.spec))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(s.Event(tick))
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatal(err)
			}
			if id, _ := got["id"].(string); len(id) != 32 {
				t.Errorf("the id is %v", got["id"])
			}
			delete(got, "id")
			want := map[string]any{}
			for _, m := range []map[string]any{attributes, tt.more} {
				for k, v := range m {
					want[k] = v
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if again, other := s.Event(tick.UTC()), s.Event(tick.Add(time.Second)); again.ID() != s.Event(tick).ID() || other.ID() == again.ID() {
				t.Errorf("ids of one tick %s and %s, of the next %s", s.Event(tick).ID(), again.ID(), other.ID())
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct{ name, manifest, says string }{
		{"no sink", `spec: {schedule: "* * * * *"}`, "spec.sink"},
		{"a schedule on which Knative's validation panics", `spec: {schedule: "TZ=0", ` + toBroker + `}`, "after its zone"},
		{"@every", `spec: {schedule: "@every 5m", ` + toBroker + `}`, "no such descriptor"},
		{"both kinds of data", `spec: {data: a, dataBase64: YQ==, ` + toBroker + `}`, "data, spec.dataBase64"},
		{"no base64", `spec: {dataBase64: "***", ` + toBroker + `}`, "spec.dataBase64"},
		{"JSON that is none", `spec: {contentType: application/json, data: "{", ` + toBroker + `}`, "spec.data"},
		{"an extension in the place of an attribute", `spec: {ceOverrides: {extensions: {type: mine}}, ` + toBroker + `}`, "CloudEvents"},
		{"a bad extension", `spec: {ceOverrides: {extensions: {a-b: "1"}}, ` + toBroker + `}`, "extensions"},
		{"a deadline that is none", "  annotations: {aisle.dev/starting-deadline: soon}\nspec: {" + toBroker + "}", "starting-deadline"},
		{"a deadline too short", "  annotations: {aisle.dev/starting-deadline: 1s}\nspec: {" + toBroker + "}", "from 10s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			manifest := "metadata:\n  namespace: shop\n  name: nightly\n" + tt.manifest
			var ps sourcesv1.PingSource
			if err := yaml.UnmarshalStrict([]byte(manifest), &ps); err != nil {
				t.Fatal(err)
			}
			if _, err := New(&ps); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v; want it to say %q", err, tt.says)
			}
		})
	}
}

func TestNewDefaults(t *testing.T) {
	ps := source(t, "spec: {"+toBroker+"}")
	s, err := New(ps)
	if err != nil {
		t.Fatal(err)
	}
	now := at(t, "2026-11-23T10:00:30Z")
	if next := s.Schedule.Next(now); !next.Equal(at(t, "2026-11-23T10:01:00Z")) {
		t.Errorf("without a schedule the next tick is %s", next)
	}
	if ps.Spec.Schedule != "" {
		t.Error("New changed what it was given")
	}
}

func TestDue(t *testing.T) {
	ps := source(t, `spec: {schedule: "0 * * * *", timezone: UTC, `+toBroker+`}`)
	ps.Annotations = map[string]string{StartingDeadline: "3h"}
	s, err := New(ps)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, mark, schedule, now, want string }{
		{name: "on time", mark: "2026-11-23T09:00:00Z", now: "2026-11-23T10:00:00.001Z", want: "2026-11-23T10:00:00Z"},
		{name: "between", mark: "2026-11-23T10:00:00Z", now: "2026-11-23T10:59:59Z"},
		{name: "missed several: the latest", mark: "2026-11-23T07:00:00Z", now: "2026-11-23T10:20:00Z", want: "2026-11-23T10:00:00Z"},
		{name: "nothing ran for a year", mark: "2025-11-23T07:00:00Z", now: "2026-11-23T10:20:00Z", want: "2026-11-23T10:00:00Z"},
		{name: "another schedule", schedule: "other", mark: "2026-11-23T07:00:00Z", now: "2026-11-23T10:20:00Z"},
		{name: "the clock was set back by minutes: never twice", mark: "2026-11-23T10:00:00Z", now: "2026-11-23T09:59:00Z"},
		{name: "the clock had been years ahead", mark: "2030-01-01T00:00:00Z", now: "2026-11-23T10:20:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := Mark{Schedule: s.written, UpTo: at(t, tt.mark)}
			if tt.schedule != "" {
				m.Schedule = tt.schedule
			}
			now := at(t, tt.now)
			tick, due := s.due(s.resume(m, now), now)
			switch {
			case due != (tt.want != ""):
				t.Errorf("due is %v (%s), want %q", due, tick, tt.want)
			case due && !tick.Equal(at(t, tt.want)):
				t.Errorf("due is %s, want %s", tick, tt.want)
			}
		})
	}

	t.Run("older than the deadline", func(t *testing.T) {
		ps.Spec.Schedule = "0 1 * * *"
		s, err := New(ps)
		if err != nil {
			t.Fatal(err)
		}
		m := Mark{Schedule: s.written, UpTo: at(t, "2026-11-22T01:00:00Z")}
		if tick, due := s.due(m, at(t, "2026-11-23T04:00:01Z")); due {
			t.Errorf("the tick of %s is due", tick)
		}
		if _, due := s.due(m, at(t, "2026-11-23T03:59:59Z")); !due {
			t.Error("the missed tick is not due")
		}
	})
}
