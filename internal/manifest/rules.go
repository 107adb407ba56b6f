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
	readiness = container + ".readinessProbe"
	volume    = template + ".volumes[]"
)

const (
	oneMachine   = "there is one machine, and every pod runs on it"
	fromCluster  = "a cluster writes it"
	asUser       = "pods run as the user who runs the engine, with that user's rights"
	noLimits     = "processes on one machine are not limited"
	noImages     = "an image is a command on one machine; none is pulled"
	noAccounts   = "there is no cluster to have an account in"
	noNetwork    = "pods share the machine's network"
	noSecrets    = "secrets are not kept here; for a value that is not secret use a ConfigMap"
	onlyOne      = "a pod is one process here: run one container"
	noTerminal   = "a pod has no terminal"
	onlyConfig   = "only ConfigMap volumes can be mounted for a process"
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
	add(template, ignore, noLimits, "resources", "overhead")
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
	add(container, within, "", "env", "env[]", "envFrom", "envFrom[]", "ports", "ports[]", "volumeMounts", "volumeMounts[]", "readinessProbe")
	add(container, ignore, noLimits, "resources", "resizePolicy")
	add(container, ignore, asUser, "securityContext")
	add(container, ignore, noImages, "imagePullPolicy")
	add(container, ignore, "what a pod wrote last is in its log", "terminationMessagePath", "terminationMessagePolicy")
	add(container, ignore, "a pod that exits is replaced; one that hangs is not looked for", "livenessProbe")
	add(container, ignore, "the readiness probe alone says when a pod gets requests", "startupProbe")
	add(container, refuse, "a pod runs in the project's root folder", "workingDir")
	add(container, refuse, "a pod is started, gets SIGTERM, and has its grace period", "lifecycle")
	add(container, refuse, "a revision decides when its pods start again", "restartPolicy", "restartPolicyRules")
	add(container, refuse, noTerminal, "stdin", "stdinOnce", "tty")
	add(container, refuse, onlyConfig, "volumeDevices")

	add(container+".env[]", honour, "", "name", "value")
	add(container+".env[]", within, "", "valueFrom")
	add(container+".env[].valueFrom", honour, "", "configMapKeyRef")
	add(container+".env[].valueFrom", refuse, noSecrets, "secretKeyRef")
	add(container+".env[].valueFrom", refuse, notPodInfo, "fieldRef", "resourceFieldRef")
	add(container+".env[].valueFrom", refuse, onlyConfig, "fileKeyRef")
	add(container+".envFrom[]", honour, "", "prefix", "configMapRef")
	add(container+".envFrom[]", refuse, noSecrets, "secretRef")
	add(container+".ports[]", honour, "", "name", "containerPort", "protocol")
	add(container+".ports[]", refuse, "the engine gives each pod a free port, in PORT", "hostPort", "hostIP")
	add(container+".volumeMounts[]", honour, "", "name", "mountPath", "readOnly")
	add(container+".volumeMounts[]", refuse, "mount the whole ConfigMap, or list items in the volume", "subPath", "subPathExpr")
	add(container+".volumeMounts[]", refuse, onlyConfig, "mountPropagation", "recursiveReadOnly")

	add(readiness, honour, "", "initialDelaySeconds", "timeoutSeconds", "successThreshold")
	add(readiness, ignore, "a pod is probed as often as makes sense until it is ready, for as long as its progress deadline lets it", "periodSeconds", "failureThreshold")
	add(readiness, within, "", "httpGet", "tcpSocket")
	add(readiness, refuse, "give it an httpGet or a tcpSocket", "exec", "grpc")
	add(readiness, refuse, "a pod that does not get ready is stopped with its grace period", "terminationGracePeriodSeconds")
	add(readiness+".httpGet", honour, "", "path", "port", "scheme", "httpHeaders")
	add(readiness+".httpGet", refuse, itselfProbed+"; for a Host header use httpHeaders", "host")
	add(readiness+".tcpSocket", honour, "", "port")
	add(readiness+".tcpSocket", refuse, itselfProbed, "host")

	add(volume, honour, "", "name")
	add(volume, within, "", "configMap", "configMap.items", "configMap.items[]")
	add(volume+".configMap", honour, "", "name", "optional")
	add(volume+".configMap", ignore, "the files are readable by the pod, and by nobody else", "defaultMode")
	add(volume+".configMap.items[]", honour, "", "key", "path")
	add(volume+".configMap.items[]", ignore, "the files are readable by the pod, and by nobody else", "mode")
	add(volume, refuse, noSecrets, "secret")
	add(volume, refuse, "a process writes to this machine's own folders, such as the one that TMPDIR names", "emptyDir", "hostPath")
	add(volume, refuse, "write a model package's folder into the environment instead", "image")
	add(volume, refuse, onlyConfig, "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs",
		"persistentVolumeClaim", "rbd", "flexVolume", "cinder", "cephfs", "flocker", "downwardAPI", "fc", "azureFile",
		"vsphereVolume", "quobyte", "azureDisk", "photonPersistentDisk", "projected", "portworxVolume", "scaleIO",
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
