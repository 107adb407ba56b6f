package manifest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

const good = `apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: photo
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/max-scale: "4"
    spec:
      containerConcurrency: 16
      timeoutSeconds: 30
      containers:
        - image: ko://aisle.dev/aisle/functions/classifier
          env:
            - name: MODEL
              value: models/photo
          readinessProbe:
            httpGet:
              path: /readyz
`

const configMap = `apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  colour: red
  place: /srv/$(NOT)
`

func kustomization(resources ...string) string {
	return "resources:\n- " + strings.Join(resources, "\n- ") + "\n"
}

// folder writes files and gives the folder that they lie in. Without a
// kustomization one is made that has all of them.
func folder(tb testing.TB, files map[string]string) string {
	tb.Helper()
	dir := tb.TempDir()
	if _, ok := files["kustomization.yaml"]; !ok {
		var names []string
		for name := range files {
			if name != imagesFile {
				names = append(names, name)
			}
		}
		files["kustomization.yaml"] = kustomization(sorted(names)...)
	}
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// edit replaces the one place where old is.
func edit(tb testing.TB, s, old, with string) string {
	tb.Helper()
	if strings.Count(s, old) != 1 {
		tb.Fatalf("%q is there %d times", old, strings.Count(s, old))
	}
	return strings.Replace(s, old, with, 1)
}

// templates reduces the first Revision of each Service.
func templates(tb testing.TB, set *Set) []*Template {
	tb.Helper()
	var all []*Template
	for _, s := range set.Services {
		rev := &servingv1.Revision{ObjectMeta: s.Spec.Template.ObjectMeta, Spec: s.Spec.Template.Spec}
		rev.Namespace, rev.Name = s.Namespace, s.Name+"-00001"
		rev.Labels = map[string]string{serving.ServiceLabelKey: s.Name}
		reduced, err := set.Sources().Reduce(rev)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, reduced)
	}
	return all
}

func TestLoad(t *testing.T) {
	full := edit(t, good, "          env:\n", `          command: [python3, serve.py]
          args: ["--port=$(PORT)", "--colour=$(COLOUR)", "$$(COLOUR)", "$(UNKNOWN)"]
          ports:
            - name: h2c
              containerPort: 9000
          envFrom:
            - prefix: S_
              configMapRef:
                name: settings
            - configMapRef:
                name: absent
                optional: true
          volumeMounts:
            - name: files
              mountPath: /etc/aisle/
            - name: all
              mountPath: /all
          env:
            - name: COLOUR
              valueFrom:
                configMapKeyRef:
                  name: settings
                  key: colour
            - name: TWICE
              value: once
            - name: TWICE
              value: $(COLOUR)-$(TWICE)-$(S_colour)
            - name: OPTIONAL
              valueFrom:
                configMapKeyRef:
                  name: settings
                  key: shape
                  optional: true
`)
	full = edit(t, full, "              path: /readyz\n", `              path: ready/?deep=1
              port: 9000
              httpHeaders:
                - name: host
                  value: photo.example
                - name: X-Probe
                  value: "1"
            periodSeconds: 2
            initialDelaySeconds: 3
      volumes:
        - name: files
          configMap:
            name: settings
            items:
              - key: colour
                path: deep/colour.txt
        - name: all
          configMap:
            name: settings
      responseStartTimeoutSeconds: 5
      idleTimeoutSeconds: 7
`)
	dir := folder(t, map[string]string{
		"service.yaml": full, "settings.yaml": configMap,
		"autoscaler.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-autoscaler\n  namespace: knative-serving\ndata:\n  stable-window: 10s\n  _example: text\n",
	})
	set, err := LoadWithin(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Services) != 1 {
		t.Fatalf("%d services", len(set.Services))
	}
	got := templates(t, set)[0]
	want := &Template{
		Namespace: "default", Service: "photo", Revision: "photo-00001",
		Annotations:          map[string]string{"autoscaling.knative.dev/max-scale": "4"},
		ContainerConcurrency: 16,
		Timeout:              30 * time.Second,
		ResponseStartTimeout: 5 * time.Second,
		IdleTimeout:          7 * time.Second,
		GracePeriod:          30 * time.Second,
		Image:                "ko://aisle.dev/aisle/functions/classifier",
		Command:              []string{"python3", "serve.py", "--port=$(PORT)", "--colour=$(COLOUR)", "$$(COLOUR)", "$(UNKNOWN)"},
		Env: []EnvVar{
			{"S_colour", "red"}, {"S_place", "/srv/$(NOT)"},
			{"COLOUR", "red"}, {"TWICE", "red-once-red"}, {"MODEL", "models/photo"},
		},
		Mounts: []Mount{
			{Path: "/etc/aisle", Volume: "files", Files: map[string][]byte{"deep/colour.txt": []byte("red")}},
			{Path: "/all", Volume: "all", Files: map[string][]byte{"colour": []byte("red"), "place": []byte("/srv/$(NOT)")}},
		},
		H2C: true,
		Readiness: &Probe{
			HTTPGet:      &HTTPGet{Path: "/ready/?deep=1", Host: "photo.example", Headers: []Header{{"X-Probe", "1"}}},
			InitialDelay: 3 * time.Second, Period: 2 * time.Second, Timeout: time.Second, SuccessThreshold: 1, FailureThreshold: 3,
		},
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"stable-window": "10s", "_example": "text"}, set.Settings.Autoscaler()); d != "" {
		t.Error(d)
	}
	var maps []string
	for _, m := range set.ConfigMaps {
		maps = append(maps, m.Namespace+"/"+m.Name)
	}
	if d := cmp.Diff([]string{"default/settings", "knative-serving/config-autoscaler"}, maps); d != "" {
		t.Error(d)
	}
	if len(set.Ignored) != 2 || !strings.Contains(set.Ignored[0].Reason, "at or below /etc/aisle") || !strings.Contains(set.Ignored[1].Reason, "at or below /all") {
		t.Errorf("ignored: %v; nothing tells the process where its volumes are", set.Ignored)
	}
}

func TestDefaults(t *testing.T) {
	minimal := "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  template:\n    spec:\n      containers:\n      - image: example.com/thing:1\n"
	dir := folder(t, map[string]string{
		"a.yaml":      minimal,
		"images.yaml": "apiVersion: aisle.dev/v1alpha1\nkind: ImageMap\nimages:\n- image: example.com/thing:1\n  command: [bin/thing, -v]\n  env:\n  - name: FROM\n    value: map\n",
		"config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-defaults\n  namespace: knative-serving\ndata:\n  container-concurrency: \"7\"\n  revision-timeout-seconds: \"20\"\n  revision-idle-timeout-seconds: \"9\"\n  revision-cpu-limit: 2000m\n  revision-cpu-request: 500m\n",
	})
	set, err := LoadWithin(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	got := templates(t, set)[0]
	if d := cmp.Diff(&Template{
		Namespace: "default", Service: "a", Revision: "a-00001", Image: "example.com/thing:1", Command: []string{"bin/thing", "-v"},
		Env: []EnvVar{{"FROM", "map"}}, ContainerConcurrency: 7, Timeout: 20 * time.Second, GracePeriod: 20 * time.Second, IdleTimeout: 9 * time.Second,
		Readiness: &Probe{SuccessThreshold: 1}, Limits: Limits{CPU: 2000},
	}, got); d != "" {
		t.Error(d)
	}
	var ignored []string
	for _, i := range set.Ignored {
		ignored = append(ignored, i.Object+" "+i.Path)
	}
	if d := cmp.Diff([]string{"ConfigMap knative-serving/config-defaults data.revision-cpu-request",
		"Service default/a spec.template.spec.containers[0].resources.requests.cpu"}, ignored); d != "" {
		t.Error(d)
	}
}

// What one writes out that is a default anyway makes no other Service, so no
// other revision.
func TestDefaultsWrittenOut(t *testing.T) {
	load := func(text string) *servingv1.Service {
		dir := folder(t, map[string]string{"a.yaml": text})
		set, err := LoadWithin(dir, dir)
		if err != nil {
			t.Fatal(err)
		}
		return set.Services[0]
	}
	if d := cmp.Diff(load(good), load(edit(t, good, "        - image:", "        - name: user-container\n          image:"))); d != "" {
		t.Error(d)
	}
	if image := load(good).Spec.Template.Spec.Containers[0].Image; image != "ko://aisle.dev/aisle/functions/classifier" {
		t.Errorf("the image is kept as %q", image)
	}
}

func TestIgnored(t *testing.T) {
	service := edit(t, good, "          env:\n", `          imagePullPolicy: Always
          terminationMessagePath: /dev/null
          resources:
            requests: {memory: 1Gi}
            limits: {cpu: "1", ephemeral-storage: 1Gi}
          env:
`)
	service = edit(t, service, "      containerConcurrency:", "      serviceAccountName: robot\n      containerConcurrency:")
	service = edit(t, service, `max-scale: "4"`, "max-scale: \"4\"\n        autoscaling.knative.dev/target-burst-capacity: \"0\"")
	service = edit(t, service, "  name: photo\n", "  name: photo\n  labels: {a: b}\n  annotations:\n    serving.knative.dev/rollout-duration: 10s\n    example.com/owner: us\n")
	dir := folder(t, map[string]string{
		"a.yaml": service,
		"b.yaml": "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: none\nspec: {podSelector: {}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-network\n  namespace: knative-serving\n",
	})
	set, err := LoadWithin(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range set.Ignored {
		if i.Reason == "" {
			t.Errorf("%v: no reason", i)
		}
		got = append(got, strings.TrimSuffix(i.Object+" "+i.Path, " "))
	}
	const c = "Service default/photo spec.template.spec.containers[0]"
	if d := cmp.Diff([]string{
		"ConfigMap knative-serving/config-network",
		"Namespace default/shop",
		"NetworkPolicy default/none",
		c + ".imagePullPolicy", c + ".resources.limits.ephemeral-storage", c + ".resources.requests.memory", c + ".terminationMessagePath",
		"Service default/photo spec.template.spec.serviceAccountName",
		`Service default/photo spec.template.metadata.annotations["autoscaling.knative.dev/target-burst-capacity"]`,
	}, got, cmp.Transformer("sorted", sorted)); d != "" {
		t.Error(d)
	}
}

// Two loads of one folder give the same, and the order is by name.
func TestDeterministic(t *testing.T) {
	dir := folder(t, map[string]string{
		"z.yaml": good, "a.yaml": edit(t, good, "name: photo", "name: another"),
		"m.yaml": edit(t, good, "name: photo", "name: photo\n  namespace: shop"), "s.yaml": configMap,
	})
	first, err := LoadWithin(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range first.Services {
		names = append(names, s.Namespace+"/"+s.Name)
	}
	if d := cmp.Diff([]string{"default/another", "default/photo", "shop/photo"}, names); d != "" {
		t.Error(d)
	}
	second, err := LoadWithin(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(first, second, cmp.AllowUnexported(Settings{})); d != "" {
		t.Error(d)
	}
}

func TestLoadWhere(t *testing.T) {
	root := folder(t, map[string]string{
		"kustomization.yaml":      kustomization("base"),
		"base/kustomization.yaml": kustomization("a.yaml"), "base/a.yaml": good,
		"overlays/local/kustomization.yaml": kustomization("../../base"),
	})
	overlay := filepath.Join(root, "overlays", "local")
	if _, err := LoadWithin(root, overlay); err != nil {
		t.Error(err)
	}
	if _, err := LoadWithin(overlay, overlay); err == nil || !strings.Contains(err.Error(), "outside of what may be read") {
		t.Errorf("a base above the root: %v", err)
	}
	if _, err := LoadWithin(overlay, root); err == nil || !strings.Contains(err.Error(), "outside") {
		t.Errorf("a folder above the root: %v", err)
	}
	if _, err := Load(root); err != nil {
		t.Errorf("outside of the working directory: %v", err)
	}
	t.Chdir(root)
	if _, err := Load("overlays/local"); err != nil {
		t.Errorf("in the working directory: %v", err)
	}
	if _, err := Load("overlays/remote"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := os.Symlink("/etc/hosts", filepath.Join(root, "base", "hosts.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "base", "kustomization.yaml"), []byte(kustomization("a.yaml", "hosts.yaml")), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load("overlays/local"); err == nil || !strings.Contains(err.Error(), "hosts.yaml") {
		t.Errorf("a link out of the root: %v", err)
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func BenchmarkLoad(b *testing.B) {
	dir := folder(b, map[string]string{"a.yaml": good, "s.yaml": configMap})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := LoadWithin(dir, dir); err != nil {
			b.Fatal(err)
		}
	}
}
