package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/problem"
)

// row is one object in a table.
type row struct {
	namespace, name string
	cells           []screen.Cell // without the name
}

// table is how a kind is shown to people. The cells after those of columns are
// of wide.
type table struct {
	kind          objects.Kind
	columns, wide []screen.Column
	rows          func(ctx context.Context, p place, namespace string, now func() time.Time) ([]row, error)
}

// unknown is what a place does not tell; a column of nothing else is left out.
var unknown = screen.Cell{Text: "-", Colour: screen.Dim}

func left(names ...string) []screen.Column {
	var all []screen.Column
	for _, name := range names {
		right := strings.HasPrefix(name, ">")
		all = append(all, screen.Column{Name: strings.TrimPrefix(name, ">"), Right: right})
	}
	return all
}

// tables are of what get lists. A column's ">" aligns it right.
var tables = []table{
	{objects.Service, left("READY", ">PODS", "REVISION", "URL", "REASON"), left("LATEST", ">AGE", "IMAGE"), services},
	{objects.Revision, left(">WANT", ">READY", ">STARTING", ">DRAINING", "SCALE", ">REQUESTS", ">WAITING", ">SINCE", "WHY"), left("SERVICE", "IMAGE"), revisions},
	{objects.Pod, left("PHASE", ">REQUESTS", ">READY AFTER", ">MEMORY", ">CPU", ">AGE", ">PID", "ADDRESS", "REASON"), left("SERVICE", "REVISION"), pods},
	{objects.Broker, left("READY", "URL", ">AGE", "REASON"), left("DEAD LETTERS TO"), toldBy(objects.Broker, func(o *unstructured.Unstructured, now func() time.Time) []screen.Cell {
		return []screen.Cell{readyCell(o), text(o, "status", "address", "url"), age(o, now), reason(o), sinkCell(o, "spec", "delivery", "deadLetterSink")}
	})},
	{objects.Trigger, left("READY", "BROKER", "SUBSCRIBER", ">AGE", "REASON"), left("FILTER", "DEAD LETTERS TO"), toldBy(objects.Trigger, func(o *unstructured.Unstructured, now func() time.Time) []screen.Cell {
		return []screen.Cell{readyCell(o), text(o, "spec", "broker"), sinkCell(o, "spec", "subscriber"), age(o, now), reason(o), filterCell(o), sinkCell(o, "spec", "delivery", "deadLetterSink")}
	})},
	{objects.PingSource, left("READY", "SCHEDULE", "SINK", ">LAST", ">NEXT IN", ">AGE", "REASON"), left("TIME ZONE"), pingSources},
	{objects.Schedule, left("SERVICE", "WINDOW", ">FLOOR", ">CAP", "NEXT", "LEAD", "READY", ">AGE", "REASON"), left("WHY"), toldBy(objects.Schedule, func(o *unstructured.Unstructured, now func() time.Time) []screen.Cell {
		return []screen.Cell{text(o, "spec", "service"), text(o, "status", "window"), number(o, "status", "floor"), capCell(o), text(o, "status", "next"),
			leadCell(o), readyCell(o), age(o, now), reason(o), text(o, "spec", "reason")}
	})},
	{objects.ConfigMap, left(">DATA", ">AGE"), nil, toldBy(objects.ConfigMap, func(o *unstructured.Unstructured, now func() time.Time) []screen.Cell {
		return []screen.Cell{count(entries(o, "data") + entries(o, "binaryData")), age(o, now)}
	})},
	{objects.Secret, left("TYPE", ">DATA", ">AGE"), nil, toldBy(objects.Secret, func(o *unstructured.Unstructured, now func() time.Time) []screen.Cell {
		return []screen.Cell{text(o, "type"), count(entries(o, "data")), age(o, now)}
	})},
	{objects.ImageMap, left(">IMAGES", ">AGE"), nil, toldBy(objects.ImageMap, func(o *unstructured.Unstructured, now func() time.Time) []screen.Cell {
		images, _, _ := unstructured.NestedSlice(o.Object, "images")
		return []screen.Cell{count(len(images)), age(o, now)}
	})},
}

// tableOf finds the table of a kind.
func tableOf(k objects.Kind) table {
	return tables[slices.IndexFunc(tables, func(t table) bool { return t.kind.Full() == k.Full() })]
}

// layout gives a table's columns and rows, names of the usual namespace
// without it, less the columns of which nothing is known.
func (t table) layout(rows []row, usual string, wide bool) ([]screen.Column, [][]screen.Cell) {
	columns := append([]screen.Column{{Name: "NAME"}}, t.columns...)
	if wide {
		columns = append(columns, t.wide...)
	}
	cells := make([][]screen.Cell, len(rows))
	for i, r := range rows {
		name := r.name
		if r.namespace != "" && r.namespace != usual {
			name = r.namespace + "/" + name
		}
		cells[i] = append([]screen.Cell{{Text: name, Colour: screen.Bold}}, r.cells...)[:len(columns)]
	}
	return known(columns, cells)
}

// known leaves out the columns of which nothing is known.
func known(columns []screen.Column, rows [][]screen.Cell) (some []screen.Column, cut [][]screen.Cell) {
	cut = make([][]screen.Cell, len(rows))
	for i, c := range columns {
		if !slices.ContainsFunc(rows, func(row []screen.Cell) bool { return row[i] != unknown }) {
			continue
		}
		some = append(some, c)
		for j, row := range rows {
			cut[j] = append(cut[j], row[i])
		}
	}
	return some, cut
}

func services(ctx context.Context, p place, namespace string, now func() time.Time) ([]row, error) {
	all, err := p.Services(ctx)
	return serviceRows(all, now), err
}

func serviceRows(all []client.Service, now func() time.Time) []row {
	var rows []row
	for _, s := range all {
		ready := screen.Cell{Text: "yes", Colour: screen.Green}
		if !s.Ready {
			ready = screen.Cell{Text: "no", Colour: screen.Red}
		}
		rows = append(rows, row{s.Namespace, s.Name, []screen.Cell{ready, count(s.Pods), {Text: s.LatestRevision}, {Text: s.URL}, {Text: s.Reason},
			orUnknown(screen.Cell{Text: s.LatestCreated}), orUnknown(ago(now, s.Created)), orUnknown(screen.Cell{Text: s.Image})}})
	}
	return rows
}

func revisions(ctx context.Context, p place, namespace string, now func() time.Time) ([]row, error) {
	all, err := p.Revisions(ctx)
	return revisionRows(all, now), err
}

func revisionRows(all []client.Revision, now func() time.Time) []row {
	var rows []row
	for _, r := range all {
		scale := fmt.Sprintf("%d-%d", r.MinScale, r.MaxScale)
		if r.MaxScale == 0 {
			scale = fmt.Sprintf("%d-", r.MinScale)
		}
		requests := unknown
		if r.Concurrency >= 0 {
			requests = screen.Cell{Text: strconv.FormatFloat(r.Concurrency, 'f', -1, 64)}
		}
		rows = append(rows, row{r.Namespace, r.Name, []screen.Cell{count(r.Want), count(r.Ready), count(r.Starting), count(r.Draining),
			{Text: scale}, requests, count(r.Waiting), ago(now, r.Since), {Text: r.Why}, {Text: r.Service}, {Text: r.Image}}})
	}
	return rows
}

func pods(ctx context.Context, p place, namespace string, now func() time.Time) ([]row, error) {
	all, err := p.Pods(ctx)
	return podRows(all, now), err
}

func podRows(all []client.Pod, now func() time.Time) []row {
	var rows []row
	for _, p := range all {
		phase := screen.Cell{Text: p.Phase}
		switch p.Phase {
		case "Ready":
			phase.Colour = screen.Green
		case "Starting":
			phase.Colour = screen.Cyan
		case "Draining", "Pending":
			phase.Colour = screen.Yellow
		}
		readyAfter := ""
		if p.ReadyMs > 0 {
			readyAfter = fmt.Sprintf("%.0f ms", p.ReadyMs)
		}
		memory, cpu, pid, reason := unknown, unknown, unknown, unknown
		if p.PID > 0 {
			memory, cpu = screen.Cell{Text: fmt.Sprintf("%.0f MB", float64(p.RSSBytes)/1e6)}, screen.Cell{Text: fmt.Sprintf("%.1fs", p.CPUSeconds)}
			pid = count(p.PID)
		}
		if p.Reason != "" {
			reason = screen.Cell{Text: p.Reason, Colour: screen.Red}
		}
		rows = append(rows, row{p.Namespace, p.Name, []screen.Cell{phase, count(p.InFlight), {Text: readyAfter},
			memory, cpu, ago(now, p.Started), pid, {Text: p.Address}, reason, {Text: p.Service}, {Text: p.Revision}}})
	}
	return rows
}

// toldBy shows objects by what they say of themselves.
func toldBy(k objects.Kind, cells func(*unstructured.Unstructured, func() time.Time) []screen.Cell) func(context.Context, place, string, func() time.Time) ([]row, error) {
	return func(ctx context.Context, p place, namespace string, now func() time.Time) ([]row, error) {
		all, err := p.Objects().Untyped(ctx, k, namespace, "")
		if err != nil {
			return nil, err
		}
		var rows []row
		for i := range all {
			o := &all[i]
			rows = append(rows, row{o.GetNamespace(), o.GetName(), cells(o, now)})
		}
		slices.SortStableFunc(rows, func(a, b row) int {
			return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
		})
		return rows, nil
	}
}

// pingSources adds when each ticks, which the engine alone tells.
func pingSources(ctx context.Context, p place, namespace string, now func() time.Time) ([]row, error) {
	ticks := map[string]client.Ticks{}
	if e, ok := p.(*client.Engine); ok {
		all, err := e.Ticks(ctx)
		if _, none := errors.AsType[*problem.Error](err); err != nil && !none { // 404: there is no broker, so nothing ticks
			return nil, err
		}
		for _, t := range all {
			ticks[t.Name] = t
		}
	}
	return toldBy(objects.PingSource, func(o *unstructured.Unstructured, now func() time.Time) []screen.Cell {
		t := ticks[o.GetNamespace()+"/"+o.GetName()]
		why, next := reason(o), unknown
		if t.Trouble != "" {
			why = screen.Cell{Text: t.Trouble, Colour: screen.Red}
		}
		if !t.Next.IsZero() {
			next = screen.Cell{Text: screen.Short(max(0, t.Next.Sub(now())))}
		}
		return []screen.Cell{readyCell(o), text(o, "spec", "schedule"), sinkCell(o, "spec", "sink"), orUnknown(ago(now, t.Last)), next, age(o, now), why, text(o, "spec", "timezone")}
	})(ctx, p, namespace, now)
}

func count(n int) screen.Cell {
	if n < 0 {
		return unknown
	}
	return screen.Cell{Text: strconv.Itoa(n)}
}

func ago(now func() time.Time, t time.Time) screen.Cell {
	if t.IsZero() {
		return screen.Cell{}
	}
	return screen.Cell{Text: screen.Short(max(0, now().Sub(t)))}
}

func orUnknown(c screen.Cell) screen.Cell {
	if c.Text == "" {
		return unknown
	}
	return c
}

func text(o *unstructured.Unstructured, path ...string) screen.Cell {
	s, _, _ := unstructured.NestedString(o.Object, path...) // what is not there is unknown
	return orUnknown(screen.Cell{Text: s})
}

func number(o *unstructured.Unstructured, path ...string) screen.Cell {
	n, there, _ := unstructured.NestedInt64(o.Object, path...) // likewise
	if !there {
		return unknown
	}
	return screen.Cell{Text: strconv.FormatInt(n, 10)}
}

// capCell is the cap that a ScalingSchedule's service has; a closed one has no pods.
func capCell(o *unstructured.Unstructured) screen.Cell {
	if closed, _, _ := unstructured.NestedBool(o.Object, "status", "closed"); closed { // none is open
		return screen.Cell{Text: "closed", Colour: screen.Yellow}
	}
	return number(o, "status", "cap")
}

// leadCell is a lead time as finely as anybody plans by it.
func leadCell(o *unstructured.Unstructured) screen.Cell {
	c := text(o, "status", "lead", "time")
	if d, err := time.ParseDuration(c.Text); err == nil {
		c.Text = d.Round(time.Millisecond).String()
	}
	return c
}

func entries(o *unstructured.Unstructured, path ...string) int {
	m, _, _ := unstructured.NestedMap(o.Object, path...) // none has none
	return len(m)
}

func age(o *unstructured.Unstructured, now func() time.Time) screen.Cell {
	return orUnknown(ago(now, o.GetCreationTimestamp().Time))
}

func readyCell(o *unstructured.Unstructured) screen.Cell {
	switch ready, _ := readiness(o); ready.Status {
	case "True":
		return screen.Cell{Text: "yes", Colour: screen.Green}
	case "False":
		return screen.Cell{Text: "no", Colour: screen.Red}
	}
	return unknown
}

func reason(o *unstructured.Unstructured) screen.Cell {
	ready, ok := readiness(o)
	if !ok || ready.Status == "True" {
		return screen.Cell{}
	}
	return screen.Cell{Text: because(ready)}
}

// sinkCell names where events go: an object, or a URI.
func sinkCell(o *unstructured.Unstructured, path ...string) screen.Cell {
	sink, _, _ := unstructured.NestedMap(o.Object, path...) // none is unknown
	ref, _ := sink["ref"].(map[string]any)
	uri, _ := sink["uri"].(string)
	if ref == nil {
		return orUnknown(screen.Cell{Text: uri})
	}
	kind, _ := ref["kind"].(string)
	name, _ := ref["name"].(string)
	namespace, _ := ref["namespace"].(string)
	if namespace != "" && namespace != o.GetNamespace() {
		name = namespace + "/" + name
	}
	return screen.Cell{Text: strings.ToLower(kind) + " " + name + uri}
}

// filterCell is a Trigger's filter, shortly.
func filterCell(o *unstructured.Unstructured) screen.Cell {
	attributes, _, _ := unstructured.NestedStringMap(o.Object, "spec", "filter", "attributes") // none is none
	var all []string
	for key, value := range attributes {
		all = append(all, key+"="+value)
	}
	slices.Sort(all)
	if filters, _, _ := unstructured.NestedSlice(o.Object, "spec", "filters"); len(filters) > 0 {
		all = []string{fmt.Sprintf("%d filters", len(filters))}
	}
	return orUnknown(screen.Cell{Text: strings.Join(all, " ")})
}
