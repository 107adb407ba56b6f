package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// An outcome is what became of one test on one place.
type outcome struct {
	action  string // pass, fail, skip; empty if it did not end
	elapsed time.Duration
	reason  string // of a skip
}

// readOutcomes reads what `go test -json` wrote: top-level tests alone. Each
// line of tests' output goes to out as well.
func readOutcomes(r io.Reader, out io.Writer) (map[string]outcome, error) {
	all := map[string]outcome{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Action, Test, Output string
			Elapsed              float64
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text()) // the compiler's, say
			continue
		}
		if e.Action == "output" {
			fmt.Fprint(out, e.Output)
		}
		if e.Test == "" || strings.Contains(e.Test, "/") {
			continue
		}
		o := all[e.Test]
		switch e.Action {
		case "output":
			if _, reason, ok := strings.Cut(e.Output, ": only on "); ok && o.reason == "" {
				o.reason = "only on " + strings.TrimSpace(reason)
			} else if s := strings.TrimSpace(e.Output); o.reason == "" && strings.Contains(s, ".go:") {
				_, o.reason, _ = strings.Cut(s, ": ")
			}
		case "pass", "fail", "skip":
			o.action, o.elapsed = e.Action, time.Duration(e.Elapsed*float64(time.Second))
		}
		all[e.Test] = o
	}
	return all, lines.Err()
}

// writeParity prints test by place, and says how many ran on both.
func writeParity(w io.Writer, engine, cluster map[string]outcome) error {
	names := maps.Clone(engine)
	maps.Copy(names, cluster)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TEST\tONE MACHINE\tCLUSTER\tWHY NOT ON BOTH")
	both := 0
	for _, name := range slices.Sorted(maps.Keys(names)) {
		e, c := engine[name], cluster[name]
		why := ""
		if e.action == "skip" || c.action == "skip" {
			if e.action == "skip" {
				why = e.reason
			}
			if c.action == "skip" {
				why = c.reason
			}
		} else if e.action == "pass" && c.action == "pass" {
			both++
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", name, e, c, why)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d tests, %d passed on both\n", len(names), both)
	return err
}

func (o outcome) String() string {
	switch o.action {
	case "skip":
		return "-"
	case "pass":
		return fmt.Sprintf("%.1f s", o.elapsed.Seconds())
	case "fail":
		return fmt.Sprintf("FAILED %.1f s", o.elapsed.Seconds())
	}
	return cmp.Or(o.action, "not run")
}
