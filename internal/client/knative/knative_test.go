package knative

import (
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/knative/knativetest"
	"aisle.dev/aisle/internal/client/objects"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve opens context of a kubeconfig for the server.
func serve(t *testing.T, s *knativetest.Server, context string) *Cluster {
	t.Helper()
	srv := httptest.NewTLSServer(s)
	t.Cleanup(srv.Close)
	return open(t, Options{Files: []string{kubeconfig(t, srv.URL, srv.Certificate())}, Context: context})
}

func open(t *testing.T, o Options) *Cluster {
	t.Helper()
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.objects.Close)
	return c
}

func kubeconfig(t *testing.T, server string, certificate *x509.Certificate) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, knativetest.Kubeconfig(server, certificate, "secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func followed(name string) client.LogQuery {
	q := client.LogsOf(name)
	q.Follow = true
	return q
}

func check[T any](t *testing.T, err error, want, got T) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func at(clock string) time.Time {
	t, err := time.Parse(time.DateTime, "2026-01-01 "+clock)
	if err != nil {
		panic(err)
	}
	return t.Local()
}

var (
	healthy = client.Pod{Namespace: "aisle", Name: "title-00001-deployment-7c9-x2x4z", Service: "title", Revision: "title-00001",
		Phase: "Ready", Address: "10.244.0.7", Started: at("11:30:00"), ReadyMs: 2000, InFlight: -1}
	crashing = client.Pod{Namespace: "aisle", Name: "title-00002-deployment-5d8-q9q7k", Service: "title", Revision: "title-00002",
		Phase: "Starting", Reason: "CrashLoopBackOff: back-off 10s restarting failed container", Address: "10.244.0.8", Started: at("11:40:00"), InFlight: -1}
	stable = client.Revision{Namespace: "aisle", Name: "title-00001", Service: "title", Image: "registry.test/aisle-title@sha256:71",
		Want: 2, Ready: 1, MinScale: 1, MaxScale: 4, Concurrency: -1, Waiting: -1, Why: "its requests", Since: at("11:30:00")}
	canary = client.Revision{Namespace: "aisle", Name: "title-00002", Service: "title", Image: "registry.test/aisle-title:v2",
		Starting: 1, Concurrency: -1, Waiting: -1, Why: "ExitCode1: Container failed with: another package"}
)

// Pages of one object make a list whole.
func TestLists(t *testing.T) {
	for _, page := range []int{0, 1} {
		s := &knativetest.Server{PageSize: page, Token: "secret"}
		s.Sample("http://composer.test")
		c := serve(t, s, "")
		services, err := c.Services(t.Context())
		check(t, err, []client.Service{
			{Namespace: "aisle", Name: "composer", URL: "http://composer.test", LatestRevision: "composer-00001", LatestCreated: "composer-00001", Ready: true},
			{Namespace: "aisle", Name: "title", URL: "http://title.aisle.cluster.test", LatestRevision: "title-00001", LatestCreated: "title-00002", Reason: "RevisionFailed: Revision title-00002 failed", Pods: 1},
		}, services)
		revisions, err := c.Revisions(t.Context())
		check(t, err, []client.Revision{
			{Namespace: "aisle", Name: "composer-00001", Service: "composer", Image: "registry.test/aisle-composer@sha256:c0", MaxScale: 2,
				Concurrency: -1, Waiting: -1, Why: "NoTraffic: The target is not receiving traffic.", Since: at("11:00:00")},
			stable, canary,
		}, revisions)
		pods, err := c.Pods(t.Context())
		check(t, err, []client.Pod{healthy, crashing}, pods)
		version, err := c.Version(t.Context())
		check(t, err, client.Version{Version: "v1.35.4", Engine: "knative", Address: c.server, Context: "test"}, version)

		elsewhere := c.In("default")
		none, err := elsewhere.Services(t.Context())
		check(t, err, nil, none)
		everywhere, err := c.In("").Pods(t.Context())
		check(t, err, []client.Pod{healthy, crashing}, everywhere)
	}
}

func TestPodsPhases(t *testing.T) {
	pod := func(name string, more knativetest.Object) knativetest.Object {
		o := knativetest.Object{"metadata": knativetest.Object{"name": name, "namespace": "aisle", "labels": knativetest.Object{serviceLabel: "x", revisionLabel: "x-00001"}}}
		for k, v := range more {
			o[k] = v
		}
		return o
	}
	condition := func(kind, status, why string) knativetest.Object {
		return knativetest.Object{"status": knativetest.Object{"conditions": []knativetest.Object{{"type": kind, "status": status, "reason": why, "message": "m"}}}}
	}
	s := new(knativetest.Server)
	s.Put("/pods", pod("a", condition("PodScheduled", "False", "Unschedulable")))
	s.Put("/pods", pod("b", nil))
	s.Put("/pods", pod("c", knativetest.Object{"status": knativetest.Object{"initContainerStatuses": []knativetest.Object{
		{"name": "deliver", "state": knativetest.Object{"terminated": knativetest.Object{"exitCode": 1}}}}}}))
	going := pod("d", condition("Ready", "True", ""))
	going["metadata"].(knativetest.Object)["deletionTimestamp"] = "2026-01-01T11:00:00Z"
	s.Put("/pods", going)
	s.Put("/pods", pod("e", knativetest.Object{"status": knativetest.Object{"phase": "Failed", "reason": "Terminated", "message": "its node went away"}}))
	unlabelled := pod("z", nil)
	delete(unlabelled["metadata"].(knativetest.Object), "labels")
	s.Put("/pods", unlabelled)
	s.Put("serving.knative.dev/revisions", knativetest.Object{"metadata": knativetest.Object{"name": "x-00001", "namespace": "aisle"}})
	c := serve(t, s, "")
	pods, err := c.Pods(t.Context())
	var got []string
	for _, p := range pods {
		got = append(got, p.Name+" "+p.Phase+" "+p.Reason)
	}
	check(t, err, []string{"a Starting Unschedulable: m", "b Starting ", "c Starting deliver ended with exit code 1", "d Draining ", "e Ended Terminated: its node went away"}, got)
	all, err := c.Revisions(t.Context())
	if err != nil || len(all) != 1 || all[0].Starting != 3 || all[0].Draining != 1 {
		t.Errorf("%+v, %v; want 3 that start and one that drains", all, err)
	}
}

func TestDescribe(t *testing.T) {
	s := new(knativetest.Server)
	s.Sample("http://composer.test")
	c := serve(t, s, "")
	backOff := client.Event{Type: "Warning", Object: "Pod title-00002-deployment-5d8-q9q7k", Reason: "BackOff", Message: "Back-off restarting failed container", Count: 4, Last: at("11:41:00")}
	ready := client.Words{Pod: healthy.Name, Text: "{\"level\":\"INFO\",\"msg\":\"ready\",\"model\":\"title\",\"digest\":\"sha256:feed\"}\none more line"}
	crashed := client.Words{Pod: crashing.Name, Text: "classifier: the model package is another one"}
	failed := client.Condition{Type: "Ready", Status: "False", Reason: "RevisionFailed", Message: "Revision title-00002 failed"}
	configuration := failed
	configuration.Type = "ConfigurationsReady"

	const lately = "\nno news"
	for range client.SaidLines { // what it said first is at the log's begin alone
		s.Log("aisle", healthy.Name, "classifier", "no news")
	}
	ready.Text = strings.Repeat(lately, client.SaidLines)[1:]
	d, err := c.Describe(t.Context(), client.KindService, "title")
	check(t, err, client.Description{
		Kind: "service", Namespace: "aisle", Name: "title", Model: "sha256:feed",
		Service:    &client.Service{Namespace: "aisle", Name: "title", URL: "http://title.aisle.cluster.test", LatestRevision: "title-00001", LatestCreated: "title-00002", Reason: "RevisionFailed: Revision title-00002 failed", Pods: 1},
		Traffic:    []client.Share{{Revision: "title-00001", Percent: 90}, {Revision: "title-00002", Percent: 10, Tag: "canary"}},
		Conditions: []client.Condition{configuration, failed},
		Revisions:  []client.Revision{stable, canary}, Pods: []client.Pod{healthy, crashing},
		Events: []client.Event{backOff}, Said: []client.Words{crashed, ready},
	}, d)

	d, err = c.Describe(t.Context(), client.KindRevision, "aisle/title-00002")
	check(t, err, client.Description{
		Kind: "revision", Namespace: "aisle", Name: "title-00002", Model: "sha256:beef",
		Conditions: []client.Condition{{Type: "Ready", Status: "False", Reason: "ExitCode1", Message: "Container failed with: another package"}},
		Revisions:  []client.Revision{canary}, Pods: []client.Pod{crashing}, Events: []client.Event{backOff}, Said: []client.Words{crashed},
	}, d)
	if d, err = c.Describe(t.Context(), client.KindRevision, "title-00001"); err != nil || len(d.Conditions) != 2 || d.Conditions[1].Type != "AutoscalerActive" {
		t.Errorf("the autoscaler's conditions are not told: %+v, %v", d.Conditions, err)
	}

	d, err = c.Describe(t.Context(), client.KindPod, healthy.Name)
	check(t, err, client.Description{
		Kind: "pod", Namespace: "aisle", Name: healthy.Name, Model: "sha256:feed",
		Conditions: []client.Condition{{Type: "PodScheduled", Status: "True", Since: at("11:30:00")}, {Type: "Ready", Status: "True", Since: at("11:30:02")}},
		Revisions:  []client.Revision{stable}, Pods: []client.Pod{healthy}, Said: []client.Words{ready},
	}, d)

	for kind, want := range map[string]string{
		client.KindService:  `there is no service "absent" in namespace aisle; there are: composer, title`,
		client.KindRevision: "composer-00001, title-00001, title-00002",
		client.KindPod:      crashing.Name,
	} {
		if _, err := c.Describe(t.Context(), kind, "absent"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("an absent %s: %v, want %q in it", kind, err, want)
		}
	}
}

// What may not be read, or cannot be, hides nothing of the rest.
func TestDescribeWithout(t *testing.T) {
	s := &knativetest.Server{Rules: []knativetest.Rule{{
		APIGroups: []string{"", "serving.knative.dev", "autoscaling.internal.knative.dev"},
		Resources: []string{"services", "revisions", "podautoscalers", "pods"}, Verbs: []string{"list"}}}}
	s.Sample("http://composer.test")
	d, err := serve(t, s, "").Describe(t.Context(), client.KindService, "title")
	check(t, err, []client.Pod{healthy, crashing}, d.Pods)
	for i, want := range []string{"events", "pods", "pods"} {
		if i >= len(d.Missing) || !strings.Contains(d.Missing[i], "does not allow it: "+want) {
			t.Errorf("missing: %q, want %q in its place %d", d.Missing, want, i)
		}
	}
}

func TestURL(t *testing.T) {
	s := new(knativetest.Server)
	s.Sample("http://composer.test")
	s.Put("serving.knative.dev/services", knativetest.Object{"metadata": knativetest.Object{"name": "new", "namespace": "aisle"}})
	c := serve(t, s, "")
	got, err := c.URL(t.Context(), "composer")
	check(t, err, "http://composer.test", got)
	for name, want := range map[string]string{
		"new":    "has no URL yet",
		"absent": `there is no service "absent" in namespace aisle of context test; its services are: composer, new, title`,
	} {
		if _, err := c.URL(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", name, err, want)
		}
	}
}

func TestErrors(t *testing.T) {
	stall := make(chan struct{})
	defer close(stall)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nowhere := "http://" + gone.Addr().String()
	_ = gone.Close()                                                             // now nothing listens there
	plugin := kubeconfig(t, strings.Replace(nowhere, "http:", "https:", 1), nil) // programs are asked for TLS alone
	text, err := os.ReadFile(plugin)
	if err != nil {
		t.Fatal(err)
	}
	const program = `"exec":{"apiVersion":"client.authentication.k8s.io/v1","command":"/absent","interactiveMode":"Never"}`
	if err := os.WriteFile(plugin, []byte(strings.ReplaceAll(string(text), `"token":"secret"`, program)), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(s *knativetest.Server, o Options) *Cluster {
		srv := httptest.NewTLSServer(s)
		srv.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that are broken off
		t.Cleanup(srv.Close)
		o.Files = []string{kubeconfig(t, srv.URL, srv.Certificate())}
		return open(t, o)
	}
	for _, test := range []struct {
		name    string
		cluster *Cluster
		want    string
		down    bool // nothing runs there
	}{
		{"a wrong token", at(&knativetest.Server{Token: "secret"}, Options{Context: "stranger"}), "does not accept who you are", false},
		{"not allowed", at(&knativetest.Server{Rules: []knativetest.Rule{}}, Options{}), "docs/cli-role.yaml", false},
		{"no Knative", at(&knativetest.Server{NoKnative: true}, Options{}), "has no Knative Serving", true},
		{"no answer", at(&knativetest.Server{Stall: stall}, Options{Timeout: time.Millisecond}), "did not answer within 1ms", true},
		{"a password", open(t, Options{Files: []string{kubeconfig(t, strings.Replace(nowhere, "//", "//me:hunter2@", 1), nil)}}), "me:xxxxx@127", true},
		{"no credentials", open(t, Options{Files: []string{plugin}}), "log in again", false},
		{"nobody there", open(t, Options{Files: []string{kubeconfig(t, nowhere, nil)}}), "cannot be reached", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for what, ask := range map[string]func() error{
				"services": func() error { _, err := test.cluster.Services(t.Context()); return err },
				"url":      func() error { _, err := test.cluster.URL(t.Context(), "composer"); return err },
			} {
				err := ask()
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.cluster.context) {
					t.Errorf("%s: %v, want %q and the context in it", what, err, test.want)
				}
				if errors.Is(err, client.ErrNotRunning) != test.down {
					t.Errorf("%s: %v: is %v ErrNotRunning", what, err, !test.down)
				}
				if err != nil && strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s: %v tells a password", what, err)
				}
			}
		})
	}
	if _, err := at(&knativetest.Server{NoKnative: true}, Options{}).Version(t.Context()); !errors.Is(err, client.ErrNotRunning) {
		t.Errorf("version without Knative: %v", err)
	}
}

func TestConfigErrors(t *testing.T) {
	file := kubeconfig(t, "http://127.0.0.1:1", nil)
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	nocurrent := filepath.Join(t.TempDir(), "nocurrent")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(nocurrent, []byte(strings.Replace(string(text), `"current-context":"test"`, `"current-context":""`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		options Options
		want    string
	}{
		{"no such context", Options{Files: []string{file}, Context: "prod"}, `there is no context "prod" in the kubeconfig (` + file + `); there are: stranger, test`},
		{"no such file", Options{Kubeconfig: "/absent"}, "/absent"},
		{"no file by default", Options{Files: []string{"/absent"}, Context: "x"}, "--kubeconfig FILE"},
		{"broken", Options{Kubeconfig: broken}, "read the kubeconfig"},
		{"no current context", Options{Kubeconfig: nocurrent}, "choose one with --context: stranger, test"},
	} {
		if _, err := Open(test.options); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q in it", test.name, err, test.want)
		}
	}
	names, err := Contexts(Options{Files: []string{"/absent", file}})
	check(t, err, []string{"stranger", "test"}, names)
}

// What was read is written over, whole and whoever set it, and deleted; what
// somebody has changed since is not.
func TestOver(t *testing.T) {
	s := &knativetest.Server{}
	c := serve(t, s, "").Objects()
	of := func(spec map[string]any) *unstructured.Unstructured {
		o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
		o.SetGroupVersionKind(objects.Schedule.GroupVersion().WithKind(objects.Schedule.Name))
		o.SetNamespace("aisle")
		o.SetName("title-by-hand")
		o.SetAnnotations(map[string]string{"by": "me"})
		return o
	}
	first, err := c.Over(t.Context(), objects.Schedule, nil, of(map[string]any{"service": "title", "until": "2026-11-27T18:00:00Z"}), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Over(t.Context(), objects.Schedule, nil, of(map[string]any{"service": "title"}), false); !apierrors.IsAlreadyExists(err) {
		t.Errorf("made again: %v", err)
	}
	if _, err := c.Over(t.Context(), objects.Schedule, first, of(map[string]any{"service": "photo"}), true); err != nil {
		t.Errorf("tried: %v", err)
	}
	second, err := c.Over(t.Context(), objects.Schedule, first, of(map[string]any{"service": "title", "reason": "a sale"}), false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"service": "title", "reason": "a sale"}, second.Object["spec"]); diff != "" {
		t.Error(diff)
	}
	if _, err := c.Over(t.Context(), objects.Schedule, first, of(map[string]any{"service": "title"}), false); !apierrors.IsConflict(err) {
		t.Errorf("over what is old: %v", err)
	}
	if err := c.DeleteRead(t.Context(), objects.Schedule, first, false); !apierrors.IsConflict(err) {
		t.Errorf("what is old is deleted: %v", err)
	}
	if err := c.DeleteRead(t.Context(), objects.Schedule, second, false); err != nil {
		t.Error(err)
	}
}
