package pod

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Probe is one way to ask a pod how it is, with Kubernetes' numbers: how
// often, and how many answers alike in a row count. Its zero value is a TCP
// probe: it passes when the port accepts a connection.
type Probe struct {
	HTTP    bool        // GET Path must answer 200-399
	Path    string      // with HTTP: begins with a slash
	Host    string      // with HTTP: the Host header; empty means the pod's address
	Header  http.Header // with HTTP: further headers
	GRPC    bool        // the gRPC health service must say SERVING
	Service string      // with GRPC: of this service; empty means the server as a whole

	Delay time.Duration // from the process's start to the first attempt
	// Period lies between two attempts. 0 means 10 s; for a readiness probe,
	// until it has passed, as Knative means it: as often as makes sense.
	Period  time.Duration
	Timeout time.Duration // of one attempt; 0 means a second
	Success int           // passes in a row that count; 0 means 1
	Failure int           // failures in a row that count; 0 means 3
}

// Kubernetes' defaults.
const (
	defaultPeriod  = 10 * time.Second
	defaultTimeout = time.Second
	defaultFailure = 3
)

// errNotListening is what an attempt finds before the pod has opened its port.
var errNotListening = errors.New("nothing listens")

// answer is what an attempt learned besides.
type answer struct {
	listens bool     // the port took a connection
	timing  []string // the values of its Server-Timing header, if it passed
}

// once is one attempt. Until the port listens it costs one refused connect;
// HTTP and gRPC are spoken over the connection that succeeds.
func (p Probe) once(ctx context.Context, addr string) (answer, error) {
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return answer{}, fmt.Errorf("%w on %s", errNotListening, addr)
	}
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	a, kind := answer{listens: true}, ""
	switch {
	case p.HTTP:
		kind = "GET " + p.Path
		a.timing, err = p.get(ctx, conn, addr)
	case p.GRPC:
		kind = "gRPC health check"
		err = p.check(ctx, conn)
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%s: no answer within %s", kind, timeout)
	}
	return a, err
}

// get is an HTTP attempt.
func (p Probe) get(ctx context.Context, conn net.Conn, addr string) (timing []string, err error) {
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+p.Path, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range p.Header {
		req.Header[k] = v
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", userAgent)
	}
	req.Host, req.Close = p.Host, true
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("GET %s: %w", p.Path, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, 64<<10)), req)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", p.Path, err)
	}
	_ = resp.Body.Close() // the answer's head is all that is asked
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return nil, fmt.Errorf("GET %s answered %s", p.Path, resp.Status)
	}
	return resp.Header["Server-Timing"], nil
}

const userAgent = "kube-probe/aisle" // what servers know probes by begins with kube-probe

// check is a gRPC attempt, by the gRPC health checking protocol.
func (p Probe) check(ctx context.Context, conn net.Conn) error {
	conns := make(chan net.Conn, 1)
	conns <- conn
	client, err := grpc.NewClient("passthrough:///pod",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent(userAgent),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-conns:
				return c, nil
			default:
				return nil, errors.New("one attempt has one connection")
			}
		}))
	if err != nil {
		return fmt.Errorf("gRPC health check: %w", err)
	}
	defer client.Close()
	resp, err := healthpb.NewHealthClient(client).Check(ctx, &healthpb.HealthCheckRequest{Service: p.Service})
	if err != nil {
		return fmt.Errorf("gRPC health check of %q answered %s: %s", p.Service, status.Code(err), status.Convert(err).Message())
	}
	if s := resp.GetStatus(); s != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("gRPC health check of %q answered %s", p.Service, s)
	}
	return nil
}
