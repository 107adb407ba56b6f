package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// verdict is what one machine makes of a field.
type verdict int

const (
	honour verdict = iota // with all that is in it
	within                // the rules of its own fields say
	ignore                // listed, with the reason
	refuse                // an error, with the reason
)

type rule struct {
	verdict verdict
	reason  string
}

const (
	template  = "spec.template.spec"
	container = template + ".containers[]"
	volume    = template + ".volumes[]"
)

const (
	oneMachine   = "there is one machine, and every pod runs on it"
	fromCluster  = "a cluster writes it"
	asUser       = "pods run as the user who runs the engine, with that user's rights"
	noLimits     = "there are no quotas on one machine; limit each container"
	noRequests   = "what a pod asks for decides where it runs, and there is one machine"
	noImages     = "an image is a command on one machine; none is pulled"
	noAccounts   = "there is no cluster to have an account in"
	noNetwork    = "pods share the machine's network"
	onlyOne      = "a pod is one process here: run one container"
	noTerminal   = "a pod has no terminal"
	onlyFiles    = "the volumes of a process are ConfigMaps, Secrets, both projected together, and emptyDirs"
	notPodInfo   = "a process has no pod or node to tell of"
	itselfProbed = "the probe goes to the pod itself"
)

// rules has one rule for every field of a Service. "[]" stands for every
// element of a list. A field without a rule is refused, and a test fails that
// walks Knative's types: so a new version of Knative cannot slip a field past.
var rules = func() map[string]rule {
	m := make(map[string]rule)
	add := func(prefix string, v verdict, reason string, names ...string) {
		for _, name := range names {
			p := strings.TrimPrefix(prefix+"."+name, ".")
			if _, twice := m[p]; twice {
				panic("manifest: two rules for " + p)
			}
			m[p] = rule{v, reason}
		}
	}

	add("", honour, "", "apiVersion", "kind")
	add("", within, "", "metadata", "spec", "spec.template", "spec.template.metadata", template)
	add("", ignore, fromCluster, "status")
	for _, meta := range []string{"metadata", "spec.template.metadata"} {
		add(meta, honour, "", "annotations", "labels")
		add(meta, ignore, fromCluster, "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp",
			"deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers", "managedFields")
		add(meta, refuse, "names are not made up here; write metadata.name", "generateName")
	}
	add("metadata", honour, "", "name", "namespace")
	add("spec.template.metadata", honour, "", "name")
	add("spec.template.metadata", refuse, "a revision is in its service's namespace; leave it out", "namespace")

	add("spec", within, "", "traffic", "traffic[]")
	add("spec.traffic[]", honour, "", "latestRevision", "percent", "revisionName", "tag")
	add("spec.traffic[]", refuse, "a Service's traffic is its own: leave it out", "configurationName")
	add("spec.traffic[]", ignore, fromCluster, "url")

	add(template, honour, "", "containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds")
	add(template, within, "", "containers", "containers[]", "volumes", "volumes[]")
	add(template, refuse, onlyOne, "initContainers", "ephemeralContainers", "shareProcessNamespace")
	add(template, ignore, noAccounts, "serviceAccountName", "serviceAccount", "automountServiceAccountToken")
	add(template, ignore, noImages, "imagePullSecrets")
	add(template, ignore, "pods get their declared environment only", "enableServiceLinks")
	add(template, ignore, asUser, "securityContext")
	add(template, ignore, "a pod's limits are its container's", "resources", "overhead")
	add(template, ignore, oneMachine, "tolerations", "topologySpreadConstraints", "schedulerName", "priorityClassName",
		"priority", "preemptionPolicy", "schedulingGates", "workloadRef")
	add(template, refuse, oneMachine, "nodeSelector", "nodeName", "affinity", "os")
	add(template, refuse, noNetwork, "hostNetwork", "hostAliases", "dnsPolicy", "dnsConfig", "hostname", "subdomain",
		"setHostnameAsFQDN", "hostnameOverride")
	add(template, refuse, "pods are plain processes of this machine", "hostPID", "hostIPC", "hostUsers", "runtimeClassName")
	add(template, refuse, "devices are not claimed here", "resourceClaims")
	add(template, refuse, "the readiness probe alone says whether a pod is ready", "readinessGates")
	add(template, refuse, "a revision decides when its pods stop", "restartPolicy", "activeDeadlineSeconds")
	add(template, refuse, "Knative gives a pod timeoutSeconds to end", "terminationGracePeriodSeconds")

	add(container, honour, "", "name", "image", "command", "args")
	add(container, within, "", "env", "env[]", "envFrom", "envFrom[]", "ports", "ports[]", "volumeMounts", "volumeMounts[]",
		"readinessProbe", "livenessProbe", "startupProbe", "resources")
	add(container+".resources", honour, "", "limits", "requests")
	add(container+".resources", refuse, "devices are not claimed here; count GPUs in limits", "claims")
	add(container, ignore, "a pod is replaced, not resized", "resizePolicy")
	add(container, ignore, asUser, "securityContext")
	add(container, ignore, noImages, "imagePullPolicy")
	add(container, ignore, "what a pod wrote last is in its log", "terminationMessagePath", "terminationMessagePolicy")
	add(container, refuse, "a pod runs in the project's root folder", "workingDir")
	add(container, refuse, "a pod is started, gets SIGTERM, and has its grace period", "lifecycle")
	add(container, refuse, "a revision decides when its pods start again", "restartPolicy", "restartPolicyRules")
	add(container, refuse, noTerminal, "stdin", "stdinOnce", "tty")
	add(container, refuse, onlyFiles, "volumeDevices")

	add(container+".env[]", honour, "", "name", "value")
	add(container+".env[]", within, "", "valueFrom")
	add(container+".env[].valueFrom", honour, "", "configMapKeyRef", "secretKeyRef", "fieldRef")
	add(container+".env[].valueFrom", refuse, notPodInfo, "resourceFieldRef")
	add(container+".env[].valueFrom", refuse, onlyFiles, "fileKeyRef")
	add(container+".envFrom[]", honour, "", "prefix", "configMapRef", "secretRef")
	add(container+".ports[]", honour, "", "name", "containerPort", "protocol")
	add(container+".ports[]", refuse, "the engine gives each pod a free port, in PORT", "hostPort", "hostIP")
	add(container+".volumeMounts[]", honour, "", "name", "mountPath", "readOnly")
	add(container+".volumeMounts[]", refuse, "mount the whole volume, or list items in it", "subPath", "subPathExpr")
	add(container+".volumeMounts[]", refuse, onlyFiles, "mountPropagation", "recursiveReadOnly")

	for _, name := range []string{"readinessProbe", "livenessProbe", "startupProbe"} {
		probe := container + "." + name
		add(probe, honour, "", "initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold")
		add(probe, within, "", "httpGet", "tcpSocket", "grpc")
		add(probe, refuse, "give it an httpGet, a tcpSocket or a grpc", "exec")
		add(probe, refuse, "a pod that fails is stopped with its own grace period", "terminationGracePeriodSeconds")
		add(probe+".httpGet", honour, "", "path", "port", "scheme", "httpHeaders")
		add(probe+".httpGet", refuse, itselfProbed+"; for a Host header use httpHeaders", "host")
		add(probe+".tcpSocket", honour, "", "port")
		add(probe+".tcpSocket", refuse, itselfProbed, "host")
		add(probe+".grpc", honour, "", "port", "service")
	}

	add(volume, honour, "", "name")
	add(volume, within, "", "configMap", "secret", "projected", "projected.sources", "projected.sources[]",
		"projected.sources[].configMap", "projected.sources[].secret", "emptyDir")
	add(volume, honour, "", "configMap.name", "secret.secretName", "projected.sources[].configMap.name", "projected.sources[].secret.name",
		"configMap.defaultMode", "secret.defaultMode", "projected.defaultMode")
	for _, source := range []string{".configMap", ".secret", ".projected.sources[].configMap", ".projected.sources[].secret"} {
		add(volume+source, honour, "", "optional")
		add(volume+source, within, "", "items", "items[]")
		add(volume+source+".items[]", honour, "", "key", "path", "mode")
	}
	add(volume+".projected.sources[]", refuse, onlyFiles, "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate")
	add(volume+".emptyDir", ignore, "it is a folder of the engine's data directory", "medium")
	add(volume+".emptyDir", ignore, "what a pod writes to disk is not limited", "sizeLimit")
	add(volume, refuse, "a process writes to this machine's own folders, such as the one that TMPDIR names", "hostPath")
	add(volume, refuse, "write a model package's folder into the environment instead", "image")
	add(volume, refuse, onlyFiles, "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs",
		"persistentVolumeClaim", "rbd", "flexVolume", "cinder", "cephfs", "flocker", "downwardAPI", "fc", "azureFile",
		"vsphereVolume", "quobyte", "azureDisk", "photonPersistentDisk", "portworxVolume", "scaleIO",
		"storageos", "csi", "ephemeral")
	return m
}()

// applyRules walks a decoded Service and reports what is ignored and refused.
// at is the path as the user knows it, pattern the same with "[]".
func applyRules(f *findings, object, at, pattern string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if v[key] == nil {
				continue
			}
			applyRule(f, object, join(at, key), join(pattern, key), v[key])
		}
	case []any:
		for i, e := range v {
			applyRule(f, object, fmt.Sprintf("%s[%d]", at, i), pattern+"[]", e)
		}
	}
}

func applyRule(f *findings, object, at, pattern string, v any) {
	r, ok := rules[pattern]
	switch {
	case !ok:
		f.refuse(object, at, "not known to this version of Aisle")
	case r.verdict == within:
		applyRules(f, object, at, pattern, v)
	case r.verdict == ignore:
		f.ignore(object, at, r.reason)
	case r.verdict == refuse:
		f.refuse(object, at, "cannot be honoured on one machine: %s", r.reason)
	}
}
