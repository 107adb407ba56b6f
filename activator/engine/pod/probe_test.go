package pod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func TestProbeHTTP(t *testing.T) {
	status := http.StatusOK
	var seen *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		w.Header().Set("Server-Timing", "model;dur=1.5")
		w.WriteHeader(status)
	}))
	defer srv.Close()
	probe := Probe{HTTP: true, Path: "/readyz?x=1", Host: "probed", Header: http.Header{"X-Probe": {"yes"}}}
	for _, test := range []struct {
		status int
		passes bool
	}{{200, true}, {204, true}, {302, true}, {399, true}, {400, false}, {404, false}, {500, false}, {503, false}} {
		status = test.status
		a, err := probe.once(t.Context(), srv.Listener.Addr().String())
		if (err == nil) != test.passes {
			t.Errorf("%d: %v", test.status, err)
		}
		if test.passes && (len(a.timing) != 1 || a.timing[0] != "model;dur=1.5") {
			t.Errorf("%d: timing %q", test.status, a.timing)
		}
	}
	if seen.Host != "probed" || seen.Header.Get("X-Probe") != "yes" || seen.URL.RequestURI() != "/readyz?x=1" || !strings.HasPrefix(seen.UserAgent(), "kube-probe/") {
		t.Errorf("probed with %+v", seen)
	}
}

func TestProbeGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, said := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(srv, said)
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }()
	defer func() { srv.Stop(); <-served }()
	said.SetServingStatus("shop", healthpb.HealthCheckResponse_NOT_SERVING)
	for _, test := range []struct{ service, want string }{
		{"", ""},
		{"shop", `health check of "shop" answered NOT_SERVING`},
		{"unknown", `health check of "unknown" answered NotFound`},
	} {
		_, err := Probe{GRPC: true, Service: test.service}.once(t.Context(), l.Addr().String())
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%q: %v, want %q", test.service, err, test.want)
		}
	}
}

func TestProbeFails(t *testing.T) {
	silent := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	const soon = 5 * time.Millisecond
	for _, test := range []struct {
		name  string
		probe Probe
		serve func(net.Conn)
		want  string
	}{
		{"nobody listens", Probe{}, nil, "nothing listens on 127.0.0.1:"},
		{"an error", Probe{HTTP: true, Path: "/readyz"}, func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 500 No\r\n\r\n") }, "GET /readyz answered 500 No"},
		{"not HTTP", Probe{HTTP: true, Path: "/readyz"}, func(c net.Conn) { fmt.Fprint(c, "hello\n") }, "malformed"},
		{"an endless header", Probe{HTTP: true, Path: "/"}, func(c net.Conn) {
			for _, err := fmt.Fprint(c, "HTTP/1.1 200 OK\r\n"); err == nil; _, err = fmt.Fprintf(c, "X: %s\r\n", strings.Repeat("x", 1<<10)) {
			}
		}, "GET /: "},
		{"silence", Probe{HTTP: true, Path: "/readyz", Timeout: soon}, silent, "no answer within 5ms"},
		{"silence instead of gRPC", Probe{GRPC: true, Timeout: soon}, silent, "gRPC health check: no answer within 5ms"},
		{"not gRPC", Probe{GRPC: true}, func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 400 Bad\r\n\r\n") }, "gRPC health check"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if test.serve == nil {
				_ = l.Close()
			}
			served := make(chan struct{})
			go func() {
				defer close(served)
				for test.serve != nil {
					c, err := l.Accept()
					if err != nil {
						return
					}
					test.serve(c)
					_ = c.Close()
				}
			}()
			_, err = test.probe.once(t.Context(), l.Addr().String())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q in it", err, test.want)
			}
			if errors.Is(err, errNotListening) != (test.serve == nil) {
				t.Errorf("%v: listening or not is told wrongly", err)
			}
			_ = l.Close()
			<-served
		})
	}
}

// A pod is watched from its start: its phases are written down in their order.
func TestPhases(t *testing.T) {
	m := machine(t)
	p := shell(t, m, "while :; do sleep 0.01; done")
	// In its place: the port is reserved, and shared by whoever sets SO_REUSEADDR.
	l, err := net.Listen("tcp", p.Address)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server-Timing", "runtime;dur=11.5, model;dur=3")
	}))
	_ = srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	defer srv.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	watchdog := time.AfterFunc(20*time.Second, func() { cancel(errors.New("never ready")) })
	defer watchdog.Stop()
	err = p.Watch(ctx, Probes{Readiness: Probe{HTTP: true, Path: "/"}}, func(why error) { cancel(errStop) })
	if !errors.Is(err, errStop) {
		t.Fatal(err)
	}
	ph := p.Phases()
	for i, at := range []time.Time{ph.Asked, ph.Launched, ph.Listening, ph.Ready} {
		if at.IsZero() || i > 0 && at.Before(ph.Asked) {
			t.Errorf("phase %d came at %v", i, at)
		}
	}
	if ph.Launched.After(ph.Listening) || ph.Listening.After(ph.Ready) {
		t.Errorf("out of order: %+v", ph)
	}
	if len(ph.Own) != 2 || ph.Own[0] != (Phase{"runtime", 11500 * time.Microsecond}) || ph.Own[1] != (Phase{"model", 3 * time.Millisecond}) {
		t.Errorf("its own phases are %+v", ph.Own)
	}
}

func TestParseTiming(t *testing.T) {
	for _, test := range []struct{ header, want string }{
		{"runtime;dur=1.5", "runtime=1.5ms"},
		{`a;desc="x";dur=2, b;dur="3" ,c`, "a=2ms b=3ms"},
		{"a;dur=-1, b;dur=x, c;dur=NaN, d;dur=1e300, ;dur=1, e e;dur=1, f\x00;dur=1", ""},
		{strings.Repeat("a;dur=1,", 100), strings.TrimSpace(strings.Repeat("a=1ms ", maxPhases))},
		{strings.Repeat("a", 33) + ";dur=1", ""},
		{"", ""},
	} {
		var got []string
		for _, p := range parseTiming([]string{test.header}) {
			got = append(got, p.Name+"="+p.Took.String())
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%.60q: %q, want %q", test.header, got, test.want)
		}
	}
}

func FuzzParseTiming(f *testing.F) {
	f.Add("runtime;dur=1.5, model;desc=\"a,b\";dur=3")
	f.Fuzz(func(t *testing.T, header string) {
		phases := parseTiming([]string{header, header})
		if len(phases) > maxPhases {
			t.Errorf("%d phases", len(phases))
		}
		for _, p := range phases {
			if p.Took < 0 || !isToken(p.Name) {
				t.Errorf("%+v", p)
			}
		}
	})
}
