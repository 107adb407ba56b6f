package manifest

import (
	"strings"

	"aisle.dev/aisle/internal/scaling"
)

// eventKinds go through as they are.
var eventKinds = []string{"eventing.knative.dev/v1 Broker", "eventing.knative.dev/v1 Trigger", "sources.knative.dev/v1 PingSource"}

// otherKinds are kinds that a folder for a cluster may well have.
var otherKinds = map[string]rule{
	"v1 Namespace":                                 {ignore, "a namespace is only a part of names here"},
	"v1 ServiceAccount":                            {ignore, noAccounts},
	"v1 ResourceQuota":                             {ignore, noLimits},
	"v1 LimitRange":                                {ignore, noLimits},
	"policy PodDisruptionBudget":                   {ignore, oneMachine},
	"networking.k8s.io NetworkPolicy":              {ignore, "pods listen on loopback only"},
	"rbac.authorization.k8s.io Role":               {ignore, noAccounts},
	"rbac.authorization.k8s.io RoleBinding":        {ignore, noAccounts},
	"rbac.authorization.k8s.io ClusterRole":        {ignore, noAccounts},
	"rbac.authorization.k8s.io ClusterRoleBinding": {ignore, noAccounts},
	"scheduling.k8s.io PriorityClass":              {ignore, oneMachine},
	"v1 Service":                                   {refuse, "a Kubernetes Service needs a cluster; a Knative Service has apiVersion " + serviceVersion},
	"v1 Pod":                                       {refuse, "write a Knative Service"},
	"v1 PersistentVolumeClaim":                     {refuse, onlyFiles},
	"apps Deployment":                              {refuse, "write a Knative Service"},
	"apps StatefulSet":                             {refuse, "write a Knative Service"},
	"apps DaemonSet":                               {refuse, "write a Knative Service"},
	"serving.knative.dev Route":                    {refuse, "a Knative Service has its own"},
	"serving.knative.dev Configuration":            {refuse, "a Knative Service has its own"},
	"serving.knative.dev Revision":                 {refuse, "the engine makes revisions of Services"},
	"serving.knative.dev DomainMapping":            {refuse, "services are reached as SERVICE.NAMESPACE.localhost"},
}

func (c *checker) other(object, version, kind string) {
	group, _, ok := strings.Cut(version, "/")
	if !ok {
		group = version // the core group: "v1"
	}
	r, known := otherKinds[group+" "+kind]
	if !known {
		kinds := func(yield func(string) bool) {
			for _, k := range []string{"Service", "ConfigMap", "Secret", "Broker", "Trigger", "PingSource", scaling.Kind} {
				if k != kind && !yield(k) {
					return
				}
			}
		}
		c.findings.refuse(object, "", "apiVersion %s, kind %s means nothing here; there are Knative Services (%s), ConfigMaps and Secrets (v1), Knative's Brokers, Triggers and PingSources (v1), and %ss (%s)%s",
			version, kind, serviceVersion, scaling.Kind, scaling.GroupVersion, meant(kind, kinds))
		return
	}
	if r.verdict == ignore {
		c.findings.ignore(object, "", r.reason)
		return
	}
	c.findings.refuse(object, "", "apiVersion %s, kind %s cannot be honoured here: %s", version, kind, r.reason)
}
