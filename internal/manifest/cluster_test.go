package manifest

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"aisle.dev/aisle/internal/model"
)

// cluster is what an overlay for a cluster brings there.
type cluster struct {
	services   []*servingv1.Service
	namespaces []*corev1.Namespace
	policies   []*networkingv1.NetworkPolicy
	events     []string // brokers and triggers
	settings   Settings
}

// ofCluster reads an overlay by Kubernetes' and Knative's own types: an unknown
// field, kind or setting is an error.
func ofCluster(t *testing.T, overlay string) cluster {
	t.Helper()
	var f findings
	var c cluster
	for _, res := range builtOf(t, "overlays/"+overlay) {
		if ofController(res) {
			continue
		}
		value, err := res.Map()
		if err != nil {
			t.Fatal(err)
		}
		object := res.GetKind() + " " + res.GetName()
		switch kind := res.GetApiVersion() + " " + res.GetKind(); kind {
		case serviceVersion + " Service":
			s, _ := decode[servingv1.Service](&f, object, value)
			c.services = append(c.services, s)
		case "v1 Namespace":
			n, _ := decode[corev1.Namespace](&f, object, value)
			c.namespaces = append(c.namespaces, n)
		case "networking.k8s.io/v1 NetworkPolicy":
			p, _ := decode[networkingv1.NetworkPolicy](&f, object, value)
			c.policies = append(c.policies, p)
		case "eventing.knative.dev/v1 Broker", "eventing.knative.dev/v1 Trigger":
			// Eventing's types are not linked: test/acceptance has a cluster's
			// API server take them, strictly.
			if ns := res.GetNamespace(); ns != "aisle" {
				t.Errorf("%s is in %q", object, ns)
			}
			c.events = append(c.events, object)
		case "v1 ConfigMap":
			m, ok := decode[corev1.ConfigMap](&f, object, value)
			if ok && m.Namespace == knativeNamespace {
				c.settings.add(&f, object, m.Name, m.Data)
			} else if ok && m.Namespace != "aisle" {
				t.Errorf("%s is in %q", object, m.Namespace)
			}
		default:
			t.Errorf("%s: %s", overlay, kind)
		}
	}
	c.settings.parse(&f)
	if err := f.err(overlay); err != nil {
		t.Fatal(err)
	}
	return c
}

// invalid is what Knative says to the services under the given settings.
func (c cluster) invalid(ctx context.Context) string {
	var errs *apis.FieldError
	for _, s := range c.services {
		s = s.DeepCopy()
		s.SetDefaults(apis.WithinCreate(ctx))
		errs = errs.Also(s.Validate(apis.WithinCreate(ctx)).Filter(apis.ErrorLevel).ViaField(s.Name))
	}
	if errs == nil {
		return ""
	}
	return errs.Error()
}

var clusterOverlays = map[string]struct {
	flags  []string // of config-features, which it ships
	stock  string   // what a stock Knative says; empty where it takes the overlay
	events int      // brokers and triggers; docs/gke.md deploys what has none, for Knative without Eventing
}{
	"e2e":          {nil, "", 3},
	"e2e/services": {nil, "", 0},
	"e2e-volume":   {[]string{"kubernetes.podspec-volumes-image"}, "image", 3},
	"e2e-deliver":  {[]string{"kubernetes.podspec-init-containers"}, "init", 3},
	"gke":          {[]string{"kubernetes.podspec-nodeselector", "kubernetes.podspec-tolerations"}, "nodeSelector", 0},
}

// An overlay is valid under the settings that it ships, and no setting is
// shipped that it could do without.
func TestClusterOverlays(t *testing.T) {
	for name, tt := range clusterOverlays {
		t.Run(name, func(t *testing.T) {
			c := ofCluster(t, name)
			if len(c.services) != 3 || len(c.policies) != 4 || len(c.namespaces) != 1 {
				t.Fatalf("%d services, %d policies, %d namespaces", len(c.services), len(c.policies), len(c.namespaces))
			}
			if len(c.events) != tt.events {
				t.Errorf("%q, want %d", c.events, tt.events)
			}
			if got := c.invalid(c.settings.context()); got != "" {
				t.Error(got)
			}
			var stock Settings
			var f findings
			stock.parse(&f)
			if got := c.invalid(stock.context()); (got == "") != (tt.stock == "") || !strings.Contains(got, tt.stock) {
				t.Errorf("a stock Knative says %q, want %q", got, tt.stock)
			}
			if d := cmp.Diff(tt.flags, slices.Sorted(maps.Keys(c.settings.data[featuresName]))); d != "" {
				t.Error(d)
			}
			for config, data := range c.settings.data {
				if config != featuresName && name != "gke" {
					continue // what makes the test cluster as quick as one machine
				}
				for key := range data {
					without := Settings{data: maps.Clone(c.settings.data)}
					without.data[config] = maps.Clone(data)
					delete(without.data[config], key)
					without.parse(&f)
					if c.invalid(without.context()) == "" {
						t.Errorf("%s: %s is shipped and not needed", config, key)
					}
				}
			}
			if err := f.err(name); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestClusterPodsAreRestricted(t *testing.T) {
	for name := range clusterOverlays {
		t.Run(name, func(t *testing.T) {
			c := ofCluster(t, name)
			for _, n := range c.namespaces {
				if n.Name != "aisle" || n.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
					t.Errorf("namespace %s has %v", n.Name, n.Labels)
				}
			}
			for _, s := range c.services {
				if s.Namespace != "aisle" {
					t.Errorf("%s is in %q", s.Name, s.Namespace)
				}
				checkRestricted(t, s)
				for _, container := range slices.Concat(s.Spec.Template.Spec.InitContainers, s.Spec.Template.Spec.Containers) {
					if !strings.HasPrefix(container.Image, "aisle-") || container.ImagePullPolicy != corev1.PullIfNotPresent {
						t.Errorf("%s: image %s, pulled %s", s.Name, container.Image, container.ImagePullPolicy)
					}
				}
			}
		})
	}
}

// Every pod is denied everything that a policy does not allow; pods and
// policies agree on the label.
func TestNetworkPolicies(t *testing.T) {
	c := ofCluster(t, "e2e")
	for _, s := range c.services {
		denied := false
		for _, p := range c.policies {
			selects := true
			for k, v := range p.Spec.PodSelector.MatchLabels {
				selects = selects && s.Spec.Template.Labels[k] == v
			}
			both := slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) && slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
			denied = denied || selects && both && len(p.Spec.Ingress) == 0 && len(p.Spec.Egress) == 0
		}
		if !denied {
			t.Errorf("nothing denies %s anything", s.Name)
		}
	}
	for _, p := range c.policies {
		if p.Namespace != "aisle" {
			t.Errorf("policy %s is in %q", p.Name, p.Namespace)
		}
		for _, rule := range p.Spec.Ingress {
			if len(rule.From) == 0 || len(rule.Ports) == 0 {
				t.Errorf("policy %s lets everybody in", p.Name)
			}
		}
		for _, rule := range p.Spec.Egress {
			if len(rule.To) == 0 {
				t.Errorf("policy %s lets out everywhere", p.Name)
			}
		}
	}
}

// What waits for a node of a GPU pool waits long enough: the activator's and the
// deployment's patience are the revision's own.
func TestGPUWaitsForItsNode(t *testing.T) {
	const node = 600 // seconds
	for _, s := range ofCluster(t, "gke").services {
		if s.Name != "photo" {
			continue
		}
		deadline, err := time.ParseDuration(s.Spec.Template.Annotations["serving.knative.dev/progress-deadline"])
		if err != nil || deadline.Seconds() <= node {
			t.Errorf("progress deadline %v, %v", deadline, err)
		}
		if n := *s.Spec.Template.Spec.TimeoutSeconds; n <= node {
			t.Errorf("a request waits for %d seconds", n)
		}
		// Knative would put its default of 300 here.
		if n := s.Spec.Template.Spec.ResponseStartTimeoutSeconds; n == nil || *n <= node {
			t.Errorf("a request waits for %v seconds until its answer begins", n)
		}
		gpu := s.Spec.Template.Spec.Containers[0].Resources.Limits["nvidia.com/gpu"]
		if gpu.Value() != 1 || s.Spec.Template.Spec.NodeSelector["cloud.google.com/gke-accelerator"] == "" || len(s.Spec.Template.Spec.Tolerations) == 0 {
			t.Errorf("%v on %v, tolerating %v", gpu, s.Spec.Template.Spec.NodeSelector, s.Spec.Template.Spec.Tolerations)
		}
		return
	}
	t.Error("there is no photo")
}

// The digests that the init container checks are those of the packages.
func TestDeliveredDigests(t *testing.T) {
	checked := 0
	for _, s := range ofCluster(t, "e2e-deliver").services {
		spec := s.Spec.Template.Spec
		if len(spec.InitContainers) == 0 {
			continue
		}
		pkg, err := model.Load(path.Join(project, "models", s.Name))
		if err != nil {
			t.Fatal(err)
		}
		env := func(c corev1.Container, name string) string {
			for _, e := range c.Env {
				if e.Name == name {
					return e.Value
				}
			}
			return ""
		}
		init, main := spec.InitContainers[0], spec.Containers[0]
		if env(init, "DIGEST") != pkg.Digest || env(main, "MODEL_DIGEST") != pkg.Digest {
			t.Errorf("%s: components/model-deliver wants %s and %s; the package has %s", s.Name, env(init, "DIGEST"), env(main, "MODEL_DIGEST"), pkg.Digest)
		}
		if env(init, "TO") != env(main, "MODEL") {
			t.Errorf("%s: delivered to %s, read from %s", s.Name, env(init, "TO"), env(main, "MODEL"))
		}
		checked++
	}
	if checked != 2 {
		t.Errorf("%d services have an init container", checked)
	}
}

// One machine lists what only a cluster has, and takes the rest.
func TestClusterKindsAreIgnoredHere(t *testing.T) {
	files := map[string]string{"service.yaml": good}
	for _, name := range []string{"cluster/namespace.yaml", "cluster/network-policies.yaml", "events/brokers.yaml", "events/products.yaml"} {
		data, err := os.ReadFile(path.Join(project, "manifests/components", name))
		if err != nil {
			t.Fatal(err)
		}
		files[path.Base(name)] = string(data)
	}
	files["ping.yaml"] = "apiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata: {name: ping}\nspec: {sink: {uri: http://example.com}}\n"
	dir := folder(t, files)
	set, err := LoadWithin(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range set.Ignored {
		if i.Reason == "" {
			t.Errorf("%s is ignored without a reason", i.Object)
		}
		got = append(got, i.Object)
	}
	if d := cmp.Diff([]string{
		"Namespace default/aisle", "NetworkPolicy default/composer", "NetworkPolicy default/deny", "NetworkPolicy default/pictures", "NetworkPolicy default/requests",
	}, got); d != "" {
		t.Error(d)
	}
	got = nil
	for _, o := range set.Events {
		got = append(got, o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName())
	}
	if d := cmp.Diff([]string{"Broker aisle/dead-letters", "Broker aisle/default", "PingSource default/ping", "Trigger aisle/products"}, got); d != "" {
		t.Error(d)
	}
}

// Every manifest is built into a folder that is tested here or in shipped_test;
// one that is not would be shipped unchecked.
func TestEveryManifestIsBuilt(t *testing.T) {
	read := map[string]bool{"manifests/README.md": true}
	overlays, err := os.ReadDir(path.Join(project, "manifests/overlays"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range overlays {
		if _, tested := clusterOverlays[o.Name()]; !tested && o.Name() != "local" {
			t.Errorf("overlay %s has no test", o.Name())
		}
		tr, err := openTree(project)
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		var f findings
		tr.build(&f, path.Join("/manifests/overlays", o.Name()))
		if err := f.err(o.Name()); err != nil {
			t.Fatal(err)
		}
		for file := range tr.read {
			read[file] = true
		}
	}
	err = fs.WalkDir(os.DirFS(project), "manifests", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !read[name] {
			t.Errorf("%s belongs to no overlay", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
