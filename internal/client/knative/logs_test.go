package knative

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/knative/knativetest"
)

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
