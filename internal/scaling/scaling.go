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
	MaxWindows          = 64     // beside those of exceptions
	MaxServiceWindows   = 512    // of all a service's schedules, exceptions' included
	CronWeight          = 8      // how many of these a window by cron counts as
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

	Spec Spec `json:"spec"`
	// +optional
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
//
// +kubebuilder:validation:XValidation:rule="(has(self.windows) && size(self.windows) > 0) || (has(self.exceptions) && self.exceptions.exists(e, has(e.windows) && size(e.windows) > 0))",message="there is no window; a bound that always holds is one window with a floor or a cap and no times"
type Spec struct {
	// Service is the Knative Service, in the schedule's namespace. It stays: what
	// the schedule's status holds was found on that Service's Revisions.
	//
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a schedule stays with its service; delete it, and create it for the other one"
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Service string `json:"service"`
	// TimeZone is the IANA name of the zone of every time below; UTC if empty.
	//
	// +kubebuilder:default=UTC
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self != 'Local'",message="Local is another zone on each machine; write a name of the IANA database, such as Europe/Berlin"
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
	// Windows are when bounds hold.
	//
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Windows []Window `json:"windows,omitempty"`
	// Exceptions are dates on which no window of the schedule begins, but the
	// exception's own.
	//
	// +kubebuilder:validation:MaxItems=366
	// +optional
	Exceptions []Exception `json:"exceptions,omitempty"`
	// ReadyBy raises a floor early by the lead time, so that its pods are ready
	// when its window begins.
	//
	// +optional
	ReadyBy bool `json:"readyBy,omitempty"`
	// LeadTime is how long a pod takes to get ready, until that has been learned:
	// up to 24h.
	//
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="lies between 0s and 24h"
	// +optional
	LeadTime *metav1.Duration `json:"leadTime,omitempty"`
	// Until ends the schedule: from then on it bounds nothing. Empty: never.
	//
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
	// Reason says why, for who reads it later.
	//
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Reason string `json:"reason,omitempty"`
}

// Window is a stretch of time, again and again, and what holds in it. Without
// times it is whole days: "00:00" to "24:00". It belongs to the date on which
// it begins.
//
// +kubebuilder:validation:XValidation:rule="has(self.floor) || has(self.cap) || (has(self.closed) && self.closed)",message="asks for nothing; give it a floor, a cap or closed: true"
// +kubebuilder:validation:XValidation:rule="!(has(self.closed) && self.closed) || !(has(self.floor) || has(self.cap))",message="closed stands beside a floor or a cap; a closed service has no pods to bound: leave them out"
// +kubebuilder:validation:XValidation:rule="!has(self.floor) || !has(self.cap) || self.floor <= self.cap",message="the floor is above the window's cap"
// +kubebuilder:validation:XValidation:rule="!has(self.cron) || !(has(self.days) || has(self.start) || has(self.end))",message="cron stands beside days, start or end; write either cron or those"
// +kubebuilder:validation:XValidation:rule="!has(self.from) || !has(self.until) || self.from <= self.until",message="until is before from"
type Window struct {
	// Name is what people call it; status and plans do too.
	//
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Name string `json:"name,omitempty"`
	// Days are when it begins: Mon, Tue ... Sun, or a stretch such as Mon-Fri;
	// empty: every day.
	//
	// +kubebuilder:validation:MaxItems=7
	// +kubebuilder:validation:items:MaxLength=7
	// +kubebuilder:validation:items:Pattern=`^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(-(Mon|Tue|Wed|Thu|Fri|Sat|Sun))?$`
	// +optional
	Days []string `json:"days,omitempty"`
	// Start is a time of day, "08:00"; empty: 00:00.
	//
	// +kubebuilder:validation:MaxLength=5
	// +kubebuilder:validation:Pattern=`^([01][0-9]|2[0-3]):[0-5][0-9]$`
	// +optional
	Start string `json:"start,omitempty"`
	// End is a time of day up to "24:00", which it is if empty; one that is not
	// after Start is the next day's.
	//
	// +kubebuilder:validation:MaxLength=5
	// +kubebuilder:validation:Pattern=`^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$`
	// +optional
	End string `json:"end,omitempty"`
	// Cron is in place of Days, Start and End.
	//
	// +optional
	Cron *Cron `json:"cron,omitempty"`
	// From is the first date on which it begins, "2026-11-27".
	//
	// +kubebuilder:validation:Format=date
	// +kubebuilder:validation:MaxLength=10
	// +optional
	From string `json:"from,omitempty"`
	// Until is the last one.
	//
	// +kubebuilder:validation:Format=date
	// +kubebuilder:validation:MaxLength=10
	// +optional
	Until string `json:"until,omitempty"`

	Hold `json:",inline"`
}

// Cron is a window by two cron schedules of five fields.
type Cron struct {
	// Start begins the window: minute, hour, day of month, month, day of week.
	//
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^\s*[^\s=@]+(\s+[^\s=]+){4}\s*$`
	Start string `json:"start"`
	// End ends it, at its first tick after the beginning.
	//
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^\s*[^\s=@]+(\s+[^\s=]+){4}\s*$`
	End string `json:"end"`
}

// Hold is what holds in a window: at least one of them.
type Hold struct {
	// Floor is the least number of pods.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	// +optional
	Floor *int32 `json:"floor,omitempty"`
	// Cap is the greatest number of pods, at least 1.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +optional
	Cap *int32 `json:"cap,omitempty"`
	// Closed is that the service takes no requests.
	//
	// +optional
	Closed bool `json:"closed,omitempty"`
}

// Exception is for dates on which windows differ.
//
// +kubebuilder:validation:XValidation:rule="!has(self.windows) || self.windows.all(w, !has(w.days) && !has(w.cron) && !has(w.from) && !has(w.until))",message="its windows have days, cron, from or until; they hold on the exception's dates: leave them out"
type Exception struct {
	// Name is what people call it.
	//
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Name string `json:"name,omitempty"`
	// Dates it is for, "2026-12-24".
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=366
	// +kubebuilder:validation:items:Format=date
	// +kubebuilder:validation:items:MaxLength=10
	Dates []string `json:"dates"`
	// Windows that begin on these dates, with neither days nor cron nor dates of
	// their own; none: no window begins.
	//
	// +kubebuilder:validation:MaxItems=8
	// +optional
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

// Annotations of a schedule that was set by hand.
const (
	ByAnnotation    = "scaling.aisle.dev/by"    // who set it, as far as the writer knows
	AtAnnotation    = "scaling.aisle.dev/at"    // from when on, RFC 3339
	EventAnnotation = "scaling.aisle.dev/event" // which event did
)

// HandName is the name of the schedule that bounds set by hand are written to.
func HandName(service string) string { return service + "-by-hand" }
