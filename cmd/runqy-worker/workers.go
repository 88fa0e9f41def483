package main

import (
	"bytes"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/runqy/runqy-worker/heartbeat"
	"github.com/runqy/runqy-worker/internal/listing"
)

// watchInterval is how often --watch looks again.
const watchInterval = time.Second

func newWorkersCmd(a *app) *cobra.Command {
	var output string
	var watch bool
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "List every worker that is registered in Redis",
		Long: `List every worker that is registered in Redis: those that beat, and for about
an hour those that have stopped without saying goodbye. With --watch the list
is refreshed every second; -o json then prints one list per line.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			client, err := a.openRedis(ctx)
			if err != nil {
				return err
			}
			defer client.Close()
			for first := true; ; first = false {
				workers, err := heartbeat.List(ctx, client)
				switch {
				case ctx.Err() != nil && !first:
					return nil
				case err != nil && (first || !watch):
					return err
				case err != nil:
					a.log.Warn("cannot list the workers now", "error", err)
				default:
					if err := a.writeWorkers(workers, output, watch, first); err != nil {
						return err
					}
				}
				if !watch {
					return nil
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(watchInterval):
				}
			}
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "refresh every second until interrupted")
	outputFlag(cmd, &output, "table", "json")
	return cmd
}

func (a *app) writeWorkers(workers []heartbeat.Worker, output string, watch, first bool) error {
	if output == "json" {
		return listing.JSON(a.out, workers)
	}
	var b bytes.Buffer
	switch {
	case watch && isTerminal(a.out):
		b.WriteString("\x1b[H\x1b[2J") // home and clear
	case !first:
		b.WriteString("\n")
	}
	if len(workers) == 0 {
		b.WriteString("No worker is registered in this Redis.\n")
	} else if err := listing.Table(&b, workers, a.colour(a.out)); err != nil {
		return err
	}
	// One write, so that a refresh does not flicker.
	if _, err := a.out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("print the workers: %w", err)
	}
	return nil
}
