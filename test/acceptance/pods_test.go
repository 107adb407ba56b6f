package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"aisle.dev/aisle/internal/client"
)

// podsDir has the services of this file. On a cluster it is the kubelet that
// does all this.
const podsDir = "testdata/pods"

// only is the one pod of a service.
func only(t *testing.T, e *engineProcess, service string) client.Pod {
	t.Helper()
	var found client.Pod
	await(t, service+" to have one pod", func() string {
		own := pods(t, e, service)
		if len(own) != 1 || own[0].PID == 0 {
			return fmt.Sprintf("%+v", own)
		}
		found = own[0]
		return ""
	})
	return found
}

// tell tells a pod how it is to feel, past the engine.
func tell(t *testing.T, p client.Pod, health string) {
	t.Helper()
	resp, err := http.Post("http://"+p.Address+"/health?"+health, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

func awaitPhase(t *testing.T, e *engineProcess, service, phase string) {
	t.Helper()
	await(t, service+" to be "+phase, func() string {
		if p := only(t, e, service); p.Phase != phase {
			return fmt.Sprintf("%+v", p)
		}
		return ""
	})
}

// A pod that is not ready any more gets no request, finishes those it has, and
// goes on when it is ready again.
func TestReadinessComesAndGoes(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "the kubelet probes there")
	e := newEngine(t, "", podsDir)
	c := call(t, e)
	awaitPhase(t, e, "moody", "Ready")
	p := only(t, e, "moody")
	during := c.begin(t.Context(), "moody", "/sleep?ms=3000")
	await(t, "the request to be in flight", func() string {
		if p := only(t, e, "moody"); p.InFlight != 1 {
			return fmt.Sprintf("%+v", p)
		}
		return ""
	})
	tell(t, p, "ready=false")
	awaitPhase(t, e, "moody", "NotReady")
	if s := service(t, e, "moody"); s.Ready || !strings.Contains(s.Reason, "readiness probe") || !strings.Contains(s.Reason, "503") {
		t.Errorf("service %+v does not say why it is not ready", s)
	}
	waiting := c.begin(t.Context(), "moody", "/sleep?ms=0")
	(<-during).want(t, http.StatusOK)
	select {
	case a := <-waiting:
		t.Errorf("answered although no pod is ready: %+v", a)
	default:
	}
	tell(t, p, "ready=true")
	a := <-waiting
	a.want(t, http.StatusOK)
	if pid, err := strconv.Atoi(strings.TrimSpace(a.body)); err != nil || pid != p.PID {
		t.Errorf("answered by %q, not by the pod %d that was there", a.body, p.PID)
	}
	if s := service(t, e, "moody"); !s.Ready {
		t.Errorf("service %+v", s)
	}
}

// A pod whose liveness probe fails is ended and replaced, and the service says
// why.
func TestLiveness(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "the kubelet probes there")
	e := newEngine(t, "", podsDir)
	awaitPhase(t, e, "hanging", "Ready")
	before := only(t, e, "hanging")
	tell(t, before, "alive=false")
	awaitGone(t, before.PID)
	await(t, "another pod", func() string {
		if p := only(t, e, "hanging"); p.PID == before.PID || p.Phase != "Ready" {
			return fmt.Sprintf("%+v", p)
		}
		return ""
	})
	call(t, e).get(t, "hanging", "/sleep?ms=0")
	if log := e.log.String(); !strings.Contains(log, "failed its liveness probe 2 times in a row: GET /healthz answered 500") {
		t.Errorf("the engine's log does not say why the pod was replaced:\n%s", log)
	}
}

func TestSecretsVolumesAndArguments(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "Kubernetes has its own tests")
	e := newEngine(t, "", podsDir)
	c := call(t, e)
	var seen struct {
		Env, Args []string
	}
	if err := json.Unmarshal([]byte(c.get(t, "furnished", "/env").body), &seen); err != nil {
		t.Fatal(err)
	}
	p := only(t, e, "furnished")
	greeting := p.Name + " has s3cr3t"
	for _, want := range []string{"KEY_token=s3cr3t", "TOKEN=s3cr3t", "POD=" + p.Name, "GREETING=" + greeting} {
		if !slices.Contains(seen.Env, want) {
			t.Errorf("no %s in %q", want, seen.Env)
		}
	}
	_, port, _ := strings.Cut(p.Address, ":")
	if want := []string{"serve", greeting, port}; !slices.Equal(seen.Args, want) {
		t.Errorf("arguments %q, want %q", seen.Args, want)
	}
	if got := c.get(t, "furnished", "/file?env=FILE").body; got != "s3cr3t" {
		t.Errorf("the secret's file holds %q", got)
	}
	value := func(name string) string {
		i := slices.IndexFunc(seen.Env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
		return strings.TrimPrefix(seen.Env[max(i, 0)], name+"=")
	}
	if info, err := os.Stat(value("FILE")); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others may read the secret's file: %v, %v", info, err)
	}
	cache := value("CACHE")
	if err := os.WriteFile(cache+"/x", []byte("x"), 0o600); err != nil {
		t.Errorf("the empty folder cannot be written to: %v", err)
	}
	if err := e.stop(patience); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cache); !os.IsNotExist(err) {
		t.Errorf("the empty folder outlives its pod: %v", err)
	}
}

// What a pod starts in a session of its own ends with it, and with the engine,
// however that ends.
func TestDaemonGoesWithItsPod(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "a cluster's pods have control groups")
	e := newEngine(t, "", podsDir)
	if e.groups() == "" {
		t.Skip("NOT TESTED here: the engine may make no control groups")
	}
	c := call(t, e)
	daemon := func() int {
		a := c.do(t.Context(), http.MethodPost, "daemonic", "/fork?session=own", "")
		a.want(t, http.StatusOK)
		pid, err := strconv.Atoi(strings.TrimSpace(a.body))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	crashed := daemon()
	c.do(t.Context(), http.MethodPost, "daemonic", "/crash", "").want(t, http.StatusBadGateway)
	awaitGone(t, crashed)
	left := daemon()
	e.kill(t)
	if !alive(left) {
		t.Skip("the kernel has ended the daemon too: nothing is left to sweep")
	}
	again := newEngine(t, e.version.DataDir, podsDir)
	if alive(left) {
		t.Error("the next engine left a daemon behind")
	}
	if err := again.stop(patience); err != nil {
		t.Error(err)
	}
}

// A pod that needs more memory than its limit is ended alone.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	engineOnly(t, shared, "the kubelet limits there")
	e := newEngine(t, "", podsDir)
	if log := e.log.String(); strings.Contains(log, "limits are not enforced") {
		t.Skipf("NOT TESTED here: control groups of this machine do not limit memory")
	}
	c := call(t, e)
	awaitPhase(t, e, "moody", "Ready")
	neighbour := only(t, e, "moody")
	detail := c.do(t.Context(), http.MethodPost, "eater", "/eat", "").problem(t, http.StatusBadGateway)
	if !strings.Contains(detail, "OOMKilled") || !strings.Contains(detail, "64Mi") {
		t.Errorf("%q does not say that its limit ended it", detail)
	}
	if p := only(t, e, "moody"); p.PID != neighbour.PID {
		t.Errorf("its neighbour is another: %+v", p)
	}
}
