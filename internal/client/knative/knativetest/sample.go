package knativetest

import (
	"strings"

	"sigs.k8s.io/yaml"
)

// Sample puts a small installation into namespace aisle: a composer at zero,
// reached at url, a title classifier with a revision that serves, a canary that
// cannot start, and two pods.
func (s *Server) Sample(url string) {
	for doc := range strings.SplitSeq(strings.ReplaceAll(sample, "COMPOSER-URL", url), "\n---\n") {
		var o Object
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			panic(err) // it is below
		}
		group, _, _ := strings.Cut(o["apiVersion"].(string), "/")
		if group == "v1" {
			group = ""
		}
		s.Put(group+"/"+strings.ToLower(o["kind"].(string))+"s", o)
	}
	s.Log("aisle", "title-00001-deployment-7c9-x2x4z", "classifier", `{"level":"INFO","msg":"ready","model":"title","digest":"sha256:feed"}`, "one more line")
	s.Log("aisle", "title-00002-deployment-5d8-q9q7k", "classifier!", "classifier: the model package is another one")
}

const sample = `apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: composer, namespace: aisle, generation: 1}
status:
  observedGeneration: 1
  url: COMPOSER-URL
  latestCreatedRevisionName: composer-00001
  latestReadyRevisionName: composer-00001
  conditions:
    - {type: Ready, status: "True", lastTransitionTime: "2026-01-01T10:00:00Z"}
  traffic:
    - {revisionName: composer-00001, percent: 100, latestRevision: true}
---
apiVersion: serving.knative.dev/v1
kind: Revision
metadata:
  name: composer-00001
  namespace: aisle
  labels: {serving.knative.dev/service: composer}
  annotations: {autoscaling.knative.dev/max-scale: "2"}
spec:
  containers: [{name: composer, image: registry.test/aisle-composer@sha256:c0}]
status:
  conditions:
    - {type: Ready, status: "True"}
    - {type: Active, status: "False", reason: NoTraffic, message: The target is not receiving traffic.}
---
apiVersion: autoscaling.internal.knative.dev/v1alpha1
kind: PodAutoscaler
metadata: {name: composer-00001, namespace: aisle}
status:
  desiredScale: 0
  actualScale: 0
  conditions:
    - {type: Active, status: "False", reason: NoTraffic, message: The target is not receiving traffic., lastTransitionTime: "2026-01-01T11:00:00Z"}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: title, namespace: aisle, generation: 2}
status:
  observedGeneration: 2
  latestCreatedRevisionName: title-00002
  latestReadyRevisionName: title-00001
  url: http://title.aisle.cluster.test
  conditions:
    - {type: ConfigurationsReady, status: "False", reason: RevisionFailed, message: Revision title-00002 failed}
    - {type: Ready, status: "False", reason: RevisionFailed, message: Revision title-00002 failed}
  traffic:
    - {revisionName: title-00001, percent: 90}
    - {revisionName: title-00002, percent: 10, tag: canary}
---
apiVersion: serving.knative.dev/v1
kind: Revision
metadata:
  name: title-00001
  namespace: aisle
  labels: {serving.knative.dev/service: title}
  annotations: {autoscaling.knative.dev/min-scale: "1", autoscaling.knative.dev/max-scale: "4"}
spec:
  containers: [{name: classifier, image: "registry.test/aisle-title:v1"}]
status:
  containerStatuses: [{name: classifier, imageDigest: "registry.test/aisle-title@sha256:71"}]
  conditions:
    - {type: Ready, status: "True"}
---
apiVersion: autoscaling.internal.knative.dev/v1alpha1
kind: PodAutoscaler
metadata: {name: title-00001, namespace: aisle}
status:
  desiredScale: 2
  actualScale: 1
  conditions:
    - {type: Active, status: "True", lastTransitionTime: "2026-01-01T11:30:00Z"}
    - {type: Ready, status: "True"}
---
apiVersion: serving.knative.dev/v1
kind: Revision
metadata:
  name: title-00002
  namespace: aisle
  labels: {serving.knative.dev/service: title}
spec:
  containers: [{name: classifier, image: "registry.test/aisle-title:v2", env: [{name: MODEL_DIGEST, value: "sha256:beef"}]}]
status:
  conditions:
    - {type: Ready, status: "False", reason: ExitCode1, message: "Container failed with: another package"}
---
apiVersion: v1
kind: Pod
metadata:
  name: title-00001-deployment-7c9-x2x4z
  namespace: aisle
  creationTimestamp: "2026-01-01T11:30:00Z"
  labels: {serving.knative.dev/service: title, serving.knative.dev/revision: title-00001}
spec:
  containers: [{name: classifier}, {name: queue-proxy}]
status:
  podIP: 10.244.0.7
  phase: Running
  conditions:
    - {type: PodScheduled, status: "True", lastTransitionTime: "2026-01-01T11:30:00Z"}
    - {type: Ready, status: "True", lastTransitionTime: "2026-01-01T11:30:02Z"}
  containerStatuses:
    - {name: queue-proxy, containerID: "containerd://q1", state: {running: {}}}
    - {name: classifier, containerID: "containerd://c1", state: {running: {}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: title-00002-deployment-5d8-q9q7k
  namespace: aisle
  creationTimestamp: "2026-01-01T11:40:00Z"
  labels: {serving.knative.dev/service: title, serving.knative.dev/revision: title-00002}
spec:
  containers: [{name: classifier}, {name: queue-proxy}]
status:
  podIP: 10.244.0.8
  phase: Running
  conditions:
    - {type: Ready, status: "False"}
  containerStatuses:
    - name: classifier
      containerID: "containerd://c2"
      state: {waiting: {reason: CrashLoopBackOff, message: back-off 10s restarting failed container}}
      lastState: {terminated: {exitCode: 1, containerID: "containerd://c2"}}
---
apiVersion: v1
kind: Event
metadata: {name: title-00002-deployment-5d8-q9q7k.1, namespace: aisle}
involvedObject: {kind: Pod, name: title-00002-deployment-5d8-q9q7k, namespace: aisle}
type: Warning
reason: BackOff
message: Back-off restarting failed container
count: 4
lastTimestamp: "2026-01-01T11:41:00Z"
---
apiVersion: v1
kind: Event
metadata: {name: other.1, namespace: aisle}
involvedObject: {kind: Pod, name: title-de-00001-deployment-1, namespace: aisle}
type: Warning
reason: Elsewhere
message: of a service whose name begins alike
lastTimestamp: "2026-01-01T11:41:00Z"`
