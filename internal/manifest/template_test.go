package manifest

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const secret = `apiVersion: v1
kind: Secret
metadata:
  name: keys
data: {token: czNjcjN0}
stringData: {user: robot}
`

// fieldRefs lets Knative accept them, as the feature has to be on in a cluster.
const fieldRefs = `apiVersion: v1
kind: ConfigMap
metadata: {name: config-features, namespace: knative-serving}
data: {kubernetes.podspec-fieldref: enabled}
`

// templateOf is what one machine needs of the service good with more in its
// container and its pod.
func templateOf(t *testing.T, container, pod string) (*Template, []Ignored) {
	t.Helper()
	text := edit(t, good, "          env:\n", container+"          env:\n")
	text = edit(t, text, "      containerConcurrency:", pod+"      containerConcurrency:")
	dir := folder(t, map[string]string{"a.yaml": text, "settings.yaml": configMap, "secret.yaml": secret, "features.yaml": fieldRefs})
	set, err := LoadWithin(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	return templates(t, set)[0], set.Ignored
}

func TestSecretsInTheEnvironment(t *testing.T) {
	got, _ := templateOf(t, `          envFrom:
            - {prefix: K_KEY_, secretRef: {name: keys}}
            - secretRef: {name: absent, optional: true}
`, "")
	if d := cmp.Diff([]EnvVar{{"K_KEY_token", "s3cr3t"}, {"K_KEY_user", "robot"}, {"MODEL", "models/photo"}}, got.Env); d != "" {
		t.Error(d)
	}
	text := edit(t, good, "            - name: MODEL\n", `            - name: TOKEN
              valueFrom: {secretKeyRef: {name: keys, key: token}}
            - name: NOTHING
              valueFrom: {secretKeyRef: {name: keys, key: absent, optional: true}}
            - name: POD
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            - name: WHERE
              valueFrom: {fieldRef: {fieldPath: metadata.namespace, apiVersion: v1}}
            - name: WHO
              value: $(POD).$(WHERE) $(TOKEN)
            - name: MODEL
`)
	dir := folder(t, map[string]string{"a.yaml": text, "settings.yaml": configMap, "secret.yaml": secret, "features.yaml": fieldRefs})
	set, err := LoadWithin(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []EnvVar{{"TOKEN", "s3cr3t"}, {"POD", PodName}, {"WHERE", "default"}, {"WHO", PodName + ".default s3cr3t"}, {"MODEL", "models/photo"}}
	if d := cmp.Diff(want, templates(t, set)[0].Env); d != "" {
		t.Error(d)
	}
}

func TestVolumes(t *testing.T) {
	got, ignored := templateOf(t, `          args: [/keys/token, /both, /cache/x]
          volumeMounts:
            - {name: keys, mountPath: /keys, readOnly: true}
            - {name: both, mountPath: /both}
            - {name: cache, mountPath: /cache}
            - {name: cache, mountPath: /again}
            - {name: absent, mountPath: /absent}
`, `      volumes:
        - name: keys
          secret: {secretName: keys, defaultMode: 0600, items: [{key: token, path: token}, {key: user, path: run/user, mode: 0755}]}
        - name: both
          projected:
            defaultMode: 0440
            sources:
              - secret: {name: keys, items: [{key: user, path: user}]}
              - configMap: {name: settings}
              - secret: {name: absent, optional: true}
        - name: cache
          emptyDir: {sizeLimit: 1Gi, medium: Memory}
        - name: absent
          secret: {secretName: absent, optional: true}
`)
	want := []Mount{
		{Path: "/keys", Volume: "keys", Files: map[string][]byte{"token": []byte("s3cr3t"), "run/user": []byte("robot")}, Modes: map[string]fs.FileMode{"token": 0o600, "run/user": 0o755}},
		{Path: "/both", Volume: "both", Files: map[string][]byte{"user": []byte("robot"), "colour": []byte("red"), "place": []byte("/srv/$(NOT)")},
			Modes: map[string]fs.FileMode{"user": 0o440, "colour": 0o440, "place": 0o440}},
		{Path: "/cache", Volume: "cache", Empty: true},
		{Path: "/again", Volume: "cache", Empty: true},
		{Path: "/absent", Volume: "absent"},
	}
	if d := cmp.Diff(want, got.Mounts, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	var paths []string
	for _, i := range ignored {
		paths = append(paths, strings.TrimPrefix(i.Path, "spec.template.spec."))
	}
	if d := cmp.Diff([]string{"containers[0].volumeMounts[3]", "containers[0].volumeMounts[4]", "volumes[2].emptyDir.medium", "volumes[2].emptyDir.sizeLimit"}, paths); d != "" {
		t.Error(d)
	}
}

func TestProbes(t *testing.T) {
	got, _ := templateOf(t, `          startupProbe:
            tcpSocket: {}
            periodSeconds: 1
            failureThreshold: 30
          livenessProbe:
            grpc: {port: 8080, service: shop}
            initialDelaySeconds: 5
            timeoutSeconds: 2
`, "")
	if d := cmp.Diff([]*Probe{
		{Period: time.Second, FailureThreshold: 30},
		{HTTPGet: &HTTPGet{Path: "/readyz"}, SuccessThreshold: 1},
		{GRPC: &GRPC{Service: "shop"}, InitialDelay: 5 * time.Second, Timeout: 2 * time.Second},
	}, []*Probe{got.Startup, got.Readiness, got.Liveness}); d != "" {
		t.Error(d)
	}
}

func TestLimits(t *testing.T) {
	for _, test := range []struct {
		name, resources string
		want            Limits
	}{
		{"none", "{}", Limits{}},
		{"all", `{limits: {cpu: 250m, memory: 64Mi, nvidia.com/gpu: 2}}`, Limits{Memory: 64 << 20, CPU: 250, GPUs: 2}},
		{"a GPU that is asked for", `{requests: {cpu: 250m, nvidia.com/gpu: 1}}`, Limits{GPUs: 1}},
		{"both, equal", `{limits: {nvidia.com/gpu: "1"}, requests: {nvidia.com/gpu: 1000m}}`, Limits{GPUs: 1}},
		{"no GPU", `{limits: {nvidia.com/gpu: 0}}`, Limits{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, _ := templateOf(t, "          resources: "+test.resources+"\n", "")
			if d := cmp.Diff(test.want, got.Limits); d != "" {
				t.Error(d)
			}
		})
	}
}
