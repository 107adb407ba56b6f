package main

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/knative"
)

//go:embed cluster/*.yaml
var clusterFiles embed.FS

// The namespace of manifests/overlays/e2e, and the name by which the services
// here call the trivial image.
const (
	namespace    = "aisle"
	trivialImage = "ko://aisle.dev/aisle/test/acceptance/fixture"
)

// cluster is the services of manifests/overlays/e2e and those of cluster/ on a
// Knative cluster: the test cluster, or one that -context names.
type cluster struct {
	*knative.Cluster
	b        *bench
	kubectl  []string
	gateway  string // host:port
	http     *http.Client
	ours     bool // the test cluster: Knative's settings may be changed
	made     bool // the namespace is this program's
	services map[string]string
}

// withCluster deploys the services, measures, and removes them.
func withCluster(ctx context.Context, b *bench, measure func(*cluster) ([]row, error)) (rows []row, err error) {
	c := &cluster{b: b, gateway: b.gateway, kubectl: []string{"kubectl"}}
	opts := knative.Options{Context: b.context, Kubeconfig: b.kubeconfig, Namespace: namespace}
	if c.ours = b.context == "" && b.kubeconfig == ""; c.ours {
		c.kubectl = []string{"bin/cluster", "-module", "hack/cluster", "kubectl"}
		env, err := exec.CommandContext(ctx, "bin/cluster", "-module", "hack/cluster", "env").Output()
		if err != nil {
			return nil, fmt.Errorf("bin/cluster env: %w; make cluster-up makes and starts the test cluster, -context names another one", err)
		}
		opts.Kubeconfig, c.gateway = exported(env, "KUBECONFIG"), exported(env, "AISLE_GATEWAY")
	} else {
		if opts.Files = filepath.SplitList(os.Getenv("KUBECONFIG")); len(opts.Files) == 0 {
			opts.Files = []string{filepath.Join(os.Getenv("HOME"), ".kube", "config")}
		}
		for flag, v := range map[string]string{"--context": b.context, "--kubeconfig": b.kubeconfig} {
			if v != "" {
				c.kubectl = append(c.kubectl, flag, v)
			}
		}
		if c.gateway == "" || b.images == "" || b.trivial == "" {
			return nil, errors.New("a cluster of yours needs -gateway HOST:PORT of its ingress, -images FOLDER that make images PUSH= wrote, and -trivial IMAGE of a small service")
		}
	}
	if c.Cluster, err = knative.Open(opts); err != nil {
		return nil, err
	}
	if _, err := c.Version(ctx); err != nil {
		return nil, fmt.Errorf("%w; make cluster-up starts the test cluster", err)
	}
	c.http = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, c.gateway)
		},
	}}
	defer c.http.CloseIdleConnections()
	// Removed also when ctx has ended.
	defer func() { err = errors.Join(err, c.remove(context.WithoutCancel(ctx))) }()
	if err := c.deploy(ctx); err != nil {
		return nil, err
	}
	return measure(c)
}

// exported reads what "export NAME=VALUE" says.
func exported(env []byte, name string) string {
	for s := bufio.NewScanner(bytes.NewReader(env)); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "export "+name+"="); ok {
			return v
		}
	}
	return ""
}

// run runs kubectl.
func (c *cluster) run(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.kubectl[0], append(c.kubectl[1:], args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// object asks for an object or a list, decoded.
func (c *cluster) object(ctx context.Context, into any, args ...string) error {
	out, err := c.run(ctx, append(append([]string{"get"}, args...), "-o", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal(out, into)
}

// image is where a name of the overlays is.
type image struct {
	Name    string `json:"name"`
	NewName string `json:"newName"`
	Digest  string `json:"digest,omitempty"`
	NewTag  string `json:"newTag,omitempty"`
}

// deploy applies the overlay and the services beside it, and waits for them.
func (c *cluster) deploy(ctx context.Context) error {
	images, trivial, err := c.findImages(ctx)
	if err != nil {
		return err
	}
	there, err := c.run(ctx, "get", "namespace", namespace, "--ignore-not-found", "-o", "name")
	if err != nil {
		return err // nothing is known of it: it is not ours to remove
	}
	switch c.made = len(there) == 0 || c.ours; {
	case !c.made:
		return fmt.Errorf("namespace %s is there; this makes and removes one of that name", namespace)
	case len(there) > 0: // of a run that was killed
		if err := c.remove(ctx); err != nil {
			return err
		}
	}
	dir := filepath.Join(".cache", "bench-cluster")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	services, err := clusterFiles.ReadFile("cluster/services.yaml")
	if err != nil {
		return err
	}
	k := map[string]any{
		"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
		"resources": []string{"../../manifests/overlays/e2e/services", "services.yaml"}, "images": images,
	}
	kustomization, err := yaml.Marshal(k)
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "services.yaml"), bytes.ReplaceAll(services, []byte(trivialImage), []byte(trivial)), 0o644),
		os.WriteFile(filepath.Join(dir, "kustomization.yaml"), kustomization, 0o644))
	if err != nil {
		return err
	}
	if c.ours {
		settings, err := clusterFiles.ReadFile("cluster/config-autoscaler.yaml")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "settings.yaml"), settings, 0o644)
		}
		if err == nil {
			_, err = c.run(ctx, "apply", "--server-side", "--force-conflicts", "-f", filepath.Join(dir, "settings.yaml"))
		}
		if err != nil {
			return err
		}
	}
	// Webhooks that have just come may refuse for a while.
	var refused error
	err = every(ctx, time.Second, 2*time.Minute, func() (bool, error) {
		_, refused = c.run(ctx, "apply", "--server-side", "--force-conflicts", "-k", dir)
		return refused == nil, nil
	})
	if err != nil {
		return errors.Join(err, refused)
	}
	fmt.Fprintln(c.b.log, "deployed; waiting for the services")
	var waiting []string
	err = every(ctx, time.Second, 3*time.Minute, func() (bool, error) {
		all, err := c.Services(ctx)
		waiting, c.services = nil, map[string]string{}
		for _, s := range all {
			if c.services[s.Name] = s.URL; !s.Ready {
				waiting = append(waiting, s.Name+": "+s.Reason)
			}
		}
		return len(all) >= 5 && len(waiting) == 0, err
	})
	if err != nil {
		return fmt.Errorf("the services are not ready: %w: %q", err, waiting)
	}
	return nil
}

// findImages gives the images of the overlay and the trivial one: of the test
// cluster those that `make e2e` has put into its node.
func (c *cluster) findImages(ctx context.Context) (images []image, trivial string, err error) {
	want := []string{"aisle-composer", "aisle-controller", "aisle-title", "aisle-photo"}
	if !c.ours {
		text, err := os.ReadFile(filepath.Join(c.b.images, "kustomize", "kustomization.yaml"))
		if err != nil {
			return nil, "", fmt.Errorf("-images: %w", err)
		}
		var component struct{ Images []image }
		err = yaml.Unmarshal(text, &component)
		return component.Images, c.b.trivial, err
	}
	var nodes struct {
		Items []struct {
			Status struct{ Images []struct{ Names []string } }
		}
	}
	if err := c.object(ctx, &nodes, "nodes"); err != nil {
		return nil, "", err
	}
	for _, n := range nodes.Items {
		for _, i := range n.Status.Images {
			for _, name := range i.Names {
				repository, digest, pinned := strings.Cut(name, "@")
				base := repository[strings.LastIndexByte(repository, '/')+1:]
				switch {
				case strings.HasPrefix(base, "aisle-fixture:"):
					trivial = name
				case pinned && slices.Contains(want, base):
					images = append(slices.DeleteFunc(images, func(i image) bool { return i.Name == base }), image{Name: base, NewName: repository, Digest: digest})
				}
			}
		}
	}
	if len(images) < len(want) || trivial == "" {
		return nil, "", fmt.Errorf("the test cluster's node lacks images (it has %v and %q); put them there with: make e2e RUN=TestComposer KEEP=1", images, trivial)
	}
	return images, trivial, nil
}

func (c *cluster) remove(ctx context.Context) error {
	if !c.made {
		return nil
	}
	_, err := c.run(ctx, "delete", "namespace", namespace, "--ignore-not-found") // waits
	return err
}

// url is a service's URL; the client above dials the gateway for it.
func (c *cluster) url(service, path string) string { return c.services[service] + path }

// podsOf are a service's pods that are not going away.
func (c *cluster) podsOf(ctx context.Context, service string) ([]client.Pod, error) {
	all, err := c.Pods(ctx)
	return slices.DeleteFunc(all, func(p client.Pod) bool { return p.Service != service || p.Phase == "Draining" }), err
}

// every asks at intervals whether something holds.
func every(ctx context.Context, interval, limit time.Duration, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
