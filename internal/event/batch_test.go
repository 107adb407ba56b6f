package event

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/problem"
)

func TestReadAll(t *testing.T) {
	const one = `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"title":"x"}}`
	tests := []struct {
		name, contentType, body string
		events, status          int // events, or the refusal's status
		says                    string
	}{
		{"one event, structured", ContentType, one, 1, 0, ""},
		{"a batch", ContentTypeBatch, "[" + one + ", " + one + "]", 2, 0, ""},
		{"charset", ContentTypeBatch + ";charset=utf-8", "[" + one + "]", 1, 0, ""},
		{"no event", ContentTypeBatch, " [ ] ", 0, 0, ""},
		{"an object", ContentTypeBatch, one, 0, 400, "not a JSON array"},
		{"nothing", ContentTypeBatch, "", 0, 400, "not a JSON array"},
		{"a number among events", ContentTypeBatch, "[" + one + ",1]", 0, 400, "after event 1"},
		{"the second is wrong", ContentTypeBatch, "[" + one + `,{"id":"2"}]`, 0, 400, "event 2 of the batch"},
		{"not closed", ContentTypeBatch, "[" + one, 0, 400, "ends too early"},
		{"text after it", ContentTypeBatch, "[] []", 0, 400, "after its closing bracket"},
		{"too many", ContentTypeBatch, "[" + strings.Repeat(`{"specversion":"1.0","id":"1","source":"/s","type":"t"},`, MaxBatch) + one + "]", 0, 413, "more than 10000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.contentType)
			evs, err := ReadAll(httptest.NewRecorder(), r, 1<<20)
			if tt.status > 0 {
				if err == nil || problem.Status(err) != tt.status || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("got %d events, %v; want %d and %q", len(evs), err, tt.status, tt.says)
				}
				return
			}
			if err != nil || len(evs) != tt.events {
				t.Fatalf("got %d events, %v; want %d", len(evs), err, tt.events)
			}
			for _, ev := range evs {
				if string(ev.Data()) != `{"title":"x"}` {
					t.Errorf("data %s", ev.Data())
				}
			}
		})
	}
}

// A batch is refused with a 4xx, or each of its events can be written and read
// again; it is read as its events one by one.
func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte(`[{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"eA=="}]`))
	f.Add([]byte(`[{"specversion":"1.0"},`))
	f.Fuzz(func(t *testing.T, body []byte) {
		evs, err := DecodeBatch(bytes.Clone(body))
		if err != nil {
			if s := problem.Status(err); s < 400 || s > 499 {
				t.Fatalf("status %d: %v", s, err)
			}
			return
		}
		for _, ev := range evs {
			h, one, err := Encode(ev, true)
			if err != nil {
				t.Fatal(err)
			}
			back, _, err := Decode(h, one)
			if err != nil || back.ID() != ev.ID() || !bytes.Equal(bytes.TrimSpace(back.Data()), bytes.TrimSpace(ev.Data())) {
				t.Fatalf("%v became %v: %v", ev, back, err)
			}
		}
	})
}
