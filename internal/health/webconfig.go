package health

import (
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"
)

// webConfigFile is what is read here of a web config file (of the exporter-toolkit), which checks the rest.
type webConfigFile struct {
	TLS   map[string]any    `yaml:"tls_server_config"`
	Users map[string]string `yaml:"basic_auth_users"`
}

func readWebConfig(path string) (webConfigFile, error) {
	var c webConfigFile
	text, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("health.web_config: %w", err)
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("health.web_config %s: %w", path, err)
	}
	return c, nil
}

// UsesTLS reports whether a web config file (of the exporter-toolkit) puts the port behind TLS; no file does not. It
// checks nothing else in the file.
func UsesTLS(webConfig string) (bool, error) {
	if webConfig == "" {
		return false, nil
	}
	c, err := readWebConfig(webConfig)
	return len(c.TLS) > 0, err
}
