package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"knative.dev/serving/pkg/apis/serving"
)

// kubelet is a clock, and a pod's life as the informer tells of it.
type kubelet struct {
	t       *testing.T
	now     time.Time
	pods    *pods
	started []string
}

func newKubelet(t *testing.T) *kubelet {
	k := &kubelet{t: t, now: eight}
	k.pods = newPods(func() time.Time { return k.now }, func(service types.NamespacedName, revision string, took time.Duration) {
		k.started = append(k.started, fmt.Sprintf("%s %s %s", service, revision, took))
	})
	return k
}

func (k *kubelet) pod(name string, gpus int64) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(k.now.Truncate(time.Second)),
		Labels: map[string]string{serving.ServiceLabelKey: title.Name, serving.RevisionLabelKey: first, "more": "labels"},
	}}
	p.Spec.Containers = []corev1.Container{{Name: "queue-proxy"}, {Name: "user-container", Resources: corev1.ResourceRequirements{
		Limits: corev1.ResourceList{"nvidia.com/gpu": *resource.NewQuantity(gpus, resource.DecimalSI), "cpu": resource.MustParse("4")},
	}}}
	return p
}

// tell hands a pod on as the cache keeps it.
func (k *kubelet) tell(p *corev1.Pod, listed bool) {
	k.t.Helper()
	kept, err := stripPod(p.DeepCopy())
	if err != nil {
		k.t.Fatal(err)
	}
	k.pods.OnAdd(kept, listed)
}

func (k *kubelet) update(p *corev1.Pod, change func()) {
	k.t.Helper()
	change()
	kept, err := stripPod(p.DeepCopy())
	if err != nil {
		k.t.Fatal(err)
	}
	k.pods.OnUpdate(nil, kept)
}

func (k *kubelet) ready(p *corev1.Pod, status corev1.ConditionStatus) {
	k.update(p, func() {
		p.Status.Conditions = []corev1.PodCondition{{Type: "PodScheduled", Status: "True"}, {Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(k.now.Truncate(time.Second))}}
	})
}

func (k *kubelet) used(pods, gpus float64) {
	k.t.Helper()
	want := fmt.Sprintf(`# HELP aisle_gpu_seconds_total The same, times the GPUs that each pod asks for.
# TYPE aisle_gpu_seconds_total counter
aisle_gpu_seconds_total{namespace="shop",service="title"} %v
# HELP aisle_pod_seconds_total Seconds that pods of a Knative Service had a node, added up over its pods; counted while the controller runs.
# TYPE aisle_pod_seconds_total counter
aisle_pod_seconds_total{namespace="shop",service="title"} %v
`, gpus, pods)
	if err := testutil.CollectAndCompare(k.pods, strings.NewReader(want)); err != nil {
		k.t.Error(err)
	}
}

func TestPodSeconds(t *testing.T) {
	k := newKubelet(t)
	pass := func(d time.Duration) { k.now = k.now.Add(d) }
	old := k.pod("old", 0)
	old.Spec.NodeName = "node1"
	k.tell(old, true)
	pass(10 * time.Second)
	k.used(10, 0) // not what it ran before the controller did
	gpu := k.pod("gpu", 2)
	k.tell(gpu, false)
	pass(5 * time.Minute) // its node comes
	k.used(310, 0)
	k.update(gpu, func() { gpu.Spec.NodeName = "node2" })
	pass(10 * time.Second)
	k.used(330, 20)
	k.pods.OnDelete(cache.DeletedFinalStateUnknown{Key: "shop/old", Obj: old})
	pass(10 * time.Second)
	k.used(340, 40)
	k.update(gpu, func() { gpu.Status.Phase = corev1.PodFailed })
	pass(time.Hour)
	k.used(340, 40)
	k.pods.OnDelete(gpu)
	k.used(340, 40)
	pass(23 * time.Hour)
	next := k.pod("next", 0)
	next.Spec.NodeName = "node1"
	k.tell(next, false)
	pass(48 * time.Hour)
	k.used(340+48*3600, 40)
	k.pods.OnDelete(next)
	pass(usageKept + time.Second)
	if n := testutil.CollectAndCount(k.pods); n != 0 {
		t.Errorf("%d series of a service that is long gone", n)
	}
}

func TestStartsSeen(t *testing.T) {
	k := newKubelet(t)
	running := k.pod("running", 0)
	k.tell(running, true) // it may have been ready before
	p := k.pod("new", 0)
	k.tell(p, false)
	k.now = k.now.Add(1700 * time.Millisecond)
	k.ready(running, corev1.ConditionTrue)
	k.ready(p, corev1.ConditionFalse)
	k.ready(p, corev1.ConditionTrue)
	k.ready(p, corev1.ConditionTrue)
	k.now = k.now.Add(time.Hour)
	k.ready(p, corev1.ConditionFalse) // a probe failed for once
	k.ready(p, corev1.ConditionTrue)
	late := k.pod("late", 0) // the watch was behind
	late.CreationTimestamp = metav1.NewTime(k.now.Truncate(time.Second).Add(-30 * time.Second))
	k.tell(late, false)
	k.ready(late, corev1.ConditionTrue)
	want := []string{"shop/title title-00001 1.7s", "shop/title title-00001 30s"}
	if d := cmp.Diff(want, k.started); d != "" {
		t.Error(d)
	}
}
