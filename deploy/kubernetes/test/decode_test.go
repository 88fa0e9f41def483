package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// KEDA's types import its webhooks, and with them most of Kubernetes. Its module is fetched for the schema that it
// publishes, which is what an API server would judge by; the sum is that of go.sum.
const (
	kedaModule = "github.com/kedacore/keda/v2@v2.21.0"
	kedaSum    = "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps="
)

// object is what every manifest has.
type object struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              json.RawMessage `json:"spec"`
}

// decode reads one manifest into its API type, by the name of which the result is. Fields that are unknown, misspelt,
// of another case or there twice are errors. Objects of KEDA come back as *scaledObject or *object.
func decode(text []byte) (any, error) {
	doc, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	var kind metav1.TypeMeta
	if err := json.Unmarshal(doc, &kind); err != nil {
		return nil, err
	}
	var into any
	switch kind.APIVersion + " " + kind.Kind {
	case "apps/v1 Deployment":
		into = new(appsv1.Deployment)
	case "v1 ConfigMap":
		into = new(corev1.ConfigMap)
	case "policy/v1 PodDisruptionBudget":
		into = new(policyv1.PodDisruptionBudget)
	case "networking.k8s.io/v1 NetworkPolicy":
		into = new(networkingv1.NetworkPolicy)
	case "monitoring.coreos.com/v1 PodMonitor":
		into = new(monitoringv1.PodMonitor)
	case "monitoring.coreos.com/v1 PrometheusRule":
		into = new(monitoringv1.PrometheusRule)
	case "keda.sh/v1alpha1 ScaledObject":
		into = new(scaledObject)
	case "keda.sh/v1alpha1 TriggerAuthentication":
		into = new(object)
	default:
		return nil, fmt.Errorf("no type is known for %s %s", kind.APIVersion, kind.Kind)
	}
	if kind.APIVersion == "keda.sh/v1alpha1" {
		if err := validateKEDA(doc, kind.Kind); err != nil {
			return nil, err
		}
		var whole object
		if err := strictly(doc, &whole); err != nil {
			return nil, err
		}
		return into, json.Unmarshal(doc, into)
	}
	return into, strictly(doc, into)
}

func strictly(doc []byte, into any) error {
	faults, err := strictjson.UnmarshalStrict(doc, into)
	return errors.Join(append(faults, err)...)
}

// scaledObject is the part of KEDA's type that the tests look at; the schema looks at all of it.
type scaledObject struct {
	object
	Spec struct {
		ScaleTargetRef                   struct{ Name, Kind string }
		MinReplicaCount, MaxReplicaCount int
		CooldownPeriod                   int
		Advanced                         struct {
			HorizontalPodAutoscalerConfig struct {
				Behavior struct {
					ScaleDown struct {
						StabilizationWindowSeconds int
						Policies                   []struct{ PeriodSeconds int }
					}
				}
			}
		}
		Triggers []struct {
			Type              string
			Metadata          map[string]string
			AuthenticationRef struct{ Name string }
		}
	} `json:"spec"`
}

// kedaDir is the folder of KEDA's module, downloaded once and then found in Go's cache.
var kedaDir = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", kedaModule)
	cmd.Dir = os.TempDir() // in no module, so that none is changed
	out, err := cmd.Output()
	var module struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &module); jsonErr != nil {
		return "", fmt.Errorf("go mod download %s: %w", kedaModule, errors.Join(err, jsonErr))
	}
	switch {
	case err != nil || module.Error != "":
		return "", fmt.Errorf("go mod download %s: %w %s", kedaModule, err, module.Error)
	case module.Sum != kedaSum:
		return "", fmt.Errorf("%s has the sum %s, want %s", kedaModule, module.Sum, kedaSum)
	}
	return module.Dir, nil
})

// validateKEDA holds an object against the CustomResourceDefinition that KEDA publishes.
func validateKEDA(doc []byte, kind string) error {
	dir, err := kedaDir()
	if err != nil {
		return err
	}
	file := map[string]string{"ScaledObject": "scaledobjects", "TriggerAuthentication": "triggerauthentications"}[kind]
	text, err := os.ReadFile(filepath.Join(dir, "config/crd/bases/keda.sh_"+file+".yaml"))
	if err != nil {
		return err
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema *spec.Schema
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return err
	}
	if len(crd.Spec.Versions) != 1 || crd.Spec.Versions[0].Name != "v1alpha1" || crd.Spec.Versions[0].Schema.OpenAPIV3Schema == nil {
		return fmt.Errorf("the definition of %s is not of v1alpha1", kind)
	}
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	closed(schema)
	var value any
	if err := json.Unmarshal(doc, &value); err != nil {
		return err
	}
	return validate.NewSchemaValidator(schema, nil, "", strfmt.Default).Validate(value).AsError()
}

// closed has a schema refuse fields that it does not name. An API server would drop them without a word.
func closed(s *spec.Schema) {
	if len(s.Properties) > 0 && s.AdditionalProperties == nil {
		s.AdditionalProperties = &spec.SchemaOrBool{Allows: false}
	}
	for name, property := range s.Properties {
		closed(&property)
		s.Properties[name] = property
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		closed(s.AdditionalProperties.Schema)
	}
	if s.Items != nil && s.Items.Schema != nil {
		closed(s.Items.Schema)
	}
}

func TestDecodingIsStrict(t *testing.T) {
	needsKEDA(t)
	for name, text := range map[string]string{
		"unknown":           "apiVersion: apps/v1\nkind: Deployment\nspec: {replicaCount: 1}\n",
		"another case":      "apiVersion: apps/v1\nkind: Deployment\nspec: {Replicas: 1}\n",
		"twice":             "apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 1, replicas: 2}\n",
		"no kind":           "apiVersion: apps/v1\n",
		"wrong type":        "apiVersion: policy/v1\nkind: PodDisruptionBudget\nspec: {maxUnavailable: [1]}\n",
		"KEDA: unknown":     "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nspec: {scaleTargetRef: {name: a}, triggers: [{type: redis, metadata: {}}], coolDown: 3}\n",
		"KEDA: deeper":      "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nspec: {scaleTargetRef: {nam: a, name: a}, triggers: [{type: redis, metadata: {}}]}\n",
		"KEDA: wrong type":  "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nspec: {scaleTargetRef: {name: a}, triggers: [{type: redis, metadata: {}}], cooldownPeriod: soon}\n",
		"KEDA: required":    "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nspec: {triggers: [{type: redis, metadata: {}}]}\n",
		"KEDA: metadata":    "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {nam: a}\nspec: {scaleTargetRef: {name: a}, triggers: [{type: redis, metadata: {}}]}\n",
		"KEDA: a parameter": "apiVersion: keda.sh/v1alpha1\nkind: TriggerAuthentication\nspec: {secretTargetRef: [{parameter: a, secret: b, name: c, key: d}]}\n",
	} {
		if _, err := decode([]byte(text)); err == nil {
			t.Errorf("%s: decoded without an error", name)
		}
	}
	if _, err := decode([]byte("apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nspec: {scaleTargetRef: {name: a}, triggers: [{type: redis, metadata: {}}]}\n")); err != nil {
		t.Errorf("a right one: %v", err)
	}
}

// needsKEDA skips where there is neither a network nor a cache with KEDA's module, unless everything is required.
func needsKEDA(t *testing.T) {
	t.Helper()
	if _, err := kedaDir(); err != nil {
		if os.Getenv("RUNQY_TEST_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}
