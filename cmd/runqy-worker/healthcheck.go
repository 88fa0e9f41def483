package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/runqy/runqy-worker/internal/health"
	"github.com/runqy/runqy-worker/internal/status"
)

func newHealthcheckCmd(a *app) *cobra.Command {
	var live, ready bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the worker on this machine how it is, for container and service health checks",
		Long: `Ask the worker that runs with the same configuration on this machine, through its unix socket, and print its answer
as JSON. The exit code is 0 when it is healthy and 1 when it is not, does not answer, or the configuration is wrong.
The answer comes within three seconds.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			probe := health.ProbeHealth
			switch {
			case live:
				probe = health.ProbeLive
			case ready:
				probe = health.ProbeReady
			}
			var result health.Result
			if cfg, err := a.loadElsewhere(nil); err != nil {
				result = health.FailedResult(err)
			} else {
				// The result repeats the error.
				result, err = health.Check(cmd.Context(), cfg.SocketPath(), probe)
				if err != nil && cfg.Health.DatabaseURL == "" {
					result.Database = status.NotConfigured
				}
			}
			line, err := json.Marshal(result)
			if err != nil {
				return fmt.Errorf("print the result: %w", err)
			}
			if _, err := fmt.Fprintf(a.out, "%s\n", line); err != nil {
				return fmt.Errorf("print the result: %w", err)
			}
			if !result.OK {
				return &exitError{code: exitFailure}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "ask only whether the worker is alive; degraded is")
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it takes new tasks")
	exclusiveFlags(cmd, [2]string{"live", "ready"})
	return cmd
}
