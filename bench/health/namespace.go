package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"

	"github.com/runqy/runqy-worker/bench/internal/programs"
)

// namespace is a host of its own for the system that is looked at, with a cable to everybody else.
type namespace struct {
	number int
}

// newNamespace makes one. That takes root, and the commands ip and iptables.
func newNamespace(ctx context.Context) (*namespace, error) {
	// Who adds it first has the number. A bench that was killed may have left one behind.
	for n := (&namespace{1}); ; n.number++ {
		err := n.ip(ctx, "netns", "add", n.name())
		if err == nil {
			return n, errors.Join(
				n.ip(ctx, "link", "add", n.name(), "type", "veth", "peer", "name", "eth0", "netns", n.name()),
				n.ip(ctx, "addr", "add", n.outside()+"/24", "dev", n.name()),
				n.ip(ctx, "link", "set", n.name(), "up"),
				n.ip(ctx, "-n", n.name(), "link", "set", "lo", "up"),
				n.ip(ctx, "-n", n.name(), "addr", "add", n.inside()+"/24", "dev", "eth0"),
				n.ip(ctx, "-n", n.name(), "link", "set", "eth0", "up"))
		}
		if n.number == 250 || !strings.Contains(err.Error(), "File exists") {
			return nil, err
		}
	}
}

func (n *namespace) name() string    { return fmt.Sprintf("hbench%d", n.number) }
func (n *namespace) inside() string  { return fmt.Sprintf("10.214.%d.2", n.number) }
func (n *namespace) outside() string { return fmt.Sprintf("10.214.%d.1", n.number) }

// by is the command that runs another one inside.
func (n *namespace) by() []string { return []string{"ip", "netns", "exec", n.name()} }

// remove takes the link along.
func (n *namespace) remove() { _ = n.ip(context.Background(), "netns", "del", n.name()) }

// loses has everything be lost from now on that is sent to an address outside or comes from there; allow ends it.
func (n *namespace) loses(ctx context.Context, address string) error {
	return n.filter(ctx, "-A", address)
}

func (n *namespace) allow(ctx context.Context, address string) error {
	return n.filter(ctx, "-D", address)
}

func (n *namespace) filter(ctx context.Context, what, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("lose packets: %w", err)
	}
	rule := func(chain, side string) error {
		return n.ip(ctx, "netns", "exec", n.name(), "iptables", "-w", what, chain, "-p", "tcp", side, port, "-j", "DROP")
	}
	return errors.Join(rule("OUTPUT", "--dport"), rule("INPUT", "--sport"))
}

func (n *namespace) ip(ctx context.Context, args ...string) error {
	_, err := programs.Output(exec.CommandContext(ctx, "ip", args...))
	return err
}

// halfOpen is a network that loses all packets between the worker and Redis; neither learns of it.
func halfOpen() fault {
	return fault{
		name: "redis-half-open", title: "All packets to and from Redis are lost", truth: unable, needs: []string{"ip", "iptables"}, apart: true, peers: everybody(),
		inject: func(ctx context.Context, d *bed) error { return d.net.loses(ctx, d.redis.Addr) },
		lift:   func(ctx context.Context, d *bed) error { return d.net.allow(ctx, d.redis.Addr) },
	}
}
