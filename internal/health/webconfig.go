package health

import (
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"
)

// UsesTLS reports whether a web config file (of the exporter-toolkit) puts the
// port behind TLS; no file does not. It judges nothing else in the file.
func UsesTLS(webConfig string) (bool, error) {
	if webConfig == "" {
		return false, nil
	}
	text, err := os.ReadFile(webConfig)
	if err != nil {
		return false, fmt.Errorf("health.web_config: %w", err)
	}
	var c struct {
		TLS map[string]any `yaml:"tls_server_config"`
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		return false, fmt.Errorf("health.web_config %s: %w", webConfig, err)
	}
	return len(c.TLS) > 0, nil
}
