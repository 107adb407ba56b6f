package knative

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
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
	"aisle.dev/aisle/internal/client/objects"
)

// Bounds of logs.
const (
	tailLines   = 5000     // of each pod, at first, where nobody says how many
	limitBytes  = 16 << 20 // of each pod that is not followed
	maxFollowed = 64       // containers at once
)

// Logs implements [client.Client]. Kubernetes keeps the logs of pods that are
// there. A follow takes in new pods, and new containers of old ones; of one pod
// alone it ends when that has gone.
func (c *Cluster) Logs(ctx context.Context, w io.Writer, q client.LogQuery) error {
	if ns, rest, ok := strings.Cut(q.Name, "/"); ok {
		q.Name = rest
		return c.In(ns).Logs(ctx, w, q)
	}
	out := &lines{w: w}
	if q.Follow {
		f := &following{c: c, query: q, out: out, begun: map[string]bool{}}
		if err := f.run(ctx); ctx.Err() == nil {
			return err
		}
		return nil // how a follow ends
	}
	pods, err := c.pods(ctx)
	if err != nil {
		return err
	}
	if pods, err = c.itsPods(ctx, q, pods); err != nil {
		return err
	}
	out.several = len(pods) > 1
	params := append(asked(q), "limitBytes", strconv.Itoa(limitBytes))
	var failed []error // of pods whose node is gone, which hides nothing of the others
	for i := range pods {
		if l, ok := logOf(&pods[i], q.Previous); ok && ctx.Err() == nil {
			failed = append(failed, c.copy(ctx, out, l, params...))
		}
	}
	return cmp.Or(ctx.Err(), errors.Join(failed...))
}

// asked are the parameters of a log's beginning.
func asked(q client.LogQuery) []string {
	tail := tailLines
	if q.Tail >= 0 {
		tail = q.Tail
	}
	params := []string{"tailLines", strconv.Itoa(tail), "timestamps", strconv.FormatBool(q.Timestamps)}
	if q.Since > 0 {
		params = append(params, "sinceSeconds", strconv.Itoa(int(math.Ceil(q.Since.Seconds()))))
	}
	return params
}

// means is whether a pod's log is asked for.
func means(q client.LogQuery, p *corev1.Pod) bool {
	is := func(kind, name string) bool { return name == q.Name && (q.Kind == "" || q.Kind == kind) }
	return is(client.KindPod, p.Name) || is(client.KindService, p.Labels[serviceLabel]) || is(client.KindRevision, p.Labels[revisionLabel])
}

// itsPods are the pods whose logs are asked for, oldest first.
func (c *Cluster) itsPods(ctx context.Context, q client.LogQuery, pods []corev1.Pod) ([]corev1.Pod, error) {
	pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !means(q, &p) })
	slices.SortStableFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	if len(pods) > 0 {
		return pods, nil
	}
	return nil, c.known(ctx, q)
}

// known says whether a service or revision without pods has that name.
func (c *Cluster) known(ctx context.Context, q client.LogQuery) error {
	services, err := c.services(ctx)
	if err != nil || q.Kind != client.KindPod && q.Kind != client.KindRevision && slices.ContainsFunc(services, func(s servingv1.Service) bool { return s.Name == q.Name }) {
		return err
	}
	revisions, err := c.revisions(ctx)
	if err != nil || q.Kind != client.KindPod && q.Kind != client.KindService && slices.ContainsFunc(revisions, func(r servingv1.Revision) bool { return r.Name == q.Name }) {
		return err
	}
	return c.absent(cmp.Or(q.Kind, "service, revision or pod"), q.Name, services)
}

// words are the begin and the end of a pod's log.
func (c *Cluster) words(ctx context.Context, p *corev1.Pod) (begin, end string, err error) {
	l, ok := logOf(p, false)
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
// first start; the life that ended, where the next one has not begun. With
// previous it is the life before the one that runs, if there was one.
func logOf(p *corev1.Pod, previous bool) (containerLog, bool) {
	i := slices.IndexFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name != queueProxy })
	if i < 0 {
		return containerLog{}, false
	}
	name := p.Spec.Containers[i].Name
	for _, s := range p.Status.ContainerStatuses {
		switch last := s.LastTerminationState.Terminated; {
		case s.Name != name:
		case s.State.Running != nil && !previous:
			return containerLog{p.Name, name, s.ContainerID, false}, true
		case s.State.Terminated != nil && !previous:
			return containerLog{p.Name, name, s.State.Terminated.ContainerID, false}, true
		case last != nil:
			return containerLog{p.Name, name, last.ContainerID, true}, true
		}
	}
	return containerLog{}, false
}

// copy copies one container's log; params are pairs. A pod that has gone
// meanwhile has none.
func (c *Cluster) copy(ctx context.Context, out *lines, l containerLog, params ...string) error {
	params = append([]string{"container", l.container, "previous", strconv.FormatBool(l.previous)}, params...)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(c.timeout, func() { cancel(objects.ErrSlow) })
	defer slow.Stop()
	from, err := c.objects.Stream(ctx, objects.Pod, c.namespace, l.pod, "log", params...)
	if err == nil {
		defer from.Close()
		if slices.Contains(params, "follow") {
			slow.Stop()
		} else {
			from = &timed{from, slow, c.timeout}
		}
		err = out.copy(l.pod, from)
	}
	if err != nil && errors.Is(context.Cause(ctx), objects.ErrSlow) {
		err = objects.ErrSlow
	}
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	if w, ok := errors.AsType[*writeError](err); ok {
		return w.err
	}
	return c.explain(err, "read the log of pod "+l.pod, objects.Pod)
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
	query client.LogQuery
	out   *lines
	begun map[string]bool // by container id
	now   atomic.Int32    // streams
}

// errGone ends the watch of a pod that has gone.
var errGone = errors.New("the pod has gone")

// run owns begun. It ends with ctx, with the first stream that breaks, or with
// the one pod that is meant.
func (f *following) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	begin := func(p *corev1.Pod, params ...string) error {
		l, ok := logOf(p, false)
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
		var first []corev1.Pod // until the list is whole
		listed := false
		err := objects.Follow(ctx, f.c.objects, objects.Pod, f.c.namespace, serviceLabel, func(how watch.EventType, p *corev1.Pod) error {
			switch {
			case how == watch.Bookmark && listed:
			case how == watch.Bookmark:
				listed = true
				pods, err := f.c.itsPods(ctx, f.query, first)
				if err != nil {
					return err
				}
				f.out.several = len(pods) > 1
				for i := range pods {
					if err := begin(&pods[i], asked(f.query)...); err != nil {
						return err
					}
				}
				if len(pods) == 1 && f.over(watch.Added, &pods[0]) {
					return errGone
				}
			case !listed:
				first = append(first, *p)
			case !means(f.query, p):
			case how == watch.Deleted:
				if f.over(how, p) {
					return errGone
				}
			default:
				if err := begin(p, "timestamps", strconv.FormatBool(f.query.Timestamps)); err != nil || !f.over(how, p) {
					return err
				}
				return errGone
			}
			return nil
		})
		if errors.Is(err, errGone) {
			return nil // what its streams still have is read
		}
		return err
	})
	return group.Wait()
}

// over is whether nothing more will come of the one pod that is meant.
func (f *following) over(how watch.EventType, p *corev1.Pod) bool {
	ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	return p.Name == f.query.Name && (how == watch.Deleted || ended)
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
