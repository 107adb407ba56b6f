package acceptance

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/client"
)

// echoed is what the fixture says of a request.
type echoed struct {
	Method, Host, Proto, Path string
	Header                    http.Header
	Bytes                     int
	Sha256                    string
	PID                       int
}

func (a answer) echoed(t *testing.T) echoed {
	t.Helper()
	a.want(t, http.StatusOK)
	var e echoed
	if err := json.Unmarshal([]byte(a.body), &e); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return e
}

func TestRequestArrivesAsSent(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	body := strings.Repeat("0123456789", 100_000)
	sum := sha256.Sum256([]byte(body))
	path := "/echo?a=b;c&d=%2F"
	if shared.engine() == nil {
		path = "/echo?a=b&d=%2F" // Knative's proxies drop what net/url cannot parse, such as a semicolon
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, c.url("echo", path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "192.0.2.1")
	req.Header.Set("Connection", "X-Hop")
	req.Header.Set("X-Hop", "1")
	req.Header.Set("X-Own", "kept")
	e := c.send(req).echoed(t)
	if e.Method != http.MethodPut || e.Host != req.URL.Host || e.Bytes != len(body) || e.Sha256 != hex.EncodeToString(sum[:]) || e.Path != req.URL.RequestURI() {
		t.Errorf("arrived as %+v", e)
	}
	headers := map[string]string{"X-Own": "kept", "X-Hop": "", "X-Forwarded-Host": req.URL.Host, "X-Forwarded-Proto": "http"}
	if shared.engine() != nil { // a cluster has more hops, and each adds its caller
		headers["X-Forwarded-For"] = "127.0.0.1"
	}
	for name, want := range headers {
		if got := e.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "which hosts there are is the ingress's own")
	c := call(t, shared)
	tests := []struct {
		name, host string
		status     int
	}{
		{"with a port", "echo.default.localhost:1234", http.StatusOK},
		{"in upper case", "ECHO.Default.LOCALHOST", http.StatusOK},
		{"with a root dot", "echo.default.localhost.", http.StatusOK},
		{"unknown service", "nothing.default.localhost", http.StatusMisdirectedRequest},
		{"unknown namespace", "echo.other.localhost", http.StatusMisdirectedRequest},
		{"without namespace", "echo.localhost", http.StatusMisdirectedRequest},
		{"address", "127.0.0.1:8080", http.StatusMisdirectedRequest},
		{"a name that rebinding would bring", "echo.default.example.com", http.StatusMisdirectedRequest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url("echo", "/echo"), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = test.host
			a := c.send(req)
			if test.status == http.StatusOK {
				a.want(t, test.status)
				return
			}
			if detail := a.problem(t, test.status); !strings.Contains(detail, "<service>.<namespace>.localhost") || !strings.Contains(detail, "echo.default.localhost") {
				t.Errorf("detail %q does not say which hosts there are", detail)
			}
		})
	}
}

func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a cluster's ingress has its own rules")
	c := call(t, shared)
	tests := []struct {
		name, method string
		header       map[string]string
		status       int
	}{
		{"no browser", http.MethodPost, nil, http.StatusOK},
		{"a page of the service", http.MethodPost, map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://echo.default.localhost"}, http.StatusOK},
		{"another site's page posts", http.MethodPost, map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://example.com"}, http.StatusForbidden},
		{"another port's page posts", http.MethodPost, map[string]string{"Sec-Fetch-Site": "same-site"}, http.StatusForbidden},
		{"an old browser's other page posts", http.MethodPost, map[string]string{"Origin": "https://example.com"}, http.StatusForbidden},
		{"another site's page links", http.MethodGet, map[string]string{"Sec-Fetch-Site": "cross-site"}, http.StatusOK},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), test.method, c.url("echo", "/echo"), nil)
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range test.header {
				req.Header.Set(k, v)
			}
			a := c.send(req)
			a.want(t, test.status)
			if test.status != http.StatusOK {
				a.problem(t, test.status)
			}
		})
	}
}

// Each line of an answer arrives before the pod is asked for the next one.
func TestStreams(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url("echo", "/stream"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for range 3 {
		if line, err := lines.ReadString('\n'); err != nil || line != "more\n" {
			t.Fatalf("%q, %v", line, err)
		}
		c.do(t.Context(), http.MethodPost, "echo", "/stream", "").want(t, http.StatusOK)
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", shared.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer context.AfterFunc(t.Context(), func() { _ = conn.Close() })()
	fmt.Fprint(conn, "GET /upgrade HTTP/1.1\r\nHost: "+shared.host("echo")+"\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "echo" {
		t.Fatalf("%+v", resp)
	}
	for _, s := range []string{"one", "two"} {
		fmt.Fprint(conn, s)
		got := make([]byte, len(s))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != s {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// HTTP/2 without TLS from the caller to the proxy, and from there to a pod
// whose port is named h2c.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	tr := c.http.Transport.(*http.Transport)
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetUnencryptedHTTP2(true)
	if e := c.get(t, "h2c", "/echo").echoed(t); e.Proto != "HTTP/2.0" {
		t.Errorf("to a pod that speaks h2c: %s", e.Proto)
	}
	if e := c.get(t, "echo", "/echo").echoed(t); e.Proto != "HTTP/1.1" {
		t.Errorf("to a pod that does not say so: %s", e.Proto)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "in a cluster, an image and the kubelet add to the environment")
	c := call(t, shared)
	var got struct {
		Env []string
		Dir string
		PID int
	}
	if err := json.Unmarshal([]byte(c.get(t, "echo", "/env").body), &got); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range got.Env {
		name, value, _ := strings.Cut(e, "=")
		names = append(names, name)
		want := map[string]string{"GREETING": "hello", "K_SERVICE": "echo", "K_CONFIGURATION": "echo", "K_REVISION": "echo-00001"}[name]
		if want != "" && value != want {
			t.Errorf("%s, want %s", e, want)
		}
	}
	slices.Sort(names)
	if want := []string{"AISLE_LAUNCHED", "CONFIG", "GREETING", "K_CONFIGURATION", "K_REVISION", "K_SERVICE", "PORT"}; !slices.Equal(names, want) {
		t.Errorf("environment %q, want exactly %q", names, want)
	}
	if got.Dir != shared.root {
		t.Errorf("works in %s, want %s", got.Dir, shared.root)
	}
	if input, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", got.PID)); err != nil || input != os.DevNull {
		t.Errorf("standard input %q, %v", input, err)
	}
	if text := c.get(t, "echo", "/file?env=CONFIG").body; text != "hello from a ConfigMap\n" {
		t.Errorf("the mounted file holds %q", text)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "it is about the engine's log files; internal/client/knative reads a cluster's")
	c := call(t, shared)
	c.get(t, "echo", "/sleep?ms=0")
	own := pods(t, shared, "echo")
	for _, name := range []string{"echo", "default/echo", "echo-00001", own[0].Name} {
		var text strings.Builder
		if err := shared.Logs(t.Context(), &text, client.LogsOf(name)); err != nil || !strings.Contains(text.String(), "fixture: started echo-00001") {
			t.Errorf("logs of %s: %q, %v", name, text.String(), err)
		}
	}
	if err := shared.Logs(t.Context(), io.Discard, client.LogsOf("nobody")); err == nil || !strings.Contains(err.Error(), "default/echo") {
		t.Errorf("logs of nobody: %v; want the services named", err)
	}
	// Followed, across a crash and the next pod.
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	text := &logBuffer{}
	followed := make(chan error, 1)
	go func() { followed <- shared.Logs(ctx, text, client.LogQuery{Name: "forking", Follow: true}) }()
	c.get(t, "forking", "/sleep?ms=0")
	c.do(t.Context(), http.MethodPost, "forking", "/crash", "").want(t, http.StatusBadGateway)
	c.get(t, "forking", "/sleep?ms=0")
	second := pods(t, shared, "forking")[0]
	await(t, "both pods' lines", func() string {
		got := text.String()
		if strings.Count(got, "fixture: started") < 2 || !strings.Contains(got, "crashing as told\n==> "+second.Name+" <==\n") {
			return strconv.Quote(got)
		}
		return ""
	})
	enough()
	if err := <-followed; err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "these are the engine's own; TestComposer reads the functions' on both")
	c := call(t, shared)
	c.get(t, "h2c", "/echo")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://engine.localhost/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	a := c.send(req)
	a.want(t, http.StatusOK)
	const of = `k8s_namespace_name="default",kn_configuration_name="h2c",kn_revision_name="h2c-00001",kn_service_name="h2c"`
	for _, want := range []string{
		`kn_serving_invocation_duration_seconds_count{http_response_status_code="200",` + of + `}`,
		`kn_revision_pods_count{` + of + `} 1`,
		`kn_revision_pods_desired{` + of + `} 1`,
		`kn_revision_request_queued{` + of + `} 0`,
		`kn_revision_request_active{` + of + `} 0`,
		`aisle_engine_wake_seconds_count{` + of + `}`,
		`aisle_engine_cold_start_seconds_count{` + of + `,phase="launched"}`,
		`aisle_engine_cold_start_seconds_count{` + of + `,phase="first"}`,
		`aisle_engine_pod_crashes_total{` + of + `} 0`,
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("no %s", want)
		}
	}
}
