package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"aisle.dev/aisle/internal/problem"
)

// Kinds that can be described.
const (
	KindService  = "service"
	KindRevision = "revision"
	KindPod      = "pod"
)

// Description is one service, revision or pod, and what belongs to it.
type Description struct {
	Kind       string      `json:"kind"`
	Namespace  string      `json:"namespace"`
	Name       string      `json:"name"`
	Model      string      `json:"model,omitempty"` // digest of its model package, where it is known
	Service    *Service    `json:"service,omitempty"`
	Traffic    []Share     `json:"traffic,omitempty"`
	Conditions []Condition `json:"conditions,omitempty"`
	Revisions  []Revision  `json:"revisions,omitempty"` // of the service; the one that is described; the pod's
	Pods       []Pod       `json:"pods,omitempty"`
	Events     []Event     `json:"events,omitempty"`  // oldest first
	Said       []Words     `json:"said,omitempty"`    // the ends of the newest pods' logs
	Missing    []string    `json:"missing,omitempty"` // what could not be read, and why
}

// Share is the part of a service's requests that a revision gets.
type Share struct {
	Revision string `json:"revision"`
	Percent  int64  `json:"percent"`
	Tag      string `json:"tag,omitempty"`
}

// Condition is one of Kubernetes' conditions.
type Condition struct {
	Type    string    `json:"type"`
	Status  string    `json:"status"` // True, False, Unknown
	Reason  string    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	Since   time.Time `json:"since"`
}

// Event is what a cluster's controllers told of an object.
type Event struct {
	Type    string    `json:"type"` // Normal, Warning
	Object  string    `json:"object"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Count   int       `json:"count"`
	Last    time.Time `json:"last"`
}

// Words are the end of a pod's log.
type Words struct {
	Pod  string `json:"pod"`
	Text string `json:"text"`
}

// Bounds of a description.
const (
	SaidLines = 10 // of a pod's log
	SaidPods  = 3
)

// Pick finds what a name means among lists and what belongs to it. Namespace
// may be empty: the name's first bearer is meant, unless it is NAMESPACE/NAME.
func Pick(kind, namespace, name string, services []Service, revisions []Revision, pods []Pod) (Description, error) {
	if ns, rest, ok := strings.Cut(name, "/"); ok {
		namespace, name = ns, rest
	}
	is := func(ns, n string) bool { return n == name && (namespace == "" || ns == namespace) }
	d := Description{Kind: kind, Name: name}
	var known []string
	service, revision, found := "", "", false
	switch kind {
	case KindService:
		for _, s := range services {
			if known = append(known, s.Name); !found && is(s.Namespace, s.Name) {
				found, d.Namespace, d.Service, service = true, s.Namespace, &s, s.Name
			}
		}
	case KindRevision:
		for _, r := range revisions {
			if known = append(known, r.Name); !found && is(r.Namespace, r.Name) {
				found, d.Namespace, revision = true, r.Namespace, r.Name
			}
		}
	case KindPod:
		for _, p := range pods {
			if known = append(known, p.Name); !found && is(p.Namespace, p.Name) {
				found, d.Namespace, d.Pods, revision = true, p.Namespace, []Pod{p}, p.Revision
			}
		}
	}
	if !found {
		there := "there is none"
		if len(known) > 0 {
			there = "there are: " + strings.Join(known, ", ")
		}
		in := ""
		if namespace != "" {
			in = " in namespace " + namespace
		}
		return d, problem.New(http.StatusNotFound, "there is no %s %q%s; %s", kind, name, in, there)
	}
	mine := func(ns, ofService, ofRevision string) bool {
		return ns == d.Namespace && (service != "" && ofService == service || revision != "" && ofRevision == revision)
	}
	for _, r := range revisions {
		if mine(r.Namespace, r.Service, r.Name) {
			d.Revisions = append(d.Revisions, r)
		}
	}
	for _, p := range pods {
		if kind != KindPod && mine(p.Namespace, p.Service, p.Revision) {
			d.Pods = append(d.Pods, p)
		}
	}
	return d, nil
}

// Describe implements [Describer], but for what is in the object itself: its
// conditions and its traffic. The engine has no events: what happened is in its
// reasons and in the pods' logs.
func (e *Engine) Describe(ctx context.Context, kind, name string) (Description, error) {
	services, err := e.Services(ctx)
	if err != nil {
		return Description{}, err
	}
	revisions, err := e.Revisions(ctx)
	if err != nil {
		return Description{}, err
	}
	pods, err := e.Pods(ctx)
	if err != nil {
		return Description{}, err
	}
	d, err := Pick(kind, "", name, services, revisions, pods)
	if err != nil {
		return d, err
	}
	d.Listen(func(p Pod) (begin, end string, err error) {
		var log ends
		err = e.Logs(ctx, &log, LogsOf(p.Name))
		return string(log.first), log.end(), err
	})
	return d, ctx.Err()
}

// Listen adds the last words of the newest pods, and the model that they say
// at their begin or end that they serve. A pod that has just gone has none; one
// whose log cannot be read hides nothing of the rest.
func (d *Description) Listen(words func(Pod) (begin, end string, err error)) {
	newest := slices.SortedStableFunc(slices.Values(d.Pods), func(a, b Pod) int { return b.Started.Compare(a.Started) })
	for _, pod := range newest[:min(len(newest), SaidPods)] {
		begin, end, err := words(pod)
		if err != nil {
			if p, ok := errors.AsType[*problem.Error](err); ok && p.Status == http.StatusNotFound {
				continue
			}
			d.Missing = append(d.Missing, err.Error())
			continue
		}
		if end != "" {
			d.Said = append(d.Said, Words{Pod: pod.Name, Text: end})
		}
		if d.Model == "" {
			d.Model = modelOf(begin + "\n" + end)
		}
	}
}

// modelOf reads the digest out of what a classifier logs when it is ready.
func modelOf(log string) string {
	for line := range strings.Lines(log) {
		var said struct{ Msg, Model, Digest string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "ready" && said.Model != "" {
			return said.Digest
		}
	}
	return ""
}

// ends keeps the beginning and the end of what is written to it.
type ends struct{ first, last []byte }

// Bounds of what is read of a log, however long its lines are.
const (
	BeginBytes = 4 << 10
	EndBytes   = 32 << 10
)

func (e *ends) Write(p []byte) (int, error) {
	e.first = append(e.first, p[:min(len(p), BeginBytes-len(e.first))]...)
	e.last = append(e.last, p...)
	if over := len(e.last) - EndBytes; over > 0 {
		e.last = append(e.last[:0], e.last[over:]...)
	}
	return len(p), nil
}

func (e *ends) end() string {
	lines := bytes.SplitAfter(bytes.TrimRight(e.last, "\n"), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-SaidLines):], nil))
}
