package broker

import (
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"sigs.k8s.io/yaml"
)

func TestParseDefaults(t *testing.T) {
	b := parse(t, shopBroker)[0].(*eventingv1.Broker)
	if b.Annotations["eventing.knative.dev/broker.class"] != Class || *b.Spec.Delivery.Retry != 10 || *b.Spec.Delivery.BackoffDelay != "PT0.2S" {
		t.Errorf("a Broker without delivery: %+v", b)
	}
	tr := parse(t, "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: t}\nspec: {broker: shop, subscriber: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: s}}}")[0].(*eventingv1.Trigger)
	if tr.Namespace != "default" || tr.Spec.Subscriber.Ref.Namespace != "default" || tr.Spec.Filter == nil {
		t.Errorf("a Trigger: %+v", tr)
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct{ name, more, path, says string }{
		{"unknown field", "  filtre: {}", "", `unknown field "spec.filtre"`},
		{"not a cesql expression", "  filters: [{cesql: \"type = \"}]", "spec.filters[0]", ""},
		{"one that its parser panics on", "  filters: [{cesql: \"type LIKE \"}]", "spec.filters[0]", "it cannot be parsed"},
		{"bad filter within another", "  filters: [{all: [{exact: {type: a}}, {not: {prefix: {type: \"\"}}}]}]", "spec.filters[0].all[1].not[0]", "can't be empty"},
		{"empty filter", "  filters: [{}]", "spec.filters[0]", "says nothing"},
		{"two dialects", "  filters: [{exact: {type: a}, prefix: {type: a}}]", "", "multiple dialects"},
		{"an endless expression", "  filters: [{cesql: \"" + strings.Repeat("(", 1<<20) + "\"}]", "spec.filters", "at most 4096"},
		{"endless nesting", "  filters: [" + strings.Repeat("{not: ", 100) + "{exact: {type: a}}" + strings.Repeat("}", 100) + "]", "spec.filters", "nested more than 16 deep"},
		{"attribute's name", "  filter: {attributes: {Type: a}}", "", "lowercase"},
		{"back-off", "  delivery: {backoffDelay: soon}", "spec.delivery.backoffDelay", ""},
		{"back-off of months", "  delivery: {backoffPolicy: linear, backoffDelay: P3M}", "spec.delivery", "is not between"},
		{"negative timeout", "  delivery: {timeout: -PT1S}", "spec.delivery", "is not between"},
		{"timeout of zero", "  delivery: {timeout: PT0S}", "spec.delivery.timeout", ""},
		{"sink of another kind", "  delivery: {deadLetterSink: {ref: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: c}}}", "spec.delivery.deadLetterSink", "Channel"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, findings := Parse(object(t, triggerTo("t", tt.more)))
			if o != nil {
				t.Fatal("accepted")
			}
			for _, f := range findings {
				if f.Refused && strings.Contains(f.Path, tt.path) && strings.Contains(f.Reason, tt.says) {
					return
				}
			}
			t.Errorf("findings %+v, want one at %q that says %q", findings, tt.path, tt.says)
		})
	}
	for _, text := range []string{
		"apiVersion: v1\nkind: Pod\nmetadata: {name: x}",
		"apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: X_}",
		"apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: x}",
		"apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: x}\nspec: {broker: b, subscriber: {uri: /relative}}",
		"apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: x}\nspec: 1",
		"apiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata: {name: x}\nspec: {schedule: TZ=0, sink: {uri: \"http://x/\"}}", // Knative's validation panics
	} {
		if o, findings := Parse(object(t, text)); o != nil || len(findings) == 0 {
			t.Errorf("accepted: %s", text)
		}
	}
}

// Names that the store or Knative could not have are refused, and the longest
// that are not can be applied.
func TestLongNames(t *testing.T) {
	longest := func(n int) string { return strings.Repeat("a", n) }
	named := func(broker, trigger string) []string {
		return []string{strings.ReplaceAll(shopBroker, "shop", broker), strings.ReplaceAll(strings.ReplaceAll(triggerTo("sort", ""), "shop", broker), "name: sort,", "name: "+trigger+",")}
	}
	for i, text := range named(longest(64), longest(maxName+1)) {
		o, findings := Parse(object(t, text))
		if o != nil || len(findings) != 1 || findings[0].Path != "metadata.name" || !strings.Contains(findings[0].Reason, "at most") {
			t.Errorf("object %d: %v", i, findings)
		}
	}
	fit := named(longest(63), longest(maxName))
	for i := range fit {
		fit[i] = strings.Replace(fit[i], "namespace: default", "namespace: "+longest(63), 1)
	}
	newHarness(t, Options{}, fit...)
}

// What Parse accepts can be applied; it never panics.
func FuzzParse(f *testing.F) {
	f.Add(shopBroker)
	f.Add(triggerTo("t", "  filters: [{cesql: \"type = 'a' AND EXISTS b\"}, {any: [{suffix: {a: b}}]}]\n  delivery: {retry: 2, timeout: PT1S, deadLetterSink: {uri: \"http://x/\"}}"))
	f.Add("apiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata: {name: x}\nspec: {schedule: TZ=0}")
	f.Fuzz(func(t *testing.T, text string) {
		u := &unstructured.Unstructured{}
		if yaml.Unmarshal([]byte(text), &u.Object) != nil || u.Object == nil {
			return
		}
		o, findings := Parse(u)
		if o == nil && len(findings) == 0 {
			t.Fatal("refused without a reason")
		}
		if tr, ok := o.(*eventingv1.Trigger); ok {
			flt, err := newFilter(tr)
			if err != nil {
				t.Fatal(err)
			}
			ev := ce.New()
			ev.SetType("a")
			flt.takes(ev)
			if _, err := newPolicy(tr.Spec.Delivery); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestFilters(t *testing.T) {
	ev := ce.New()
	ev.SetID("1")
	ev.SetType("dev.aisle.product.v1")
	ev.SetSource("/shop/7")
	ev.SetExtension("colour", "red")
	tests := []struct {
		filter string
		want   bool
	}{
		{"", true},
		{"  filter: {attributes: {type: dev.aisle.product.v1}}", true},
		{"  filter: {attributes: {type: dev.aisle.product.v1, colour: blue}}", false},
		{"  filter: {attributes: {colour: \"\"}}", true},
		{"  filter: {attributes: {size: \"\"}}", false},
		{"  filters: [{exact: {colour: red}}]", true},
		{"  filters: [{exact: {colour: red}}, {exact: {type: x}}]", false},
		{"  filters: [{prefix: {type: dev.aisle.}}]", true},
		{"  filters: [{suffix: {source: /8}}]", false},
		{"  filters: [{any: [{exact: {type: x}}, {suffix: {source: \"/7\"}}]}]", true},
		{"  filters: [{all: [{exact: {colour: red}}, {not: {prefix: {type: dev.}}}]}]", false},
		{"  filters: [{not: {exact: {colour: blue}}}]", true},
		{"  filters: [{cesql: \"colour = 'red' AND type LIKE 'dev.%'\"}]", true},
		{"  filters: [{cesql: \"size > 3\"}]", false},
		{"  filters: [{cesql: \"1 + 1\"}]", false}, // no boolean
		// spec.filters takes the place of spec.filter.
		{"  filter: {attributes: {type: x}}\n  filters: [{exact: {colour: red}}]", true},
	}
	for _, tt := range tests {
		t.Run(tt.filter, func(t *testing.T) {
			f, err := newFilter(parse(t, triggerTo("t", tt.filter))[0].(*eventingv1.Trigger))
			if err != nil {
				t.Fatal(err)
			}
			if got := f.takes(ev); got != tt.want {
				t.Errorf("takes the event: %v, want %v", got, tt.want)
			}
		})
	}
}
