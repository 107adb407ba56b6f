package manifest

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

const project = "../.."

func shipped(t *testing.T, folder string) *Set {
	t.Helper()
	set, err := LoadWithin(project, path.Join(project, "manifests", folder))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// The base needs nothing but a stock Knative: no feature flag, no setting.
func TestBaseIsValidUnderStockKnative(t *testing.T) {
	set := shipped(t, "base")
	if len(set.Settings.data) > 0 {
		t.Error("the base brings settings of Knative's")
	}
	for _, s := range templates(t, set) {
		if s.Timeout == 0 || s.ContainerConcurrency == 0 || s.Annotations["autoscaling.knative.dev/max-scale"] == "" {
			t.Errorf("%s: its time, its concurrency and its pods must have a limit", s.Service)
		}
		if !strings.HasPrefix(s.Image, "ko://aisle.dev/aisle/functions/") {
			t.Errorf("%s: image %s", s.Service, s.Image)
		}
		if s.Readiness.HTTPGet == nil || s.Readiness.HTTPGet.Path != "/readyz" {
			t.Errorf("%s: readiness %+v", s.Service, s.Readiness)
		}
	}
}

// Pods of the base meet the restricted Pod Security Standard
// (https://kubernetes.io/docs/concepts/security/pod-security-standards/) by
// their containers' own settings: those of a pod need a feature flag.
func TestBaseIsRestricted(t *testing.T) {
	tr, err := openTree(project)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	var f findings
	built := tr.build(&f, "/manifests/base")
	if err := f.err("base"); err != nil {
		t.Fatal(err)
	}
	services := 0
	for _, res := range built.Resources() {
		if res.GetKind() != "Service" {
			continue
		}
		services++
		value, err := res.Map()
		if err != nil {
			t.Fatal(err)
		}
		ks, ok := decode[servingv1.Service](&f, res.GetName(), value)
		if !ok {
			t.Fatal(f.err("base"))
		}
		checkRestricted(t, ks)
	}
	if services != 3 {
		t.Errorf("%d services", services)
	}
}

func checkRestricted(t *testing.T, ks *servingv1.Service) {
	t.Helper()
	spec := ks.Spec.Template.Spec
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
		t.Errorf("%s: gets an account's token", ks.Name)
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		sc := c.SecurityContext
		if sc == nil || sc.RunAsNonRoot == nil || !*sc.RunAsNonRoot ||
			sc.AllowPrivilegeEscalation == nil || *sc.AllowPrivilegeEscalation ||
			sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem ||
			sc.SeccompProfile == nil || sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
			sc.Capabilities == nil || !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(sc.Capabilities.Add) > 0 {
			t.Errorf("%s: security context %+v", ks.Name, sc)
		}
		for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := c.Resources.Requests[r], c.Resources.Limits[r]
			if request.IsZero() || limit.IsZero() {
				t.Errorf("%s: no request or no limit of %s", ks.Name, r)
			}
		}
	}
}

// An overlay changes image references, addresses, model paths and how far it
// scales, and nothing else.
func TestLocal(t *testing.T) {
	base, local := templates(t, shipped(t, "base")), templates(t, shipped(t, "overlays/local"))
	var names []string
	for i, s := range local {
		names = append(names, s.Service)
		b := base[i]
		if s.Annotations["autoscaling.knative.dev/max-scale"] != "2" {
			t.Errorf("%s scales to %s pods on a machine with two cores", s.Service, s.Annotations["autoscaling.knative.dev/max-scale"])
		}
		for _, s := range []*Template{s, b} {
			delete(s.Annotations, "autoscaling.knative.dev/max-scale")
			s.Env = slices.DeleteFunc(s.Env, func(e EnvVar) bool { return e.Name == "HOST" || e.Name == "CACHE_DIR" })
			for i := range s.Env {
				if name := s.Env[i].Name; name == "MODEL" || name == "LEG_URL" {
					s.Env[i].Value = ""
				}
			}
		}
		if d := cmp.Diff(b, s); d != "" {
			t.Errorf("%s differs from the base:\n%s", s.Service, d)
		}
	}
	if d := cmp.Diff([]string{"composer", "photo", "title"}, names); d != "" {
		t.Error(d)
	}
	local = templates(t, shipped(t, "overlays/local"))
	var got []EnvVar
	for _, s := range local {
		got = append(got, s.Env...)
	}
	if d := cmp.Diff([]EnvVar{
		{"COMPOSITION", "/etc/aisle/composition.yaml"}, {"LEG_URL", "http://{service}.{namespace}.localhost:8080"},
		{"CLOSURES", "/etc/aisle-closures/closures.json"}, {"GOMAXPROCS", "1"}, {"HOST", "127.0.0.1"},
		{"MODEL", "models/photo"}, {"HOST", "127.0.0.1"}, {"CACHE_DIR", ".cache/graphs"}, {"MODEL", "models/title"}, {"GOMAXPROCS", "1"}, {"HOST", "127.0.0.1"},
	}, got); d != "" {
		t.Error(d)
	}
	var files []string
	for _, m := range local[0].Mounts {
		for name := range m.Files {
			files = append(files, path.Join(m.Path, name))
		}
	}
	if d := cmp.Diff([]string{"/etc/aisle/composition.yaml", "/etc/aisle/prior.csv", "/etc/aisle/taxonomy.csv"}, sorted(files)); d != "" {
		t.Error(d)
	}
}
