package cli

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"aisle.dev/aisle/cmd/aisle/internal/cost"
	"aisle.dev/aisle/cmd/aisle/internal/screen"
	"aisle.dev/aisle/internal/client"
	"aisle.dev/aisle/internal/client/objects"
	"aisle.dev/aisle/internal/client/prometheus"
)

// costFlags are those of `aisle cost`.
type costFlags struct {
	from, to, prices, prometheus string
	days                         int
}

func (a *app) cost() *cobra.Command {
	var f costFlags
	var format string
	cmd := &cobra.Command{
		Use:   "cost [SERVICE...]",
		Short: "Say what services used and cost by day, and what scaling to zero saved",
		Long: `Say for how long services' pods ran and held GPUs, by day of UTC, what that
costs, and how much of it scaling to zero saved: against one pod of each that is
always on, and against as many as were needed at once that day.

The engine counts it itself. In a cluster the controller does, and Prometheus
keeps it: say where that is with --prometheus URL.

Prices are in a YAML file; docs/prices.yaml is an example.`,
		Example: `  aisle cost
  aisle cost photo --from 2026-11-01 --to 2026-11-30 --prices docs/prices.yaml
  aisle cost --days 30 -o svg > cost.svg
  kubectl -n monitoring port-forward svc/prometheus 9090 &
  aisle cost --prometheus http://localhost:9090 -A`,
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.serviceNames(cmd)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if (format == "svg" || format == "png") && a.out.Terminal {
				return usagef("a picture is not for a terminal: aisle cost -o %s > cost.%s", format, format)
			}
			prices, err := readPrices(f.prices)
			if err != nil {
				return err
			}
			from, to, err := f.between(cmd, time.Now().UTC())
			if err != nil {
				return err
			}
			u, err := a.usage(cmd.Context(), f.prometheus, from, to, args)
			if err != nil {
				return err
			}
			if err := a.knownServices(cmd.Context(), u, args); err != nil {
				return err
			}
			r := cost.Of(u, prices, from.Format(time.DateOnly), to.Format(time.DateOnly))
			a.warnOfCost(r)
			return a.writeCost(r, format)
		},
	}
	cmd.Flags().StringVar(&f.from, "from", "", "the first day (of UTC), such as 2026-11-01")
	cmd.Flags().StringVar(&f.to, "to", "", "the last day (default: today)")
	cmd.Flags().IntVar(&f.days, "days", 7, "so many days, up to the last")
	cmd.Flags().StringVar(&f.prices, "prices", "", "a YAML file with prices (docs/prices.yaml)")
	cmd.Flags().StringVar(&f.prometheus, "prometheus", "", "URL of the Prometheus that scrapes the cluster's aisle-controller")
	cmd.Flags().BoolVarP(&a.at.all, "all-namespaces", "A", false, "of all namespaces")
	output(cmd, &format, "table", "json", "csv", "svg", "png")
	return cmd
}

func readPrices(name string) (*cost.Prices, error) {
	if name == "" {
		return nil, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read prices: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, cost.MaxPrices+1))
	if err != nil {
		return nil, fmt.Errorf("read prices: %w", err)
	}
	p, err := cost.ParsePrices(text)
	if err != nil {
		return nil, fmt.Errorf("read prices of %s: %w", name, err)
	}
	return p, nil
}

// between gives the days that are meant, both included.
func (f *costFlags) between(cmd *cobra.Command, now time.Time) (from, to time.Time, err error) {
	to = now.Truncate(24 * time.Hour)
	read := func(flag, text string, into *time.Time) error {
		if text == "" {
			return nil
		}
		d, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return usagef("--%s %q is not a date such as %s", flag, text, now.Format(time.DateOnly))
		}
		*into = d
		return nil
	}
	if err := read("to", f.to, &to); err != nil {
		return from, to, err
	}
	if f.days < 1 || f.days > cost.MaxDays {
		return from, to, usagef("--days %d: use 1 to %d", f.days, cost.MaxDays)
	}
	if f.from != "" && cmd.Flags().Changed("days") {
		return from, to, usagef("--from and --days both say where to begin: use one")
	}
	from = to.AddDate(0, 0, 1-f.days)
	if err := read("from", f.from, &from); err != nil {
		return from, to, err
	}
	if from.After(to) {
		return from, to, usagef("--from %s is after --to %s", from.Format(time.DateOnly), to.Format(time.DateOnly))
	}
	if to.Sub(from) >= cost.MaxDays*24*time.Hour {
		return from, to, usagef("from %s to %s are more than %d days", from.Format(time.DateOnly), to.Format(time.DateOnly), cost.MaxDays)
	}
	return from, to, nil
}

// usage asks the engine, or the cluster's Prometheus.
func (a *app) usage(ctx context.Context, address string, from, to time.Time, names []string) (client.Usage, error) {
	if address == "" && a.onCluster() {
		return client.Usage{}, usagef("a cluster's usage is in its Prometheus: say where that is with --prometheus URL")
	}
	namespace := a.at.namespace
	if a.at.all {
		namespace = ""
	}
	if a.onCluster() {
		c, err := a.cluster()
		if err != nil {
			return client.Usage{}, err
		}
		if !a.at.all {
			namespace = c.Namespace()
		}
	}
	wanted, err := a.fullNames(names)
	if err != nil {
		return client.Usage{}, err
	}
	if address == "" {
		dir, err := a.engineDir()
		if err != nil {
			return client.Usage{}, err
		}
		e := client.NewEngine(dir)
		if len(wanted) == 0 {
			e.Namespace = namespace
		}
		return e.Usage(ctx, from, to, wanted...)
	}
	p, err := prometheus.New(address)
	if err != nil {
		return client.Usage{}, &exit{Usage, fmt.Errorf("--prometheus: %w", err)}
	}
	u, err := p.Usage(ctx, from, to, time.Now())
	u.Rows = slices.DeleteFunc(u.Rows, func(r client.UsageRow) bool {
		if len(wanted) > 0 {
			return !slices.Contains(wanted, r.Namespace+"/"+r.Service)
		}
		return namespace != "" && r.Namespace != namespace
	})
	return u, err
}

// fullNames are services as NAMESPACE/NAME.
func (a *app) fullNames(names []string) ([]string, error) {
	usual := cmp.Or(a.at.namespace, "default")
	if a.onCluster() {
		c, err := a.cluster()
		if err != nil {
			return nil, err
		}
		usual = c.Namespace()
	}
	full := make([]string, len(names))
	for i, name := range names {
		full[i] = name
		if !strings.Contains(name, "/") {
			full[i] = usual + "/" + name
		}
	}
	return full, nil
}

// knownServices is an error where a service that was named used nothing on
// these days, and is not there either.
func (a *app) knownServices(ctx context.Context, u client.Usage, names []string) error {
	wanted, err := a.fullNames(names)
	if err != nil {
		return err
	}
	for _, name := range wanted {
		if slices.ContainsFunc(u.Rows, func(r client.UsageRow) bool { return r.Namespace+"/"+r.Service == name }) {
			continue
		}
		p, err := a.place()
		if err != nil {
			return err
		}
		namespace, service, _ := strings.Cut(name, "/")
		_, err = objects.Get[json.RawMessage](ctx, p.Objects(), objects.Service, namespace, service)
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("there is no service %s, and no record of one on these days; see: aisle get services -A", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// warnOfCost tells what is wrong with a report, apart from it.
func (a *app) warnOfCost(r cost.Report) {
	if len(r.Damaged) > 0 {
		a.err.Printf("%s part of the record of %s was damaged and is missing: these days are too low\n", a.err.Paint(screen.Yellow, "warning:"), strings.Join(r.Damaged, ", "))
	}
	if len(r.Unpriced) > 0 {
		a.err.Printf("%s the GPUs of %s have no price: say their kind in the file of prices (gpu: KIND)\n", a.err.Paint(screen.Yellow, "warning:"), screen.Clean(strings.Join(r.Unpriced, ", ")))
	}
}

func (a *app) writeCost(r cost.Report, format string) error {
	switch format {
	case "json":
		return writeAs(a.out, format, r)
	case "csv":
		return writeCSV(a.out, r)
	case "svg", "png":
		picture, err := r.Plot(format == "svg")
		if err == nil {
			_, err = a.out.Write(picture)
		}
		if err != nil {
			return fmt.Errorf("draw what was used: %w", err)
		}
		return nil
	}
	if len(r.Days) == 0 {
		a.out.Printf("Nothing is known of these days, %s to %s (UTC).\n", r.From, r.To)
		return nil
	}
	a.showCost(r)
	return nil
}

// showCost writes a report for people: the days, the services' totals, and
// their sum.
func (a *app) showCost(r cost.Report) {
	unit, of := r.Unit()
	columns := left("DATE", "SERVICE", ">PEAK", ">POD-HOURS", ">GPU-HOURS")
	if r.Currency != "" {
		columns = append(columns, left(">"+r.Currency)...)
	}
	columns = append(columns, left(">ALWAYS ON", ">AT PEAK", ">SAVED", ">OF PEAK", "USED OF PEAK")...)
	var rows [][]screen.Cell
	row := func(date, name string, l cost.Line, c screen.Colour) {
		cells := []screen.Cell{{Text: date, Colour: c}, {Text: name, Colour: c}, {Text: strconv.Itoa(l.Peak), Colour: c},
			{Text: hours(l.Used.PodSeconds), Colour: c}, {Text: hours(l.Used.GPUSeconds), Colour: c}}
		if r.Currency != "" {
			cells = append(cells, screen.Cell{Text: money(l.Used.Cost), Colour: c})
		}
		rows = append(rows, append(cells, screen.Cell{Text: quantity(of(l.One)), Colour: screen.Dim}, screen.Cell{Text: quantity(of(l.Most)), Colour: screen.Dim},
			savedCell(l.Saved), savedCell(l.SavedAtPeak), screen.Cell{Text: bar(of(l.Used), of(l.Most))}))
	}
	for _, l := range r.Days {
		row(l.Date, a.shortName(l), l, screen.Plain)
	}
	if len(r.Days) > len(r.Services) {
		for _, l := range r.Services {
			row("all days", a.shortName(l), l, screen.Bold)
		}
	}
	if len(r.Services) > 1 {
		row("all days", "all services", r.Total, screen.Bold)
	}
	a.out.Printf("%s. Always on: %s of one pod each for as long as the service was there; at peak: of as many as it needed at once that day.\n\n", r.Title(), unit)
	screen.Write(a.out, columns, rows)
	if t := r.Total; t.AllDay.PodSeconds > 0 {
		a.out.Printf("\nFloors kept %s pod-hours ready; the same floors all day long would have kept %s.\n", hours(t.Floors.PodSeconds), hours(t.AllDay.PodSeconds))
	}
}

// shortName is a service's name, without the usual namespace.
func (a *app) shortName(l cost.Line) string {
	if l.Namespace == cmp.Or(a.at.namespace, "default") {
		return l.Service
	}
	return l.Namespace + "/" + l.Service
}

func hours(seconds float64) string { return strconv.FormatFloat(seconds/3600, 'f', 3, 64) }
func money(v float64) string       { return strconv.FormatFloat(v, 'f', 4, 64) }
func quantity(v float64) string    { return strconv.FormatFloat(v, 'f', 3, 64) }
func savedCell(v *float64) screen.Cell {
	switch {
	case v == nil:
		return unknown
	case *v < 0:
		return screen.Cell{Text: cost.Percent(*v), Colour: screen.Red}
	}
	return screen.Cell{Text: cost.Percent(*v), Colour: screen.Green}
}

// barWidth is how many columns a whole bar has.
const barWidth = 20

// bar draws a part of a whole.
func bar(part, whole float64) string {
	if whole <= 0 {
		return ""
	}
	n := min(barWidth, int(part/whole*barWidth+0.5))
	if n == 0 && part > 0 {
		return "▏" + strings.Repeat("░", barWidth-1)
	}
	return strings.Repeat("█", n) + strings.Repeat("░", barWidth-n)
}

// writeCSV writes the days of a report, amounts in seconds.
func writeCSV(w io.Writer, r cost.Report) error {
	out := csv.NewWriter(w)
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	header := []string{"date", "namespace", "service", "peak"}
	amounts := []struct {
		name string
		of   func(cost.Line) cost.Amount
	}{
		{"used", func(l cost.Line) cost.Amount { return l.Used }},
		{"always_on", func(l cost.Line) cost.Amount { return l.One }},
		{"always_on_at_peak", func(l cost.Line) cost.Amount { return l.Most }},
		{"floors", func(l cost.Line) cost.Amount { return l.Floors }},
		{"floors_all_day", func(l cost.Line) cost.Amount { return l.AllDay }},
	}
	for _, a := range amounts {
		header = append(header, a.name+"_pod_seconds", a.name+"_gpu_seconds")
		if r.Currency != "" {
			header = append(header, a.name+"_cost")
		}
	}
	_ = out.Write(header) // the writer keeps its error
	for _, l := range r.Days {
		record := []string{l.Date, l.Namespace, l.Service, strconv.Itoa(l.Peak)}
		for _, a := range amounts {
			v := a.of(l)
			record = append(record, number(v.PodSeconds), number(v.GPUSeconds))
			if r.Currency != "" {
				record = append(record, number(v.Cost))
			}
		}
		_ = out.Write(record)
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
