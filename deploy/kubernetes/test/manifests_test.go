package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// root is deploy/kubernetes.
const root = ".."

const base, prometheus, keda, protectedPort = "base", "components/prometheus", "components/keda", "components/protected-port"

// builds are the overlays that somebody may make of the base and the components.
var builds = map[string][]string{
	"base":           {},
	"prometheus":     {prometheus},
	"keda":           {keda},
	"protected port": {protectedPort},
	"all":            {prometheus, keda, protectedPort},
}

// render builds an overlay of the base and some components, as `kubectl kustomize` does, and decodes what comes out.
func render(t *testing.T, components ...string) []any {
	t.Helper()
	tree := copyTree(t)
	var overlay strings.Builder
	overlay.WriteString("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../base]\ncomponents:\n")
	for _, c := range components {
		overlay.WriteString("  - ../../" + c + "\n")
	}
	if err := tree.WriteFile("/k/overlays/test/kustomization.yaml", []byte(overlay.String())); err != nil {
		t.Fatal(err)
	}
	return build(t, tree, "/k/overlays/test")
}

func build(t *testing.T, tree filesys.FileSystem, path string) (objects []any) {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(tree, path)
	if err != nil {
		t.Fatalf("kustomize: %v", err)
	}
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		o, err := decode(text)
		if err != nil {
			t.Errorf("%s %s: %v\n%s", r.GetKind(), r.GetName(), err, text)
			continue
		}
		objects = append(objects, o)
	}
	return objects
}

// copyTree has the manifests in memory, at /k, where more can be added.
func copyTree(t *testing.T) filesys.FileSystem {
	t.Helper()
	tree := filesys.MakeFsInMemory()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if entry.Name() == "test" {
				return fs.SkipDir
			}
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return tree.WriteFile(filepath.Join("/k", strings.TrimPrefix(path, root)), text)
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// one is the only object of a type.
func one[T any](t *testing.T, objects []any) *T {
	t.Helper()
	var found *T
	for _, o := range objects {
		if typed, ok := o.(*T); ok {
			if found != nil {
				t.Fatalf("more than one %T", found)
			}
			found = typed
		}
	}
	if found == nil {
		t.Fatalf("no %T", found)
	}
	return found
}

// Each file by itself, so that an error names it. Patches are parts of objects and just as strict.
func TestManifestsDecode(t *testing.T) {
	needsKEDA(t)
	files, err := filepath.Glob(filepath.Join(root, "*", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob(filepath.Join(root, "*", "*", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	decoded := 0
	for _, file := range append(files, deeper...) {
		if name := filepath.Base(file); name == "kustomization.yaml" || name == "worker.yaml" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(text); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		decoded++
	}
	if decoded < 8 {
		t.Errorf("only %d manifests were found in %q", decoded, append(files, deeper...))
	}
}

func TestEveryBuildDecodes(t *testing.T) {
	needsKEDA(t)
	for name, components := range builds {
		t.Run(name, func(t *testing.T) {
			want := 4 // Deployment, ConfigMap, PodDisruptionBudget, NetworkPolicy
			for _, c := range components {
				want += map[string]int{prometheus: 2, keda: 2}[c]
			}
			if got := len(render(t, components...)); got != want {
				t.Errorf("%d objects, want %d", got, want)
			}
		})
	}
	t.Run("example", func(t *testing.T) {
		if got := len(build(t, copyTree(t), "/k/overlays/example")); got != 8 {
			t.Errorf("%d objects, want 8", got)
		}
	})
}

// No password stands in a manifest: what looks like one is a reference to a Secret.
func TestNoSecretIsWritten(t *testing.T) {
	suspect := regexp.MustCompile(`(?i)(redis(s|-sentinel|-cluster)?|postgres)://[^\s"]*@|kind:\s*Secret\b|stringData:|\$2[aby]\$`)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains([]string{".yaml", ".py"}, filepath.Ext(path)) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if found := suspect.Find(text); found != nil {
			t.Errorf("%s has %q", path, found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
