package manifest

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

func read(tb testing.TB, text string) []*unstructured.Unstructured {
	tb.Helper()
	raw, err := Read("text", strings.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func TestRead(t *testing.T) {
	const two = "# only words\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"b\"}}]}\n"
	var got []string
	for _, o := range read(t, two) {
		got = append(got, o.GetKind()+" "+o.GetName())
	}
	if d := cmp.Diff([]string{"ConfigMap a", "Secret b"}, got); d != "" {
		t.Error(d)
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":   {"# words\n", "no object"},
		"not YAML":  {"a: [b", "line"},
		"key twice": {"kind: A\nkind: B\n", "set twice"},
		"too much":  {strings.Repeat("# filler\n", 200_000), "more than"},
		"too many":  {strings.Repeat("---\nkind: A\n", maxObjects+1), "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Read("a.yaml", strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "a.yaml") {
				t.Errorf("%v, want %q in it", err, c.want)
			}
		})
	}
}

// Objects that come one at a time are judged with those that are there.
func TestCheckAmongOthers(t *testing.T) {
	config, err := Check(read(t, configMap+"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-defaults, namespace: knative-serving}\ndata: {revision-timeout-seconds: \"20\", revision-cpu-limit: 2000m}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	service := edit(t, edit(t, good, "      timeoutSeconds: 30\n", ""), "              value: models/photo\n", "              valueFrom: {configMapKeyRef: {name: settings, key: colour}}\n")
	if _, err := Check(read(t, service), nil); err == nil || !strings.Contains(err.Error(), "there is no ConfigMap default/settings") {
		t.Errorf("alone: %v", err)
	}
	made, err := Check(read(t, service), config)
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Services) != 1 || len(made.ConfigMaps) != 0 || *made.Services[0].Spec.Template.Spec.TimeoutSeconds != 20 {
		t.Errorf("%+v", made)
	}
	if len(made.Ignored) != 0 {
		t.Errorf("what is ignored of the others is told again: %v", made.Ignored)
	}
	// What has a name of its own cannot become another thing.
	named := edit(t, good, "    metadata:\n", "    metadata:\n      name: photo-mine\n")
	first, err := Check(read(t, named), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(read(t, named), first); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if _, err := Check(read(t, edit(t, named, "models/photo", "models/title")), first); err == nil || !strings.Contains(err.Error(), "spec.template") {
		t.Errorf("another template under the same name: %v", err)
	}
}

func TestReduceAgain(t *testing.T) {
	set, err := Check(read(t, configMap+"---\n"+edit(t, good, "              value: models/photo\n", "              valueFrom: {configMapKeyRef: {name: settings, key: colour}}\n")), nil)
	if err != nil {
		t.Fatal(err)
	}
	rev := &servingv1.Revision{Spec: set.Services[0].Spec.Template.Spec}
	rev.Namespace, rev.Name = "default", "photo-00001"
	set.ConfigMaps[0].Data["colour"] = "blue"
	reduced, err := set.Sources().Reduce(rev)
	if err != nil || reduced.Env[0].Value != "blue" {
		t.Errorf("%+v, %v", reduced, err)
	}
	var invalid *Invalid
	if _, err := (Sources{}).Reduce(rev); !errors.As(err, &invalid) || invalid.Problems[0].Path != "spec.containers[0].env[0].valueFrom.configMapKeyRef.name" {
		t.Errorf("without its ConfigMap: %v", err)
	}
}

func TestSecret(t *testing.T) {
	set, err := Check(read(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: eA==, b: eA==}\nstringData: {b: \"y\"}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := set.Secrets[0]; string(s.Data["a"]) != "x" || string(s.Data["b"]) != "y" || s.StringData != nil || s.Type != "Opaque" {
		t.Errorf("%+v", s)
	}
	if _, err := Check(read(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {\"a/b\": eA==}\n"), nil); err == nil {
		t.Error("a key that is no file name is taken")
	}
}

// Whatever is sent is refused in words or made whole; and what is made is taken again.
func FuzzCheck(f *testing.F) {
	for _, text := range []string{good, configMap, "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: b}\n", "kind: List\napiVersion: v1\nitems: [1]\n", "[]", "apiVersion: v1\nkind: Secret\nmetadata: {name: 1}\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		raw, err := Read("text", strings.NewReader(text))
		if err != nil {
			return
		}
		set, err := Check(raw, nil)
		if err != nil {
			if invalid := (*Invalid)(nil); !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, o := range set.Objects() {
			if o.GetName() == "" || o.GetNamespace() == "" {
				t.Fatalf("without a name: %+v", o)
			}
		}
		if _, err := Check(raw, set); err != nil {
			t.Fatalf("taken once and not twice: %v", err)
		}
	})
}

// A schedule goes through with its shape checked; what its fields mean is not
// looked at.
func TestCheckSchedule(t *testing.T) {
	const schedule = `
apiVersion: scaling.aisle.dev/v1alpha1
kind: ScalingSchedule
metadata: {name: office}
spec: {service: title, until: "2026-12-24T12:00:00Z", leadTime: 20s, windows: [{start: "08:00", end: "18:00", floor: 2}]}
`
	made, err := Check(read(t, schedule), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Schedules) != 1 || made.Schedules[0].Namespace != "default" || *made.Schedules[0].Spec.Windows[0].Floor != 2 || len(made.Objects()) != 1 {
		t.Errorf("made %+v", made.Schedules)
	}
	for name, c := range map[string]struct{ from, to, path string }{
		"a misspelt field":    {"floor", "flor", "spec.windows[0].flor"},
		"a text for a number": {"floor: 2", "floor: two", "spec.windows[0].floor"},
		"no time":             {`"2026-12-24T12:00:00Z"`, "tomorrow", "spec.until"},
		"no duration":         {"20s", "soon", "spec.leadTime"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Check(read(t, edit(t, schedule, c.from, c.to)), nil)
			invalid, ok := errors.AsType[*Invalid](err)
			if !ok || len(invalid.Problems) != 1 || invalid.Problems[0].Path != c.path {
				t.Errorf("%v, want a problem of %s", err, c.path)
			}
		})
	}
}
