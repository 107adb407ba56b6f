// Package scaling is the ScalingSchedule: the one object for every bound on a
// service's pods, by the clock and by hand, in a cluster (a CustomResource) and
// on one machine (the same YAML).
//
// It is the object's shape alone. What it means at a time is activator/schedule.
//
// +kubebuilder:object:generate=true
// +groupName=scaling.aisle.dev
// +versionName=v1alpha1
package scaling

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion and Kind name it.
var GroupVersion = schema.GroupVersion{Group: "scaling.aisle.dev", Version: "v1alpha1"}

// Kind and Resource are its names within the group.
const (
	Kind     = "ScalingSchedule"
	Resource = "scalingschedules"
)

// Bounds of what a schedule may hold.
const (
	MaxWindows          = 64
	MaxExceptions       = 366    // and of dates in all of them
	MaxExceptionWindows = 8      // in one exception
	MaxScale            = 10_000 // pods: the largest floor and cap
	MaxText             = 256    // bytes of a name or a reason
)

// ScalingSchedule sets bounds on the pods of a service. Where schedules of one
// service overlap, and with the service's own min-scale and max-scale, the
// highest floor and the lowest cap hold; a floor above the cap is cut to it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ss,categories=aisle
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.service`
// +kubebuilder:printcolumn:name="Window",type=string,JSONPath=`.status.window`
// +kubebuilder:printcolumn:name="Floor",type=integer,JSONPath=`.status.floor`
// +kubebuilder:printcolumn:name="Cap",type=integer,JSONPath=`.status.cap`
// +kubebuilder:printcolumn:name="Next",type=string,format=date-time,JSONPath=`.status.next`
// +kubebuilder:printcolumn:name="Lead",type=string,JSONPath=`.status.lead.time`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
type ScalingSchedule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   Spec   `json:"spec"`
	Status Status `json:"status,omitempty"`
}

// ScalingScheduleList is what an API server lists.
//
// +kubebuilder:object:root=true
type ScalingScheduleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ScalingSchedule `json:"items"`
}

// Spec is what people write.
type Spec struct {
	// Service is the Knative Service, in the schedule's namespace.
	Service string `json:"service"`
	// TimeZone is the IANA name of the zone of every time below; UTC if empty.
	TimeZone string `json:"timeZone,omitempty"`
	// Windows are when bounds hold.
	Windows []Window `json:"windows,omitempty"`
	// Exceptions are dates on which no window of the schedule begins, but the
	// exception's own.
	Exceptions []Exception `json:"exceptions,omitempty"`
	// ReadyBy raises a floor early by the lead time, so that its pods are ready
	// when its window begins.
	ReadyBy bool `json:"readyBy,omitempty"`
	// LeadTime is how long a pod takes to get ready, until that has been learned.
	LeadTime *metav1.Duration `json:"leadTime,omitempty"`
	// Until ends the schedule: from then on it bounds nothing. nil: never.
	Until *metav1.Time `json:"until,omitempty"`
	// Reason says why, for who reads it later.
	Reason string `json:"reason,omitempty"`
}

// Window is a stretch of time, again and again, and what holds in it. Without
// times it is whole days: "00:00" to "24:00". It belongs to the date on which
// it begins.
type Window struct {
	// Name is what people call it; status and plans do too.
	Name string `json:"name,omitempty"`
	// Days are when it begins: Mon, Tue ... Sun, or a stretch such as Mon-Fri;
	// empty: every day.
	Days []string `json:"days,omitempty"`
	// Start and End are times of day, "08:00" to "24:00". An End that is not
	// after Start is the next day's.
	Start string `json:"start,omitempty"`
	End   string `json:"end,omitempty"`
	// Cron is in place of Days, Start and End.
	Cron *Cron `json:"cron,omitempty"`
	// From and Until are the first and last date on which it begins,
	// "2026-11-27".
	From  string `json:"from,omitempty"`
	Until string `json:"until,omitempty"`

	Hold `json:",inline"`
}

// Cron is a window by two cron schedules of five fields.
type Cron struct {
	Start string `json:"start"`
	End   string `json:"end"`
}

// Hold is what holds in a window: at least one of them.
type Hold struct {
	// Floor is the least number of pods.
	Floor *int32 `json:"floor,omitempty"`
	// Cap is the greatest number of pods, at least 1.
	Cap *int32 `json:"cap,omitempty"`
	// Closed is that the service takes no requests.
	Closed bool `json:"closed,omitempty"`
}

// Exception is for dates on which windows differ.
type Exception struct {
	// Name is what people call it.
	Name string `json:"name,omitempty"`
	// Dates it is for, "2026-12-24".
	Dates []string `json:"dates"`
	// Windows that begin on these dates, with neither days nor cron nor dates of
	// their own; none: no window begins.
	Windows []Window `json:"windows,omitempty"`
}

// Status is what a controller, or the engine, says of it.
type Status struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready (the bounds are set), and what it must be told of
	// besides; each type is a constant below.
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Window names the windows of this schedule that hold now.
	Window string `json:"window,omitempty"`
	// Floor, Cap and Closed are what holds for the service now, by all its
	// schedules and its own bounds.
	Floor  *int32 `json:"floor,omitempty"`
	Cap    *int32 `json:"cap,omitempty"`
	Closed bool   `json:"closed,omitempty"`
	// Next is when that changes by the clock.
	Next *metav1.Time `json:"next,omitempty"`
	// Lead is the lead time that holds.
	Lead *Lead `json:"lead,omitempty"`
	// Revision is the one that has the bounds, and Rule says why it does.
	Revision string `json:"revision,omitempty"`
	Rule     string `json:"rule,omitempty"`
	// Found is what Revisions had before, to be restored.
	Found []Found `json:"found,omitempty"`
	// Starts is what lead times are learned from, for who writes the status to go
	// on from: JSON of activator/schedule/lead.
	Starts string `json:"starts,omitempty"`
}

// Lead is a lead time and where it comes from.
type Lead struct {
	Time metav1.Duration `json:"time"`
	// Source is learned, declared or none.
	Source string `json:"source"`
	// Sample is how many starts it was learned from.
	Sample int32 `json:"sample,omitempty"`
}

// Found is a Revision's bounds as they were found: the annotations' spellings
// and values; an empty key was not there.
type Found struct {
	Revision string `json:"revision"`
	MinKey   string `json:"minKey,omitempty"`
	Min      string `json:"min,omitempty"`
	MaxKey   string `json:"maxKey,omitempty"`
	Max      string `json:"max,omitempty"`
}

// The types of conditions.
const (
	Ready       = "Ready"       // the bounds that should hold are set
	FloorCut    = "FloorCut"    // True: a floor above the cap is cut to it
	NotEnforced = "NotEnforced" // True: something here is enforced by nothing
	Expired     = "Expired"     // True: its Until has passed
)

// ByAnnotation says who wrote a schedule by hand, as far as the writer knows.
const ByAnnotation = "scaling.aisle.dev/by"

// HandName is the name of the schedule that bounds set by hand are written to.
func HandName(service string) string { return service + "-by-hand" }
