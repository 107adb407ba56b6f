package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/objects"
)

// described in more words than their own.
var described = []string{client.KindService, client.KindRevision, client.KindPod}

func (a *app) describe() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "describe KIND NAME",
		Short: "Show all that is known of a service, a pod, a trigger and the like",
		Long: `Show one object with what belongs to it. Of a service, a revision and a pod:
conditions, traffic, what the autoscaler wants and why, pods, recent events of a
cluster, the last words of the newest pods, and the digest of the model, where
the revision declares it or a pod says it. Of a broker or a trigger: conditions,
what it says, what waits at it, and its dead letters. Of a secret the values are
not shown.`,
		Example: `  aisle describe service title
  aisle describe pod/title-00001-bcdfg
  aisle describe trigger on-product
  aisle --context prod -n aisle describe revision title-00002`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 2 || len(args) == 1 && strings.Contains(args[0], "/") {
				return nil
			}
			return usagef("want a kind and a name, such as: service title; got %d arguments", len(args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			_, names, err := refs(args)
			if err != nil {
				return err
			}
			if len(names) != 1 {
				return usagef("describe one at a time")
			}
			p, err := a.place()
			if err != nil {
				return err
			}
			return a.describeOne(cmd.Context(), p, names[0], format)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 1 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeNames(cmd, args, singulars())
		},
	}
	output(cmd, &format, "table", "json", "yaml")
	return cmd
}

func singulars() []string {
	var all []string
	for _, k := range objects.Kinds {
		all = append(all, k.Singular())
	}
	return all
}

func (a *app) describeOne(ctx context.Context, p place, r ref, format string) error {
	if !slices.Contains(described, r.kind.Singular()) {
		return a.describeObject(ctx, p, r, format)
	}
	name := r.name
	if r.namespace != "" {
		name = r.namespace + "/" + name
	}
	d, err := p.Describe(ctx, r.kind.Singular(), name)
	if err != nil {
		return err
	}
	if !a.onCluster() { // a cluster's tells more conditions than the object's own
		raw, err := objects.Get[json.RawMessage](ctx, p.Objects(), r.kind, d.Namespace, d.Name)
		var o *unstructured.Unstructured
		if err == nil {
			o, err = objects.Decode(r.kind, *raw)
		}
		if err != nil {
			d.Missing = append(d.Missing, err.Error())
		} else {
			d.Conditions, d.Traffic = conditions(o), traffic(o)
		}
	}
	if format != "table" {
		return writeAs(a.out, format, d)
	}
	a.showDescription(d, time.Now)
	return nil
}

// describeObject shows an object of which nothing is known but what it says,
// and what the engine's events say of it.
func (a *app) describeObject(ctx context.Context, p place, r ref, format string) error {
	all, err := a.read(ctx, p, r.kind, getting{names: []ref{r}})
	e, onEngine := p.(*client.Engine)
	if err != nil {
		if onEngine && r.kind.Full() == objects.Broker.Full() {
			return a.deletedBroker(ctx, e, r.in(a.named(p))+"/"+r.name, err)
		}
		return err
	}
	o := &all[0]
	if format != "table" {
		return writeAs(a.out, format, shown(*o))
	}
	d := client.Description{Kind: r.kind.Singular(), Namespace: o.GetNamespace(), Name: o.GetName(), Conditions: conditions(o)}
	a.showDescription(d, time.Now)
	own := map[string]any{}
	for key, value := range o.Object {
		if !slices.Contains([]string{"apiVersion", "kind", "metadata", "status"}, key) {
			own[key] = value
		}
	}
	if status, ok := o.Object["status"].(map[string]any); ok && r.kind.Full() == objects.Schedule.Full() {
		delete(status, "conditions") // shown above
		own["status"] = status
	}
	if r.kind.Full() == objects.Secret.Full() {
		own["data"] = sizes(own["data"])
		delete(own, "stringData")
	}
	text, err := yaml.Marshal(own)
	if err != nil {
		return fmt.Errorf("describe %s: %w", title(o), err)
	}
	if len(own) > 0 {
		a.out.Printf("\n%s\n%s", a.out.Paint(screen.Bold, "It says"), screen.CleanLines(string(text)))
	}
	if onEngine && (r.kind.Full() == objects.Trigger.Full() || r.kind.Full() == objects.Broker.Full()) {
		a.showEventsOf(ctx, e, d)
	}
	return nil
}

// notRead says what is missing from a description, which hides nothing of the
// rest.
func (a *app) notRead(errs ...error) {
	for _, err := range errs {
		if err != nil {
			a.out.Printf("\n%s\n%s\n", a.out.Paint(screen.Yellow, "Not read"), screen.CleanLines(err.Error()))
		}
	}
}

// sizes are a Secret's values without what they are.
func sizes(data any) map[string]any {
	all := map[string]any{}
	values, _ := data.(map[string]any)
	for key, value := range values {
		text, _ := value.(string)
		all[key] = fmt.Sprintf("%d characters of base64", len(text))
	}
	return all
}

// traffic is a Service's, as its status has it.
func traffic(o *unstructured.Unstructured) []client.Share {
	all, _, _ := unstructured.NestedSlice(o.Object, "status", "traffic") // none is none
	var shares []client.Share
	for _, t := range all {
		t, _ := t.(map[string]any)
		var s client.Share
		s.Revision, _ = t["revisionName"].(string)
		s.Percent, _ = t["percent"].(int64)
		s.Tag, _ = t["tag"].(string)
		shares = append(shares, s)
	}
	return shares
}

func (a *app) showDescription(d client.Description, now func() time.Time) {
	line := func(name, text string) {
		if text != "" {
			a.out.Printf("%-11s %s\n", name, screen.Clean(text))
		}
	}
	kind, _ := objects.Named(d.Kind) // only what has been named so is described
	line(kind.Name, d.Name)
	line("Namespace", d.Namespace)
	if s := d.Service; s != nil {
		line("URL", s.URL)
		line("Revision", s.LatestRevision)
	}
	if d.Kind != client.KindService && len(d.Revisions) > 0 {
		r := d.Revisions[0]
		line("Service", r.Service)
		line("Image", r.Image)
		line("Wanted", fmt.Sprintf("%d pods: %s", r.Want, r.Why))
	}
	line("Model", d.Model)
	var shares []string
	for _, s := range d.Traffic {
		tag := ""
		if s.Tag != "" {
			tag = " as " + s.Tag
		}
		shares = append(shares, fmt.Sprintf("%d%% %s%s", s.Percent, s.Revision, tag))
	}
	line("Traffic", strings.Join(shares, ", "))

	var rows [][]screen.Cell
	for _, c := range d.Conditions {
		status := screen.Cell{Text: c.Status, Colour: map[string]screen.Colour{"True": screen.Green, "False": screen.Red}[c.Status]}
		rows = append(rows, []screen.Cell{{Text: c.Type}, status, orUnknown(ago(now, c.Since)), orUnknown(screen.Cell{Text: because(c)})})
	}
	a.section("Conditions", left("TYPE", "STATUS", ">SINCE", "WHY"), rows)
	columns, rows := tableOf(objects.Revision).layout(revisionRows(d.Revisions, now), d.Namespace, false)
	a.section("Revisions", columns, rows)
	columns, rows = tableOf(objects.Pod).layout(podRows(d.Pods, now), d.Namespace, false)
	a.section("Pods", columns, rows)
	a.section("Events", clusterEventColumns, clusterEventRows(d.Events, now))
	for _, s := range d.Said {
		a.out.Printf("\n%s\n%s\n", a.out.Paint(screen.Bold, "Last words of "+screen.Clean(s.Pod)), screen.CleanLines(s.Text))
	}
	for _, m := range d.Missing {
		a.notRead(errors.New(m))
	}
}

// section is a table with a title, where it has rows.
func (a *app) section(title string, columns []screen.Column, rows [][]screen.Cell) {
	if len(rows) > 0 {
		a.out.Printf("\n%s\n", a.out.Paint(screen.Bold, title))
		columns, rows = known(columns, rows)
		screen.Write(a.out, columns, rows)
	}
}

var clusterEventColumns = left(">AGO", "TYPE", "OBJECT", "REASON", ">TIMES", "MESSAGE")

func clusterEventRows(all []client.Event, now func() time.Time) [][]screen.Cell {
	var rows [][]screen.Cell
	for _, e := range all {
		kind := screen.Cell{Text: e.Type}
		if e.Type != "Normal" {
			kind.Colour = screen.Yellow
		}
		rows = append(rows, []screen.Cell{ago(now, e.Last), kind, {Text: e.Object}, {Text: e.Reason}, count(e.Count), {Text: e.Message}})
	}
	return rows
}
