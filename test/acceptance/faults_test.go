package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aisle.dev/aisle/internal/client"
)

// oursOnly gives a cluster of which parts may be stopped.
func oursOnly(t *testing.T, p place, reason string) *cluster {
	t.Helper()
	c := clusterOnly(t, p, reason)
	if !c.config.Ours {
		t.Skip("only on a cluster made for this suite: it stops a part of it")
	}
	return c
}

// part is a process of the test cluster's node, as its keeper has recorded it.
func (c *cluster) part(t *testing.T, name string) int {
	t.Helper()
	run := filepath.Dir(filepath.Dir(c.config.Kubeconfig))
	text, err := os.ReadFile(filepath.Join(run, "processes", name+".json"))
	if err != nil {
		return 0 // between two lives
	}
	var p struct{ PID int }
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return p.PID
}

// signal sends a signal to a part of the node, and says which process that is.
func (c *cluster) signal(t *testing.T, name string, signal syscall.Signal) (pid int) {
	t.Helper()
	await(t, name+" to run", func() string {
		if pid = c.part(t, name); pid == 0 { // to kill(2) that is this process's own group
			return "it does not"
		}
		return ""
	})
	if err := syscall.Kill(pid, signal); err != nil {
		t.Fatalf("%s to %s, process %d: %v", signal, name, pid, err)
	}
	return pid
}

// awaitAsleep waits until a service's pod has a request in /sleep.
func awaitAsleep(t *testing.T, c *caller, service string) {
	t.Helper()
	await(t, "the request to be in flight", func() string {
		if c.get(t, service, "/asleep").body == "0" {
			return "nothing sleeps"
		}
		return ""
	})
}

// The API server is killed while a service has requests: they go on being
// answered, a request that is in flight too, and once the API server is back
// the cluster takes changes. (Not in parallel: it takes it from all.)
func TestAPIServerRestarted(t *testing.T) {
	k := oursOnly(t, shared, "one machine has no API server")
	c := call(t, k)
	awaitReady(t, k, "floor", 1)
	long := c.begin(t.Context(), "floor", "/sleep?ms=10000")
	awaitAsleep(t, c, "floor")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	type result struct {
		ok  int
		bad []string
	}
	loaded := make(chan result, 1)
	go func() {
		ok, bad := load(ctx, c, "floor", "/sleep?ms=20", 4)
		loaded <- result{ok, bad}
	}()
	before := k.signal(t, "kube-apiserver", syscall.SIGKILL)
	await(t, "another API server to be ready", func() string {
		if now := k.part(t, "kube-apiserver"); now == 0 || now == before {
			return fmt.Sprintf("process %d", now)
		}
		if _, err := k.Version(t.Context()); err != nil {
			return err.Error()
		}
		if err := k.ask(t.Context(), http.MethodGet, "/readyz", "", nil, nil); err != nil {
			return err.Error()
		}
		return ""
	})
	(<-long).want(t, http.StatusOK)
	stop()
	if r := <-loaded; r.ok == 0 || len(r.bad) > 0 {
		t.Errorf("%d answered; failed while there was no API server: %q", r.ok, r.bad)
	}
	bounded, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := retried(bounded, func() error { return k.changed(bounded, "afterwards", nil, nil) }); err != nil {
		t.Fatal(err)
	}
	awaitObserved(t, k.objects(), "afterwards", "afterwards-00001")
	c.get(t, "afterwards", "/sleep?ms=0")
}

// The one node stops reporting. Kubernetes then takes every pod on it for lost,
// those of Knative's own path too, so callers are soon refused; when it
// reports again, the same pods answer, however long it took: where no node at
// all reports, Kubernetes evicts nothing (handleDisruption of its node lifecycle
// controller). With other nodes, pods are started there after five minutes, which
// cannot be seen on one.
func TestNodeNotReady(t *testing.T) {
	k := oursOnly(t, shared, "one machine has no kubelet")
	c := call(t, k)
	awaitReady(t, k, "floor", 1)
	c.get(t, "floor", "/sleep?ms=0")
	before := pods(t, k, "floor")
	kubelet := k.signal(t, "kubelet", syscall.SIGSTOP)
	goOn := func() {
		if err := syscall.Kill(kubelet, syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(goOn)
	node := k.nodeName(t)
	await(t, "the node not to be ready", func() string {
		if s := ready(k.conditions(t, "Node", node)).Status; s != "Unknown" {
			return s
		}
		return ""
	})
	await(t, "callers to be refused", func() string {
		// A connection from before goes on to the activator, which has it wait
		// for a pod; new ones are what is looked at.
		c.http.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		a := c.do(ctx, http.MethodGet, "floor", "/sleep?ms=0", "")
		if errors.Is(a.err, syscall.ECONNREFUSED) || a.err == nil && a.status >= 500 {
			return ""
		}
		return fmt.Sprintf("%d %s, %v", a.status, a.body, a.err)
	})
	goOn()
	await(t, "the node to be ready", func() string {
		if s := ready(k.conditions(t, "Node", node)).Status; s != "True" {
			return s
		}
		return ""
	})
	await(t, "floor to answer again", func() string {
		if a := c.do(t.Context(), http.MethodGet, "floor", "/sleep?ms=0", ""); a.err != nil || a.status != http.StatusOK {
			return fmt.Sprintf("%+v", a)
		}
		return ""
	})
	if after := pods(t, k, "floor"); len(after) != 1 || after[0].Name != before[0].Name {
		t.Errorf("pods %+v, want the one of before, %+v", after, before)
	}
	// What the other tests need is there again too.
	for _, namespace := range []string{"knative-serving", "knative-ingress", "knative-eventing"} {
		at := k.in(namespace)
		await(t, "the pods of "+namespace+" to be ready", func() string {
			for _, p := range podsOf(t, at) {
				if p.Phase != "Ready" {
					return fmt.Sprintf("%+v", p)
				}
			}
			return ""
		})
	}
}

func podsOf(t *testing.T, k *cluster) []client.Pod {
	t.Helper()
	all, err := k.Pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (c *cluster) nodeName(t *testing.T) string {
	t.Helper()
	all, err := list[struct{ Metadata object }](t.Context(), c.in(""), "Node")
	if err != nil || len(all) == 0 {
		t.Fatalf("nodes %v, %v", all, err)
	}
	return all[0].Metadata.Name
}

// awaitFailed changes a service whose first revision is ready, waits until the
// second one's conditions say why it is not, and expects the first to go on.
func awaitFailed(t *testing.T, k *cluster, name, why string, change func() error, answers func() string) {
	t.Helper()
	if err := change(); err != nil {
		t.Fatal(err)
	}
	first, second := name+"-00001", name+"-00002"
	await(t, "the new revision to say why it is not ready", func() string {
		if complaint := answers(); complaint != "" {
			t.Fatal(complaint)
		}
		if k.service(t, name).Status.LatestCreatedRevisionName != second {
			return "there is no new revision"
		}
		all := k.conditions(t, "Revision", second)
		for _, c := range all {
			if c.Status == "False" && strings.Contains(c.Message, why) {
				return ""
			}
		}
		return fmt.Sprintf("%+v", all)
	})
	await(t, "the service to say that it is not ready", func() string {
		if s := k.service(t, name); s.Status.LatestReadyRevisionName != first || ready(s.Status.Conditions).Status != "False" {
			return fmt.Sprintf("%+v", s.Status)
		}
		return ""
	})
	for _, p := range pods(t, k, name) {
		if p.Revision == second && p.Phase == "Ready" {
			t.Errorf("%+v is ready", p)
		}
	}
}

// An image that cannot be pulled: the revision says so, and the one before goes
// on.
func TestImageMissing(t *testing.T) {
	t.Parallel()
	k := clusterOnly(t, shared, "on one machine an image that nothing stands for is an error at start")
	c := call(t, k)
	if err := k.changed(t.Context(), "unpulled", nil, nil); err != nil {
		t.Fatal(err)
	}
	awaitObserved(t, k.objects(), "unpulled", "unpulled-00001")
	const missing = "dev.local/aisle-missing:1"
	awaitFailed(t, k, "unpulled", missing, func() error {
		return k.changedImage(t.Context(), "unpulled", missing, nil, nil)
	}, func() string {
		if r := revisionOf(t, c, "unpulled"); r != "unpulled-00001" {
			return r + " answered"
		}
		return ""
	})
}

const wrongDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// A classifier that finds another model package than the one that it is told to
// serve never answers, and the reason comes to who looks; on a cluster the
// revision before goes on.
func TestWrongModelDigest(t *testing.T) {
	t.Parallel()
	const product = `{"title":"Women Silver Wrist Watch"}`
	if k := shared.onCluster(); k != nil {
		c := call(t, k)
		env := map[string]string{"MODEL": "/models/title"}
		change := func() error { return k.changedImage(t.Context(), "mistaken", k.config.Images["title"], env, nil) }
		if err := change(); err != nil {
			t.Fatal(err)
		}
		awaitObserved(t, k.objects(), "mistaken", "mistaken-00001")
		env["MODEL_DIGEST"] = wrongDigest
		awaitFailed(t, k, "mistaken", wrongDigest, change, func() string {
			if a := c.post(t, "mistaken", "/v1/classify", "application/json", product); a.err != nil || a.status != http.StatusOK {
				return fmt.Sprintf("the revision before answered %+v", a)
			}
			return ""
		})
		return
	}
	p := products.get(t)
	call(t, p).post(t, "mistaken", "/v1/classify", "application/json", product).problem(t, http.StatusServiceUnavailable)
	await(t, "the service to say why", func() string {
		if s := service(t, p, "mistaken"); s.Ready || s.Pods > 0 || !strings.Contains(s.Reason, wrongDigest) {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
}

// A pod is killed while it has a request: its caller is told, and the next one
// is answered by another pod.
func TestPodKilled(t *testing.T) {
	t.Parallel()
	c := call(t, shared)
	// Its first start is not what this is about: a busy cluster may take longer
	// for it than the service's timeout.
	await(t, "a first pod to answer", func() string {
		if a := c.do(t.Context(), http.MethodGet, "mortal", "/sleep?ms=0", ""); a.err != nil || a.status != http.StatusOK {
			return fmt.Sprintf("%+v", a)
		}
		return ""
	})
	awaitReady(t, shared, "mortal", 1)
	first := pods(t, shared, "mortal")[0]
	during := c.begin(t.Context(), "mortal", "/sleep?ms=20000")
	awaitAsleep(t, c, "mortal")
	killPod(t, shared, first)
	if a := <-during; a.err != nil || a.status < 500 {
		t.Errorf("the request in flight was told %+v, want 5xx", a)
	}
	await(t, "another pod to answer", func() string {
		a := c.do(t.Context(), http.MethodGet, "mortal", "/sleep?ms=0", "")
		if a.err != nil || a.status < 500 && a.status != http.StatusOK {
			t.Fatalf("%+v", a)
		}
		if a.status != http.StatusOK {
			return fmt.Sprintf("%+v", a)
		}
		return ""
	})
	for _, p := range pods(t, shared, "mortal") {
		if p.Name == first.Name && p.Phase == "Ready" {
			t.Errorf("%s was killed and is %s", p.Name, p.Phase)
		}
	}
}

// killPod ends a pod without grace, as the machine under it might.
func killPod(t *testing.T, p place, pod client.Pod) {
	t.Helper()
	var err error
	if k := p.onCluster(); k != nil {
		err = k.remove(t.Context(), "Pod", pod.Name, "gracePeriodSeconds=0")
	} else {
		err = syscall.Kill(pod.PID, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A service is deleted while it has requests: every caller gets an answer, soon
// that there is no such service, and other services go on.
func TestServiceDeletedUnderLoad(t *testing.T) {
	t.Parallel()
	k := clusterOnly(t, shared, "the engine reads its manifests once, at its start")
	c := call(t, k)
	for _, name := range []string{"deleted", "kept"} {
		if err := k.changed(t.Context(), name, nil, nil); err != nil {
			t.Fatal(err)
		}
		awaitObserved(t, k.objects(), name, name+"-00001")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	kept := make(chan []string, 1)
	go func() {
		_, bad := load(ctx, c, "kept", "/sleep?ms=20", 2)
		kept <- bad
	}()
	deleted := make(chan []string, 1)
	go func() {
		_, bad := load(ctx, c, "deleted", "/sleep?ms=20", 4)
		deleted <- bad
	}()
	c.get(t, "deleted", "/sleep?ms=0")
	if err := k.remove(t.Context(), "Service", "deleted", ""); err != nil {
		t.Fatal(err)
	}
	await(t, "callers to be told that there is no such service", func() string {
		if a := c.do(t.Context(), http.MethodGet, "deleted", "/sleep?ms=0", ""); a.err != nil || a.status != http.StatusNotFound {
			return fmt.Sprintf("%+v", a)
		}
		return ""
	})
	stop()
	for _, b := range <-deleted { // a caller that hangs until its time-out has no status
		if !strings.HasPrefix(b, "404 ") && !strings.HasPrefix(b, "5") {
			t.Errorf("a caller of the deleted service: %s", b)
		}
	}
	if bad := <-kept; len(bad) > 0 {
		t.Errorf("failed at the other service: %q", bad)
	}
}
