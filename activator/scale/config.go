package scale

import (
	"fmt"
	"time"

	asconfig "knative.dev/serving/pkg/autoscaler/config"
	"knative.dev/serving/pkg/autoscaler/config/autoscalerconfig"
)

// progressDeadline is Knative's default (config-deployment); the annotation
// serving.knative.dev/progress-deadline sets another one.
const progressDeadline = 10 * time.Minute

// Config is the autoscaler's configuration.
type Config struct {
	autoscaler autoscalerconfig.Config
}

// ParseConfig reads the data of the ConfigMap config-autoscaler; nil gives
// Knative's defaults.
func ParseConfig(data map[string]string) (*Config, error) {
	parsed, err := asconfig.NewConfigFromMap(data)
	if err != nil {
		return nil, fmt.Errorf("config-autoscaler: %w", err)
	}
	return &Config{autoscaler: *parsed}, nil
}

// InitialScale is the scale with which a revision begins that sets none.
func (c *Config) InitialScale() int { return int(c.autoscaler.InitialScale) }
