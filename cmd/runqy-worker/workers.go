package main

import (
	"bytes"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/runqy/runqy-worker/client"
	"github.com/runqy/runqy-worker/internal/config"
	"github.com/runqy/runqy-worker/internal/listing"
	"github.com/runqy/runqy-worker/internal/rpc"
)

// watchInterval is the pause between two lists of --watch.
const watchInterval = time.Second

func newWorkersCmd(a *app) *cobra.Command {
	var output string
	var watch, ping bool
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "List every worker, and who died within the last hour",
		Long: `List every worker that is registered in Redis, and whether it is FREE, BUSY or DEAD. Each is pinged, all at the same
time; fleet.client and fleet.ping_timeout of the configuration say how. With --ping=false only their heartbeats are
read, for when this machine cannot reach the workers. A worker that died stays in the list for an hour, with when and why
it died and how many of its tasks are known to have gone back to the queue.

With --watch the list is refreshed every second; -o json then prints one list per line.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			cfg, err := a.loadElsewhere(nil)
			if err != nil {
				return err
			}
			rdb, err := connect(ctx, cfg)
			if err != nil {
				return err
			}
			defer rdb.Close()
			c, err := fleetClient(cfg, rdb, ping)
			if err != nil {
				return err
			}
			defer c.Close()
			for first := true; ; first = false {
				workers, err := c.Workers(ctx)
				switch {
				case ctx.Err() != nil && !first:
					return nil
				case err != nil && (first || !watch):
					return err
				case err != nil:
					a.log.Warn("worker list unavailable", "component", "client", "error", err)
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
	cmd.Flags().BoolVar(&ping, "ping", true, "ask the workers themselves, not only Redis")
	outputFlag(cmd, &output, "table", "json")
	return cmd
}

// fleetClient returns a client that asks the workers as the configuration says, or with ping false reads their
// heartbeats alone. The caller closes it; the Redis client stays open.
func fleetClient(cfg *config.Config, rdb redis.UniversalClient, ping bool) (*client.Client, error) {
	opts := client.Options{HeartbeatsOnly: !ping, PingTimeout: cfg.Fleet.PingTimeout}
	if ping {
		how, err := rpc.OptionsFrom(cfg)
		if err != nil {
			return nil, usageError(err)
		}
		opts.TLS, opts.CAFile, opts.Username, opts.PasswordFile = how.TLS, how.CAFile, how.Username, how.PasswordFile
	}
	c, err := client.NewFromRedis(rdb, opts)
	if err != nil && ping {
		return nil, usageError(err) // a file that the configuration names
	}
	return c, err
}

func (a *app) writeWorkers(workers []client.Worker, output string, watch, first bool) error {
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
