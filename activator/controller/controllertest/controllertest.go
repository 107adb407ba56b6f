// Package controllertest runs a real Kubernetes API server for tests: etcd and
// kube-apiserver on this machine's loopback, Knative Serving's and Aisle's
// definitions in it, and nothing that acts on them. What Knative's controllers
// would write (a Service's traffic), a test writes.
//
// The server is the one that hack/cluster builds (`make cluster-up`, or any run
// of `make e2e`, leaves it in its cache); Start says so where it is not there.
package controllertest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// ErrNotBuilt is that there is no API server to start.
var ErrNotBuilt = errors.New("no API server was built on this machine: make cluster-up builds one")

// Server is an API server that runs.
type Server struct {
	dir   string
	url   string
	parts []part
}

type part struct {
	process *os.Process
	ended   chan struct{}
}

const (
	adminToken = "admin"
	// startWithin is for a machine that is busy with other things.
	startWithin = 2 * time.Minute
)

// Start starts one, with the definitions of the manifests of these files beside
// Knative's. Its files are in dir, which must be empty. End it with Stop.
func Start(ctx context.Context, dir string, definitions ...string) (*Server, error) {
	hyper, err := ownCopy(dir)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	etcd, peers := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	s := &Server{dir: dir, url: "https://127.0.0.1:" + ports[2]}
	key, err := s.files()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		s.run(hyper, "etcd", "--name=n", "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=error",
			"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd, "--listen-peer-urls="+peers,
			"--initial-advertise-peer-urls="+peers, "--initial-cluster=n="+peers),
		s.run(hyper, "kube-apiserver", "--etcd-servers="+etcd, "--bind-address=127.0.0.1", "--secure-port="+ports[2],
			"--cert-dir="+filepath.Join(dir, "certs"), "--token-auth-file="+filepath.Join(dir, "tokens"), "--authorization-mode=RBAC",
			"--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file="+key, "--service-account-signing-key-file="+key,
			// Pods are made by hand, in namespaces that no controller gives an account.
			"--disable-admission-plugins=ServiceAccount", "--profiling=false"))
	if err == nil {
		err = s.ready(ctx)
	}
	if err == nil {
		err = s.define(ctx, definitions)
	}
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// ownCopy puts the program that hack/cluster builds (etcd, the API server and
// others in one) into dir: a test cluster that goes down ends whatever runs from
// its own folder. The program goes by the name that it is called by.
func ownCopy(dir string) (string, error) {
	root := os.Getenv("AISLE_CLUSTER_STATE")
	if root == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		root = filepath.Join(cache, "aisle", "cluster")
	}
	from, err := os.Open(filepath.Join(root, "bin", "hyper"))
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrNotBuilt, err)
	}
	defer from.Close()
	hyper := filepath.Join(dir, "hyper")
	if os.Link(from.Name(), hyper) == nil {
		return hyper, nil
	}
	to, err := os.OpenFile(hyper, os.O_CREATE|os.O_WRONLY, 0o700) // another file system
	if err != nil {
		return "", err
	}
	_, err = io.Copy(to, from)
	return hyper, errors.Join(err, to.Close())
}

// freePorts are free for now; who comes between gets a failed start, not a
// wrong one.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

// files writes who may ask, and the key that signs service accounts' tokens.
func (s *Server) files() (key string, err error) {
	secret, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	key = filepath.Join(s.dir, "sa.key")
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(secret)})
	tokens := adminToken + ",admin,1,system:masters\n"
	return key, errors.Join(os.WriteFile(key, text, 0o600), os.WriteFile(filepath.Join(s.dir, "tokens"), []byte(tokens), 0o600))
}

func (s *Server) run(hyper string, args ...string) error {
	log, err := os.Create(filepath.Join(s.dir, args[0]+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(hyper, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		// The signal comes when the thread ends that forked, so this one stays.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", args[0], err)
	}
	s.parts = append(s.parts, part{cmd.Process, ended})
	return nil
}

// Stop ends it.
func (s *Server) Stop() {
	for _, p := range s.parts {
		_ = p.process.Kill()
		<-p.ended
	}
}

// Config is the way to it, as an administrator.
func (s *Server) Config() *rest.Config {
	// Its certificate is its own and new; it is on loopback.
	return &rest.Config{Host: s.url, BearerToken: adminToken, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1}
}

// Kubeconfig is the same as a file, for other processes.
func (s *Server) Kubeconfig() []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: %q}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
`, s.url, adminToken)
}

// As is the way to it as a service account, by impersonation.
func (s *Server) As(namespace, account string) *rest.Config {
	config := s.Config()
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":" + account,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	return config
}

func (s *Server) ready(ctx context.Context) error {
	config := s.Config()
	c, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	return await(ctx, func() error {
		resp, err := c.Get(s.url + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s", resp.Status)
		}
		return nil
	})
}

// await tries until it works.
func await(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the API server: %w", err)
		}
	}
}

// define makes the CustomResourceDefinitions and waits until they are served.
func (s *Server) define(ctx context.Context, files []string) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "knative.dev/serving").Output()
	if err != nil {
		return fmt.Errorf("find knative.dev/serving: %w", err)
	}
	for _, kind := range []string{"service", "revision"} {
		files = append(files, filepath.Join(strings.TrimSpace(string(out)), "config", "core", "300-resources", kind+".yaml"))
	}
	c, err := client.New(s.Config(), client.Options{})
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := Apply(ctx, c, file); err != nil {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		crd := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, &crd.Object); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		err = await(ctx, func() error {
			if err := c.Get(ctx, client.ObjectKeyFromObject(crd), crd); err != nil {
				return err
			}
			conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
			for _, o := range conditions {
				if m, ok := o.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
					return nil
				}
			}
			return fmt.Errorf("%s is not established", crd.GetName())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Apply makes the objects of a file of manifests that are not there yet.
func Apply(ctx context.Context, c client.Client, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for doc := range strings.SplitSeq(string(text), "\n---") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if len(o.Object) == 0 {
			continue
		}
		if err := c.Create(ctx, o); client.IgnoreAlreadyExists(err) != nil {
			return fmt.Errorf("%s: %s %s: %w", file, o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}
