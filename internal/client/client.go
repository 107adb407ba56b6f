// Package client is what the command line needs of a place where Aisle runs:
// which services, revisions and pods there are, and what they logged.
//
// [Engine] speaks to the engine on this machine over its unix socket; package
// knative beside it to a cluster's API server. What a place does not tell is
// negative or empty. Requests to services do not go through here: they are
// plain HTTP to a service's URL.
package client

import (
	"context"
	"io"
	"time"
)

// Client is a place where Aisle runs.
type Client interface {
	Services(ctx context.Context) ([]Service, error)
	Revisions(ctx context.Context) ([]Revision, error)
	Pods(ctx context.Context) ([]Pod, error)
	// Logs copies what pods wrote, oldest first.
	Logs(ctx context.Context, w io.Writer, q LogQuery) error
	Version(ctx context.Context) (Version, error)
}

// Describer tells all that it knows of one thing. Kind is one of the Kind
// constants, name may be NAMESPACE/NAME.
type Describer interface {
	Describe(ctx context.Context, kind, name string) (Description, error)
}

// LogQuery says whose logs, and how much of them.
type LogQuery struct {
	Kind       string        // of Name: one of the Kind constants; empty: whichever it is
	Name       string        // may be NAMESPACE/NAME
	Follow     bool          // go on until ctx ends, or the one pod that Name means has gone
	Tail       int           // at most so many lines of each pod, the last ones; -1: as the place does
	Since      time.Duration // not older than this; 0: however old
	Previous   bool          // of the process before the one that runs in the pod
	Timestamps bool          // when a line was written stands before it
}

// LogsOf asks for all that the pods of a service or revision, or one pod, wrote.
func LogsOf(name string) LogQuery { return LogQuery{Name: name, Tail: -1} }

// Service is one Knative Service.
type Service struct {
	Namespace      string `json:"namespace"`
	Name           string `json:"name"`
	URL            string `json:"url"`
	LatestRevision string `json:"latestRevision"`
	Ready          bool   `json:"ready"`            // no reason known why a request would fail; true at zero
	Reason         string `json:"reason,omitempty"` // why it is not ready
	Pods           int    `json:"pods"`             // that are ready

	LatestCreated string    `json:"latestCreated,omitempty"` // the newest revision, ready or not
	Created       time.Time `json:"created,omitzero"`
	Image         string    `json:"image,omitempty"` // of the template
}

// Revision is one revision of a service and what the autoscaler made of it.
type Revision struct {
	Namespace   string    `json:"namespace"`
	Name        string    `json:"name"`
	Service     string    `json:"service"`
	Image       string    `json:"image"`
	Want        int       `json:"want"` // pods that the autoscaler wants
	Ready       int       `json:"ready"`
	Starting    int       `json:"starting"`
	Draining    int       `json:"draining"`
	MinScale    int       `json:"minScale"`
	MaxScale    int       `json:"maxScale"`    // 0: no limit
	Concurrency float64   `json:"concurrency"` // requests in the service now, waiting ones included
	Waiting     int       `json:"waiting"`     // requests that no pod has yet
	Why         string    `json:"why"`         // the reason for Want
	Since       time.Time `json:"since"`       // when Want last changed; in a cluster when it last left zero or went there
}

// Pod is one process on this machine, or one pod of a cluster.
type Pod struct {
	Namespace  string    `json:"namespace"`
	Name       string    `json:"name"`
	Service    string    `json:"service"`
	Revision   string    `json:"revision"`
	Phase      string    `json:"phase"`            // Starting, Ready, Draining; in a cluster also Ended
	Reason     string    `json:"reason,omitempty"` // what keeps it from being ready
	PID        int       `json:"pid,omitempty"`
	Address    string    `json:"address,omitempty"`
	Started    time.Time `json:"started"`
	ReadyMs    float64   `json:"readyMs,omitempty"` // from its start to its first passed readiness probe
	InFlight   int       `json:"inFlight"`
	RSSBytes   int64     `json:"rssBytes,omitempty"`
	CPUSeconds float64   `json:"cpuSeconds,omitempty"`
}

// Version is what is running.
type Version struct {
	Version string `json:"version"`           // module version or VCS revision
	Engine  string `json:"engine"`            // "local" or "knative"
	Address string `json:"address"`           // where services are reached, host:port; of a cluster its API server's URL
	Admin   string `json:"admin,omitempty"`   // where the admin API takes tokens, host:port
	Context string `json:"context,omitempty"` // of the kubeconfig
	DataDir string `json:"dataDir,omitempty"`
	PID     int    `json:"pid,omitempty"`
}
