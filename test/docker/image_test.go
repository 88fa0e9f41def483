package docker

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mostAbove is how much, compressed, the image may add to its base.
const mostAbove = 15 << 20

// testImage looks at the image itself.
func (e *engine) testImage(t *testing.T) {
	var config struct {
		User        string
		StopSignal  string
		Healthcheck *struct{ Test []string }
	}
	if err := json.Unmarshal([]byte(docker(t, "inspect", "--format", "{{json .Config}}", e.image)), &config); err != nil {
		t.Fatalf("read the image's configuration: %v", err)
	}
	if config.User != "65532:65532" || config.StopSignal != "SIGTERM" || config.Healthcheck == nil {
		t.Errorf("the image says %+v", config)
	}
	if out := docker(t, "run", "--rm", "--network", "none", e.image, "version"); !strings.Contains(out, "runqy-worker") {
		t.Errorf("version: %q", out)
	}

	base, all := e.layers(t, e.base), e.layers(t, e.image)
	if len(base) >= len(all) || strings.Join(all[:len(base)], " ") != strings.Join(base, " ") {
		t.Fatalf("the image is not built on its base: %q, %q", all, base)
	}
	saved := filepath.Join(t.TempDir(), "image.tar")
	docker(t, "save", "--output", saved, e.image)
	above, err := compressedAbove(saved, len(base))
	if err != nil {
		t.Fatalf("measure the layers: %v", err)
	}
	t.Logf("the image adds %.1f MiB, compressed, to its base", float64(above)/(1<<20))
	if above > mostAbove {
		t.Errorf("the image adds %d bytes to its base, want at most %d", above, mostAbove)
	}
}

// layers are the digests of an image's layers, from the bottom.
func (e *engine) layers(t *testing.T, image string) []string {
	t.Helper()
	var digests []string
	out := docker(t, "image", "inspect", "--format", "{{json .RootFS.Layers}}", image)
	if err := json.Unmarshal([]byte(out), &digests); err != nil {
		t.Fatalf("layers of %s: %v", image, err)
	}
	return digests
}

// compressedAbove reads what `docker save` wrote and returns the size of the layers above the lowest ones, as gzip
// makes them.
func compressedAbove(saved string, lowest int) (int64, error) {
	text, err := readMember(saved, "manifest.json", io.ReadAll)
	if err != nil {
		return 0, err
	}
	var manifest []struct{ Layers []string }
	if err := json.Unmarshal(text, &manifest); err != nil {
		return 0, fmt.Errorf("manifest of %s: %w", saved, err)
	}
	if len(manifest) != 1 || len(manifest[0].Layers) <= lowest {
		return 0, fmt.Errorf("the manifest of %s has not one image with more than %d layers", saved, lowest)
	}
	var total int64
	for _, layer := range manifest[0].Layers[lowest:] {
		size, err := readMember(saved, layer, compressedSize)
		if err != nil {
			return 0, err
		}
		total += size
	}
	return total, nil
}

// compressedSize is the size of a layer as a registry would keep it. Some engines save layers as they keep them.
func compressedSize(layer io.Reader) (int64, error) {
	var magic [2]byte
	if _, err := io.ReadFull(layer, magic[:]); err != nil {
		return 0, fmt.Errorf("read a layer: %w", err)
	}
	whole := io.MultiReader(strings.NewReader(string(magic[:])), layer)
	if magic == [2]byte{0x1f, 0x8b} {
		return io.Copy(io.Discard, whole)
	}
	var size counter
	zip := gzip.NewWriter(&size)
	if _, err := io.Copy(zip, whole); err != nil {
		return 0, fmt.Errorf("compress a layer: %w", err)
	}
	return int64(size), errors.Join(zip.Close())
}

// counter counts what is written to it.
type counter int64

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// readMember gives one file of a tar archive to read.
func readMember[T any](archive, name string, read func(io.Reader) (T, error)) (T, error) {
	var none T
	file, err := os.Open(archive)
	if err != nil {
		return none, err
	}
	defer file.Close()
	members := tar.NewReader(file)
	for {
		member, err := members.Next()
		if err != nil {
			return none, fmt.Errorf("look for %s in %s: %w", name, archive, err)
		}
		if member.Name == name {
			return read(members)
		}
	}
}
