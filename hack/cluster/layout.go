package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// Addresses: those of shared address space that Kubernetes' own tools use, and
// a /30 between the machine and the node.
const (
	nodeName    = "node1"
	hostLink    = "aisle0" // the machine's end of the link to the node
	hostIP      = "10.201.0.1"
	nodeIP      = "10.201.0.2"
	podCIDR     = "10.244.0.0/24"
	serviceCIDR = "10.96.0.0/16"
	apiIP       = "10.96.0.1"  // of the Service "kubernetes"
	gatewayIP   = "10.96.0.80" // where Knative's services are reached

	registryAddr = hostIP + ":5000" // if `cluster registry` serves one

	kubernetesVersion = "v1.35.4"
	knativeVersion    = "v0.50.0"
	// domain is that of Knative's services: NAME.NAMESPACE.domain.
	domain = "example.test"
)

// A layout names what is in the state directory.
type layout struct {
	root   string // of the state
	module string // of this program's source: hack/cluster
}

func newLayout(module string) (layout, error) {
	root := os.Getenv("AISLE_CLUSTER_STATE")
	if root == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return layout{}, fmt.Errorf("where to keep the cluster: %w; set AISLE_CLUSTER_STATE", err)
		}
		root = filepath.Join(cache, "aisle", "cluster")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return layout{}, err
	}
	// A unix socket's path has at most 107 bytes.
	if l := (layout{root: root}); len(l.containerdSocket()) > 100 {
		return layout{}, fmt.Errorf("%s is too long for the sockets in it; set AISLE_CLUSTER_STATE to a shorter path", root)
	}
	module, err = filepath.Abs(module)
	return layout{root: root, module: module}, err
}

func (l layout) path(elem ...string) string {
	return filepath.Join(append([]string{l.root}, elem...)...)
}

// What is built stays from run to run; all else of a node is in run, so that
// removing that forgets it.
func (l layout) bin(name string) string    { return l.path("bin", name) }
func (l layout) image(name string) string  { return l.path("images", name+".tar") }
func (l layout) manifests() string         { return l.path("manifests") }
func (l layout) lockFile() string          { return l.path("lock") }
func (l layout) before() string            { return l.path("before.json") }
func (l layout) run(elem ...string) string { return l.path(append([]string{"run"}, elem...)...) }
func (l layout) logs(elem ...string) string {
	return l.path(append([]string{"logs"}, elem...)...)
}
func (l layout) containerd(elem ...string) string {
	return l.path(append([]string{"containerd2"}, elem...)...)
}
func (l layout) containerdModule() string { return filepath.Join(l.module, "containerd") }
func (l layout) processes() string        { return l.run("processes") }
func (l layout) pki(name string) string   { return l.run("pki", name) }
func (l layout) kubeconfig() string       { return l.pki("admin.kubeconfig") }
func (l layout) containerdSocket() string { return l.run("ctd.sock") }
func (l layout) nodeReady() string        { return l.run("node-ready") }
func (l layout) installed() string        { return l.run("installed") }
