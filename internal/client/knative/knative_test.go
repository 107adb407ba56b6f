package knative

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/knative/knativetest"
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
			{Namespace: "aisle", Name: "composer", URL: "http://composer.test", LatestRevision: "composer-00001", Ready: true},
			{Namespace: "aisle", Name: "title", URL: "http://title.aisle.cluster.test", LatestRevision: "title-00001", Reason: "RevisionFailed: Revision title-00002 failed", Pods: 1},
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
		Service:    &client.Service{Namespace: "aisle", Name: "title", URL: "http://title.aisle.cluster.test", LatestRevision: "title-00001", Reason: "RevisionFailed: Revision title-00002 failed", Pods: 1},
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

func TestLogs(t *testing.T) {
	s := new(knativetest.Server)
	s.Sample("http://composer.test")
	c := serve(t, s, "")
	said := "{\"level\":\"INFO\",\"msg\":\"ready\",\"model\":\"title\",\"digest\":\"sha256:feed\"}\none more line\n"
	crashed := "classifier: the model package is another one\n"
	for name, want := range map[string]string{
		healthy.Name:        said,
		"title-00002":       crashed, // of its life before
		"aisle/title-00001": said,
		"title":             "==> " + healthy.Name + " <==\n" + said + "==> " + crashing.Name + " <==\n" + crashed,
		"composer":          "",
	} {
		var got strings.Builder
		err := c.Logs(t.Context(), &got, client.LogsOf(name))
		check(t, err, want, got.String())
	}
	if err := c.Logs(t.Context(), new(strings.Builder), followed("absent")); err == nil || !strings.Contains(err.Error(), "its services are: composer, title") {
		t.Errorf("of nobody: %v", err)
	}
	s.Put("/pods", knativetest.Object{ // the oldest; its log cannot be read
		"metadata": knativetest.Object{"name": "z", "namespace": "aisle", "labels": knativetest.Object{serviceLabel: "title", revisionLabel: "title-00001"}},
		"spec":     knativetest.Object{"containers": []knativetest.Object{{"name": "c"}}},
		"status":   knativetest.Object{"containerStatuses": []knativetest.Object{{"name": "c", "state": knativetest.Object{"running": knativetest.Object{}}}}},
	})
	var got strings.Builder
	err := c.Logs(t.Context(), &got, client.LogsOf("title-00001"))
	check(t, nil, "==> "+healthy.Name+" <==\n"+said, got.String())
	if err == nil || !strings.Contains(err.Error(), "read the log of pod z") {
		t.Errorf("one that cannot be read: %v", err)
	}
	full := errors.New("disk full")
	if err := c.Logs(t.Context(), writer(func([]byte) error { return full }), client.LogsOf("title-00001")); !errors.Is(err, full) {
		t.Errorf("to a writer that fails: %v", err)
	}
}

type writer func([]byte) error

func (w writer) Write(p []byte) (int, error) { return len(p), w(p) }

// Whoever reads slowly, such as a pager, gets all of it.
func TestLogsSlowReader(t *testing.T) {
	s := new(knativetest.Server)
	s.Sample("http://composer.test")
	const line = "a line that does not fit into what lies between, many times over"
	s.Log("aisle", healthy.Name, "classifier", slices.Repeat([]string{line}, tailLines)...)
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	const timeout = 100 * time.Millisecond
	c := open(t, Options{Files: []string{kubeconfig(t, srv.URL, nil)}, Timeout: timeout})
	size, paused := 0, false
	err := c.Logs(t.Context(), writer(func(p []byte) error {
		if size += len(p); !paused {
			paused = true
			<-time.After(2 * timeout)
		}
		return nil
	}), client.LogsOf(healthy.Name))
	check(t, err, tailLines*(len(line)+1), size)
}

// A line that ends with its log is ended before the next header.
func TestLines(t *testing.T) {
	var got strings.Builder
	out := &lines{w: &got, several: true}
	for _, s := range []struct{ pod, text string }{{"a", "1\n2"}, {"b", "3\n"}, {"a", "4"}, {"a", "5\n"}} {
		if err := out.copy(s.pod, strings.NewReader(s.text)); err != nil {
			t.Error(err)
		}
	}
	check(t, nil, "==> a <==\n1\n2\n==> b <==\n3\n==> a <==\n45\n", got.String())
}

// One kind is meant where a name has one; a life before is read where asked for.
func TestLogsOf(t *testing.T) {
	s := new(knativetest.Server)
	s.Sample("http://composer.test")
	c := serve(t, s, "")
	s.Log("aisle", healthy.Name, "classifier", "a last line")
	for name, test := range map[string]struct {
		query     client.LogQuery
		want, err string
	}{
		"tail":             {query: client.LogQuery{Kind: client.KindRevision, Name: "title-00001", Tail: 1}, want: "a last line\n"},
		"previous":         {query: client.LogQuery{Name: "aisle/title-00002", Tail: -1, Previous: true}, want: "classifier: the model package is another one\n"},
		"no previous":      {query: client.LogQuery{Name: "title-00001", Tail: -1, Previous: true}},
		"another kind":     {query: client.LogQuery{Kind: client.KindPod, Name: "title", Tail: -1}, err: `there is no pod "title"`},
		"a service's kind": {query: client.LogQuery{Kind: client.KindService, Name: "title-00001", Tail: -1}, err: `there is no service "title-00001"`},
	} {
		var got strings.Builder
		err := c.Logs(t.Context(), &got, test.query)
		if got.String() != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %q, %v", name, got.String(), err)
		}
	}
}

// Following one pod ends once it has gone, with all that it wrote.
func TestFollowPodGone(t *testing.T) {
	for name, end := range map[string]func(*knativetest.Server, knativetest.Object){
		"deleted": func(s *knativetest.Server, _ knativetest.Object) { s.Delete("/pods", "aisle", "a") },
		"evicted": func(s *knativetest.Server, pod knativetest.Object) {
			pod["status"].(knativetest.Object)["phase"] = "Failed"
			s.Put("/pods", pod)
		},
	} {
		s := &knativetest.Server{Expire: 1} // its watch is refused first
		pod := knativetest.Object{
			"metadata": knativetest.Object{"name": "a", "namespace": "aisle", "labels": knativetest.Object{serviceLabel: "title"}},
			"spec":     knativetest.Object{"containers": []knativetest.Object{{"name": "c"}}},
			"status":   knativetest.Object{"containerStatuses": []knativetest.Object{{"name": "c", "containerID": "1", "state": knativetest.Object{"running": knativetest.Object{}}}}},
		}
		s.Put("/pods", pod)
		s.Log("aisle", "a", "c", "first")
		c := serve(t, s, "")
		var text strings.Builder
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		err := c.Logs(ctx, writer(func(p []byte) error {
			if text.Write(p); text.String() == "first\n" {
				s.Log("aisle", "a", "c", "last words")
				end(s, pod)
				s.EndLog("aisle", "a", "c")
			}
			return nil
		}), followed("a"))
		check(t, err, "first\nlast words\n", text.String())
		if ctx.Err() != nil {
			t.Errorf("%s: the follow did not end by itself", name)
		}
	}
}

// There may be any number of pods in the time of a follow, but not at once.
func TestFollowMany(t *testing.T) {
	s := new(knativetest.Server)
	c := serve(t, s, "")
	pod := func(name, id string) {
		s.Put("/pods", knativetest.Object{
			"metadata": knativetest.Object{"name": name, "namespace": "aisle", "labels": knativetest.Object{serviceLabel: "title"}},
			"spec":     knativetest.Object{"containers": []knativetest.Object{{"name": "c"}}},
			"status":   knativetest.Object{"containerStatuses": []knativetest.Object{{"name": "c", "containerID": id, "state": knativetest.Object{"running": knativetest.Object{}}}}},
		})
	}
	s.Log("aisle", "a", "c", "begun")
	s.EndLog("aisle", "a", "c")
	const lives = 2 * maxFollowed
	pod("a", "1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	err := c.Logs(ctx, writer(func([]byte) error {
		if seen++; seen == lives {
			cancel()
		} else {
			pod("a", fmt.Sprint(seen+1))
		}
		return nil
	}), followed("title"))
	check(t, err, lives, seen)

	for i := range maxFollowed + 1 {
		name := fmt.Sprint("b", i)
		s.Log("aisle", name, "c", "begun")
		pod(name, name)
	}
	if err := c.Logs(t.Context(), writer(func([]byte) error { return nil }), followed("title")); err == nil || !strings.Contains(err.Error(), "name a revision or a pod") {
		t.Errorf("too many at once: %v", err)
	}
}

// A follow takes in lines, new pods and restarts, whether or not the server
// ends its watches, and ends with its context.
func TestFollow(t *testing.T) {
	for _, watched := range []int{0, 1} {
		s := &knativetest.Server{MaxWatch: watched}
		c := serve(t, s, "")
		pod := func(name, id string, state knativetest.Object) {
			s.Put("/pods", knativetest.Object{
				"metadata": knativetest.Object{"name": name, "namespace": "aisle", "labels": knativetest.Object{serviceLabel: "title"}},
				"spec":     knativetest.Object{"containers": []knativetest.Object{{"name": queueProxy}, {"name": "c"}}},
				"status":   knativetest.Object{"containerStatuses": []knativetest.Object{{"name": "c", "containerID": id, "state": state}}},
			})
		}
		running, waiting := knativetest.Object{"running": knativetest.Object{}}, knativetest.Object{"waiting": knativetest.Object{"reason": "ContainerCreating"}}
		pod("a", "1", running)
		s.Log("aisle", "a", "c", "first")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex // guards text
		var text strings.Builder
		wrote := make(chan struct{}, 1)
		ended := make(chan error, 1)
		go func() {
			ended <- c.Logs(ctx, writer(func(p []byte) error {
				mu.Lock()
				defer mu.Unlock()
				text.Write(p)
				select {
				case wrote <- struct{}{}:
				default:
				}
				return nil
			}), followed("title"))
		}()
		// until waits for what has been written so far.
		until := func(want string) {
			t.Helper()
			for {
				mu.Lock()
				got := text.String()
				mu.Unlock()
				if got == want {
					return
				}
				select {
				case <-wrote:
				case err := <-ended:
					t.Fatalf("ended with %v after %q", err, got)
				case <-time.After(20 * time.Second):
					t.Fatalf("%q, want %q", got, want)
				}
			}
		}
		until("first\n")
		s.Log("aisle", "a", "c", "second")
		until("first\nsecond\n")
		pod("b", "", waiting) // nothing to read yet
		s.Log("aisle", "b", "c", "new")
		pod("b", "2", running)
		until("first\nsecond\n==> b <==\nnew\n")
		s.EndLog("aisle", "b", "c")
		pod("b", "3", running) // restarted: its log is complete at once
		until("first\nsecond\n==> b <==\nnew\nnew\n")
		s.Delete("/pods", "aisle", "b")
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("at its end: %v", err)
		}
		if watched > 0 && s.Asked("/api/v1/namespaces/aisle/pods") < 4 {
			t.Error("the server ended no watch")
		}
	}
}

// The Role in docs allows what a client asks for, and nothing besides.
func TestRole(t *testing.T) {
	text, err := os.ReadFile("../../../docs/cli-role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var role struct{ Rules []knativetest.Rule }
	if err := yaml.Unmarshal(text, &role); err != nil || len(role.Rules) == 0 {
		t.Fatalf("%v: %+v", err, role)
	}
	s := &knativetest.Server{Rules: role.Rules}
	s.Sample("http://composer.test")
	c := serve(t, s, "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, services := c.Services(ctx)
	_, revisions := c.Revisions(ctx)
	_, pods := c.Pods(ctx)
	_, url := c.URL(ctx, "composer")
	_, version := c.Version(ctx)
	_, describe := c.Describe(ctx, client.KindService, "title")
	watching := make(chan error, 1)
	go func() { watching <- c.Logs(ctx, writer(func([]byte) error { return nil }), followed("title")) }()
	for tick := time.NewTicker(time.Millisecond); !slices.Contains(s.Used(), "watch /pods"); {
		select {
		case err := <-watching:
			t.Fatal("the follow ended: ", err)
		case <-tick.C:
		}
	}
	cancel()
	if err := errors.Join(services, revisions, pods, url, version, describe, <-watching); err != nil {
		t.Error(err)
	}
	var allowed []string
	for _, r := range role.Rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					allowed = append(allowed, verb+" "+group+"/"+resource)
				}
			}
		}
	}
	used := map[string]bool{}
	for _, u := range s.Used() {
		used[u] = true
	}
	for _, a := range allowed {
		if !used[a] {
			t.Errorf("docs/cli-role.yaml allows %q, which nothing asks for", a)
		}
	}
}
