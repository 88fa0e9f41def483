package test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// selects tells whether a selector of labels alone picks the pods of the Deployment.
func selects(selector *metav1.LabelSelector, d *appsv1.Deployment) bool {
	if selector == nil || len(selector.MatchLabels) == 0 || len(selector.MatchExpressions) > 0 {
		return false
	}
	for name, value := range selector.MatchLabels {
		if d.Spec.Template.Labels[name] != value {
			return false
		}
	}
	return true
}

func TestSelectorsPickTheWorkers(t *testing.T) {
	objects := render(t, prometheus)
	d := one[appsv1.Deployment](t, objects)
	if d.Name != "runqy-worker" {
		t.Errorf("the Deployment is called %q", d.Name)
	}
	policy := one[networkingv1.NetworkPolicy](t, objects)
	selectors := map[string]*metav1.LabelSelector{
		"Deployment":          d.Spec.Selector,
		"PodDisruptionBudget": one[policyv1.PodDisruptionBudget](t, objects).Spec.Selector,
		"NetworkPolicy":       &policy.Spec.PodSelector,
		"its ingress":         policy.Spec.Ingress[0].From[0].PodSelector,
		"its egress":          policy.Spec.Egress[0].To[0].PodSelector,
		"PodMonitor":          &one[monitoringv1.PodMonitor](t, objects).Spec.Selector,
	}
	for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
		selectors["spread over "+c.TopologyKey] = c.LabelSelector
	}
	for name, selector := range selectors {
		if !selects(selector, d) {
			t.Errorf("%s: %v does not pick pods labelled %v", name, selector, d.Spec.Template.Labels)
		}
	}
	if config := one[corev1.ConfigMap](t, objects); volume(d, "app").ConfigMap.Name != config.Name {
		t.Errorf("the volume is of %s, the ConfigMap is %s", volume(d, "app").ConfigMap.Name, config.Name)
	}
}

func worker(d *appsv1.Deployment) *corev1.Container { return &d.Spec.Template.Spec.Containers[0] }

func volume(d *appsv1.Deployment, name string) corev1.Volume {
	at := slices.IndexFunc(d.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	if at < 0 {
		return corev1.Volume{}
	}
	return d.Spec.Template.Spec.Volumes[at]
}

// environment is what the container gets as text; a reference is told by the name of what it refers to.
func environment(d *appsv1.Deployment) map[string]string {
	env := make(map[string]string)
	for _, v := range worker(d).Env {
		env[v.Name] = v.Value
		switch from := v.ValueFrom; {
		case from == nil:
		case from.FieldRef != nil:
			env[v.Name] = "field " + from.FieldRef.FieldPath
		case from.SecretKeyRef != nil:
			env[v.Name] = "secret " + from.SecretKeyRef.Name + " " + from.SecretKeyRef.Key
		}
	}
	return env
}

func TestProbes(t *testing.T) {
	d := one[appsv1.Deployment](t, render(t))
	port := worker(d).Ports[0]
	for name, c := range map[string]struct {
		probe *corev1.Probe
		path  string
	}{
		"startup":   {worker(d).StartupProbe, "/livez"},
		"liveness":  {worker(d).LivenessProbe, "/livez"}, // a degraded worker is alive
		"readiness": {worker(d).ReadinessProbe, "/readyz"},
	} {
		get := c.probe.HTTPGet
		if get == nil || get.Path != c.path || get.Port.StrVal != port.Name || c.probe.Exec != nil {
			t.Errorf("%s: %+v, want GET %s at port %s", name, c.probe.ProbeHandler, c.path, port.Name)
		}
	}
	if port.ContainerPort != 8001 {
		t.Errorf("the port is %d, the worker's default is 8001", port.ContainerPort)
	}

	protected := one[appsv1.Deployment](t, render(t, protectedPort))
	for name, c := range map[string]struct {
		probe *corev1.Probe
		flag  string
	}{
		"startup":   {worker(protected).StartupProbe, "--live"},
		"liveness":  {worker(protected).LivenessProbe, "--live"},
		"readiness": {worker(protected).ReadinessProbe, "--ready"},
	} {
		want := []string{"/usr/local/bin/runqy-worker", "healthcheck", c.flag}
		if c.probe.HTTPGet != nil || c.probe.Exec == nil || !slices.Equal(c.probe.Exec.Command, want) {
			t.Errorf("%s: %+v, want %q", name, c.probe.ProbeHandler, want)
		}
		if c.probe.TimeoutSeconds <= 3 {
			t.Errorf("%s: %d s, and healthcheck may take three", name, c.probe.TimeoutSeconds)
		}
	}
}

// What a protected port protects must also be told to whoever may pass.
func TestProtectedPort(t *testing.T) {
	objects := render(t, prometheus, protectedPort)
	d := one[appsv1.Deployment](t, objects)
	endpoint := one[monitoringv1.PodMonitor](t, objects).Spec.PodMetricsEndpoints[0]
	secret := volume(d, "web").Secret
	if secret == nil || endpoint.BasicAuth == nil || endpoint.BasicAuth.Password.Name != secret.SecretName {
		t.Fatalf("the PodMonitor has %+v, the worker's secret is %+v", endpoint.BasicAuth, secret)
	}
	env := environment(d)
	if got, want := env["RUNQY_FLEET_CLIENT_USERNAME"], "secret "+secret.SecretName+" "+endpoint.BasicAuth.Username.Key; got != want {
		t.Errorf("workers ping each other as %q, want %q", got, want)
	}
	if got, want := env["RUNQY_FLEET_CLIENT_PASSWORD_FILE"], "/etc/runqy-web/"+endpoint.BasicAuth.Password.Key; got != want {
		t.Errorf("and with the password in %q, want %q", got, want)
	}
	mounts := worker(d).VolumeMounts
	for _, path := range []string{"/app", "/tmp", "/etc/runqy-web"} {
		if !slices.ContainsFunc(mounts, func(m corev1.VolumeMount) bool { return m.MountPath == path }) {
			t.Errorf("nothing is mounted at %s", path)
		}
	}
}

func TestGraceIsLongerThanTheDrain(t *testing.T) {
	objects := render(t)
	d := one[appsv1.Deployment](t, objects)
	config := checkedConfig(t, one[corev1.ConfigMap](t, objects), d)
	grace := time.Duration(*d.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
	if drain := config.duration(t, "worker.shutdown_timeout") + config.duration(t, "python.stop_timeout"); grace <= drain {
		t.Errorf("terminationGracePeriodSeconds is %v, a drain may take %v", grace, drain)
	}
	progress := time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
	if start := config.duration(t, "python.startup_timeout"); progress <= start {
		t.Errorf("progressDeadlineSeconds is %v, a start may take %v", progress, start)
	}
}

func TestLeastPrivilege(t *testing.T) {
	spec := one[appsv1.Deployment](t, render(t)).Spec.Template.Spec
	pod, container := spec.SecurityContext, spec.Containers[0].SecurityContext
	for what, ok := range map[string]bool{
		"not root":              *pod.RunAsNonRoot && *pod.RunAsUser == 65532,
		"seccomp":               pod.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
		"no escalation":         !*container.AllowPrivilegeEscalation,
		"read-only root":        *container.ReadOnlyRootFilesystem,
		"no capabilities":       slices.Equal(container.Capabilities.Drop, []corev1.Capability{"ALL"}) && len(container.Capabilities.Add) == 0,
		"no token":              !*spec.AutomountServiceAccountToken,
		"no service links":      !*spec.EnableServiceLinks,
		"bounded memory":        !spec.Containers[0].Resources.Limits.Memory().IsZero(),
		"nothing of the host's": !spec.HostNetwork && !spec.HostPID && !spec.HostIPC,
	} {
		if !ok {
			t.Errorf("%s: it is not so", what)
		}
	}
	env := environment(one[appsv1.Deployment](t, render(t)))
	for name, want := range map[string]string{
		"RUNQY_REDIS_URL":        "secret runqy-worker-redis url",
		"RUNQY_WORKER_ID":        "field metadata.name",
		"POD_IP":                 "field status.podIP",
		"RUNQY_HEALTH_ADVERTISE": "$(POD_IP):8001",
	} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
}

func TestNetworkPolicy(t *testing.T) {
	objects := render(t)
	policy, port := one[networkingv1.NetworkPolicy](t, objects), worker(one[appsv1.Deployment](t, objects)).Ports[0].ContainerPort
	if want := []networkingv1.PolicyType{"Ingress", "Egress"}; !slices.Equal(policy.Spec.PolicyTypes, want) {
		t.Errorf("it is about %v, want %v", policy.Spec.PolicyTypes, want)
	}
	for _, rule := range policy.Spec.Ingress {
		if len(rule.From) == 0 || len(rule.Ports) != 1 || rule.Ports[0].Port.IntVal != port {
			t.Errorf("ingress lets in more than its peers to port %d: %+v", port, rule)
		}
	}
	ports := make(map[int32]bool)
	for _, rule := range policy.Spec.Egress {
		if len(rule.To) == 0 {
			t.Errorf("egress to anybody: %+v", rule)
		}
		for _, p := range rule.Ports {
			ports[p.Port.IntVal] = true
		}
	}
	if got, want := slices.Sorted(maps.Keys(ports)), []int32{53, 6379, port}; !slices.Equal(got, want) {
		t.Errorf("egress to ports %v, want %v: DNS, Redis, the other workers", got, want)
	}
}

func TestPrometheusOperator(t *testing.T) {
	objects := render(t, prometheus)
	monitor := one[monitoringv1.PodMonitor](t, objects)
	endpoint, port := monitor.Spec.PodMetricsEndpoints[0], worker(one[appsv1.Deployment](t, objects)).Ports[0]
	if endpoint.Port == nil || *endpoint.Port != port.Name || endpoint.Path != "/metrics" {
		t.Errorf("it scrapes %v at %q, want port %q and /metrics", endpoint.Port, endpoint.Path, port.Name)
	}
	// The operator calls the job <namespace>/<name> unless jobLabel says otherwise; alerts look for runqy in it.
	if monitor.Spec.JobLabel != "" || !strings.Contains(monitor.Name, "runqy") {
		t.Errorf("the job is named by %q or %q", monitor.Spec.JobLabel, monitor.Name)
	}
	alerts := 0
	for _, group := range one[monitoringv1.PrometheusRule](t, objects).Spec.Groups {
		for _, rule := range group.Rules {
			if rule.Alert != "" {
				alerts++
			}
		}
	}
	if alerts < 11 {
		t.Errorf("the PrometheusRule has %d alerts", alerts)
	}
}

func TestScaledObject(t *testing.T) {
	needsKEDA(t)
	objects := render(t, keda)
	d, scaled := one[appsv1.Deployment](t, objects), one[scaledObject](t, objects)
	if scaled.Spec.ScaleTargetRef.Name != d.Name {
		t.Errorf("it scales %q, the Deployment is %q", scaled.Spec.ScaleTargetRef.Name, d.Name)
	}
	if d.Spec.Replicas != nil {
		t.Errorf("the Deployment says %d replicas, so every apply undoes what KEDA did", *d.Spec.Replicas)
	}
	if scaled.Spec.MinReplicaCount < 1 {
		t.Errorf("minReplicaCount is %d: nobody would move scheduled tasks", scaled.Spec.MinReplicaCount)
	}
	grace := int(*d.Spec.Template.Spec.TerminationGracePeriodSeconds)
	down := scaled.Spec.Advanced.HorizontalPodAutoscalerConfig.Behavior.ScaleDown
	if scaled.Spec.CooldownPeriod <= grace || down.StabilizationWindowSeconds <= grace || len(down.Policies) != 1 || down.Policies[0].PeriodSeconds < grace {
		t.Errorf("cooldown %d s, scale down %+v: faster than a drain of %d s", scaled.Spec.CooldownPeriod, down, grace)
	}
	// Metadata is a map of strings, so the schema does not know its keys; the scaler's source does.
	dir, err := kedaDir()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(dir, "pkg/scalers/redis_scaler.go"))
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, match := range regexp.MustCompile(`keda:"name=([A-Za-z;]+),\s*order=([A-Za-z;]+)`).FindAllStringSubmatch(string(source), -1) {
		for name := range strings.SplitSeq(match[1], ";") {
			known[name] = strings.Contains(match[2], "triggerMetadata")
		}
	}
	if !known["listName"] {
		t.Fatalf("the keys of KEDA's scaler were not found: %v", known)
	}
	for _, trigger := range scaled.Spec.Triggers {
		if trigger.Type != "redis" {
			t.Errorf("a trigger of type %q", trigger.Type)
		}
		for key := range trigger.Metadata {
			if !known[key] {
				t.Errorf("KEDA's redis scaler knows no %s", key)
			}
		}
	}
	if auth := one[object](t, objects); auth.Name != scaled.Spec.Triggers[0].AuthenticationRef.Name {
		t.Errorf("authenticationRef is %q, the TriggerAuthentication %q", scaled.Spec.Triggers[0].AuthenticationRef.Name, auth.Name)
	}
}
