package controller

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// metrics are what the controller tells of each service that has schedules.
type metrics struct {
	floor, cap, closed, lead *prometheus.GaugeVec
	changes, errors          *prometheus.CounterVec
}

var ofService = []string{"namespace", "service"}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, ofService)
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, ofService)
	}
	m := &metrics{
		floor:   gauge("aisle_schedule_floor_pods", "The least number of pods that holds now, by schedules and the Revision's own."),
		cap:     gauge("aisle_schedule_cap_pods", "The greatest number of pods that holds now; 0: none."),
		closed:  gauge("aisle_schedule_closed", "1 while a schedule closes the service."),
		lead:    gauge("aisle_schedule_lead_seconds", "How long before a window floors of schedules with readyBy hold."),
		changes: counter("aisle_schedule_changes_total", "Revisions whose bounds were set or given back."),
		errors:  counter("aisle_schedule_errors_total", "Attempts to set bounds that failed."),
	}
	for _, c := range []prometheus.Collector{m.floor, m.cap, m.closed, m.lead, m.changes, m.errors} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// hold says which bounds hold.
func (m *metrics) hold(service types.NamespacedName, p plan) {
	set := func(v *prometheus.GaugeVec, to float64) { v.WithLabelValues(service.Namespace, service.Name).Set(to) }
	closed := 0.0
	if p.bounds.Closed {
		closed = 1
	}
	set(m.floor, float64(p.bounds.Floor))
	set(m.cap, float64(p.bounds.Cap))
	set(m.closed, closed)
	set(m.lead, p.lead.Time.Seconds())
}

// forget ends the series of a service that has no schedules any more.
func (m *metrics) forget(service types.NamespacedName) {
	for _, v := range []interface{ DeleteLabelValues(...string) bool }{m.floor, m.cap, m.closed, m.lead, m.changes, m.errors} {
		v.DeleteLabelValues(service.Namespace, service.Name)
	}
}
