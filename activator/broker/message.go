package broker

import (
	"fmt"
	"net/http"
	"strings"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"

	"aisle.dev/aisle/internal/event"
)

// toMessage gives the message that carries ev: binary mode of the CloudEvents
// NATS protocol binding, whose headers are those of the HTTP binding. As in
// Knative's broker, extensions are strings from here on, whatever they were.
func toMessage(subject string, ev ce.Event) (*nats.Msg, error) {
	h, data, err := event.Encode(ev, inStructured(ev))
	if err != nil {
		return nil, err
	}
	h.Del("Content-Length")
	return &nats.Msg{Subject: subject, Header: nats.Header(h), Data: data}, nil
}

// inStructured says that ev is to be written in structured mode: in binary
// mode, data that is itself an event would be taken for the event.
func inStructured(ev ce.Event) bool {
	return strings.HasPrefix(ev.DataContentType(), "application/cloudevents")
}

func fromMessage(h nats.Header, data []byte) (ce.Event, error) {
	ev, _, err := event.Decode(http.Header(h), data)
	if err != nil {
		return ev, fmt.Errorf("read an event out of the store: %w", err)
	}
	return ev, nil
}
