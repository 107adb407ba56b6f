package acceptance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/internal/client"
)

// clusterEnv makes the suite run on a Knative cluster: it is the path of a
// clusterConfig, which `make e2e` writes.
const clusterEnv = "AISLE_ACCEPTANCE_CLUSTER"

type clusterConfig struct {
	Kubeconfig string            `json:"kubeconfig"`
	Gateway    string            `json:"gateway"` // host:port at which services are reached
	Domain     string            `json:"domain"`  // of services' hosts, after their namespace
	Images     map[string]string `json:"images"`  // references by name: fixture, composer, title, photo
	// Component is the folder of a kustomize component that names the images of
	// manifests/overlays by digest.
	Component string `json:"component"`
	// Ours is whether Knative's own settings may be changed: a cluster made for
	// this suite.
	Ours bool `json:"ours"`
}

// The suite makes these namespaces and removes them at its end: one for its own
// services, one that manifests/overlays/e2e names, one for manifests/overlays/gke.
const (
	suiteNamespace    = "aisle-acceptance"
	productsNamespace = "aisle"
	gpuNamespace      = "aisle-gpu"
)

var namespaces = []string{suiteNamespace, productsNamespace, gpuNamespace}

// cluster is a Knative cluster, asked over its API server's plain HTTP: the
// product links nothing of Kubernetes' clients, nor do its tests.
type cluster struct {
	api
	config clusterConfig
}

var _ place = (*cluster)(nil)

func (c *cluster) address() string        { return c.config.Gateway }
func (c *cluster) engine() *engineProcess { return nil }
func (c *cluster) host(name string) string {
	return name + "." + c.namespace + "." + c.config.Domain
}
func (c *cluster) onCluster() *cluster { return c }

// stop removes what the suite deployed.
func (c *cluster) stop(time.Duration) error {
	defer c.http.CloseIdleConnections()
	return c.removeNamespaces(context.Background(), namespaces...)
}

// dump shows how services stand and the events that are warnings, before stop
// takes them away. The logs of Knative's own pods are for make e2e to show.
func (c *cluster) dump(w io.Writer) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, namespace := range namespaces {
		at := c.in(namespace)
		services, err := at.Services(ctx)
		for _, s := range services {
			fmt.Fprintf(w, "--- service %s/%s: ready %v, %d pods, latest %s: %s\n", s.Namespace, s.Name, s.Ready, s.Pods, s.LatestRevision, s.Reason)
		}
		var events struct {
			Items []struct {
				Type, Reason, Message string
				Count                 int
				InvolvedObject        struct{ Kind, Name string }
			}
		}
		err = errors.Join(err, c.ask(ctx, http.MethodGet, "/api/v1/namespaces/"+at.namespace+"/events", "", nil, &events))
		for _, e := range events.Items {
			if e.Type != "Normal" {
				fmt.Fprintf(w, "--- event %s %s: %s (%d times): %s\n", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Count, e.Message)
			}
		}
		if err != nil {
			fmt.Fprintln(w, "--- and failed to show all:", err)
		}
	}
}

func openCluster(path string) (*cluster, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &cluster{api: api{namespace: suiteNamespace}}
	if err := json.Unmarshal(text, &c.config); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if text, err = os.ReadFile(c.config.Kubeconfig); err != nil {
		return nil, err
	}
	var k struct {
		Current  string `json:"current-context"`
		Clusters []struct {
			Name    string
			Cluster struct {
				Server string
				CA     []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			Name string
			User struct {
				Cert  []byte `json:"client-certificate-data"`
				Key   []byte `json:"client-key-data"`
				Token string
			}
		}
		Contexts []struct {
			Name    string
			Context struct{ Cluster, User string }
		}
	}
	if err := yaml.Unmarshal(text, &k); err != nil {
		return nil, fmt.Errorf("%s: %w", c.config.Kubeconfig, err)
	}
	trust := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	for _, x := range k.Contexts {
		if x.Name != k.Current {
			continue
		}
		for _, one := range k.Clusters {
			if one.Name == x.Context.Cluster {
				c.server = one.Cluster.Server
				trust.RootCAs.AppendCertsFromPEM(one.Cluster.CA)
			}
		}
		for _, one := range k.Users {
			if one.Name != x.Context.User {
				continue
			}
			c.token = one.User.Token
			if len(one.User.Cert) > 0 {
				pair, err := tls.X509KeyPair(one.User.Cert, one.User.Key)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", c.config.Kubeconfig, err)
				}
				trust.Certificates = []tls.Certificate{pair}
			}
		}
	}
	if c.server == "" || (c.token == "" && trust.Certificates == nil) {
		return nil, fmt.Errorf("%s: the suite needs a context with a server, its certificate authority, and a token or client certificate in the file itself", c.config.Kubeconfig)
	}
	c.http = &http.Client{Transport: &http.Transport{TLSClientConfig: trust}, Timeout: 30 * time.Second}
	c.image, c.ours = c.config.Images["fixture"], c.config.Ours
	return c, nil
}

// removeNamespaces returns when they have gone.
func (c *cluster) removeNamespaces(ctx context.Context, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	return retried(ctx, func() error {
		var errs []error
		for _, name := range names {
			path, err := resource("Namespace", "", name)
			if err == nil {
				err = c.ask(ctx, http.MethodDelete, path, "", nil, nil)
			}
			switch {
			case err == nil:
				errs = append(errs, fmt.Errorf("namespace %s is going", name))
			case !errors.Is(err, errNotFound):
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}

// What the suite reads of Kubernetes' and Knative's objects.
type (
	object struct {
		Name, Namespace     string
		Labels, Annotations map[string]string
		DeletionTimestamp   *time.Time
		CreationTimestamp   time.Time
	}
	condition struct{ Type, Status, Reason, Message string }
	podObject struct {
		Metadata object
		Status   struct {
			Phase, PodIP string
			Conditions   []struct {
				condition
				LastTransitionTime time.Time
			}
		}
	}
	serviceObject struct {
		Metadata object
		Status   struct {
			URL, LatestCreatedRevisionName, LatestReadyRevisionName string
			Conditions                                              []condition
			ObservedGeneration                                      int64
		}
	}
	revisionObject struct {
		Metadata object
		Spec     struct{ Containers []struct{ Image string } }
		Status   struct {
			DesiredReplicas, ActualReplicas int
			Conditions                      []condition
		}
	}
)

func ready(all []condition) condition { return conditionOf(all, "Ready") }

func conditionOf(all []condition, typ string) condition {
	for _, c := range all {
		if c.Type == typ {
			return c
		}
	}
	return condition{}
}

func list[T any](ctx context.Context, c *cluster, kind string) ([]T, error) {
	path, err := resource(kind, c.namespace, "")
	if err != nil {
		return nil, err
	}
	var l struct{ Items []T }
	return l.Items, c.ask(ctx, http.MethodGet, path, "", nil, &l)
}

const (
	serviceLabel  = "serving.knative.dev/service"
	revisionLabel = "serving.knative.dev/revision"
)

// Pods implements client.Client. What a cluster does not tell (processes,
// requests in flight) stays zero.
func (c *cluster) Pods(ctx context.Context) ([]client.Pod, error) {
	all, err := list[podObject](ctx, c, "Pod")
	var pods []client.Pod
	for _, o := range all {
		p := client.Pod{
			Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Service: o.Metadata.Labels[serviceLabel], Revision: o.Metadata.Labels[revisionLabel],
			Phase: "Starting", Address: o.Status.PodIP, Started: o.Metadata.CreationTimestamp,
		}
		for _, cond := range o.Status.Conditions {
			if cond.Type == "Ready" && cond.Status == "True" {
				p.Phase, p.ReadyMs = "Ready", float64(cond.LastTransitionTime.Sub(p.Started).Milliseconds())
			}
		}
		if o.Metadata.DeletionTimestamp != nil {
			p.Phase = "Draining"
		}
		pods = append(pods, p)
	}
	return pods, err
}

// Revisions implements client.Client.
func (c *cluster) Revisions(ctx context.Context) ([]client.Revision, error) {
	all, err := list[revisionObject](ctx, c, "Revision")
	if err != nil {
		return nil, err
	}
	pods, err := c.Pods(ctx)
	var revisions []client.Revision
	for _, o := range all {
		r := client.Revision{
			Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Service: o.Metadata.Labels[serviceLabel],
			Want: o.Status.DesiredReplicas, Why: ready(o.Status.Conditions).Message,
		}
		if len(o.Spec.Containers) > 0 {
			r.Image = o.Spec.Containers[0].Image
		}
		for _, p := range pods {
			if p.Revision == r.Name {
				switch p.Phase {
				case "Ready":
					r.Ready++
				case "Draining":
					r.Draining++
				default:
					r.Starting++
				}
			}
		}
		revisions = append(revisions, r)
	}
	slices.SortFunc(revisions, func(a, b client.Revision) int { return strings.Compare(b.Name, a.Name) }) // the latest first
	return revisions, err
}

// Services implements client.Client.
func (c *cluster) Services(ctx context.Context) ([]client.Service, error) {
	all, err := list[serviceObject](ctx, c, "Service")
	if err != nil {
		return nil, err
	}
	revisions, err := c.Revisions(ctx)
	var services []client.Service
	for _, o := range all {
		cond := ready(o.Status.Conditions)
		s := client.Service{
			Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, URL: o.Status.URL, LatestRevision: o.Status.LatestCreatedRevisionName,
			Ready: cond.Status == "True", Reason: cond.Message,
		}
		for _, r := range revisions {
			if r.Service == s.Name {
				s.Pods += r.Ready
			}
		}
		services = append(services, s)
	}
	return services, err
}

// Logs implements client.Client for the container of one pod.
func (c *cluster) Logs(context.Context, io.Writer, client.LogQuery) error {
	return errors.ErrUnsupported // no test of the suite that runs here reads them
}

// Version implements client.Client.
func (c *cluster) Version(ctx context.Context) (client.Version, error) {
	var v struct{ GitVersion string }
	err := c.ask(ctx, http.MethodGet, "/version", "", nil, &v)
	return client.Version{Version: v.GitVersion, Engine: "knative", Address: c.address()}, err
}

// remove asks for an object's end; query may say how.
func (c *api) remove(ctx context.Context, kind, name, query string) error {
	path, err := resource(kind, c.namespace, name)
	if err != nil {
		return err
	}
	return c.ask(ctx, http.MethodDelete, path+"?"+query, "", nil, nil)
}

// conditions are those of one object; kinds without a namespace are asked for
// in none.
func (c *cluster) conditions(t *testing.T, kind, name string) []condition {
	t.Helper()
	namespace := c.namespace
	if kind == "Node" {
		namespace = ""
	}
	var o struct {
		Status struct{ Conditions []condition }
	}
	path, err := resource(kind, namespace, name)
	if err == nil {
		err = c.ask(t.Context(), http.MethodGet, path, "", nil, &o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o.Status.Conditions
}

func (c *cluster) awaitReadyObject(t *testing.T, kind, name string) {
	t.Helper()
	await(t, kind+" "+name+" to be ready", func() string {
		if cond := ready(c.conditions(t, kind, name)); cond.Status != "True" {
			return fmt.Sprintf("%+v", cond)
		}
		return ""
	})
}
