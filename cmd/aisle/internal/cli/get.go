package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"

	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client/objects"
)

// getting is what get was asked.
type getting struct {
	format, selector string
	watch, pending   bool
	names            []ref
}

func (a *app) get() *cobra.Command {
	var g getting
	cmd := &cobra.Command{
		Use:   "get KIND [NAME...]",
		Short: "List services, revisions, pods, brokers, triggers, events and more",
		Long: `List what there is of a kind, or the named ones of it:

  services (svc)       what can be asked
  revisions (rev)      what the autoscaler made of each, and why
  pods (po)            processes on this machine, or a cluster's pods
  brokers, triggers, pingsources
                       where events go
  events (ev)          on this machine what the brokers keep, --pending what waits
                       for what; on a cluster what its controllers told
  compositions (comp)  what the composers' ConfigMaps say: legs, reducer, and what
                       is wrong; on this machine also which version a composer runs
                       that is awake (none is woken for it)
  configmaps (cm), secrets, imagemaps

A cluster does not tell how many requests a pod has, nor what it uses. With
-o json and -o yaml objects come as Kubernetes has them, a List where there may
be several.`,
		Example: `  aisle get services
  aisle get pods --watch
  aisle get revisions -l serving.knative.dev/service=title -o wide
  aisle get triggers on-product -o yaml
  aisle get svc/title rev/title-00001 -o json
  aisle get events --pending
  aisle --context prod get services -A -o name`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("say what to list: services, revisions, pods, brokers, triggers, pingsources, compositions or events")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := labels.Parse(g.selector); err != nil {
				return usagef("-l %s: %v; use LABEL=VALUE, several with a comma between", g.selector, err)
			}
			if eventsNamed(args[0]) {
				return a.getEvents(cmd.Context(), g, args[1:])
			}
			if compositionsNamed(args[0]) {
				return a.getCompositions(cmd.Context(), g, args[1:])
			}
			if g.pending {
				return usagef("--pending is of events: aisle get events --pending")
			}
			k, names, err := refs(args)
			if err != nil {
				return err
			}
			if g.names = names; len(names) > 0 && g.selector != "" {
				return usagef("use names or -l, not both")
			}
			place, err := a.place()
			if err != nil {
				return err
			}
			if a.named(place) == "" && slices.ContainsFunc(names, func(r ref) bool { return r.namespace == "" }) {
				return usagef("say of which namespace a name is: NAMESPACE/NAME, or -n without -A")
			}
			if g.watch {
				return a.watch(cmd.Context(), place, k, g)
			}
			return a.list(cmd.Context(), place, k, g)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.completeNames(cmd, args, append(kindNames(), "compositions", "events"))
		},
	}
	output(cmd, &g.format, "table", "wide", "json", "yaml", "name")
	f := cmd.Flags()
	f.BoolVarP(&a.at.all, "all-namespaces", "A", false, "of all namespaces")
	f.BoolVarP(&g.watch, "watch", "w", false, "go on with what changes, until Ctrl-C")
	f.StringVarP(&g.selector, "selector", "l", "", "only those with these labels, such as app=x,tier!=y")
	f.BoolVar(&g.pending, "pending", false, "of events: those that wait, and for what")
	return cmd
}

func (g getting) table() bool { return g.format == "table" || g.format == "wide" }

// list shows what there is, or the named ones.
func (a *app) list(ctx context.Context, p place, k objects.Kind, g getting) error {
	if g.table() && len(g.kinds(k)) == 1 {
		text, _, err := a.listing(ctx, p, k, g)
		if err != nil {
			return err
		}
		_, err = a.out.Write(text)
		return errors.Join(err, a.missing(ctx, p, k, g))
	}
	if g.table() {
		return usagef("a table is of one kind; ask for one, or use -o json, -o yaml or -o name")
	}
	all, err := a.read(ctx, p, k, g)
	if err != nil && len(all) == 0 {
		return err
	}
	return errors.Join(a.writeObjects(all, g.format, len(g.names) == 1), err)
}

// kinds are those that are asked for.
func (g getting) kinds(k objects.Kind) []string {
	all := []string{k.Full()}
	for _, r := range g.names {
		if !slices.Contains(all, r.kind.Full()) {
			all = append(all, r.kind.Full())
		}
	}
	return all
}

// missing says which of the named ones are not there.
func (a *app) missing(ctx context.Context, p place, k objects.Kind, g getting) error {
	if len(g.names) == 0 {
		return nil
	}
	_, err := a.read(ctx, p, k, g)
	return err
}

// read gives the objects that are meant, those that are there, and an error of
// the named ones that are not.
func (a *app) read(ctx context.Context, p place, k objects.Kind, g getting) ([]unstructured.Unstructured, error) {
	if len(g.names) == 0 {
		all, err := p.Objects().Untyped(ctx, k, a.listed(p), g.selector)
		return all, err
	}
	var all []unstructured.Unstructured
	var failed []error
	for _, r := range g.names {
		raw, err := objects.Get[json.RawMessage](ctx, p.Objects(), r.kind, r.in(a.named(p)), r.name)
		if err != nil {
			if !apierrors.IsNotFound(err) || objects.NoKind(err) {
				return nil, err
			}
			failed = append(failed, a.absent(ctx, p, r))
			continue
		}
		o, err := objects.Decode(r.kind, *raw)
		if err != nil {
			return nil, err
		}
		all = append(all, *o)
	}
	return all, errors.Join(failed...)
}

// absent says that there is no such object, and which there are.
func (a *app) absent(ctx context.Context, p place, r ref) error {
	namespace := r.in(a.named(p))
	there := "there is none"
	all, err := p.Objects().Untyped(ctx, r.kind, namespace, "")
	if err != nil {
		return err
	}
	var names []string
	for _, o := range all[:min(len(all), 20)] {
		names = append(names, o.GetName())
	}
	if len(names) > 0 {
		slices.Sort(names)
		there = "there are: " + strings.Join(names, ", ")
	}
	return fmt.Errorf("there is no %s %q in namespace %s; %s", r.kind.Singular(), r.name, namespace, there)
}

// shown is an object as people are given it: who set which field is of no use
// to them.
func shown(o unstructured.Unstructured) map[string]any {
	o.SetManagedFields(nil)
	return o.Object
}

// writeObjects writes objects as Kubernetes has them; alone: without a List.
func (a *app) writeObjects(all []unstructured.Unstructured, format string, alone bool) error {
	if format == "name" {
		for _, o := range all {
			if _, err := fmt.Fprintln(a.out, fullName(&o)); err != nil {
				return err
			}
		}
		return nil
	}
	if alone && len(all) == 1 {
		return writeAs(a.out, format, shown(all[0]))
	}
	items := []any{}
	for _, o := range all {
		items = append(items, shown(o))
	}
	return writeAs(a.out, format, map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{}, "items": items})
}

// fullName is an object's name with its kind, as kubectl's -o name.
func fullName(o *unstructured.Unstructured) string {
	gvk := o.GroupVersionKind()
	return strings.TrimSuffix(strings.ToLower(gvk.Kind)+"."+gvk.Group, ".") + "/" + o.GetName()
}

// unsteady are the columns that change all the time: no reason to write a list
// to a log again.
var unsteady = map[string]bool{
	"AGE": true, "SINCE": true, "CPU": true, "MEMORY": true, "AGO": true, "LAST": true, "NEXT IN": true, "OLDEST": true, "AT THE LATEST IN": true,
}

// listing renders one table; key is what of it is worth telling a change of.
func (a *app) listing(ctx context.Context, p place, k objects.Kind, g getting) (text []byte, key string, err error) {
	t := tableOf(k)
	rows, err := t.rows(ctx, p, a.listed(p), time.Now)
	if err != nil {
		return nil, "", err
	}
	if g.selector != "" {
		chosen, err := p.Objects().Untyped(ctx, k, a.listed(p), g.selector)
		if err != nil {
			return nil, "", err
		}
		its := map[[2]string]bool{}
		for _, o := range chosen {
			its[[2]string{o.GetNamespace(), o.GetName()}] = true
		}
		rows = slices.DeleteFunc(rows, func(r row) bool { return !its[[2]string{r.namespace, r.name}] })
	}
	if len(g.names) > 0 {
		rows = slices.DeleteFunc(rows, func(r row) bool {
			return !slices.ContainsFunc(g.names, func(n ref) bool { return n.name == r.name && n.in(a.named(p)) == r.namespace })
		})
		if len(rows) == 0 {
			return nil, "", nil // what is missing is said otherwise
		}
	}
	for _, r := range rows {
		key += r.namespace + "/" + r.name + "\x00"
		for i, c := range t.columns {
			if !unsteady[c.Name] {
				key += r.cells[i].Text + "\x00"
			}
		}
	}
	var buf bytes.Buffer
	s := a.out
	s.Writer = &buf
	if len(rows) == 0 {
		s.Printf("no %s%s%s\n", k.Plural, a.where(p), map[string]string{"pods": ": nothing runs until a request comes"}[k.Plural])
		return buf.Bytes(), key, nil
	}
	columns, cells := t.layout(rows, a.named(p), g.format == "wide")
	screen.Write(s, columns, cells)
	return buf.Bytes(), key, nil
}

// refresh is how often a watched table is asked for, and a cluster's: the
// figures in it change without any object's change.
const (
	refresh        = 250 * time.Millisecond
	clusterRefresh = time.Second
)

// watch goes on with what changes, until Ctrl-C.
func (a *app) watch(ctx context.Context, p place, k objects.Kind, g getting) error {
	if len(g.kinds(k)) > 1 {
		return usagef("--watch is of one kind")
	}
	if g.table() {
		every := refresh
		if a.onCluster() {
			every = clusterRefresh
		}
		return a.redraw(ctx, every, func() ([]byte, string, error) { return a.listing(ctx, p, k, g) })
	}
	err := objects.Follow(ctx, p.Objects(), k, a.listed(p), g.selector, func(_ watch.EventType, raw *json.RawMessage) error {
		if raw == nil {
			return nil
		}
		o, err := objects.Decode(k, *raw)
		if err != nil {
			return err
		}
		if len(g.names) > 0 && !slices.ContainsFunc(g.names, func(n ref) bool { return n.name == o.GetName() && n.in(a.named(p)) == o.GetNamespace() }) {
			return nil
		}
		if g.format == "yaml" {
			a.out.Printf("---\n")
		}
		return a.writeObjects([]unstructured.Unstructured{*o}, g.format, true)
	})
	if ctx.Err() != nil {
		return nil // Ctrl-C is how a watch ends
	}
	return err
}

// redraw shows a table whenever it is another: drawn again in place on a
// terminal, appended elsewhere.
func (a *app) redraw(ctx context.Context, every time.Duration, listing func() (text []byte, key string, err error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	shown, first := "", true
	for {
		text, key, err := listing()
		if ctx.Err() != nil {
			return nil // Ctrl-C is how a watch ends
		}
		if err != nil {
			return err
		}
		if a.out.Terminal {
			text = append([]byte("\x1b[H\x1b[2J"), text...)
		}
		if first || a.out.Terminal || key != shown {
			if _, err := a.out.Write(text); err != nil {
				return err
			}
			shown, first = key, false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
