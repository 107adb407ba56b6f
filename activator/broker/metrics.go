package broker

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// metrics are named as those of Knative's broker where it has them.
type metrics struct {
	received    *prometheus.CounterVec   // by broker and answer
	dispatched  *prometheus.HistogramVec // attempts, by trigger and answer
	redelivered *prometheus.CounterVec   // by trigger
	dead        *prometheus.CounterVec   // by trigger
	looped      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "event_count", Help: "Requests with events that a Broker's ingress answered.",
		}, []string{"namespace_name", "broker_name", "response_code"}),
		dispatched: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "event_dispatch_latencies", Help: "Seconds that an attempt to deliver an event to a Trigger's subscriber took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"namespace_name", "broker_name", "trigger_name", "response_code"}),
		redelivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aisle_broker_redeliveries_total", Help: "Events that were handed to a Trigger again: after a failed attempt, or after a stop.",
		}, []string{"namespace_name", "broker_name", "trigger_name"}),
		dead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aisle_broker_dead_letters_total", Help: "Events that a Trigger's subscriber did not take in all attempts.",
		}, []string{"namespace_name", "broker_name", "trigger_name"}),
		looped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "aisle_broker_loops_cut_total", Help: "Events dropped because they had passed too many Brokers.",
		}),
	}
	for _, c := range []prometheus.Collector{m.received, m.dispatched, m.redelivered, m.dead, m.looped} {
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
	m.received.WithLabelValues(broker.Namespace, broker.Name, strconv.Itoa(status)).Inc()
}

func (m *metrics) attempted(t *trigger, o outcome, took time.Duration) {
	m.dispatched.WithLabelValues(t.name.Namespace, t.broker.Name, t.name.Name, strconv.Itoa(o.status)).Observe(took.Seconds())
}

// forget drops the series of a Trigger that is gone.
func (m *metrics) forget(t *trigger) {
	labels := prometheus.Labels{"namespace_name": t.name.Namespace, "broker_name": t.broker.Name, "trigger_name": t.name.Name}
	m.dispatched.DeletePartialMatch(labels)
	m.redelivered.DeletePartialMatch(labels)
	m.dead.DeletePartialMatch(labels)
}
