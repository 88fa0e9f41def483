package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/runqy/runqy-worker/internal/config"
)

func newCheckConfigCmd(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "check-config",
		Short: "Check the configuration and print what is in effect, secrets masked",
		Long: `Check the configuration file, the environment and the flags as 'run' would.
Every fault is listed with its line; the exit code is then 2. A valid
configuration is printed with the origin of each value; secrets are masked.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			file := cmp.Or(a.configFile, a.getenv("RUNQY_CONFIG", ""))
			if output == "json" {
				c, warnings, err := config.Load(a.configOptions(nil))
				return writeCheckJSON(a.out, file, c, warnings, err)
			}
			c, err := a.load(nil)
			if err != nil {
				return err
			}
			return writeCheckText(a.out, file, c)
		},
	}
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

func writeCheckText(w io.Writer, file string, c *config.Config) error {
	fmt.Fprintf(w, "The configuration (%s) is valid.\n\n", cmp.Or(file, "no file"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tVALUE\tFROM")
	for _, s := range c.Settings() {
		value, ok := s.Value.(string)
		if !ok || value == "" {
			text, err := json.Marshal(s.Value)
			if err != nil {
				return fmt.Errorf("show %s: %w", s.Key, err)
			}
			value = string(text)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", s.Key, value, s.Origin)
	}
	fmt.Fprintf(t, "(socket)\t%s\tderived\n", c.SocketPath())
	return t.Flush()
}

type checkFault struct {
	Where   string `json:"where"` // the file, the variable or the flag
	Line    int    `json:"line,omitempty"`
	Key     string `json:"key,omitempty"`
	Value   string `json:"value,omitempty"`
	Problem string `json:"problem"`
}

func writeCheckJSON(w io.Writer, file string, c *config.Config, warnings []string, err error) error {
	report := struct {
		Valid    bool              `json:"valid"`
		File     string            `json:"file"`
		Faults   []checkFault      `json:"faults"`
		Warnings []string          `json:"warnings"`
		Config   map[string]any    `json:"config,omitempty"`
		From     map[string]string `json:"from,omitempty"`
	}{Valid: err == nil, File: file, Faults: []checkFault{}, Warnings: append([]string{}, warnings...)}
	var faults *config.Error
	if errors.As(err, &faults) {
		for _, f := range faults.Faults {
			report.Faults = append(report.Faults, checkFault{Where: f.Origin.Name, Line: f.Origin.Line, Key: f.Key, Value: f.Value, Problem: f.Text})
		}
	} else if err != nil {
		return err
	}
	if c != nil {
		report.Config = c.Tree()
		report.From = make(map[string]string)
		for _, s := range c.Settings() {
			report.From[s.Key] = s.Origin.String()
		}
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(report); err != nil {
		return err
	}
	if !report.Valid {
		return &exitError{code: exitUsage} // the report names the faults
	}
	return nil
}
