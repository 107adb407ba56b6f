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
// services, one that manifests/overlays/e2e names, one for manifests/overlays/gke,
// and the controller's, which goes last: it lets go of schedules that are removed.
const (
	suiteNamespace    = "aisle-acceptance"
	productsNamespace = "aisle"
	gpuNamespace      = "aisle-gpu"
	systemNamespace   = "aisle-system"
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
	return c.removeAll(context.Background())
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

// removeAll removes what the suite deployed; what is of the whole cluster (the
// ScalingSchedule's definition, the controller's role) stays.
func (c *cluster) removeAll(ctx context.Context) error {
	if err := c.removeNamespaces(ctx, namespaces...); err != nil {
		return err
	}
	return c.removeNamespaces(ctx, systemNamespace)
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
func (c *api) remove(ctx context.Context, kind, name, query string) error {
	path, err := resource(kind, c.namespace, name)
	if err != nil {
		return err
	}
	return c.ask(ctx, http.MethodDelete, path+"?"+query, "", nil, nil)
}
