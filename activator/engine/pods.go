package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/activator/engine/cgroup"
	"aisle.dev/aisle/activator/engine/objects"
	"aisle.dev/aisle/activator/engine/pod"
	"aisle.dev/aisle/activator/engine/slots"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/manifest"
)

// Phases of a pod.
const (
	phasePending  = "Pending" // there is no GPU for it yet
	phaseStarting = "Starting"
	phaseReady    = "Ready"
	phaseUnready  = "NotReady" // it was ready, and its readiness probe fails
	phaseDraining = "Draining"
)

var (
	errRefused = errors.New("stopped listening on its port")
	errStopped = errors.New("it was told to stop")
)

// podState is one pod of a revision. Its goroutine, [revision.tend], starts
// its process and stays with it to the end.
type podState struct {
	name      string
	transport *http.Transport // to this pod alone: its connections end with it

	// Sent at most once, by the revision's goroutine: why the pod is to stop.
	order chan order

	// Set before the pod is ready, read by requests that hold a place in it.
	process *pod.Pod
	ready   time.Time // under the revision's mu for others
	cold    *coldStart
	used    atomic.Bool // it has had its first request

	// Under the revision's mu.
	phase   string
	shown   string // of the phase, address and pending: as it is in the store
	created time.Time
	started time.Time
	pid     int
	address string
	late    bool   // it did not get ready in time
	pending string // with phasePending: why
	claim   *slots.Claim
}

// order tells a pod's goroutine to end it: after drained is closed, by
// SIGTERM and its grace; or at once, because of err.
type order struct {
	drained <-chan struct{}
	err     error
}

func (p *podState) give(err error) {
	select {
	case p.order <- order{err: err}:
	default: // it is on its way out already
	}
}

// drain tells a pod to stop. REQUIRES: r.mu is held.
func (r *revision) drain(p *podState, drained <-chan struct{}) {
	p.phase = phaseDraining
	select {
	case p.order <- order{drained: drained}:
	default:
	}
}

// podAlphabet is Kubernetes' for generated names: no vowels, no words.
const podAlphabet = "bcdfghjklmnpqrstvwxz2456789"

func podName(revision string) string {
	suffix := make([]byte, 5)
	for i := range suffix {
		suffix[i] = podAlphabet[rand.IntN(len(podAlphabet))]
	}
	return revision + "-" + string(suffix)
}

// revisionOf is the revision whose pod has a name that podName gives.
func revisionOf(name string) (string, bool) {
	i := len(name) - 6
	if i < 1 || name[i] != '-' || strings.Trim(name[i+1:], podAlphabet) != "" {
		return "", false
	}
	return name[:i], true
}

// isPodOf reports whether a pod's name is one that podName gives.
func isPodOf(name, revision string) bool {
	of, ok := revisionOf(name)
	return ok && of == revision
}

// begin adds a pod and starts it. REQUIRES: r.mu is held.
func (r *revision) begin() {
	p := &podState{name: podName(r.name), order: make(chan order, 1), phase: phaseStarting, created: time.Now()}
	p.started = p.created
	p.transport = newTransport(r.spec.H2C)
	r.pods = append(r.pods, p)
	r.tends.Go(func() {
		reason := r.tend(p)
		p.transport.CloseIdleConnections()
		r.event <- event{p, podEnded, reason}
		if err := pod.Prune(r.machine.LogDir(r.spec.Namespace), r.name, r.has); err != nil {
			r.log.Warn("old logs stay", "err", err)
		}
	})
}

// tend runs one pod and returns, once its process has gone, how it ended.
func (r *revision) tend(p *podState) string {
	t, err := r.template()
	if err != nil {
		return fmt.Sprintf("did not start: %v", err)
	}
	claim, told := r.claim(p, t.Limits.GPUs)
	defer func() { // when the process has gone
		r.control.swapBack(r, claim)
		claim.Release()
	}()
	if told {
		return "was told to stop before there was a GPU for it"
	}
	defer r.used.Hold(t.Limits.GPUs)()
	process, err := r.machine.Start(r.podSpec(p.name, t, claim.Devices()))
	if err != nil {
		return fmt.Sprintf("did not start: %v", err)
	}
	defer process.Remove()
	defer r.used.Pod()()
	r.mu.Lock()
	p.process, p.pid, p.address, p.started = process, process.PID(), process.Address, process.Started
	r.mu.Unlock()
	r.refresh() // with what has changed since t was made
	r.log.Debug("pod started", "pod", p.name, "pid", process.PID(), "address", process.Address)
	r.event <- event{p, podStarted, ""}

	o, err := r.attend(p)
	switch {
	case o != nil && o.err == nil:
		return r.end(p, o.drained)
	case o != nil:
		err = o.err
	}
	process.Kill()
	<-process.Exited()
	return err.Error()
}

// attend stays with a pod while it runs. It tells the revision when the pod
// becomes ready and when it no longer is, and returns the order that ends it,
// or why it must end or has ended.
func (r *revision) attend(p *podState) (*order, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	readiness, failed := make(chan error), make(chan error, 1)
	go func() {
		failed <- p.process.Watch(ctx, podProbes(r.spec), func(why error) {
			select {
			case readiness <- why:
			case <-ctx.Done():
			}
		})
	}()
	abandon := func(why error) error {
		cancel(why)
		return <-failed
	}
	deadline := time.NewTimer(r.progress)
	defer deadline.Stop()
	for ever := false; ; {
		select {
		case why := <-readiness:
			if why != nil {
				r.event <- event{p, podUnready, why.Error()}
				continue
			}
			deadline.Stop()
			ever = true
			r.event <- event{p, podReady, ""}
		case err := <-failed:
			cancel(nil)
			if ever { // it is given no further request while it is asked to end
				r.event <- event{p, podUnready, err.Error()}
				p.process.Stop(lastGrace, r.hurry)
			}
			return nil, err
		case <-p.process.Exited():
			_ = abandon(errStopped)
			if ever {
				return nil, fmt.Errorf("ended by itself with %s", p.process.Outcome())
			}
			return nil, fmt.Errorf("ended before it was ready, with %s", p.process.Outcome())
		case o := <-p.order:
			_ = abandon(errStopped)
			return &o, nil
		case <-deadline.C:
			r.mu.Lock()
			p.late = true
			r.mu.Unlock()
			return nil, abandon(fmt.Errorf("was not ready within its progress deadline of %s", r.progress))
		}
	}
}

// end drains and stops a ready pod. Its grace counts from here, for the
// requests that it still has as for what it does on SIGTERM, of which it gets
// at least lastGrace.
func (r *revision) end(p *podState, drained <-chan struct{}) string {
	begun := time.Now()
	patience := time.NewTimer(r.spec.GracePeriod)
	defer patience.Stop()
	how := "drained"
	select {
	case <-drained:
	case <-patience.C:
		how = fmt.Sprintf("had requests left after its grace period of %s", r.spec.GracePeriod)
	case <-r.hurry:
		how = "did not drain: the engine was told to hurry"
	case <-p.process.Exited():
		return "ended while it drained, with " + p.process.Outcome()
	}
	p.transport.CloseIdleConnections()
	if p.process.Stop(max(lastGrace, r.spec.GracePeriod-time.Since(begun)), r.hurry) {
		return how + ", and was killed because it did not end on SIGTERM"
	}
	return how + ", " + p.process.Outcome()
}

// lastGrace is what a pod gets between SIGTERM and SIGKILL even if its requests
// used up the grace period.
const lastGrace = 2 * time.Second

func (r *revision) has(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.pods, func(p *podState) bool { return p.name == name })
}

// podSpec is the pod as the machine starts it.
func (r *revision) podSpec(name string, t *manifest.Template, gpus []string) pod.Spec {
	s := pod.Spec{Namespace: t.Namespace, Name: name, Command: t.Command, Limits: cgroup.Limits{Memory: t.Limits.Memory, CPU: t.Limits.CPU}}
	for _, e := range t.Env {
		s.Env = append(s.Env, pod.EnvVar{Name: e.Name, Value: strings.ReplaceAll(e.Value, manifest.PodName, name)})
	}
	// Knative's runtime contract; PORT is the machine's to give.
	s.Env = append(s.Env, pod.EnvVar{Name: "K_SERVICE", Value: r.spec.Service},
		pod.EnvVar{Name: "K_CONFIGURATION", Value: r.spec.Service},
		pod.EnvVar{Name: "K_REVISION", Value: r.name})
	s.Env = append(s.Env, r.visible(gpus)...)
	s.Mounts = podMounts(t)
	return s
}

func podMounts(t *manifest.Template) []pod.Mount {
	var out []pod.Mount
	for _, m := range t.Mounts {
		out = append(out, pod.Mount(m))
	}
	return out
}

// refresh writes what ConfigMaps and Secrets hold now into the volumes of the
// pods that run, as kubelet does. Where something that is needed has gone, they
// keep what they have.
func (r *revision) refresh() {
	var live []*pod.Pod
	r.mu.Lock()
	for _, p := range r.pods {
		if p.process != nil {
			live = append(live, p.process)
		}
	}
	r.mu.Unlock()
	if len(live) == 0 {
		return
	}
	t, err := r.template()
	if err != nil {
		r.log.Warn("pods keep the files that they have", "err", err)
		return
	}
	for _, p := range live {
		if err := p.Refresh(podMounts(t)); err != nil {
			r.log.Error("a pod keeps some files that it has", "err", err)
		}
	}
}

// show puts the pods that have changed into the store, as Kubernetes' Pods.
func (r *revision) show() {
	var changes []objects.Change
	r.mu.Lock()
	for _, p := range r.pods {
		if now := p.phase + p.address + p.pending; now != p.shown {
			p.shown = now
			changes = append(changes, objects.Change{Key: objects.Pods.Key(r.spec.Namespace, p.name), Object: r.podObject(p)})
		}
	}
	for _, name := range r.gone {
		changes = append(changes, objects.Change{Key: objects.Pods.Key(r.spec.Namespace, name)})
	}
	r.gone = nil
	r.mu.Unlock()
	if len(changes) > 0 {
		r.control.store.Show(changes...)
	}
}

// podObject is a pod as Kubernetes would tell of it. REQUIRES: r.mu is held.
func (r *revision) podObject(p *podState) *corev1.Pod {
	o := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.spec.Namespace, Name: p.name, UID: types.UID(p.name), CreationTimestamp: metav1.NewTime(p.created),
			Labels: map[string]string{
				serving.ServiceLabelKey: r.spec.Service, serving.ConfigurationLabelKey: r.spec.Service, serving.RevisionLabelKey: r.name,
			},
			Annotations:     map[string]string{"aisle.dev/pid": strconv.Itoa(p.pid)},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(&r.object, servingv1.SchemeGroupVersion.WithKind("Revision"))},
		},
		Spec:   corev1.PodSpec{Containers: r.object.Spec.Containers},
		Status: corev1.PodStatus{Phase: corev1.PodPending, StartTime: new(metav1.NewTime(p.created))},
	}
	container := corev1.ContainerStatus{Name: o.Spec.Containers[0].Name, Image: r.spec.Image}
	condition := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady", LastTransitionTime: metav1.NewTime(p.created)}
	if p.pid != 0 {
		o.Status.Phase, o.Status.PodIP, o.Status.HostIP = corev1.PodRunning, "127.0.0.1", "127.0.0.1"
		container.Started = new(true)
		container.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(p.started)}
	} else {
		container.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	}
	if p.phase == phasePending {
		condition.Type, condition.Reason, condition.Message = corev1.PodScheduled, corev1.PodReasonUnschedulable, p.pending
	}
	if p.phase == phaseReady {
		container.Ready = true
		condition.Status, condition.Reason, condition.LastTransitionTime = corev1.ConditionTrue, "", metav1.NewTime(p.ready)
	}
	if p.phase == phaseDraining {
		o.DeletionTimestamp = new(metav1.Now())
		o.DeletionGracePeriodSeconds = new(int64(r.spec.GracePeriod.Seconds()))
	}
	o.Status.ContainerStatuses, o.Status.Conditions = []corev1.ContainerStatus{container}, []corev1.PodCondition{condition}
	return o
}

// podViews lists the revision's pods for those who ask.
func (r *revision) podViews() []client.Pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	views := make([]client.Pod, 0, len(r.pods))
	for _, p := range r.pods {
		v := client.Pod{
			Namespace: r.spec.Namespace, Name: p.name, Service: r.spec.Service, Revision: r.name,
			Phase: p.phase, PID: p.pid, Address: p.address, Started: p.started,
		}
		if !p.ready.IsZero() {
			v.ReadyMs = float64(p.ready.Sub(p.started).Microseconds()) / 1000
			v.InFlight = r.lane.Held(p)
		}
		if p.pid != 0 {
			v.RSSBytes, v.CPUSeconds = pod.Usage(p.pid)
		}
		views = append(views, v)
	}
	return views
}
