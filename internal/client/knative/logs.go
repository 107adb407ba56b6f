package knative

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/internal/client"
)

// Bounds of logs.
const (
	tailLines   = 5000     // of each pod, at first
	limitBytes  = 16 << 20 // of each pod that is not followed
	maxFollowed = 64       // containers at once
)

// Logs implements [client.Client]. Kubernetes keeps the logs of pods that are
// there. A follow takes in new pods, and new containers of old ones.
func (c *Cluster) Logs(ctx context.Context, w io.Writer, name string, follow bool) error {
	if ns, rest, ok := strings.Cut(name, "/"); ok {
		return c.In(ns).Logs(ctx, w, rest, follow)
	}
	pods, version, err := c.pods(ctx)
	if err != nil {
		return err
	}
	its := func(p *corev1.Pod) bool {
		return p.Name == name || p.Labels[serviceLabel] == name || p.Labels[revisionLabel] == name
	}
	pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !its(&p) })
	if len(pods) == 0 {
		if err := c.known(ctx, name); err != nil {
			return err
		}
	}
	slices.SortStableFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	out := &lines{w: w, several: len(pods) > 1}
	if follow {
		f := &following{c: c, its: its, out: out, begun: map[string]bool{}}
		if err := f.run(ctx, pods, version); ctx.Err() == nil {
			return err
		}
		return nil // how a follow ends
	}
	var failed []error // of pods whose node is gone, which hides nothing of the others
	for i := range pods {
		if l, ok := logOf(&pods[i]); ok && ctx.Err() == nil {
			failed = append(failed, c.copy(ctx, out, l, "tailLines", strconv.Itoa(tailLines), "limitBytes", strconv.Itoa(limitBytes)))
		}
	}
	return cmp.Or(ctx.Err(), errors.Join(failed...))
}

// known says whether a service or revision without pods has that name.
func (c *Cluster) known(ctx context.Context, name string) error {
	services, err := c.services(ctx)
	if err != nil || slices.ContainsFunc(services, func(s servingv1.Service) bool { return s.Name == name }) {
		return err
	}
	revisions, err := c.revisions(ctx)
	if err != nil || slices.ContainsFunc(revisions, func(r servingv1.Revision) bool { return r.Name == name }) {
		return err
	}
	return c.absent("service, revision or pod", name, services)
}

// words are the begin and the end of a pod's log.
func (c *Cluster) words(ctx context.Context, p *corev1.Pod) (begin, end string, err error) {
	l, ok := logOf(p)
	if !ok {
		return "", "", nil
	}
	var first, last strings.Builder
	err = c.copy(ctx, &lines{w: &first}, l, "limitBytes", strconv.Itoa(client.BeginBytes))
	if err == nil {
		err = c.copy(ctx, &lines{w: &last}, l, "tailLines", strconv.Itoa(client.SaidLines), "limitBytes", strconv.Itoa(client.EndBytes))
	}
	return first.String(), strings.TrimRight(last.String(), "\n"), err
}

// containerLog is the log of one life of a pod's serving container.
type containerLog struct {
	pod, container string
	id             string // of the container in its runtime
	previous       bool   // its life before the last one
}

// logOf is what there is to read of a pod: nothing before its container's
// first start; the life that ended, where the next one has not begun.
func logOf(p *corev1.Pod) (containerLog, bool) {
	i := slices.IndexFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name != queueProxy })
	if i < 0 {
		return containerLog{}, false
	}
	name := p.Spec.Containers[i].Name
	for _, s := range p.Status.ContainerStatuses {
		switch last := s.LastTerminationState.Terminated; {
		case s.Name != name:
		case s.State.Running != nil:
			return containerLog{p.Name, name, s.ContainerID, false}, true
		case s.State.Terminated != nil:
			return containerLog{p.Name, name, s.State.Terminated.ContainerID, false}, true
		case last != nil:
			return containerLog{p.Name, name, last.ContainerID, true}, true
		}
	}
	return containerLog{}, false
}

// copy copies one container's log. A pod that has gone meanwhile has none.
func (c *Cluster) copy(ctx context.Context, out *lines, l containerLog, params ...string) error {
	req := c.core.Get().Namespace(c.namespace).Resource("pods").Name(l.pod).SubResource("log").Param("container", l.container)
	if l.previous {
		req.Param("previous", "true")
	}
	following := false
	for i := 0; i < len(params); i += 2 {
		req.Param(params[i], params[i+1])
		following = following || params[i] == "follow"
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(c.timeout, func() { cancel(errSlow) })
	defer slow.Stop()
	if following {
		slow.Stop()
	}
	from, err := req.Stream(ctx)
	if err == nil {
		defer from.Close()
		if !following {
			from = &timed{from, slow, c.timeout}
		}
		err = out.copy(l.pod, from)
	}
	if err != nil && errors.Is(context.Cause(ctx), errSlow) {
		err = errSlow
	}
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	if w, ok := errors.AsType[*writeError](err); ok {
		return w.err
	}
	return c.explain(err, "read the log of pod "+l.pod)
}

// timed bounds the time of each Read: a writer between two may take its time,
// such as a pager that somebody reads.
type timed struct {
	io.ReadCloser
	timer *time.Timer // ends the request
	limit time.Duration
}

func (t *timed) Read(p []byte) (int, error) {
	t.timer.Reset(t.limit)
	defer t.timer.Stop()
	return t.ReadCloser.Read(p)
}

// following follows the logs of pods as they come and go.
type following struct {
	c     *Cluster
	its   func(*corev1.Pod) bool
	out   *lines
	begun map[string]bool // by container id
	now   atomic.Int32    // streams
}

// run owns begun. It ends with ctx, or with the first stream that breaks.
func (f *following) run(ctx context.Context, pods []corev1.Pod, version string) error {
	group, ctx := errgroup.WithContext(ctx)
	begin := func(p *corev1.Pod, params ...string) error {
		if !f.its(p) {
			return nil
		}
		l, ok := logOf(p)
		if !ok || f.begun[l.id] {
			return nil
		}
		if f.now.Load() == maxFollowed {
			return fmt.Errorf("more than %d containers write at once, which are too many to follow; name a revision or a pod", maxFollowed)
		}
		f.begun[l.id] = true
		f.now.Add(1)
		group.Go(func() error {
			defer f.now.Add(-1)
			return f.c.copy(ctx, f.out, l, append(params, "follow", "true")...)
		})
		return nil
	}
	group.Go(func() error {
		for i := range pods {
			if err := begin(&pods[i], "tailLines", strconv.Itoa(tailLines)); err != nil {
				return err
			}
		}
		for {
			if err := f.watch(ctx, version, begin); err != nil {
				return err
			}
			// The API server ended it, as it does after some minutes, or it
			// knows that version no more: begin anew.
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
			var err error
			if pods, version, err = f.c.pods(ctx); err != nil {
				return err
			}
			for i := range pods {
				if err := begin(&pods[i]); err != nil {
					return err
				}
			}
		}
	})
	return group.Wait()
}

// watch passes every pod that changes after version, until the watch ends.
func (f *following) watch(ctx context.Context, version string, changed func(*corev1.Pod, ...string) error) error {
	w, err := f.c.core.Get().NamespaceIfScoped(f.c.namespace, f.c.namespace != "").Resource("pods").
		Param("labelSelector", serviceLabel).Param("watch", "true").Param("resourceVersion", version).Watch(ctx)
	if err != nil {
		return f.c.explain(err, "watch pods")
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, more := <-w.ResultChan():
			if !more || e.Type == watch.Error {
				return nil
			}
			if p, ok := e.Object.(*corev1.Pod); ok && e.Type != watch.Deleted {
				if err := changed(p); err != nil {
					return err
				}
			}
		}
	}
}

// lines writes the lines of several logs to one writer, whole but for those of
// more than 64 KiB, under headers as tail's where another log goes on.
type lines struct {
	several bool // from the beginning

	mu   sync.Mutex // guards what follows, and the writer
	w    io.Writer
	last string
	part bool // of a line was written last
}

// writeError is an error of the writer, not of the log.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }

func (l *lines) copy(pod string, from io.Reader) error {
	for r := bufio.NewReaderSize(from, 64<<10); ; {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			if werr := l.write(pod, line); werr != nil {
				return &writeError{werr}
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull): // a long line goes in parts
			return err
		}
	}
}

func (l *lines) write(pod string, line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != pod && (l.several || l.last != "") {
		end := ""
		if l.part {
			end = "\n"
		}
		if _, err := fmt.Fprintf(l.w, "%s==> %s <==\n", end, pod); err != nil {
			return err
		}
	}
	l.last, l.part = pod, line[len(line)-1] != '\n'
	_, err := l.w.Write(line)
	return err
}
