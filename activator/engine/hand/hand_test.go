package hand

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"aisle.dev/aisle/activator/engine/access"
	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/activator/schedule"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/scaling"
)

var begin = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)

// kept is a backend with the services title (1 to 4 pods, a schedule of office
// hours) and free (no bounds).
type kept struct {
	mu      sync.Mutex // guards what follows
	now     time.Time
	states  map[string]State
	written int
	entries []audit.Entry
}

func backend() *kept {
	office := &scaling.ScalingSchedule{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "office"},
		Spec:       scaling.Spec{Service: "title", Reason: "people work", Windows: []scaling.Window{{Name: "evening", Start: "18:00", End: "22:00", Hold: scaling.Hold{Floor: new(int32(2))}}}},
	}
	return &kept{now: begin, states: map[string]State{
		"default/title": {Base: schedule.Base{Min: 1, Max: 4}, Schedules: []*scaling.ScalingSchedule{office}},
		"shop/free":     {},
	}}
}

func (k *kept) State(namespace, service string) (State, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state(namespace, service)
}

func (k *kept) state(namespace, service string) (State, bool) {
	s, ok := k.states[namespace+"/"+service]
	s.Now = k.now
	return s, ok
}

func (k *kept) Services() []string { return []string{"default/title", "shop/free"} }

func (k *kept) Update(namespace, service string, change func(State) (Change, error)) (State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, _ := k.state(namespace, service)
	c, err := change(s)
	if err != nil {
		return State{}, err
	}
	if k.written++; c.Schedule != nil {
		c.Schedule.UID, c.Schedule.Generation = types.UID(fmt.Sprint("u", k.written)), 1
	}
	s = s.With(service, c.Schedule)
	s.Hand.Changed = k.now
	if c.Entry.Event != "" {
		s.Hand.Events = append(s.Hand.Events, c.Entry.Event)
	}
	k.states[namespace+"/"+service] = s
	k.entries = append(k.entries, c.Entry)
	return s, nil
}

// server answers as the engine does, to a caller over TCP named ops.
func server(k *kept) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(access.ScalePath, Handler(k, slog.New(slog.DiscardHandler)))
	mux.Handle("POST "+EventsPath, Events(k, true, slog.New(slog.DiscardHandler)))
	return mux
}

type reply struct {
	*httptest.ResponseRecorder
	view client.Scale
}

func ask(t *testing.T, h http.Handler, method, path, body string, header ...string) reply {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if req.RemoteAddr = "127.0.0.1:1234"; req.Header.Get("From") != "" {
		req.RemoteAddr = req.Header.Get("From")
	}
	r := reply{ResponseRecorder: httptest.NewRecorder()}
	h.ServeHTTP(r, req)
	if r.Code/100 == 2 {
		if err := json.Unmarshal(r.Body.Bytes(), &r.view); err != nil {
			t.Fatalf("%s: %v", r.Body, err)
		}
	}
	return r
}

func (r reply) want(t *testing.T, status int, says ...string) {
	t.Helper()
	if r.Code != status {
		t.Fatalf("answered %d %s, want %d", r.Code, r.Body, status)
	}
	if status/100 != 2 && r.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("refused with %s %s", r.Header().Get("Content-Type"), r.Body)
	}
	var text struct{ Detail string }
	_ = json.Unmarshal(r.Body.Bytes(), &text)
	for _, s := range says {
		if !strings.Contains(text.Detail+strings.Join(r.view.Warnings, "\n"), s) {
			t.Errorf("%s does not say %q", r.Body, s)
		}
	}
}

const title = "/v1/services/title/scale"

func TestSetAndReset(t *testing.T) {
	k := backend()
	h := server(k)
	r := ask(t, h, "GET", title, "")
	r.want(t, 200)
	want := client.Scale{
		Namespace: "default", Service: "title", Floor: 2, Cap: 4, Next: begin.Add(2 * time.Hour),
		Why: []client.Holding{{Floor: 1, Cap: 4}, {Schedule: "office", Window: "evening", Floor: 2, Until: begin.Add(2 * time.Hour), Reason: "people work"}},
	}
	if diff := cmp.Diff(want, r.view); diff != "" {
		t.Error(diff)
	}
	if tag, there := r.Header()["Etag"]; there {
		t.Errorf("ETag %v where nothing is set", tag)
	}
	r = ask(t, h, "PUT", title, `{"min": 3, "max": 3, "for": "1h", "reason": "a sale"}`)
	r.want(t, 201)
	if v := r.view; v.Floor != 3 || v.Cap != 3 || !v.Next.Equal(begin.Add(time.Hour)) || v.ByHand.Spec.Reason != "a sale" || len(v.Why) != 3 || len(v.Warnings) != 0 {
		t.Errorf("%+v", v)
	}
	tag := r.Header().Get("ETag")
	if again := ask(t, h, "GET", "/v1/services/default%2Ftitle/scale", ""); again.Header().Get("ETag") != tag || tag == "" {
		t.Errorf("ETag %q, then %q", tag, again.Header().Get("ETag"))
	}
	r = ask(t, h, "DELETE", title, "")
	r.want(t, 200)
	if diff := cmp.Diff(want, r.view); diff != "" {
		t.Errorf("after the reset: %s", diff)
	}
	ask(t, h, "DELETE", title, "").want(t, 404, "nothing is set by hand")
	var did []string
	for _, e := range k.entries {
		did = append(did, e.Did)
	}
	if diff := cmp.Diff([]string{"set by hand", "taken back by hand"}, did); diff != "" {
		t.Error(diff)
	}
}

func TestDryRun(t *testing.T) {
	k := backend()
	h := server(k)
	r := ask(t, h, "PUT", title+"?dryRun=true", `{"max": 1, "permanent": true}`)
	r.want(t, 200, "the floor of 2 is cut to the cap of 1")
	if v := r.view; !v.DryRun || v.Floor != 1 || v.Cap != 1 || v.ByHand.Name != "title-by-hand" || v.ByHand.Spec.Until != nil {
		t.Errorf("%+v", v)
	}
	ask(t, h, "PUT", title+"?dryRun=maybe", `{"max": 1, "permanent": true}`).want(t, 400, "maybe")
	ask(t, h, "DELETE", title+"?dryRun=true", "").want(t, 404)
	if k.written != 0 {
		t.Error("it is written")
	}
	ask(t, h, "PUT", title, `{"max": 1, "permanent": true}`).want(t, 201)
	if r := ask(t, h, "DELETE", title+"?dryRun=All", ""); r.view.Cap != 4 || !r.view.DryRun || k.written != 1 {
		t.Errorf("%+v", r.view)
	}
}

// What does not take effect is told.
func TestWarnings(t *testing.T) {
	h := server(backend())
	ask(t, h, "PUT", title, `{"min": 1, "for": "1h"}`).want(t, 201, "a higher floor holds than the 1")
	ask(t, h, "PUT", title, `{"max": 9, "for": "1h"}`).want(t, 200, "a lower cap holds than the 9")
}

func TestPreconditions(t *testing.T) {
	h := server(backend())
	const body = `{"min": 2, "for": "1h"}`
	ask(t, h, "PUT", title, body, "If-Match", "*").want(t, 412, "nothing is set by hand")
	first := ask(t, h, "PUT", title, body, "If-None-Match", "*")
	first.want(t, 201)
	tag := first.Header().Get("ETag")
	ask(t, h, "PUT", title, body, "If-None-Match", "*").want(t, 412, "already", tag)
	ask(t, h, "PUT", title, body, "If-Match", `"other"`).want(t, 412, "somebody has changed it", tag)
	ask(t, h, "PUT", title, body, "If-Match", `W/`+tag).want(t, 412)
	ask(t, h, "PUT", title+"?dryRun=true", body, "If-Match", `"other"`).want(t, 412)
	second := ask(t, h, "PUT", title, body, "If-Match", `"other", `+tag)
	second.want(t, 200)
	ask(t, h, "DELETE", title, "", "If-Match", tag).want(t, 412)
	ask(t, h, "DELETE", title, "", "If-Match", second.Header().Get("ETag")).want(t, 200)
}

// Of many that have read the same, one wins.
func TestConcurrentPuts(t *testing.T) {
	k := backend()
	h := server(k)
	tag := ask(t, h, "PUT", title, `{"min": 1, "for": "1h"}`).Header().Get("ETag")
	codes := make(chan int)
	for n := range 20 {
		go func() {
			req := httptest.NewRequest("PUT", title, strings.NewReader(fmt.Sprintf(`{"min": %d, "for": "1h"}`, n%4)))
			req.Header.Set("If-Match", tag)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			codes <- w.Code
		}()
	}
	count := map[int]int{}
	for range 20 {
		count[<-codes]++
	}
	if diff := cmp.Diff(map[int]int{200: 1, 412: 19}, count); diff != "" || k.written != 2 {
		t.Errorf("%s; written %d times", diff, k.written)
	}
}

func TestRefuses(t *testing.T) {
	k := backend()
	h := server(k)
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"no such service", "GET", "/v1/services/titel/scale", "", 404, "default/title"},
		{"a service of another namespace", "PUT", "/v1/services/free/scale", `{"min":1,"for":"1h"}`, 404, "shop/free"},
		{"two namespaces", "GET", "/v1/services/shop%2Ffree/scale?namespace=default", "", 400, "leave one"},
		{"a hostile name", "GET", "/v1/services/..%2F..%2Fetc/scale", "", 400, "no name"},
		{"no JSON", "PUT", title, `min: 2`, 400, `"for": "3h"`},
		{"nothing", "PUT", title, ``, 400, "EOF"},
		{"an unknown field", "PUT", title, `{"mim": 2, "for": "1h"}`, 400, "mim"},
		{"two objects", "PUT", title, `{"min": 2, "for": "1h"}{}`, 400, "something follows"},
		{"half a pod", "PUT", title, `{"min": 1.5, "for": "1h"}`, 400, "min: 1.5 is not a whole number of pods"},
		{"more pods than an int32", "PUT", title, `{"min": 3000000000, "for": "1h"}`, 400, "min: 3000000000 is not a whole number of pods up to 10000"},
		{"pods in quotes", "PUT", title, `{"min": "2", "for": "1h"}`, 400, "min: a string is not a whole number"},
		{"hours in a number", "PUT", title, `{"min": 2, "for": 3}`, 400, "for: a number is not a text in quotes"},
		{"permanent in quotes", "PUT", title, `{"min": 2, "permanent": "yes"}`, 400, "permanent: a string is not true or false"},
		{"a list", "PUT", title, `[2, 4]`, 400, "an array is not a JSON object"},
		{"a field twice", "PUT", title, `{"min": 2, "min": 3, "for": "1h"}`, 400, `duplicate field "min"`},
		{"a field in other case", "PUT", title, `{"Min": 2, "for": "1h"}`, 400, `unknown field "Min"`},
		{"negative", "PUT", title, `{"min": -1, "for": "1h"}`, 422, "min: -1"},
		{"max 0", "PUT", title, `{"max": 0, "for": "1h"}`, 422, "closed: true"},
		{"no expiry", "PUT", title, `{"min": 2}`, 422, "permanent"},
		{"the past", "PUT", title, `{"min": 2, "until": "2026-11-23T19:00:00Z"}`, 422, "past"},
		{"too much", "PUT", title, strings.Repeat(" ", maxBody+1), 413, "larger"},
		{"another method", "POST", title, `{}`, 405, "PUT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ask(t, h, tt.method, tt.path, tt.body).want(t, tt.status, tt.says)
		})
	}
	if k.written != 0 {
		t.Errorf("%d were written", k.written)
	}
}

// pinged is an event as a stock PingSource sends it.
func pinged(t *testing.T, h http.Handler, id string, at time.Time, data string, header ...string) reply {
	t.Helper()
	return ask(t, h, "POST", EventsPath, data, append([]string{
		"Ce-Specversion", "1.0", "Ce-Type", pingType, "Ce-Source", "/apis/v1/namespaces/default/pingsources/night", "Ce-Id", id,
		"Ce-Time", at.Format(time.RFC3339), "Content-Type", "application/json",
	}, header...)...)
}

func TestEvents(t *testing.T) {
	k := backend()
	h := server(k)
	const data = `{"service": "title", "min": 3, "max": 9, "for": "3h", "reason": "the nightly import"}`
	late := begin.Add(-time.Minute)
	r := pinged(t, h, "1", late, data)
	r.want(t, 200, "max 9 is clamped to 4")
	if r.Header().Get("Ce-Type") != "dev.aisle.scaled.v1" {
		t.Errorf("replies with %v", r.Header())
	}
	set := r.view.ByHand
	if r.view.Floor != 3 || r.view.Cap != 4 || *set.Spec.Windows[0].Cap != 4 || !set.Spec.Until.Time.Equal(late.Add(3*time.Hour)) ||
		!strings.HasSuffix(set.Annotations[scaling.ByAnnotation], "/pingsources/night") {
		t.Errorf("%+v", set)
	}
	if e := k.entries[0]; e.Way != audit.Event || !strings.HasSuffix(e.By, "/night") || !strings.Contains(e.Did, "max 9 is clamped to 4") {
		t.Errorf("%+v", e)
	}
	// Delivered again, or too late.
	pinged(t, h, "1", late, data).want(t, 200, "taken already")
	pinged(t, h, "0", late.Add(-time.Minute), data).want(t, 200, "after this event")
	if k.written != 1 {
		t.Errorf("written %d times", k.written)
	}
	pinged(t, h, "2", begin, `{"service": "title", "max": 1, "for": "1h"}`).want(t, 200)
	// Taken back by hand, and then delivered again.
	k.now = begin.Add(time.Minute)
	ask(t, h, "DELETE", title, "").want(t, 200)
	pinged(t, h, "2", begin, `{"service": "title", "max": 1, "for": "1h"}`).want(t, 200, "taken already")
	pinged(t, h, "3", begin, data).want(t, 200, "after this event")
	if s, _ := k.State("default", "title"); s.set("title") != nil {
		t.Errorf("%+v", s.set("title"))
	}
	// By its own type, in structured mode.
	r = ask(t, h, "POST", EventsPath, `{"specversion":"1.0","id":"a","source":"/ops","type":"dev.aisle.scale.v1","data":{"service":"title","min":2,"for":"1h"}}`, "Content-Type", "application/cloudevents+json")
	if r.Code != 200 || k.written != 4 || r.Header().Get("Content-Type") != "application/cloudevents+json; charset=UTF-8" && !strings.HasPrefix(r.Header().Get("Content-Type"), "application/cloudevents+json") {
		t.Errorf("%d %v %s", r.Code, r.Header(), r.Body)
	}
}

// An event may come from this machine alone: over loopback, or from the address
// that it came to.
func TestEventsAreOfThisMachine(t *testing.T) {
	for _, tt := range []struct {
		from, at string
		want     bool
	}{
		{"127.0.0.1:1234", "127.0.0.1:8080", true},
		{"[::1]:1234", "[::1]:8080", true},
		{"192.0.2.7:1234", "192.0.2.7:8080", true},
		{"[::ffff:192.0.2.7]:1234", "192.0.2.7:8080", true},
		{"192.0.2.1:1234", "192.0.2.7:8080", false},
		{"@", "192.0.2.7:8080", false},
	} {
		at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tt.at))
		req := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, at), "POST", EventsPath, nil)
		if req.RemoteAddr = tt.from; local(req) != tt.want {
			t.Errorf("from %s at %s: %v", tt.from, tt.at, !tt.want)
		}
	}
}

// What is over is not set any more.
func TestExpired(t *testing.T) {
	k := backend()
	h := server(k)
	ask(t, h, "PUT", title, `{"min": 3, "for": "1h"}`).want(t, 201)
	k.now = begin.Add(time.Hour)
	r := ask(t, h, "GET", title, "")
	if r.want(t, 200); r.view.ByHand != nil || r.Header().Get("ETag") != "" {
		t.Errorf("%+v", r.view.ByHand)
	}
	ask(t, h, "DELETE", title, "").want(t, 404, "nothing is set by hand")
	ask(t, h, "PUT", title, `{"min": 3, "for": "1h"}`, "If-None-Match", "*").want(t, 201)
}

func TestEventsRefused(t *testing.T) {
	k := backend()
	h := server(k)
	good := `{"service": "title", "min": 2, "for": "1h"}`
	for _, tt := range []struct {
		name, data string
		at         time.Time
		header     []string
		status     int
		says       string
	}{
		{"another type", good, begin, []string{"Ce-Type", "dev.aisle.product.v1"}, 400, "dev.aisle.scale.v1"},
		{"from elsewhere", good, begin, []string{"From", "192.0.2.1:1234"}, 403, "from this machine alone"},
		{"no event", good, begin, []string{"Ce-Specversion", ""}, 400, ""},
		{"a long source", good, begin, []string{"Ce-Source", "/" + strings.Repeat("a", 300)}, 400, "source"},
		{"no service", `{"min": 2, "for": "1h"}`, begin, nil, 400, "no service"},
		{"no such service: nothing to deliver again", `{"service": "titel", "min": 2, "for": "1h"}`, begin, nil, 422, "default/title"},
		{"for good", `{"service": "title", "min": 2, "permanent": true}`, begin, nil, 400, "permanent"},
		{"no expiry", `{"service": "title", "min": 2}`, begin, nil, 422, "for:"},
		{"over already", good, begin.Add(-2 * time.Hour), nil, 422, "past"},
		{"no maximum", `{"namespace": "shop", "service": "free", "min": 2, "for": "1h"}`, begin, nil, 422, "max-scale"},
		{"negative", `{"service": "title", "min": -2, "for": "1h"}`, begin, nil, 422, "min: -2"},
		{"min above max", `{"service": "title", "min": 9, "max": 8, "for": "1h"}`, begin, nil, 422, "min: 9 is above max"},
		{"both above the maximum", `{"service": "title", "min": 8, "max": 9, "for": "1h"}`, begin, nil, 200, "min 8 is clamped to 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k.written = 0
			pinged(t, h, tt.name, tt.at, tt.data, tt.header...).want(t, tt.status, tt.says)
			if tt.status != 200 && k.written != 0 {
				t.Error("it is written")
			}
		})
	}
	off := Events(k, false, slog.New(slog.DiscardHandler))
	pinged(t, off, "off", begin, good).want(t, 403, "--scale-events")
}

// A schedule that cannot be used hides nothing of the rest.
func TestViewOfABrokenSchedule(t *testing.T) {
	k := backend()
	s, _ := k.State("default", "title")
	s.Schedules = append(s.Schedules, &scaling.ScalingSchedule{ObjectMeta: metav1.ObjectMeta{Name: "broken"}, Spec: scaling.Spec{Service: "title", TimeZone: "Mars/Olympus"}})
	v := View("default", "title", s)
	if v.Floor != 2 || len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "broken") {
		t.Errorf("%+v", v)
	}
	s.Schedules = s.Schedules[:1]
	if diff := cmp.Diff(View("default", "title", s), v, cmpopts.IgnoreFields(client.Scale{}, "Warnings")); diff != "" {
		t.Error(diff)
	}
}

func FuzzPut(f *testing.F) {
	f.Add([]byte(`{"min": 2, "max": 4, "for": "3h"}`))
	f.Add([]byte(`{"max": 1, "until": "2026-11-24T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		k := backend()
		w := httptest.NewRecorder()
		server(k).ServeHTTP(w, httptest.NewRequest("PUT", title, strings.NewReader(string(body))))
		text, _ := io.ReadAll(w.Body)
		switch w.Code {
		case 201:
			s, _ := k.State("default", "title")
			set := s.set("title")
			if _, err := schedule.Compile(set.Name, &set.Spec); err != nil {
				t.Errorf("%s is written and cannot be used: %v", body, err)
			}
		case 400, 413, 422:
		default:
			t.Errorf("%d %s", w.Code, text)
		}
	})
}
