package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aisle.dev/aisle/activator/engine/audit"
	"aisle.dev/aisle/internal/client"
)

// built is the command line's program.
var built = sync.OnceValues(func() (string, error) {
	path := filepath.Join(shared.root, "bin", "aisle")
	out, err := exec.Command("go", "build", "-tags", "kustomize_disable_go_plugin_support", "-trimpath", "-o", path, "../../cmd/aisle").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build aisle: %w\n%s", err, out)
	}
	return path, nil
})

// aisle runs the command line against a place and gives what it says.
func aisle(t *testing.T, p place, args ...string) (out, said string, err error) {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	if e := p.engine(); e != nil {
		args = append(args, "--data-dir", e.version.DataDir)
	} else {
		c := p.onCluster()
		args = append(args, "--kubeconfig", c.config.Kubeconfig, "-n", c.namespace)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	return stdout.String(), stderr.String(), err
}

// scaled runs aisle scale and reads what it says as JSON.
func scaled(t *testing.T, p place, args ...string) client.Scale {
	t.Helper()
	out, said, err := aisle(t, p, append([]string{"scale", "-o", "json"}, args...)...)
	if err != nil {
		t.Fatalf("aisle scale %q: %v: %s", args, err, said)
	}
	var v client.Scale
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return v
}

// Bounds that are set by the command line hold until they are taken back, on
// one machine as on a cluster.
func TestScaleByHand(t *testing.T) {
	t.Parallel()
	schedulesThere(t, shared)
	if shared.onCluster() != nil {
		// Knative decides nothing for a revision with initial-scale 0 that never
		// had a pod, not by its bounds either.
		call(t, shared).get(t, "byhand", "/sleep?ms=0")
	}
	if v := scaled(t, shared, "byhand"); v.Floor != 0 || v.Cap != 3 || v.ByHand != nil || len(v.Why) != 1 {
		t.Errorf("before: %+v", v)
	}
	if v := scaled(t, shared, "byhand", "--min", "2", "--for", "1h", "--dry-run"); !v.DryRun || v.Floor != 2 || v.Cap != 3 {
		t.Errorf("tried: %+v", v)
	}
	if v := scaled(t, shared, "byhand"); v.ByHand != nil {
		t.Errorf("after a trial: %+v", v)
	}
	if v := scaled(t, shared, "byhand", "--min", "2", "--for", "1h", "--reason", "a sale"); v.Floor != 2 || v.Cap != 3 || v.Next.Before(time.Now().Add(50*time.Minute)) {
		t.Errorf("set: %+v", v)
	}
	awaitReady(t, shared, "byhand", 2)
	out, said, err := aisle(t, shared, "scale", "byhand")
	for _, want := range []string{"2 to 3 pods", "byhand-by-hand", "a sale", "(the service's own)"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v: %s%s; want it to say %q", err, out, said, want)
		}
	}
	if _, said, err := aisle(t, shared, "scale", "byhand", "--max", "0", "--for", "1h"); err == nil || !strings.Contains(said, "closed: true") {
		t.Errorf("max 0: %v, %s", err, said)
	}
	if v := scaled(t, shared, "byhand", "--max", "1", "--for", "1h"); v.Floor != 0 || v.Cap != 1 {
		t.Errorf("set again: %+v", v)
	}
	await(t, "surplus pods to drain", func() string {
		if own := pods(t, shared, "byhand"); len(own) > 1 {
			return fmt.Sprintf("%+v", own)
		}
		return ""
	})
	if v := scaled(t, shared, "byhand", "--reset"); v.Cap != 3 || v.ByHand != nil {
		t.Errorf("taken back: %+v", v)
	}
	if _, said, err := aisle(t, shared, "scale", "byhand", "--reset"); err == nil || !strings.Contains(said, "nothing is set by hand") {
		t.Errorf("taken back twice: %v, %s", err, said)
	}
	awaitNoPods(t, shared, "byhand")
}

// schedulesThere skips a test where nothing knows ScalingSchedules.
func schedulesThere(t *testing.T, p place) {
	t.Helper()
	if k := p.onCluster(); k != nil {
		if err := k.ask(t.Context(), http.MethodGet, "/apis/scaling.aisle.dev/v1alpha1", "", nil, nil); err != nil {
			t.Skipf("Aisle's controller is not installed: %v", err)
		}
	}
}

// over asks an engine's admin API by HTTP.
func over(t *testing.T, hc *http.Client, method, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// Of two that have read the same bounds, the second to set some is told; what
// was set is there after a kill, and who set it is on record.
func TestScaleAPI(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a cluster's API server has Kubernetes' own protocol")
	e := newEngine(t, "", servicesDir)
	at := e.server + "/v1/services/byhand/scale"
	code, header, text := over(t, e.http, "PUT", at, `{"min": 1, "for": "1h", "reason": "first"}`, "If-None-Match", "*")
	tag := header.Get("ETag")
	if code != http.StatusCreated || tag == "" {
		t.Fatalf("%d %v %s", code, header, text)
	}
	if code, _, text := over(t, e.http, "PUT", at, `{"min": 2, "for": "1h"}`, "If-Match", tag); code != http.StatusOK {
		t.Errorf("the first to change it: %d %s", code, text)
	}
	if code, _, text := over(t, e.http, "PUT", at, `{"min": 3, "for": "1h"}`, "If-Match", tag); code != http.StatusPreconditionFailed || !strings.Contains(text, "uid") {
		t.Errorf("the second: %d %s", code, text)
	}
	awaitReady(t, e, "byhand", 2)
	e.kill(t)
	e = newEngine(t, e.version.DataDir, servicesDir)
	awaitReady(t, e, "byhand", 2) // nobody has asked for it
	if code, _, text := over(t, e.http, "DELETE", at, ""); code != http.StatusOK {
		t.Errorf("%d %s", code, text)
	}
	all, err := client.Audit[audit.Entry](t.Context(), e.Engine, "byhand", 100)
	if err != nil {
		t.Fatal(err)
	}
	var did []string
	for _, c := range all {
		did = append(did, fmt.Sprintf("%s by %s: %s, %v → %v %s", c.Way, c.By, c.Did, c.Old, c.New, c.Reason))
	}
	uid := fmt.Sprintf("socket by uid %d: ", os.Getuid())
	want := []string{uid + "taken back by hand, 2 to 3 → 0 to 3 ", uid + "set by hand, 1 to 3 → 2 to 3 ", uid + "set by hand, 0 to 3 → 1 to 3 first"}
	if strings.Join(did, "\n") != strings.Join(want, "\n") {
		t.Errorf("on record:\n%s\nwant\n%s", strings.Join(did, "\n"), strings.Join(want, "\n"))
	}
	out, said, err := aisle(t, e, "audit", "byhand")
	if err != nil || !strings.Contains(out, "taken back by hand") || !strings.Contains(out, "2 to 3 → 0 to 3") {
		t.Errorf("aisle audit: %v %s%s", err, out, said)
	}
	if err := e.stop(patience); err != nil {
		t.Error(err)
	}
}

// Over TCP a token says who asks and what that one may do; without tokens there
// is no address.
func TestScaleOverTCP(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a cluster's API server has Kubernetes' RBAC")
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	tokens := filepath.Join(newDataDir(t), "tokens")
	secrets := map[string]string{}
	for _, role := range []string{"view", "scale", "admin"} {
		out, err := exec.CommandContext(t.Context(), path, "token", "new", "a-"+role, "--role", role, "--admin-tokens", tokens, "--for", "1h").Output()
		if err != nil {
			t.Fatal(err)
		}
		secrets[role] = strings.TrimSpace(string(out))
	}
	e := newEngineWith(t, engineConfig{AdminAddress: "127.0.0.1:0", AdminTokens: tokens})
	at := "http://" + e.version.Admin
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	scale := at + "/v1/services/byhand/scale"
	for _, tt := range []struct {
		role, method, url, body string
		want                    int
	}{
		{"", "GET", scale, "", 401},
		{"view", "GET", scale, "", 200},
		{"view", "GET", at + "/apis/serving.knative.dev/v1/namespaces/default/services/byhand", "", 200},
		{"view", "PUT", scale, `{"min": 1, "for": "1h"}`, 403},
		{"scale", "PUT", scale, `{"min": 1, "for": "1h"}`, 201},
		{"scale", "DELETE", at + "/apis/serving.knative.dev/v1/namespaces/default/services/byhand", "", 403},
		{"admin", "DELETE", at + "/apis/serving.knative.dev/v1/namespaces/default/services/fresh", "", 200},
	} {
		if code, header, text := over(t, hc, tt.method, tt.url, tt.body, "Authorization", "Bearer "+secrets[tt.role]); code != tt.want || (code == 401) != (header.Get("WWW-Authenticate") != "") {
			t.Errorf("%s %s as %q: %d %s, want %d", tt.method, tt.url, tt.role, code, text, tt.want)
		}
	}
	cmd := exec.CommandContext(t.Context(), path, "--engine", at, "scale", "byhand")
	cmd.Env = append(os.Environ(), "AISLE_TOKEN="+secrets["view"])
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "token a-scale") {
		t.Errorf("aisle --engine: %v %s", err, out)
	}
	if err := os.WriteFile(tokens, []byte("# all taken back\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, text := over(t, hc, "GET", scale, "", "Authorization", "Bearer "+secrets["admin"]); code != 401 {
		t.Errorf("a token that was taken back: %d %s", code, text)
	}
	if err := e.stop(patience); err != nil {
		t.Error(err)
	}
}

// A stock PingSource sets bounds, no higher than the service's maximum.
func TestPingSourceScales(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a cluster's PingSource sets no bounds: a ScalingSchedule does that by itself")
	e := newEngineWith(t, engineConfig{ScaleEvents: true})
	_, port, _ := strings.Cut(e.version.Address, ":")
	if err := e.apply(t.Context(), []map[string]any{{
		"apiVersion": "sources.knative.dev/v1", "kind": "PingSource", "metadata": map[string]any{"name": "night"},
		"spec": map[string]any{
			"schedule": "* * * * * *", "contentType": "application/json", "data": `{"service": "byhand", "min": 2, "max": 9, "for": "10m", "reason": "the nightly import"}`,
			"sink": map[string]any{"uri": "http://engine.localhost:" + port + "/v1/scale"},
		},
	}}); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, e, "byhand", 2)
	v := scaled(t, e, "byhand")
	if v.Floor != 2 || v.Cap != 3 || v.ByHand == nil || *v.ByHand.Spec.Windows[0].Cap != 3 {
		t.Errorf("%+v", v)
	}
	all, err := client.Audit[audit.Entry](t.Context(), e.Engine, "byhand", 1)
	if err != nil || len(all) != 1 || all[0].Way != audit.Event || !strings.HasSuffix(all[0].By, "/pingsources/night") || !strings.Contains(all[0].Did, "max 9 is clamped to 3") {
		t.Errorf("%+v, %v", all, err)
	}
	if err := e.stop(patience); err != nil {
		t.Error(err)
	}
}

// Who has not asked for it has no events that set bounds.
func TestEventsSetNoBoundsUnasked(t *testing.T) {
	t.Parallel()
	e := engineOnly(t, shared, "it is about the engine's own address")
	c := call(t, e)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine.localhost/v1/scale", strings.NewReader(`{"specversion":"1.0","id":"1","source":"/x","type":"dev.aisle.scale.v1","data":{"service":"byhand","min":1,"for":"1h"}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/cloudevents+json")
	if detail := c.send(req).problem(t, http.StatusForbidden); !strings.Contains(detail, "--scale-events") {
		t.Error(detail)
	}
}
