package main

import (
	"github.com/spf13/cobra"

	"github.com/runqy/runqy-worker/internal/worker"
)

func newFleetCmd(a *app) *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Check all workers and recover the tasks of dead ones, without running tasks",
		Long: `Take part in the election of the fleet's health checker without running tasks. Workers take part in it too, unless
fleet.enabled is false; one process at a time is the leader, and another takes over within about 11 seconds when it dies.

The leader pings every registered worker each fleet.interval. A dead worker's tasks run again elsewhere, at once where
its death is proven, else when its heartbeat and the tasks' leases have ended. /metrics tells of the fleet and of all
queues that workers have served within the last week, also when no worker is left.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.queueLog()
			flags := make(map[string]string)
			if cmd.Flags().Changed("listen") {
				flags["health.listen"] = listen
			}
			cfg, err := a.loadElsewhere(flags)
			if err != nil {
				return err
			}
			c, err := worker.NewCheckerProcess(worker.CheckerProcessOptions{
				Config: cfg, Version: readBuild().Version, Logger: a.log, LogLinesDropped: a.queue.Dropped,
			})
			if err != nil {
				return err
			}
			return c.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "`address` of the HTTP server, instead of health.listen")
	return cmd
}
