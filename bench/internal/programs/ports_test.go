package programs

import "testing"

// As many workers as the bench starts at once get a port each, although none listens yet.
func TestPortsAreGivenOnce(t *testing.T) {
	var ports Ports
	given := make(map[int]bool)
	for range 1000 {
		port, err := ports.Free()
		if err != nil {
			t.Fatal(err)
		}
		if given[port] {
			t.Fatalf("port %d was given twice", port)
		}
		given[port] = true
	}
}
