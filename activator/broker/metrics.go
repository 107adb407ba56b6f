package broker

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// metrics are named as those of Knative's broker where it has them, as
// OpenTelemetry's names are written for Prometheus.
type metrics struct {
	received    *prometheus.CounterVec   // by broker and answer
	dispatched  *prometheus.HistogramVec // attempts, by trigger and answer
	redelivered *prometheus.CounterVec   // by trigger
	dead        *prometheus.CounterVec   // by trigger
	looped      prometheus.Counter
	retrying    *prometheus.GaugeVec // by trigger
}

// ofTrigger are the labels that Knative gives what it counts of a Trigger.
var ofTrigger = []string{"kn_broker_namespace", "kn_broker_name", "kn_trigger_name"}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aisle_broker_ingress_requests_total", Help: "Requests with events that a Broker's ingress answered.",
		}, []string{"http_response_status_code", "kn_broker_namespace", "kn_broker_name"}),
		dispatched: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kn_eventing_dispatch_duration_seconds", Help: "Seconds that an attempt to deliver an event to a Trigger's subscriber took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, append([]string{"http_response_status_code"}, ofTrigger...)),
		redelivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aisle_broker_redeliveries_total", Help: "Events that were handed to a Trigger again: after a failed attempt, or after a stop.",
		}, ofTrigger),
		dead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aisle_broker_dead_letters_total", Help: "Events that a Trigger's subscriber did not take in all attempts.",
		}, ofTrigger),
		looped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "aisle_broker_loops_cut_total", Help: "Events dropped because they had passed too many Brokers.",
		}),
		retrying: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "aisle_broker_retrying_events", Help: "Events of a Trigger that wait for their retry.",
		}, ofTrigger),
	}
	for _, c := range []prometheus.Collector{m.received, m.dispatched, m.redelivered, m.dead, m.looped, m.retrying} {
		if reg == nil {
			break
		}
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("open the broker: %w", err)
		}
	}
	return m, nil
}

// ingested counts an answer of ingress. Unknown Brokers share one series:
// anyone can ask for any name.
func (m *metrics) ingested(broker types.NamespacedName, known bool, status int) {
	if !known {
		broker = types.NamespacedName{}
	}
	m.received.WithLabelValues(strconv.Itoa(status), broker.Namespace, broker.Name).Inc()
}

func (m *metrics) attempted(t *trigger, o outcome, took time.Duration) {
	m.dispatched.WithLabelValues(strconv.Itoa(o.status), t.name.Namespace, t.broker.Name, t.name.Name).Observe(took.Seconds())
}

// forget drops the series of a Trigger that is gone.
func (m *metrics) forget(t *trigger) {
	labels := prometheus.Labels{"kn_broker_namespace": t.name.Namespace, "kn_broker_name": t.broker.Name, "kn_trigger_name": t.name.Name}
	m.dispatched.DeletePartialMatch(labels)
	m.redelivered.DeletePartialMatch(labels)
	m.dead.DeletePartialMatch(labels)
	m.retrying.DeletePartialMatch(labels)
}
