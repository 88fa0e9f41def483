package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/runqy/runqy-worker/internal/status"
	runqyv1 "github.com/runqy/runqy-worker/proto/runqy/v1"
	"github.com/runqy/runqy-worker/proto/runqy/v1/runqyv1connect"
)

// dialGRPC connects with grpc-go, which shares no code with the server.
func dialGRPC(t *testing.T, address string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func pingGRPC(ctx context.Context, conn *grpc.ClientConn) (*runqyv1.PingResponse, error) {
	var resp runqyv1.PingResponse
	err := conn.Invoke(ctx, runqyv1connect.WorkerServicePingProcedure, &runqyv1.PingRequest{}, &resp)
	return &resp, err
}

func TestGRPCWithoutTLS(t *testing.T) {
	busy := idle
	busy.State, busy.Reason, busy.ActiveTasks, busy.Load = status.Busy, "All slots are taken (4 of 4).", []string{"t1", "t2"}, 1
	address, _ := serve(t, "", "", answering(busy))
	resp, err := pingGRPC(bounded(t), dialGRPC(t, address, insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pongOf(resp); err != nil || !reflect.DeepEqual(got, busy) {
		t.Errorf("the pong is %+v, %v; want %+v", got, err, busy)
	}
}

func TestHealthCheckOverGRPC(t *testing.T) {
	p := idle
	p.Status = "draining" // healthy and alive, not ready
	address, _ := serve(t, "", "", answering(p))
	client := grpc_health_v1.NewHealthClient(dialGRPC(t, address, insecure.NewCredentials()))
	for service, want := range map[string]grpc_health_v1.HealthCheckResponse_ServingStatus{
		"":                       grpc_health_v1.HealthCheckResponse_SERVING,
		"runqy.v1.WorkerService": grpc_health_v1.HealthCheckResponse_NOT_SERVING,
		"livez":                  grpc_health_v1.HealthCheckResponse_SERVING,
	} {
		resp, err := client.Check(bounded(t), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil || resp.GetStatus() != want {
			t.Errorf("check of %q: %v, %v; want %v", service, resp.GetStatus(), err, want)
		}
	}
	if _, err := client.Check(bounded(t), &grpc_health_v1.HealthCheckRequest{Service: "runqy.v1.Other"}); grpcstatus.Code(err) != codes.NotFound {
		t.Errorf("check of an unknown service: %v, want NotFound", err)
	}
	stream, err := client.Watch(bounded(t), &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if grpcstatus.Code(err) != codes.Unimplemented {
		t.Errorf("watch: %v, want Unimplemented", err)
	}
}

func TestWithoutAWorkerService(t *testing.T) {
	address, _ := serve(t, "", "", Sources{Report: answering(idle).Report})
	if _, err := mustClient(t, ClientOptions{}).Ping(t.Context(), address); kindOf(err) != KindOther {
		t.Errorf("ping: %v, want kind %s", err, KindOther)
	}
	client := grpc_health_v1.NewHealthClient(dialGRPC(t, address, insecure.NewCredentials()))
	if resp, err := client.Check(bounded(t), &grpc_health_v1.HealthCheckRequest{}); err != nil || resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("check: %v, %v; want SERVING", resp, err)
	}
}

func TestGRPCWithTLSAndAPassword(t *testing.T) {
	g := guard(t, true, true, "")
	address, _ := serve(t, "", g.webConfig, answering(idle))
	pool := x509.NewCertPool()
	text, err := os.ReadFile(g.ca)
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	conn := dialGRPC(t, address, credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "localhost"}))
	if _, err := pingGRPC(bounded(t), conn); grpcstatus.Code(err) != codes.Unauthenticated {
		t.Errorf("without a password: %v", err)
	}
	basic := func(password string) context.Context {
		return metadata.AppendToOutgoingContext(bounded(t), "authorization",
			"Basic "+base64.StdEncoding.EncodeToString([]byte("fleet:"+password)))
	}
	if _, err := pingGRPC(basic("wrong"), conn); grpcstatus.Code(err) != codes.Unauthenticated {
		t.Errorf("with a wrong password: %v", err)
	}
	if resp, err := pingGRPC(basic("secret"), conn); err != nil || resp.GetWorkerId() != idle.WorkerID {
		t.Errorf("check: %v, %v; want SERVING", resp, err)
	}
	health := grpc_health_v1.NewHealthClient(conn)
	if _, err := health.Check(bounded(t), &grpc_health_v1.HealthCheckRequest{}); grpcstatus.Code(err) != codes.Unauthenticated {
		t.Errorf("health check without a password: %v", err)
	}
}

func TestEveryProtocolOfConnect(t *testing.T) {
	address, _ := serve(t, "", "", answering(idle))
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	for name, c := range map[string]struct {
		protocols *http.Protocols
		option    connect.ClientOption
	}{
		"gRPC":          {h2c, connect.WithGRPC()},
		"gRPC-Web":      {nil, connect.WithGRPCWeb()},
		"gRPC-Web, h2c": {h2c, connect.WithGRPCWeb()},
		"Connect, h2c":  {h2c, connect.WithClientOptions()},
		"Connect, JSON": {nil, connect.WithProtoJSON()},
		"Connect, GET":  {nil, connect.WithHTTPGet()},
	} {
		t.Run(name, func(t *testing.T) {
			transport := &http.Transport{Protocols: c.protocols}
			defer transport.CloseIdleConnections()
			client := runqyv1connect.NewWorkerServiceClient(&http.Client{Transport: transport}, "http://"+address, c.option)
			resp, err := client.Ping(bounded(t), &runqyv1.PingRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := pongOf(resp); err != nil || !reflect.DeepEqual(got, idle) {
				t.Errorf("the pong is %+v, %v; want %+v", got, err, idle)
			}
		})
	}
}

// curl runs the real one; it fails the test where curl fails.
func curl(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("RUNQY_TEST_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip("curl is not installed")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"--silent", "--show-error", "--max-time", "30"}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("curl %q: %v: %s", args, err, &errOut)
	}
	return out.String()
}

func TestCurl(t *testing.T) {
	unhealthy := idle
	unhealthy.State, unhealthy.Reason, unhealthy.Healthy = status.Busy, "Redis does not answer.", false
	address, _ := serve(t, "", "", answering(unhealthy))
	for name, args := range map[string][]string{
		"ping":           {"--json", "{}", address + "/runqy.v1.WorkerService/Ping"},
		"no body":        {"--json", "", address + "/runqy.v1.WorkerService/Ping"},
		"unknown fields": {"--json", `{"later":1}`, address + "/runqy.v1.WorkerService/Ping"},
		"get":            {"--get", "--data-urlencode", "message={}", "--data", "encoding=json", address + "/runqy.v1.WorkerService/Ping"},
	} {
		var got map[string]any
		if out := curl(t, args...); json.Unmarshal([]byte(out), &got) != nil || got["state"] != "BUSY" ||
			got["workerId"] != "worker-a" || got["nonce"] != idle.Nonce || got["concurrency"] != 4.0 || got["reason"] != unhealthy.Reason ||
			// Zeros are in the answer, too.
			got["healthy"] != false || got["load"] != 0.0 || !reflect.DeepEqual(got["activeTasks"], []any{}) {
			t.Errorf("curl %s: %s, want all fields of a BUSY worker", name, out)
		}
	}
	if out := curl(t, "--json", "{", address+"/runqy.v1.WorkerService/Ping"); !strings.Contains(out, `"invalid_argument"`) {
		t.Errorf("a request that is no JSON is answered %s, want invalid_argument", out)
	}
	var check map[string]string
	if out := curl(t, "--json", `{"service":"livez"}`, address+"/grpc.health.v1.Health/Check"); json.Unmarshal([]byte(out), &check) != nil ||
		!strings.HasSuffix(check["status"], "SERVING") {
		t.Errorf("check by curl: %s, want SERVING", out)
	}
}

func TestCurlWithTLSAndAPassword(t *testing.T) {
	g := guard(t, true, true, "")
	address, _ := serve(t, "", g.webConfig, answering(idle))
	_, port, _ := net.SplitHostPort(address)
	url := "https://localhost:" + port + "/runqy.v1.WorkerService/Ping"
	code := []string{"--cacert", g.ca, "--output", os.DevNull, "--write-out", "%{http_code}", "--json", "{}", url}
	for user, want := range map[string]string{"": "401", "fleet:wrong": "401", "other:secret": "401", "fleet:secret": "200"} {
		args := code
		if user != "" {
			args = append([]string{"--user", user}, code...)
		}
		if got := curl(t, args...); got != want {
			t.Errorf("user %q gets %s, want %s", user, got, want)
		}
	}
}

func TestRequestsAreBounded(t *testing.T) {
	address, _ := serve(t, "", "", answering(idle))
	body := `{"service":"` + strings.Repeat("x", 1<<20) + `"}`
	req, err := http.NewRequestWithContext(bounded(t), http.MethodPost, "http://"+address+"/grpc.health.v1.Health/Check", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Skipf("refused before it was read: %v", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests { // Connect's resource_exhausted
		t.Errorf("a request of 1 MiB is answered %s, want 429", resp.Status)
	}
	if cc := resp.Header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("Cache-Control is %q, want no-store", cc)
	}
}

// Both services say in a header which report they answer from.
func TestAnswersCarryTheMarkOfTheirReport(t *testing.T) {
	marked := idle
	marked.Report = status.Mark{Number: 12, Age: 503 * time.Millisecond}
	address, _ := serve(t, "", "", answering(marked))
	conn := dialGRPC(t, address, insecure.NewCredentials())
	var ping, check metadata.MD
	if err := conn.Invoke(bounded(t), runqyv1connect.WorkerServicePingProcedure, &runqyv1.PingRequest{}, &runqyv1.PingResponse{},
		grpc.Header(&ping)); err != nil {
		t.Fatal(err)
	}
	if _, err := grpc_health_v1.NewHealthClient(conn).Check(bounded(t), &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&check)); err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string]metadata.MD{"Ping": ping, "Check": check} {
		if got := header.Get(status.ReportHeader); len(got) != 1 || got[0] != "12; age=0.503" {
			t.Errorf("%s has the header %v, want 12; age=0.503 in %s", name, header, status.ReportHeader)
		}
	}
}

func TestBytesThatAreNotText(t *testing.T) {
	odd := idle
	odd.State, odd.Reason, odd.ActiveTasks = status.Busy, "stderr: \xff\xfe", []string{"id-\x80"}
	address, _ := serve(t, "", "", answering(odd))
	p := mustPing(t, mustClient(t, ClientOptions{}), address)
	if p.Reason != "stderr: \uFFFD" || p.ActiveTasks[0] != "id-\uFFFD" {
		t.Errorf("the pong is %+v, want the bytes that are not UTF-8 replaced", p)
	}
}
