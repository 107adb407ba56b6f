package manifest

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Probe is a startup, readiness or liveness probe of the pod's port: an HTTP
// request, a gRPC health check, or, with neither, a TCP connection. What is 0
// is Kubernetes' default, and Knative's for readiness.
type Probe struct {
	HTTPGet          *HTTPGet
	GRPC             *GRPC
	InitialDelay     time.Duration
	Period           time.Duration // 0 for readiness: as often as makes sense
	Timeout          time.Duration // of one attempt
	SuccessThreshold int
	FailureThreshold int
}

// HTTPGet asks for a path; any status from 200 to 399 passes.
type HTTPGet struct {
	Path    string
	Host    string // the Host header, where httpHeaders has one
	Headers []Header
}

// Header is one request header.
type Header struct{ Name, Value string }

// GRPC asks the gRPC health service for a service.
type GRPC struct{ Service string }

// probe reduces the container's probe p of the given field; nil stays nil.
func (r reducer) probe(field string, c corev1.Container, p *corev1.Probe) *Probe {
	if p == nil {
		return nil
	}
	at := r.container() + "." + field
	seconds := func(n int32) time.Duration { return time.Duration(n) * time.Second }
	out := &Probe{
		InitialDelay:     seconds(p.InitialDelaySeconds),
		Period:           seconds(p.PeriodSeconds),
		Timeout:          seconds(p.TimeoutSeconds),
		SuccessThreshold: int(p.SuccessThreshold),
		FailureThreshold: int(p.FailureThreshold),
	}
	// Of readiness Knative's own validation makes sure; of the others, in a
	// cluster, Kubernetes' does.
	for name, n := range map[string]int32{"initialDelaySeconds": p.InitialDelaySeconds, "periodSeconds": p.PeriodSeconds,
		"timeoutSeconds": p.TimeoutSeconds, "successThreshold": p.SuccessThreshold, "failureThreshold": p.FailureThreshold} {
		if n < 0 {
			r.refuse(at+"."+name, "is %d; it must not be negative", n)
		}
	}
	if field != "readinessProbe" && p.SuccessThreshold > 1 {
		r.refuse(at+".successThreshold", "is %d; it must be 1 for this probe", p.SuccessThreshold)
	}
	declared := int32(8080) // Knative's default
	if len(c.Ports) > 0 && c.Ports[0].ContainerPort != 0 {
		declared = c.Ports[0].ContainerPort
	}
	checkPort := func(at string, port int32) {
		if port != 0 && port != declared {
			r.refuse(at, "%d is not the container's port, %d; only that one gets a port here, in PORT", port, declared)
		}
	}
	if p.TCPSocket != nil {
		checkPort(at+".tcpSocket.port", p.TCPSocket.Port.IntVal)
	}
	if g := p.GRPC; g != nil {
		checkPort(at+".grpc.port", g.Port)
		out.GRPC = &GRPC{}
		if g.Service != nil {
			out.GRPC.Service = *g.Service
		}
	}
	if get := p.HTTPGet; get != nil {
		checkPort(at+".httpGet.port", get.Port.IntVal)
		if get.Scheme != "" && get.Scheme != corev1.URISchemeHTTP {
			r.refuse(at+".httpGet.scheme", "%q: pods speak plain HTTP", get.Scheme)
		}
		out.HTTPGet = &HTTPGet{Path: "/" + strings.TrimPrefix(get.Path, "/")}
		for _, h := range get.HTTPHeaders {
			if strings.EqualFold(h.Name, "Host") {
				out.HTTPGet.Host = h.Value
				continue
			}
			out.HTTPGet.Headers = append(out.HTTPGet.Headers, Header{h.Name, h.Value})
		}
	}
	return out
}
