package failover

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// network is several hosts on one machine: network namespaces with an address each. Their cables lead to a bridge in a
// namespace of its own, where no firewall of the machine's looks at what passes; this process is on it too.
type network struct {
	t      *testing.T
	number int // of this network, in its names and addresses
	hosts  int
}

// host is one of them.
type host struct {
	net  *network
	name string // of the namespace
	port string // the bridge's end of its cable
	Addr string
}

// newNetwork makes an empty network, which is gone when the test ends. That takes root and the command ip; where there
// is not both, the test is skipped.
func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("hosts of their own are network namespaces, which take root: run the tests as root to have this one")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		const message = "hosts of their own are network namespaces, which take the command ip (Debian: apt-get install iproute2)"
		if os.Getenv("RUNQY_TEST_REQUIRE") == "1" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	n := &network{t: t}
	// The test that adds the namespace first has the number. A test that was killed may have left one behind.
	for n.number = 1; ; n.number++ {
		out, err := try("netns", "add", n.bridge())
		if err == nil {
			break
		}
		if !strings.Contains(out, "File exists") || n.number == 250 {
			t.Skipf("hosts of their own are network namespaces, which this machine does not allow, root or not: %s", out)
		}
	}
	t.Cleanup(func() { n.ip("netns", "del", n.bridge()) })
	n.ip("-n", n.bridge(), "link", "add", "bridge", "up", "type", "bridge")
	n.plugIn("here", "name", n.bridge())
	t.Cleanup(func() { n.ip("link", "del", n.bridge()) })
	n.ip("addr", "add", n.address(1)+"/24", "dev", n.bridge())
	n.ip("link", "set", n.bridge(), "up")
	return n
}

// bridge is the name of the namespace with the bridge, and of our own end of the cable to it.
func (n *network) bridge() string { return fmt.Sprintf("runqy%d", n.number) }

func (n *network) address(host int) string { return fmt.Sprintf("10.213.%d.%d", n.number, host) }

// plugIn lays a cable from a port of the bridge to an end that ip's words describe.
func (n *network) plugIn(port string, end ...string) {
	n.t.Helper()
	cable := fmt.Sprintf("rqy%d%s", n.number, port) // its name until it is where it belongs
	n.ip(append([]string{"link", "add", cable, "type", "veth", "peer"}, end...)...)
	n.ip("link", "set", cable, "netns", n.bridge(), "name", port)
	n.ip("-n", n.bridge(), "link", "set", port, "master", "bridge", "up")
}

// host adds one to the network.
func (n *network) host() *host {
	n.t.Helper()
	n.hosts++
	h := &host{
		net: n, name: fmt.Sprintf("runqy%d-%d", n.number, n.hosts), port: fmt.Sprintf("port%d", n.hosts), Addr: n.address(n.hosts + 1),
	}
	n.ip("netns", "add", h.name)
	n.t.Cleanup(func() { n.ip("netns", "del", h.name) })
	n.plugIn(h.port, "name", "eth0", "netns", h.name)
	h.ip("link", "set", "lo", "up")
	h.ip("addr", "add", h.Addr+"/24", "dev", "eth0")
	h.ip("link", "set", "eth0", "up")
	return h
}

// by is the command that runs another one on the host.
func (h *host) by() []string { return []string{"ip", "netns", "exec", h.name} }

// unplug pulls the host's cable: everything that it sends or is sent is lost, and no connection is closed.
func (h *host) unplug() { h.net.ip("-n", h.net.bridge(), "link", "set", h.port, "down") }

// plug ends unplug.
func (h *host) plug() { h.net.ip("-n", h.net.bridge(), "link", "set", h.port, "up") }

// knowsOnly has the host send to one address only: no other address gets an answer from it.
func (h *host) knowsOnly(addr string) {
	h.net.t.Helper()
	h.ip("route", "add", addr+"/32", "dev", "eth0")
	for _, half := range []string{"0/25", "128/25"} { // more exact than the network's own route
		h.ip("route", "add", "blackhole", fmt.Sprintf("10.213.%d.%s", h.net.number, half))
	}
}

// knowsAll ends knowsOnly.
func (h *host) knowsAll() {
	h.net.t.Helper()
	for _, half := range []string{"0/25", "128/25"} {
		h.ip("route", "del", "blackhole", fmt.Sprintf("10.213.%d.%s", h.net.number, half))
	}
}

// ip runs the command on the host.
func (h *host) ip(args ...string) {
	h.net.t.Helper()
	h.net.ip(append([]string{"-n", h.name}, args...)...)
}

func (n *network) ip(args ...string) {
	n.t.Helper()
	if out, err := try(args...); err != nil {
		n.t.Errorf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func try(args ...string) (string, error) {
	out, err := exec.Command("ip", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
