package objects

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"v": value},
	}
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, damaged, err := Open(dir)
	if err != nil || len(damaged) > 0 {
		t.Fatal(err, damaged)
	}
	return s
}

func write(t *testing.T, s *Store, changes ...Change) {
	t.Helper()
	if err := s.Write(changes...); err != nil {
		t.Fatal(err)
	}
}

// What has been written is there after a restart, with its origin; what was
// only shown is not.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	trigger := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "metadata": map[string]any{"namespace": "shop", "name": "t"}, "spec": map[string]any{"n": int64(3)}}}
	many := []Change{{ConfigMaps.Key("default", "a"), configMap("a", "1"), Origin{Folder: "digest", Orphan: true}}, s.Put(trigger)}
	for i := range 2 * manyFiles {
		many = append(many, s.Put(configMap(fmt.Sprintf("m%02d", i), "x")))
	}
	write(t, s, many...)
	write(t, s, s.Put(configMap("a", "2")), Change{Key: ConfigMaps.Key("default", "m00")})
	s.Show(s.Put(&corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"}}), s.Put(configMap("m01", "shown")))
	_, version := s.List(ConfigMaps, "")

	again := open(t, dir)
	all, now := again.List(ConfigMaps, "")
	if len(all) != 2*manyFiles || now <= version {
		t.Errorf("%d objects, version %d after %d", len(all), now, version)
	}
	if o := again.Get(ConfigMaps.Key("default", "a")).(*corev1.ConfigMap); o.Data["v"] != "2" {
		t.Errorf("%v", o.Data)
	}
	if o := again.Get(ConfigMaps.Key("default", "m01")).(*corev1.ConfigMap); o.Data["v"] != "x" {
		t.Errorf("what was shown is on disk: %v", o.Data)
	}
	if origin, ok := again.Origin(ConfigMaps.Key("default", "a")); !ok || origin != (Origin{Folder: "digest", Orphan: true}) {
		t.Errorf("%+v", origin)
	}
	if again.Get(Pods.Key("default", "p")) != nil {
		t.Error("a pod was kept")
	}
	if o := again.Get(Triggers.Key("shop", "t")).(*unstructured.Unstructured); fmt.Sprint(o.Object["spec"]) != "map[n:3]" {
		t.Errorf("%v", o.Object)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*", "*", "*.new")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if all, _ := again.List(Triggers, "default"); len(all) != 0 {
		t.Errorf("another namespace's: %v", all)
	}
}

func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, s.Put(configMap("a", "1")), s.Put(configMap("b", "1")), s.Put(configMap("c", "1")))
	path := func(name string) string { return s.path(ConfigMaps.Key("default", name)) }
	if err := os.WriteFile(path("a"), []byte(`{"object":{"kin`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path("c"), path("d")); err != nil {
		t.Fatal(err)
	}
	again, damaged, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range damaged {
		got = append(got, filepath.Base(d.Path))
	}
	if d := cmp.Diff([]string{"a.json", "d.json"}, got); d != "" {
		t.Error(d)
	}
	if all, _ := again.List(ConfigMaps, ""); len(all) != 1 {
		t.Errorf("%d objects are left", len(all))
	}
	write(t, again, again.Put(configMap("a", "2"))) // applied again, it is whole
	if _, damaged, err := Open(dir); err != nil || len(damaged) != 1 {
		t.Errorf("%v, %v", damaged, err)
	}
}

// A write that fails leaves everything as it was.
func TestFailedWrite(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, s.Put(configMap("a", "1")))
	_, version := s.List(ConfigMaps, "")
	large := configMap("b", string(make([]byte, MaxBytes+1)))
	if err := s.Write(s.Put(configMap("a", "2")), s.Put(large)); err == nil {
		t.Fatal("an object of any size is taken")
	}
	if o := s.Get(ConfigMaps.Key("default", "a")).(*corev1.ConfigMap); o.Data["v"] != "1" {
		t.Errorf("%v", o.Data)
	}
	if events, _, _, err := s.Since(version); err != nil || len(events) > 0 {
		t.Errorf("told of %v, %v", events, err)
	}
	if o := open(t, dir).Get(ConfigMaps.Key("default", "a")).(*corev1.ConfigMap); o.Data["v"] != "1" {
		t.Errorf("on disk %v", o.Data)
	}
}

func TestSince(t *testing.T) {
	s := open(t, t.TempDir())
	_, from := s.List(ConfigMaps, "")
	_, _, changed, err := s.Since(from)
	if err != nil {
		t.Fatal(err)
	}
	s.Show(s.Put(configMap("a", "1")))
	<-changed
	s.Show(s.Put(configMap("a", "2")))
	s.Show(Change{Key: ConfigMaps.Key("default", "a")}, Change{Key: ConfigMaps.Key("default", "never")})
	events, now, _, err := s.Since(from)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	last := from
	for _, e := range events {
		got = append(got, string(e.Type)+" "+e.Object.(*corev1.ConfigMap).Data["v"])
		v, err := strconv.ParseInt(e.Object.GetResourceVersion(), 10, 64)
		if err != nil || v <= last || v > now {
			t.Errorf("version %d after %d: %v", v, last, err)
		}
		last = v
	}
	if d := cmp.Diff([]string{"ADDED 1", "MODIFIED 2", "DELETED 2"}, got); d != "" {
		t.Error(d)
	}
	if _, _, _, err := s.Since(now + 1); !errors.Is(err, ErrTooOld) {
		t.Errorf("of the future: %v", err)
	}
	for i := range MaxHistory {
		s.Show(s.Put(configMap("b", strconv.Itoa(i))))
	}
	if _, _, _, err := s.Since(from); !errors.Is(err, ErrTooOld) {
		t.Errorf("of long ago: %v", err)
	}
	if events, _, _, err := s.Since(now); err != nil || len(events) != MaxHistory {
		t.Errorf("%d events, %v", len(events), err)
	}
}
