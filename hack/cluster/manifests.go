package main

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed manifests
var ownManifests embed.FS

// A bundle is one file of manifests that is applied at once: folders and files
// of modules, in order, or one of our own.
type bundle struct {
	name, module string
	files        []string // patterns below the module's folder
}

const (
	servingModule    = "knative.dev/serving"
	networkingModule = "knative.dev/networking"
	cachingModule    = "knative.dev/caching"
	eventingModule   = "knative.dev/eventing"
)

// Definitions first, then what uses them; webhooks last of all, since the API
// server asks them as soon as they are known.
var bundles = []bundle{
	{"crds", servingModule, []string{"config/core/300-resources/*.yaml"}},
	{"crds", networkingModule, []string{"config/certificate.yaml", "config/domain-claim.yaml", "config/ingress.yaml", "config/serverlessservice.yaml"}},
	{"crds", cachingModule, []string{"config/image.yaml"}},
	{"crds", eventingModule, []string{"config/core/resources/*.yaml", "config/channels/in-memory-channel/resources/*.yaml"}},
	{"serving", servingModule, []string{
		"config/core/100-namespace.yaml", "config/core/200-serviceaccount.yaml", "config/core/200-roles/*.yaml", "config/core/configmaps/*.yaml",
		"config/core/999-cache.yaml", "config/core/deployments/activator.yaml", "config/core/deployments/autoscaler.yaml",
		"config/core/deployments/controller.yaml", "config/core/deployments/webhook.yaml", "config/core/webhooks/secret.yaml",
	}},
	{"serving", networkingModule, []string{"config/config-network.yaml"}},
	{"serving-webhooks", servingModule, []string{
		"config/core/webhooks/configmap-validation.yaml", "config/core/webhooks/defaulting.yaml", "config/core/webhooks/resource-validation.yaml",
	}},
	{"eventing", eventingModule, []string{
		"config/core/100-namespace.yaml", "config/core/200-*.yaml", "config/core/roles/*.yaml", "config/core/configmaps/*.yaml",
		// The controller does not start without these two ConfigMaps.
		"third_party/eventing-integrations-latest/eventing-integrations-images.yaml",
		"third_party/eventing-integrations-latest/eventing-transformations-images.yaml",
		"config/core/deployments/controller.yaml", "config/core/deployments/webhook.yaml", "config/core/deployments/pingsource-mt-adapter.yaml",
		"config/core/webhooks/secret.yaml",
		"config/channels/in-memory-channel/200-*.yaml", "config/channels/in-memory-channel/configmaps/*.yaml",
		"config/channels/in-memory-channel/roles/*.yaml", "config/channels/in-memory-channel/deployments/*.yaml",
		"config/channels/in-memory-channel/webhooks/secret.yaml",
		"config/brokers/mt-channel-broker/roles/*.yaml", "config/brokers/mt-channel-broker/deployments/controller.yaml",
		"config/brokers/mt-channel-broker/deployments/broker-filter.yaml", "config/brokers/mt-channel-broker/deployments/broker-ingress.yaml",
	}},
	{"eventing-webhooks", eventingModule, []string{
		"config/core/webhooks/config-validation.yaml", "config/core/webhooks/defaulting.yaml", "config/core/webhooks/resource-validation.yaml",
		"config/core/webhooks/sinkbindings.yaml", "config/channels/in-memory-channel/webhooks/defaulting.yaml",
		"config/channels/in-memory-channel/webhooks/resource-validation.yaml",
	}},
}

// writeManifests joins each bundle into a file, its images named as built here.
func writeManifests(ctx context.Context, l layout) error {
	dirs, err := moduleDirs(ctx, l, servingModule, networkingModule, cachingModule, eventingModule)
	if err != nil {
		return err
	}
	out := map[string]*bytes.Buffer{}
	for _, b := range bundles {
		if out[b.name] == nil {
			out[b.name] = &bytes.Buffer{}
		}
		for _, pattern := range b.files {
			files, err := filepath.Glob(filepath.Join(dirs[b.module], filepath.FromSlash(pattern)))
			if err != nil || len(files) == 0 {
				return fmt.Errorf("%s has no %s (%w)", b.module, pattern, err)
			}
			for _, f := range files {
				text, err := os.ReadFile(f)
				if err != nil {
					return err
				}
				fmt.Fprintf(out[b.name], "---\n%s\n", text)
			}
		}
	}
	for name, text := range out {
		ours, err := withOurImages(text.String())
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(l.manifests(), name+".yaml"), []byte(ours), 0o600); err != nil {
			return err
		}
	}
	own, err := ownManifests.ReadDir("manifests")
	if err != nil {
		return err
	}
	values := strings.NewReplacer("$GATEWAY", gatewayIP, "$DOMAIN", domain, "$INGRESS_IMAGE", imageOf(binary{name: "ingress"}))
	for _, f := range own {
		text, err := ownManifests.ReadFile("manifests/" + f.Name())
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(l.manifests(), f.Name()), []byte(values.Replace(string(text))), 0o600); err != nil {
			return err
		}
	}
	return nil
}

var (
	koImage = regexp.MustCompile(`ko://[a-zA-Z0-9./_-]+`)
	// A probe every ten seconds, after twenty, is most of a start's time.
	probeDelay  = regexp.MustCompile(`initialDelaySeconds: 20\b`)
	probePeriod = regexp.MustCompile(`periodSeconds: 10\b`)
	// Knative's controllers would reserve more than half of a node of two cores,
	// and a test's pods then wait for one another to go.
	reserved = regexp.MustCompile(`(requests:\s*\n(?:\s*#.*\n)*\s+cpu: )[0-9]+m`)
)

// withOurImages names our image where a manifest names a command to be built.
func withOurImages(text string) (string, error) {
	byCommand := map[string]string{}
	for _, group := range images {
		for _, b := range group {
			byCommand["ko://"+b.pkg] = imageOf(b)
		}
	}
	var unknown []string
	text = koImage.ReplaceAllStringFunc(text, func(command string) string {
		image, ok := byCommand[command]
		if !ok {
			unknown = append(unknown, command)
			return command
		}
		return image
	})
	text = reserved.ReplaceAllString(text, "${1}10m")
	text = probePeriod.ReplaceAllString(probeDelay.ReplaceAllString(text, "initialDelaySeconds: 1"), "periodSeconds: 2")
	// Commands that only certain features start (a JobSink's, for one) are not built.
	for _, u := range unknown {
		if !strings.Contains(u, "/eventing/") {
			return "", fmt.Errorf("no image is built of %s", u)
		}
	}
	return text, nil
}
