package acceptance

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
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
	namespace string // of the services that tests name
	config    clusterConfig
	server    string
	token     string
	http      *http.Client
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
	c := &cluster{namespace: suiteNamespace}
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
	return c, nil
}

// errNotFound is in the chain of a 404.
var errNotFound = errors.New("not found")

// ask sends one request to the API server and decodes its answer.
func (c *cluster) ask(ctx context.Context, method, path, contentType string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s %s: %w", method, path, errNotFound)
	case resp.StatusCode >= 300:
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	case into == nil:
		return nil
	}
	return json.Unmarshal(text, into)
}

// resource gives the path of an object, or of its kind's list without a name.
func resource(kind, namespace, name string) (string, error) {
	groups := map[string]string{
		"Namespace": "/api/v1", "Node": "/api/v1", "ConfigMap": "/api/v1", "Pod": "/api/v1", "NetworkPolicy": "/apis/networking.k8s.io/v1",
		"Service": "/apis/serving.knative.dev/v1", "Revision": "/apis/serving.knative.dev/v1",
		"Broker": "/apis/eventing.knative.dev/v1", "Trigger": "/apis/eventing.knative.dev/v1", "PingSource": "/apis/sources.knative.dev/v1",
	}
	group, ok := groups[kind]
	if !ok {
		return "", fmt.Errorf("the suite deploys no %s", kind)
	}
	plural := map[string]string{"NetworkPolicy": "networkpolicies"}[kind]
	if plural == "" {
		plural = strings.ToLower(kind) + "s"
	}
	if namespace != "" {
		group += "/namespaces/" + namespace
	}
	return strings.TrimSuffix(group+"/"+plural+"/"+name, "/"), nil
}

// apply applies objects server-side. Those without a namespace go to the
// suite's; Knative's settings are changed in a cluster of our own alone.
func (c *cluster) apply(ctx context.Context, objects []map[string]any) error {
	for _, o := range objects {
		kind, _ := o["kind"].(string)
		meta, _ := o["metadata"].(map[string]any)
		name, _ := meta["name"].(string)
		namespace, _ := meta["namespace"].(string)
		switch {
		case kind == "Namespace":
		case namespace == "":
			namespace = c.namespace
		case namespace == "knative-serving" && !c.config.Ours:
			continue
		}
		path, err := resource(kind, namespace, name)
		if err != nil {
			return err
		}
		text, err := json.Marshal(o)
		if err != nil {
			return err
		}
		// A manager for each namespace: one who applies a ConfigMap of Knative's
		// again takes away the settings that it gave before.
		q := url.Values{"fieldManager": {c.namespace}, "force": {"true"}, "fieldValidation": {"Strict"}}
		if err := c.ask(ctx, http.MethodPatch, path+"?"+q.Encode(), "application/apply-patch+yaml", text, nil); err != nil {
			return err
		}
	}
	return nil
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

// remove asks for an object's end; query may say how.
func (c *cluster) remove(ctx context.Context, kind, name, query string) error {
	path, err := resource(kind, c.namespace, name)
	if err != nil {
		return err
	}
	return c.ask(ctx, http.MethodDelete, path+"?"+query, "", nil, nil)
}
