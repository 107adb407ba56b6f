package acceptance

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// deployed puts the suite's services (testdata/cluster) on a cluster and
// returns once every one that can be is ready.
func deployed(configPath string) (*cluster, error) {
	c, err := openCluster(configPath)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	if err := c.removeAll(ctx); err != nil { // of a run that was killed
		return nil, err
	}
	namespace := map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": suiteNamespace}}
	own, err := rendered("testdata/cluster", c.config.Images)
	if err != nil {
		return nil, err
	}
	shipped, err := c.shipped("../../manifests/overlays/e2e")
	if err != nil {
		return nil, err
	}
	objects := append(append(inOrder(shipped), namespace), inOrder(settled(shipped, own))...)
	if !c.config.Ours {
		if err := c.isSet(ctx, objects); err != nil {
			return nil, err
		}
	}
	if err := retried(ctx, func() error { return c.apply(ctx, objects) }); err != nil {
		return nil, err
	}
	for _, at := range []*cluster{c, c.in(productsNamespace)} {
		if err := at.awaitServices(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// in is the same cluster, its services those of another namespace.
func (c *cluster) in(namespace string) *cluster {
	other := *c
	other.namespace = namespace
	return &other
}

// shipped renders an overlay for clusters with the images that were made.
func (c *cluster) shipped(overlay string) ([]map[string]any, error) {
	dir, err := os.MkdirTemp("", "aisle-deploy-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if overlay, err = filepath.Abs(overlay); err != nil {
		return nil, err
	}
	paths := []string{overlay, c.config.Component}
	for i := range paths { // kustomize takes none that is absolute
		if paths[i], err = filepath.Rel(dir, paths[i]); err != nil {
			return nil, err
		}
	}
	text := fmt.Sprintf("resources: [%q]\ncomponents: [%q]\n", paths[0], paths[1])
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		return nil, err
	}
	return rendered(dir, c.config.Images)
}

// settled gives the suite's objects with the settings of Knative's that the
// shipped ones have too completed from those: applied after them, a ConfigMap of
// the suite's would else take away what it does not name. Where both name a
// setting the suite's stays: its windows are the shorter ones.
func settled(shipped, own []map[string]any) []map[string]any {
	for _, o := range own {
		for _, s := range shipped {
			if o["kind"] != "ConfigMap" || s["kind"] != "ConfigMap" || !isSameObject(o, s) {
				continue
			}
			data := maps.Clone(s["data"].(map[string]any))
			maps.Copy(data, o["data"].(map[string]any))
			o["data"] = data
		}
	}
	return own
}

func isSameObject(a, b map[string]any) bool {
	am, bm := a["metadata"].(map[string]any), b["metadata"].(map[string]any)
	return am["name"] == bm["name"] && am["namespace"] == bm["namespace"]
}

// ofController says whether an object of an overlay is one of manifests/controller.
func ofController(o map[string]any) bool {
	meta := o["metadata"].(map[string]any)
	return meta["namespace"] == systemNamespace || (ofWholeCluster[o["kind"].(string)] && (o["kind"] != "Namespace" || meta["name"] == systemNamespace))
}

// inOrder puts what others need first: definitions, namespaces, then settings.
func inOrder(objects []map[string]any) []map[string]any {
	rank := map[any]int{"CustomResourceDefinition": -3, "Namespace": -2, "ConfigMap": -1}
	slices.SortStableFunc(objects, func(a, b map[string]any) int { return rank[a["kind"]] - rank[b["kind"]] })
	return objects
}

// awaitServices waits until every service that can be ready is.
func (c *cluster) awaitServices(ctx context.Context) error {
	return retried(ctx, func() error {
		services, err := c.Services(ctx)
		if err != nil {
			return err
		}
		var waiting []string
		for _, s := range services {
			// Those that cannot become ready are tests of their own.
			if !s.Ready && s.Name != "never" && s.Name != "broken" {
				waiting = append(waiting, s.Name+": "+s.Reason)
			}
		}
		if len(waiting) > 0 || len(services) == 0 {
			return fmt.Errorf("%d of %d services are not ready: %q", len(waiting), len(services), waiting)
		}
		return nil
	})
}

// retried repeats what may fail for a while, as webhooks do that have just come.
func retried(ctx context.Context, do func() error) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// rendering is held while kustomize builds: its schema is a global.
var rendering sync.Mutex

// rendered builds a kustomize folder and names images as a cluster has them.
func rendered(dir string, images map[string]string) ([]map[string]any, error) {
	options := krusty.MakeDefaultOptions()
	options.LoadRestrictions = types.LoadRestrictionsNone // the suite's own folders use each other
	rendering.Lock()
	built, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), dir)
	rendering.Unlock()
	if err != nil {
		return nil, err
	}
	var objects []map[string]any
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			return nil, err
		}
		name := r.GetName()
		var replace []string
		for command, image := range map[string]string{"test/acceptance/fixture": "fixture", "functions/composer": "composer"} {
			if ref := images[image]; ref != "" {
				replace = append(replace, "ko://aisle.dev/aisle/"+command, ref)
			}
		}
		text = []byte(strings.NewReplacer(replace...).Replace(string(text)))
		if bytes.Contains(text, []byte("ko://")) {
			return nil, fmt.Errorf("%s %s: no image is given for what it runs; there are %v", r.GetKind(), name, slices.Sorted(maps.Keys(images)))
		}
		var o map[string]any
		if err := yaml.Unmarshal(text, &o); err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// What is deployed on clusters alone still renders, and is of kinds that the
// suite can apply.
func TestClusterTestdataRenders(t *testing.T) {
	t.Parallel()
	images := map[string]string{"fixture": "dev.local/aisle-fixture:1", "composer": "dev.local/aisle-composer:1"}
	c := &cluster{config: clusterConfig{Images: images, Component: t.TempDir()}}
	component := "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nimages: [{name: aisle-photo, newName: dev.local/aisle-photo}]\n"
	if err := os.WriteFile(filepath.Join(c.config.Component, "kustomization.yaml"), []byte(component), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"testdata/cluster", "testdata/clock", "testdata/gpu", "../../manifests/overlays/e2e", "../../manifests/overlays/e2e-volume", "../../manifests/overlays/e2e-deliver"} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			objects, err := c.shipped(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				meta := o["metadata"].(map[string]any)
				if _, err := resource(o["kind"].(string), "", meta["name"].(string)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// The suite's settings of Knative's complete the shipped overlay's.
func TestSettled(t *testing.T) {
	t.Parallel()
	setting := func(data map[string]any) []map[string]any {
		return []map[string]any{{"kind": "ConfigMap", "metadata": map[string]any{"name": "config-autoscaler", "namespace": "knative-serving"}, "data": data}}
	}
	got := settled(setting(map[string]any{"max-scale": "4", "stable-window": "10s"}), setting(map[string]any{"stable-window": "6s"}))
	want := setting(map[string]any{"max-scale": "4", "stable-window": "6s"})
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
