package manifest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const atContainer = "spec.template.spec.containers[0]"

// Manifests that must be refused, each with a sentence that says where and why.
func TestBadServices(t *testing.T) {
	insert := func(before, lines string) func(testing.TB) string {
		return func(tb testing.TB) string { return edit(tb, good, before, lines+before) }
	}
	replace := func(old, with string) func(testing.TB) string {
		return func(tb testing.TB) string { return edit(tb, good, old, with) }
	}
	const (
		env    = "          env:\n"
		spec   = "      containerConcurrency:"
		scale  = `        autoscaling.knative.dev/max-scale: "4"`
		probe  = "            httpGet:\n"
		volume = "      volumes:\n        - name: v\n"
		mount  = "          volumeMounts:\n            - {name: v, mountPath: /v}\n"
	)
	volumeOf := func(source string) func(testing.TB) string {
		return func(tb testing.TB) string {
			return edit(tb, edit(tb, good, env, mount+env), spec, volume+"          "+source+"\n"+spec)
		}
	}
	for _, c := range []struct {
		name    string
		service func(testing.TB) string
		want    []string // all in the error
	}{
		// misspelt at every level
		{"kind", replace("kind: Service", "kind: Servce"), []string{"Servce", `did you mean "Service"?`}},
		{"top", replace("spec:\n  template", "sepc:\n  template"), []string{"sepc: unknown field", `"spec"`}},
		{"metadata", replace("  name: photo", "  nmae: photo"), []string{"name"}},
		{"service spec", insert("  template:", "  trafic: []\n"), []string{"spec.trafic: unknown field", `"traffic"`}},
		{"template", replace("    metadata:\n", "    metdata:\n"), []string{"spec.template.metdata", `"metadata"`}},
		{"template metadata", replace("      annotations:", "      anotations:"), []string{"spec.template.metadata.anotations", `"annotations"`}},
		{"pod", replace("      containerConcurrency", "      containerConcurency"), []string{"spec.template.spec.containerConcurency", `"containerConcurrency"`}},
		{"container", replace("        - image:", "        - imagee:"), []string{atContainer + ".imagee", `"image"`}},
		{"case", replace("readinessProbe", "readinessprobe"), []string{atContainer + ".readinessprobe", `"readinessProbe"`}},
		{"env", replace("              value:", "              vlaue:"), []string{atContainer + ".env[0].vlaue", `"value"`}},
		{"probe", replace("httpGet", "httpGett"), []string{atContainer + ".readinessProbe.httpGett", `"httpGet"`}},
		{"probe action", replace("path: /readyz", "paht: /readyz"), []string{atContainer + ".readinessProbe.httpGet.paht", `"path"`}},
		{"not near anything", insert(spec, "      zzz: 1\n"), []string{"spec.template.spec.zzz: unknown field\n"}},
		{"two at once", func(tb testing.TB) string {
			return edit(tb, edit(tb, good, "image:", "imagee:"), "value:", "vlaue:")
		}, []string{"imagee", "vlaue"}},

		// values of another kind
		{"number for a string", replace("value: models/photo", "value: 8080"), []string{atContainer + ".env[0].value: want a string, have the number 8080: write it in quotes"}},
		{"boolean for a string", replace("value: models/photo", "value: true"), []string{"env[0].value: want a string, have true"}},
		{"annotation that is a number", replace(`max-scale: "4"`, "max-scale: 4"), []string{"max-scale", "quotes"}},
		{"string for a number", replace("timeoutSeconds: 30", "timeoutSeconds: soon"), []string{`spec.template.spec.timeoutSeconds: want a whole number, have the string "soon"`}},
		{"fraction", replace("timeoutSeconds: 30", "timeoutSeconds: 0.5"), []string{"want a whole number, have the number 0.5"}},
		{"huge number", replace("timeoutSeconds: 30", "timeoutSeconds: 99999999999999999999"), []string{"timeoutSeconds"}},
		{"mapping for a list", replace("        - image:", "          image:"), []string{"spec.template.spec.containers: want a list, have a mapping"}},
		{"text for a mapping", replace("            httpGet:\n              path: /readyz\n", "            httpGet: /readyz\n"), []string{"want a mapping"}},
		{"bad quantity", insert(env, "          resources: {limits: {cpu: lots}}\n"), []string{"quantit"}},

		// what a pod on one machine is not
		{"two containers", insert("          env:\n", "          name: a\n        - name: b\n          image: ko://aisle.dev/aisle/functions/composer\n"), []string{"2 containers", onlyOne}},
		{"no container", func(tb testing.TB) string { return good[:strings.Index(good, "      containers:")] }, []string{"containers"}},
		{"empty container", func(tb testing.TB) string {
			return good[:strings.Index(good, "      containers:")] + "      containers: [{}]\n"
		}, []string{"image"}},
		{"init container", insert(spec, "      initContainers: [{image: x}]\n"), []string{"spec.template.spec.initContainers", onlyOne}},
		{"node selector", insert(spec, "      nodeSelector: {gpu: big}\n"), []string{"spec.template.spec.nodeSelector", oneMachine}},
		{"host network", insert(spec, "      hostNetwork: true\n"), []string{"hostNetwork"}},
		{"working directory", insert(env, "          workingDir: /srv\n"), []string{atContainer + ".workingDir", "root folder"}},
		{"lifecycle", insert(env, "          lifecycle: {preStop: {sleep: {seconds: 1}}}\n"), []string{atContainer + ".lifecycle"}},
		{"grace period", insert(spec, "      terminationGracePeriodSeconds: 5\n"), []string{"terminationGracePeriodSeconds", "timeoutSeconds"}},
		{"secret in the environment", replace("value: models/photo", "valueFrom: {secretKeyRef: {name: s, key: k}}"), []string{"env[0].valueFrom.secretKeyRef.name: there is no Secret default/s"}},
		{"field that Knative does not allow", replace("value: models/photo", "valueFrom: {fieldRef: {fieldPath: metadata.name}}"), []string{"env[0].valueFrom", "fieldRef"}},
		{"resource in the environment", replace("value: models/photo", "valueFrom: {resourceFieldRef: {resource: limits.cpu}}"), []string{"resourceFieldRef", notPodInfo}},
		{"value and a source", replace("value: models/photo", "value: a\n              valueFrom: {configMapKeyRef: {name: settings, key: colour}}"), []string{"env[0]", "both value and valueFrom"}},
		{"secrets in the environment", insert(env, "          envFrom: [{secretRef: {name: s}}]\n"), []string{"envFrom[0].secretRef.name: there is no Secret default/s"}},
		{"environment from nowhere", insert(env, "          envFrom: [{prefix: A_}]\n"), []string{"envFrom", "expected exactly one"}},
		{"reserved variable", replace("name: MODEL", "name: PORT"), []string{"env[0].name", "reserved"}},
		{"variable without a name", replace("name: MODEL", `name: ""`), []string{"env[0].name"}},
		{"variable with =", replace("name: MODEL", "name: A=B"), []string{"env[0].name", "A=B"}},
		{"NUL in a value", replace("value: models/photo", `value: "a\0b"`), []string{"env[0]", "NUL"}},
		{"secret volume", volumeOf("secret: {secretName: s}"), []string{"volumes[0].secret.secretName: there is no Secret default/s"}},
		{"claim", volumeOf("persistentVolumeClaim: {claimName: c, readOnly: true}"), []string{"volumes[0].persistentVolumeClaim", onlyFiles}},
		{"host path", volumeOf("hostPath: {path: /}"), []string{"volumes[0].hostPath"}},
		{"image volume", volumeOf("image: {reference: r@sha256:0}"), []string{"volumes[0].image"}},
		{"token", volumeOf("projected: {sources: [{serviceAccountToken: {path: t}}]}"), []string{"volumes[0].projected.sources[0].serviceAccountToken", onlyFiles}},
		{"two files of one name", volumeOf("projected: {sources: [{configMap: {name: settings}}, {configMap: {name: settings, items: [{key: place, path: colour}]}}]}"), []string{"volumes[0].projected.sources[1].configMap.items[0].path", "twice"}},
		{"mode of a file", volumeOf("configMap: {name: settings, defaultMode: 4095}"), []string{"volumes[0].configMap", "0777"}},
		{"unknown volume kind", volumeOf("floppy: {}"), []string{"volumes[0].floppy: unknown field"}},
		{"volume without a ConfigMap", volumeOf("configMap: {name: absent}"), []string{"volumes[0].configMap.name", "there is no ConfigMap default/absent"}},
		{"volume of a misspelt ConfigMap", volumeOf("configMap: {name: setings}"), []string{`did you mean "settings"?`}},
		{"item that is not there", volumeOf("configMap: {name: settings, items: [{key: color, path: a}]}"), []string{"items[0].key", `did you mean "colour"?`}},
		{"item that climbs", volumeOf("configMap: {name: settings, items: [{key: colour, path: ../a}]}"), []string{"items[0].path", "../a"}},
		{"item twice", volumeOf("configMap: {name: settings, items: [{key: colour, path: a}, {key: place, path: ./a}]}"), []string{"items[1].path", "twice"}},
		{"mount without a volume", insert(env, mount), []string{"volumeMount has no matching volume"}},
		{"mount at the root", func(tb testing.TB) string {
			return edit(tb, volumeOf("configMap: {name: settings}")(tb), "mountPath: /v", "mountPath: /")
		}, []string{"mountPath", "reserved"}},
		{"mount of a part", func(tb testing.TB) string {
			return edit(tb, volumeOf("configMap: {name: settings}")(tb), "mountPath: /v", "mountPath: /v, subPath: colour")
		}, []string{"volumeMounts[0].subPath"}},
		{"no such ConfigMap key", replace("value: models/photo", "valueFrom: {configMapKeyRef: {name: settings, key: color}}"), []string{"env[0].valueFrom.configMapKeyRef.key", `"colour"`}},
		{"no such ConfigMap", replace("value: models/photo", "valueFrom: {configMapKeyRef: {name: seting, key: colour}}"), []string{"configMapKeyRef.name", `"settings"`}},

		// probes and ports
		{"exec probe", replace("            httpGet:\n              path: /readyz\n", "            exec: {command: [true]}\n"), []string{"readinessProbe.exec"}},
		{"exec probe, typed well", replace("            httpGet:\n              path: /readyz\n", "            exec: {command: [\"true\"]}\n"), []string{"readinessProbe.exec", "an httpGet, a tcpSocket or a grpc"}},
		{"grpc probe of another port", replace("            httpGet:\n              path: /readyz\n", "            grpc: {port: 8081}\n"), []string{"readinessProbe.grpc.port", "8081"}},
		{"liveness that must pass twice", insert(env, "          livenessProbe: {tcpSocket: {}, successThreshold: 2}\n"), []string{"livenessProbe.successThreshold", "must be 1"}},
		{"startup with a negative delay", insert(env, "          startupProbe: {tcpSocket: {}, initialDelaySeconds: -2}\n"), []string{"startupProbe.initialDelaySeconds", "negative"}},
		{"startup of nothing", insert(env, "          startupProbe: {periodSeconds: 2}\n"), []string{"startupProbe"}},

		// resources
		{"half a GPU", insert(env, "          resources: {limits: {nvidia.com/gpu: 500m}}\n"), []string{`resources.limits["nvidia.com/gpu"]`, "whole number"}},
		{"more GPUs than there are", insert(env, "          resources: {limits: {nvidia.com/gpu: 65}}\n"), []string{"at most 64"}},
		{"GPUs asked and limited", insert(env, "          resources: {limits: {nvidia.com/gpu: 2}, requests: {nvidia.com/gpu: 1}}\n"), []string{"must be equal"}},
		{"another device", insert(env, "          resources: {limits: {example.com/fpga: 1}}\n"), []string{`resources.limits["example.com/fpga"]`, "nvidia.com/gpu"}},
		{"negative memory", insert(env, "          resources: {limits: {memory: -1}}\n"), []string{"resources.limits.memory"}},
		{"claim of a device", insert(env, "          resources: {claims: [{name: a}]}\n"), []string{"resources.claims"}},
		{"GPU roll-out", replace("  name: photo", "  name: photo\n  annotations: {aisle.dev/gpu-rollout: maybe}"), []string{"aisle.dev/gpu-rollout", "swap or wait"}},
		{"GPU roll-out, misspelt", replace("  name: photo", "  name: photo\n  annotations: {aisle.dev/gpu-rolout: swap}"), []string{`did you mean "aisle.dev/gpu-rollout"?`}},
		{"two probes in one", insert(probe, "            tcpSocket: {}\n"), []string{"httpGet", "tcpSocket"}},
		{"probe of another port", replace("path: /readyz", "port: 9999"), []string{"readinessProbe.httpGet.port", "9999"}},
		{"probe of another host", replace("path: /readyz", "host: example.com"), []string{"readinessProbe.httpGet.host", "httpHeaders"}},
		{"probe over TLS", replace("path: /readyz", "scheme: HTTPS"), []string{"readinessProbe.httpGet.scheme", "plain HTTP"}},
		{"negative period", insert(probe, "            periodSeconds: -1\n"), []string{"periodSeconds"}},
		{"time-out without a period", insert(probe, "            timeoutSeconds: 5\n"), []string{"timeoutSeconds"}},
		{"two ports", insert(env, "          ports: [{containerPort: 8080}, {containerPort: 8081}]\n"), []string{"more than one container port"}},
		{"port name", insert(env, "          ports: [{containerPort: 8080, name: web}]\n"), []string{"web", "http1"}},
		{"UDP", insert(env, "          ports: [{containerPort: 8080, protocol: UDP}]\n"), []string{"UDP"}},
		{"host port", insert(env, "          ports: [{containerPort: 8080, hostPort: 80}]\n"), []string{"ports[0].hostPort"}},

		// numbers out of range
		{"negative concurrency", replace("containerConcurrency: 16", "containerConcurrency: -1"), []string{"containerConcurrency", "-1"}},
		{"large concurrency", replace("containerConcurrency: 16", "containerConcurrency: 5000"), []string{"containerConcurrency", "1000"}},
		{"long time-out", replace("timeoutSeconds: 30", "timeoutSeconds: 601"), []string{"timeoutSeconds", "600"}},

		// annotations
		{"min-scale x", replace(`max-scale: "4"`, "min-scale: x"), []string{"autoscaling.knative.dev/min-scale", "invalid value: x"}},
		{"min above max", insert(scale, "        autoscaling.knative.dev/min-scale: \"5\"\n"), []string{"max-scale=4 is less than min-scale=5"}},
		{"initial scale 0", insert(scale, "        autoscaling.knative.dev/initial-scale: \"0\"\n"), []string{"initial-scale=0 not allowed"}},
		{"short window", insert(scale, "        autoscaling.knative.dev/window: 3s\n"), []string{"6s <= 3s"}},
		{"class hpa", insert(scale, "        autoscaling.knative.dev/class: hpa.autoscaling.knative.dev\n"), []string{"autoscaling.knative.dev/class", "needs a cluster"}},
		{"own class", insert(scale, "        autoscaling.knative.dev/class: mine.example.com\n"), []string{"needs a cluster"}},
		{"metric cpu", insert(scale, "        autoscaling.knative.dev/metric: cpu\n"), []string{"invalid value: cpu"}},
		{"unknown annotation", replace("max-scale", "max-scales"), []string{`spec.template.metadata.annotations["autoscaling.knative.dev/max-scales"]: unknown annotation; did you mean "autoscaling.knative.dev/max-scale"?`}},
		{"unknown serving annotation", insert(scale, "        serving.knative.dev/progress-dedline: 10s\n"), []string{`did you mean "serving.knative.dev/progress-deadline"?`}},
		{"annotation in the wrong place", replace("  name: photo", "  name: photo\n  annotations: {autoscaling.knative.dev/max-scale: \"4\"}"), []string{"autoscaling annotations must be put under"}},

		// traffic
		{"latestRevision false", insert("  template:", "  traffic: [{latestRevision: false, percent: 100}]\n"), []string{"latestRevision"}},
		{"configuration", insert("  template:", "  traffic: [{configurationName: photo, percent: 100}]\n"), []string{"spec.traffic[0].configurationName"}},
		{"half", insert("  template:", "  traffic: [{latestRevision: true, percent: 50}]\n"), []string{"sum to 50"}},
		{"own revision name", replace("    metadata:\n", "    metadata:\n      name: other-mine\n"), []string{"spec.template.metadata.name", `prefix "photo-"`}},

		// names and images
		{"name -x", replace("name: photo", "name: -x"), []string{"metadata.name", "-x"}},
		{"name with a dot", replace("name: photo", "name: a.b"), []string{"metadata.name"}},
		{"long name", replace("name: photo", "name: "+strings.Repeat("a", 64)), []string{"metadata.name"}},
		{"name longer than a file's", func(testing.TB) string {
			return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + strings.Repeat("a", 247) + "}\n"
		}, []string{"metadata.name", "247 characters", "at most 240"}},
		{"namespace", replace("name: photo", "name: photo\n  namespace: A_b"), []string{"metadata.namespace"}},
		{"no image", replace("        - image: ko://aisle.dev/aisle/functions/classifier\n", "        - name: x\n"), []string{"image"}},
		{"bad image", replace("ko://aisle.dev/aisle/functions/classifier", `"a b c"`), []string{atContainer + ".image", "a b c"}},
		{"ko of nothing", replace("ko://aisle.dev/aisle/functions/classifier", "ko://"), []string{"image"}},
		{"ko that climbs", replace("ko://aisle.dev/aisle/functions/classifier", "ko://aisle.dev/../../x"), []string{"image"}},
		{"unmapped image", replace("ko://aisle.dev/aisle/functions/classifier", "example.com/thing:1"), []string{atContainer + ".image", `"example.com/thing:1"`, imagesFile}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, map[string]string{"a.yaml": c.service(t), "settings.yaml": configMap})
			refused(t, dir, c.want)
		})
	}
}

func refused(t *testing.T, dir string, want []string) {
	t.Helper()
	set, err := LoadWithin(dir, dir)
	var invalid *Invalid
	if !errors.As(err, &invalid) || set != nil {
		t.Fatalf("want it refused as invalid, have %v", err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error()+"\n", w) {
			t.Errorf("does not say %q:\n%v", w, err)
		}
	}
	for _, p := range invalid.Problems {
		if p.Reason == "" || strings.Contains(p.Reason, "\n") {
			t.Errorf("%+v", p)
		}
	}
}

func TestBadFolders(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	with := func(fields string) map[string]string {
		return map[string]string{"kustomization.yaml": kustomization("a.yaml") + fields, "a.yaml": good}
	}
	knative := func(name, data string) map[string]string {
		return map[string]string{"a.yaml": good, "c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n  namespace: knative-serving\ndata:\n  " + data + "\n"}
	}
	object := func(version, kind string) map[string]string {
		return map[string]string{"a.yaml": good, "b.yaml": "apiVersion: " + version + "\nkind: " + kind + "\nmetadata:\n  name: x\n"}
	}
	images := func(text string) map[string]string {
		return map[string]string{"a.yaml": strings.Replace(good, "ko://aisle.dev/aisle/functions/classifier", "example.com/thing:1", 1), "images.yaml": text}
	}
	const imagesHead = "apiVersion: aisle.dev/v1alpha1\nkind: ImageMap\nimages:\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"no kustomization", map[string]string{"kustomization.yaml": "", "a.yaml": good}, nil},
		{"no service", map[string]string{"a.yaml": configMap}, []string{"no Knative Service"}},
		{"two kustomizations", map[string]string{"kustomization.yaml": kustomization("a.yaml"), "kustomization.yml": "", "a.yaml": good}, []string{"kustomization.yaml", "kustomization.yml"}},
		{"misspelt kustomization", map[string]string{"kustomization.yaml": "resource: [a.yaml]\n", "a.yaml": good}, []string{"kustomization.yaml: resource: unknown field", `"resources"`}},
		{"missing resource", map[string]string{"kustomization.yaml": kustomization("a.yaml", "b.yaml"), "a.yaml": good}, []string{"resources[1]", `"b.yaml" does not exist`}},
		{"missing base", map[string]string{"kustomization.yaml": kustomization("../base")}, []string{"resources[0]", "../base"}},
		{"base without kustomization", map[string]string{"kustomization.yaml": kustomization("base"), "base/a.yaml": good}, []string{"base", "no kustomization.yaml"}},
		{"absolute", map[string]string{"kustomization.yaml": kustomization("/etc")}, []string{"absolute"}},
		{"circle", map[string]string{"kustomization.yaml": kustomization("b"), "b/kustomization.yaml": kustomization("../c"), "c/kustomization.yaml": kustomization("../b")}, []string{"circle", "b -> "}},
		{"itself", map[string]string{"kustomization.yaml": kustomization("."), "a.yaml": good}, []string{"circle"}},
		{"remote https", map[string]string{"kustomization.yaml": kustomization("https://example.com/a.yaml")}, []string{"nothing is fetched"}},
		{"remote git", map[string]string{"kustomization.yaml": kustomization("github.com/org/repo")}, []string{"nothing is fetched"}},
		{"remote ssh", map[string]string{"kustomization.yaml": kustomization("git@example.com:org/repo")}, []string{"nothing is fetched"}},
		{"remote file", map[string]string{"kustomization.yaml": kustomization("file:///etc/passwd")}, []string{"nothing is fetched"}},
		{"remote component", with("components: [https://example.com/c]\n"), []string{"components[0]", "nothing is fetched"}},
		{"remote patch", with("patches: [{path: https://example.com/p}]\n"), []string{"patches[0].path", "nothing is fetched"}},
		{"remote crd", with("crds: [https://example.com/p]\n"), []string{"crds[0]", "nothing is fetched"}},
		{"remote openapi", with("openapi: {path: https://example.com/p}\n"), []string{"openapi.path", "nothing is fetched"}},
		{"remote data", with("configMapGenerator: [{name: c, files: [k=https://example.com/p]}]\n"), []string{"configMapGenerator[0].files[0]", "nothing is fetched"}},
		{"plug-in", with("transformers: [t.yaml]\n"), []string{"transformers", "plug-ins"}},
		{"helm", with("helmCharts: [{name: c, repo: https://example.com}]\n"), []string{"helmCharts", "plug-ins"}},
		{"patch that fits nothing", with("patches: [{target: {name: zzz}, patch: \"- {op: remove, path: /spec}\"}, {target: {name: photo}, patch: \"- {op: remove, path: /absent}\"}]\n"), []string{"absent"}},

		{"not YAML", map[string]string{"a.yaml": "a: [b"}, []string{"a.yaml", "line"}},
		{"binary", map[string]string{"a.yaml": "\x00\x01\xff"}, []string{"a.yaml"}},
		{"key twice", map[string]string{"a.yaml": edit(t, good, "  name: photo\n", "  name: photo\n  name: title\n")}, []string{"a.yaml", `"name" is set twice`}},
		{"bomb", map[string]string{"a.yaml": bomb}, []string{"a.yaml", "stands for more than"}},
		{"alias of itself", map[string]string{"a.yaml": "a: &a [*a]\n"}, []string{"a.yaml"}},
		{"deep", map[string]string{"a.yaml": strings.Repeat("[", 5000) + strings.Repeat("]", 5000)}, []string{"a.yaml", "deep"}},
		{"deeper", map[string]string{"a.yaml": strings.Repeat("[", 200_000)}, []string{"a.yaml"}},
		{"huge", map[string]string{"a.yaml": good + strings.Repeat("# filler\n", 200_000)}, []string{"a.yaml", "1048576"}},
		{"huge data", map[string]string{"kustomization.yaml": kustomization("a.yaml") + "configMapGenerator: [{name: c, files: [f]}]\n", "a.yaml": good, "f": strings.Repeat("x", maxFileBytes+1)}, []string{"f has"}},
		{"large ConfigMap", map[string]string{"kustomization.yaml": kustomization("a.yaml") + "configMapGenerator: [{name: c, files: [f, g]}]\n", "a.yaml": good, "f": strings.Repeat("x", maxFileBytes-9), "g": strings.Repeat("x", 99)}, []string{"ConfigMap has at most"}},
		{"many objects", map[string]string{"a.yaml": good, "b.yaml": strings.Repeat("---\n"+configMap, 600)}, []string{"b.yaml", "more than 500 objects"}},
		{"many objects in a list", map[string]string{"a.yaml": good, "b.yaml": "apiVersion: v1\nkind: List\nitems:" + strings.Repeat("\n- {}", 600)}, []string{"b.yaml", "more than 500 objects"}},
		{"many values", map[string]string{"a.yaml": good, "b.yaml": "a: [" + strings.Repeat("1,", 60_000) + "1]\n"}, []string{"b.yaml", "stands for more than"}},
		{"not an object", map[string]string{"a.yaml": "- 1\n- 2\n"}, []string{"a.yaml"}},
		{"no kind", map[string]string{"a.yaml": "apiVersion: v1\nmetadata: {name: x}\n"}, []string{"kind"}},
		{"no name", map[string]string{"a.yaml": "apiVersion: v1\nkind: ConfigMap\n"}, []string{"name"}},

		{"the same service twice", map[string]string{"a.yaml": good, "b.yaml": good}, []string{"photo"}},
		{"the same service, its namespace spelt once", map[string]string{"a.yaml": good, "b.yaml": edit(t, good, "name: photo", "name: photo\n  namespace: default")}, []string{"b.yaml", "already registered id: Service.v1.serving.knative.dev/photo.default\n"}},
		{"Kubernetes Service", object("v1", "Service"), []string{"serving.knative.dev/v1"}},
		{"Deployment", object("apps/v1", "Deployment"), []string{"write a Knative Service"}},
		{"Subscription", object("messaging.knative.dev/v1", "Subscription"), []string{"means nothing here"}},
		{"unknown kind", object("example.com/v1", "Thing"), []string{"Thing", "means nothing here"}},
		{"old version", object("serving.knative.dev/v1alpha1", "Service"), []string{"serving.knative.dev/v1alpha1", "means nothing here"}},
		{"ConfigMap with a misspelt field", map[string]string{"a.yaml": good, "c.yaml": edit(t, configMap, "\ndata:", "\ndta:")}, []string{"ConfigMap default/settings", "dta", `"data"`}},

		{"misspelt setting", knative("config-autoscaler", "stable-windo: 10s"), []string{"ConfigMap knative-serving/config-autoscaler", "data.stable-windo", `"stable-window"`}},
		{"short stable window", knative("config-autoscaler", "stable-window: 1s"), []string{"config-autoscaler", "6s"}},
		{"setting that is no number", knative("config-autoscaler", "max-scale: many"), []string{"config-autoscaler", "many"}},
		{"class of autoscaler", knative("config-autoscaler", "pod-autoscaler-class: hpa.autoscaling.knative.dev"), []string{"needs a cluster"}},
		{"misspelt ConfigMap of Knative's", knative("config-autoscaller", "stable-window: 10s"), []string{`did you mean "config-autoscaler"?`}},
		{"settings in another namespace", map[string]string{"kustomization.yaml": "namespace: shop\n" + kustomization("a.yaml", "c.yaml"), "a.yaml": good, "c.yaml": knative("config-autoscaler", "stable-window: 10s")["c.yaml"]}, []string{"ConfigMap shop/config-autoscaler", "read from knative-serving"}},
		{"bad default", knative("config-defaults", "revision-timeout-seconds: \"9999\""), []string{"config-defaults", "9999"}},
		{"hostile template", knative("config-defaults", "container-name-template: \"{{.Nothing}}\""), []string{"config-defaults"}},
		{"misspelt feature", knative("config-features", "kubernetes.podspec-affinty: enabled"), []string{`"kubernetes.podspec-affinity"`}},

		{"image map of another kind", images("apiVersion: v1\nkind: ImageMap\n"), []string{imagesFile, "aisle.dev/v1alpha1"}},
		{"misspelt image map", images(imagesHead + "- image: example.com/thing:1\n  comand: [x]\n"), []string{"ImageMap default/images: images[0].comand", `"command"`}},
		{"image map without a command", images(imagesHead + "- image: example.com/thing:1\n"), []string{"images[0].command"}},
		{"image mapped twice", images(imagesHead + "- {image: example.com/thing:1, command: [x]}\n- {image: example.com/thing:1, command: [y]}\n"), []string{"images[1].image", "twice"}},
		{"image map that lacks the image", images(imagesHead + "- {image: example.com/b:1, command: [x]}\n"), []string{"example.com/thing:1", imagesFile}},
		{"image map among the resources", map[string]string{"kustomization.yaml": kustomization("a.yaml", "images.yaml"), "a.yaml": good, "images.yaml": "apiVersion: aisle.dev/v1alpha1\nkind: ImageMap\nmetadata: {name: x}\n"}, []string{"resources"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, c.files)
			if c.want == nil {
				if err := os.Remove(filepath.Join(dir, "kustomization.yaml")); err != nil {
					t.Fatal(err)
				}
				c.want = []string{"no kustomization.yaml"}
			}
			refused(t, dir, c.want)
		})
	}
}

// Many problems are many lines, up to a bound.
func TestProblemsAreBounded(t *testing.T) {
	service := good + "      volumes:\n"
	for i := range 300 {
		service += fmt.Sprintf("        - {name: v%d, floppy%d: {}}\n", i, i)
	}
	dir := folder(t, map[string]string{"a.yaml": service})
	refused(t, dir, []string{"and 250 more"})
}
