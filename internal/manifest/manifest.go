// Package manifest reads Knative manifests for one machine.
//
// [Load] builds a kustomize folder and gives what it describes: the Knative
// Services, defaulted and validated by Knative's own code under the folder's
// own config-autoscaler, config-defaults and config-features, and reduced to
// what a process needs to be a pod.
//
// Guarantees:
//   - Every field of a Service is honoured, or listed in [Set].Ignored with the
//     reason, or refused with its path. The rules are one table, and a test
//     walks Knative's and Kubernetes' types to see that it has them all.
//   - An unknown field is an error with its path, and with the name that was
//     probably meant.
//   - All that is wrong is reported at once, as [*Invalid].
//   - Nothing is fetched, run or written: no remote bases, no plug-ins. Files
//     are read below one root, and their number, size and depth are bounded.
//   - The same folder gives the same Set, in the same order.
//
// An image reference ko://IMPORT/PATH/NAME runs bin/NAME. What runs in place of
// any other image is said in images.yaml, beside the kustomization and not among
// its resources:
//
//	apiVersion: aisle.dev/v1alpha1
//	kind: ImageMap
//	images:
//	  - image: registry.example/team/scorer:1.2
//	    command: [/usr/bin/python3, scorer/serve.py] # relative to the project's root
//	    env: # before what the Service declares, as the image's own would be
//	      - {name: PYTHONUNBUFFERED, value: "1"}
//
// Non-goals: running anything, remembering earlier revisions, and manifests
// for events (they come with the broker).
package manifest

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Set is what a folder describes.
type Set struct {
	Dir        string // as given to Load
	Services   []Service
	ConfigMaps map[types.NamespacedName]ConfigMap
	// Autoscaler and Defaults are the data of the ConfigMaps config-autoscaler
	// and config-defaults in the namespace knative-serving: nil where the folder
	// has none, which means Knative's defaults.
	Autoscaler, Defaults map[string]string
	Ignored              []Ignored
}

// ConfigMap is the data of a ConfigMap; binary data is decoded and lies with
// the rest.
type ConfigMap map[string][]byte

// Ignored is a field or an object that means nothing on one machine.
type Ignored struct {
	Object string // "Service default/title"
	Path   string // "spec.template.spec.containers[0].resources"; empty for a whole object
	Reason string
}

// Service is one Knative Service, reduced to what one machine honours.
type Service struct {
	Namespace, Name string
	// Annotations of the revision template: what activator/scale reads.
	Annotations map[string]string
	// Digest is the sha256, in hex, of the defaulted revision template and of
	// the command that its image is mapped to. Another digest is another
	// revision.
	Digest string

	ContainerConcurrency int64         // 0: no limit
	Timeout              time.Duration // of one request, in all
	ResponseStartTimeout time.Duration // until the first byte of the answer; 0: only Timeout
	IdleTimeout          time.Duration // without a byte of the answer; 0: only Timeout
	GracePeriod          time.Duration // from SIGTERM to SIGKILL; Knative takes Timeout

	Image string // as in the manifest
	// Command is what runs, before $(NAME) in it is replaced: see [Service.Argv].
	// A relative first element is relative to the project's root.
	Command []string
	Env     []EnvVar // in order, references expanded, names unique
	Mounts  []Mount
	H2C     bool // the pod speaks HTTP/2 without TLS
	// Readiness is never nil: Knative's default is a TCP connection.
	Readiness *Probe
}

// EnvVar is one declared environment variable.
type EnvVar struct{ Name, Value string }

// Mount is a ConfigMap volume: these files belong at Path, read-only.
type Mount struct {
	Path  string            // absolute and clean, as in the manifest
	Files map[string][]byte // by slash-separated path below Path
}

// Probe is a readiness probe. With HTTPGet nil it is a TCP connection to the
// pod's port.
type Probe struct {
	HTTPGet          *HTTPGet
	InitialDelay     time.Duration
	Timeout          time.Duration // of one attempt; 0 where the manifest sets no period
	SuccessThreshold int           // at least 1
}

// HTTPGet asks for a path; any status from 200 to 399 is ready.
type HTTPGet struct {
	Path    string
	Host    string // the Host header, where httpHeaders has one
	Headers []Header
}

// Header is one request header.
type Header struct{ Name, Value string }
