package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"aisle.dev/aisle/internal/manifest"
)

// fronted is the proxy in front of one pod at an address, on a port of its own,
// with the protocols of the engine's.
func fronted(t *testing.T, address string, h2c bool) string {
	t.Helper()
	r := calling(t, &manifest.Template{Timeout: time.Minute, H2C: h2c})
	p := open(t, r, address)
	p.transport = newTransport(h2c)
	t.Cleanup(p.transport.CloseIdleConnections)
	front := httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	front.Config.Protocols = new(http.Protocols)
	front.Config.Protocols.SetHTTP1(true)
	front.Config.Protocols.SetUnencryptedHTTP2(true)
	front.Start()
	t.Cleanup(front.Close)
	return front.Listener.Addr().String()
}

// health is a gRPC service: one answer, and a stream of them.
type health struct {
	healthpb.UnimplementedHealthServer
	more chan struct{}
}

func (h *health) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func (h *health) Watch(_ *healthpb.HealthCheckRequest, s grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	for range h.more {
		if err := s.Send(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING}); err != nil {
			return err
		}
	}
	return nil
}

// gRPC goes through, its trailers and its streams included: each message
// arrives before the next is sent.
func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &health{more: make(chan struct{})}
	pod := grpc.NewServer()
	healthpb.RegisterHealthServer(pod, h)
	go func() { _ = pod.Serve(l) }() // ends with Stop
	defer pod.Stop()
	conn, err := grpc.NewClient("passthrough:///"+fronted(t, l.Addr().String(), true), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := healthpb.NewHealthClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if got, err := client.Check(ctx, &healthpb.HealthCheckRequest{}); err != nil || got.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("%v, %v", got, err)
	}
	stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		h.more <- struct{}{}
		if got, err := stream.Recv(); err != nil || got.Status != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Fatalf("%v, %v", got, err)
		}
	}
	close(h.more)
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("the stream ends with %v", err)
	}
}

// HTTP/2 without TLS comes in and goes out, and either meets HTTP/1.1 on the
// other side.
func TestH2C(t *testing.T) {
	for _, in := range []bool{false, true} {
		for _, out := range []bool{false, true} {
			t.Run(fmt.Sprintf("in %v, out %v", in, out), func(t *testing.T) {
				pod := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					w.Header().Set("Trailer", "Sum")
					_, _ = io.Copy(w, req.Body)
					_ = http.NewResponseController(w).Flush() // HTTP/1.1 has no trailers behind a known length
					w.Header().Set("Sum", req.Proto)
				}))
				pod.Config.Protocols = new(http.Protocols)
				pod.Config.Protocols.SetHTTP1(!out)
				pod.Config.Protocols.SetUnencryptedHTTP2(out)
				pod.Start()
				defer pod.Close()
				tr := &http.Transport{Protocols: new(http.Protocols)}
				tr.Protocols.SetHTTP1(!in)
				tr.Protocols.SetUnencryptedHTTP2(in)
				defer tr.CloseIdleConnections()
				resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Post("http://"+fronted(t, pod.Listener.Addr().String(), out), "text/plain", strings.NewReader("body"))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil || string(body) != "body" {
					t.Errorf("%q, %v", body, err)
				}
				proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}
				if resp.Proto != proto[in] || resp.Trailer.Get("Sum") != proto[out] {
					t.Errorf("came in as %s, went out as %q", resp.Proto, resp.Trailer.Get("Sum"))
				}
			})
		}
	}
}

// A connection that changes its protocol, as a WebSocket does, is the caller's
// and the pod's from there on, in both directions.
func TestUpgrade(t *testing.T) {
	pod := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		conn, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", req.Header.Get("Upgrade"))
		for {
			line, err := both.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(conn, "you said "+line)
		}
	}))
	defer pod.Close()
	conn, err := net.Dial("tcp", fronted(t, pod.Listener.Addr().String(), false))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("%v, %v", resp, err)
	}
	for _, word := range []string{"one\n", "two\n"} {
		fmt.Fprint(conn, word)
		if got, err := in.ReadString('\n'); err != nil || got != "you said "+word {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// An answer is passed on as it comes, and over HTTP/2 the request at the same
// time. (Over HTTP/1.1 net/http reads a request before it answers, as stock
// Knative does.)
func TestStreaming(t *testing.T) {
	pod := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		lines := bufio.NewReader(req.Body)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(w, "you said "+line)
			_ = http.NewResponseController(w).Flush()
		}
	}))
	pod.Config.Protocols = new(http.Protocols)
	pod.Config.Protocols.SetUnencryptedHTTP2(true)
	pod.Start()
	defer pod.Close()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	body, say := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+fronted(t, pod.Listener.Addr().String(), true), body)
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string)
	go func() {
		defer say.Close()
		for _, word := range []string{"one\n", "two\n", "three\n"} {
			if _, err := io.WriteString(say, word); err != nil {
				return
			}
			if got := <-heard; got != "you said "+word {
				t.Errorf("%q", got)
			}
		}
	}()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF && line == "" {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		heard <- line
	}
}
