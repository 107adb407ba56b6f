// Command replay says what scaling, schedules and deferral are worth: it runs
// three traces of three days on virtual time through the code that decides in
// the engine, and writes what each way to scale used and how long products
// waited.
//
// It is deterministic: the same seed and flags give the same bytes. It measures
// nothing of a machine; what pods take is told it by flags.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	_ "time/tzdata" // the same zones everywhere
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "replay:", err)
		}
		os.Exit(1)
	}
}

// defaults are the README's figures of photo: warm on one machine, and its start
// from zero on the test cluster, whose upper quartile gives the spread.
// What a gate wakes is what docs/evaluation.md measured.
var defaults = figures{serve: 8200 * time.Microsecond, cold: 1020 * time.Millisecond, coldSpread: 0.38, woken: 0.0203, seed: 6}

func run(args []string, stdout io.Writer) error {
	f := defaults
	flags := flag.NewFlagSet("replay", flag.ContinueOnError)
	out := flags.String("out", "", "write replay.md, replay.json, replay.svg and replay.png into this folder, instead of the table to the standard output")
	flags.DurationVar(&f.serve, "serve", f.serve, "what a pod takes for a product")
	flags.DurationVar(&f.cold, "cold", f.cold, "what a start takes: the median")
	flags.Float64Var(&f.coldSpread, "cold-spread", f.coldSpread, "the standard deviation of the logarithm of what a start takes")
	flags.Float64Var(&f.woken, "woken", f.woken, "the share of the products for which the leg's gate holds")
	flags.Uint64Var(&f.seed, "seed", f.seed, "of the traces and the starts")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if f.serve <= 0 || f.serve > time.Minute || f.cold < 0 || f.cold > time.Hour || !(f.coldSpread >= 0 && f.coldSpread <= 2) || !(f.woken >= 0 && f.woken <= 1) {
		return errors.New("-serve is up to 1m, -cold up to 1h, -cold-spread from 0 to 2, -woken from 0 to 1")
	}
	r, err := replay(f, traces)
	if err != nil {
		return err
	}
	if *out == "" {
		_, err := stdout.Write(r.markdown())
		return err
	}
	files, err := r.files()
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(*out, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// files are what is written, by name.
func (r *result) files() (map[string][]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	svg, err := r.plot(true)
	if err != nil {
		return nil, err
	}
	png, err := r.plot(false)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"replay.md": r.markdown(), "replay.json": append(text, '\n'), "replay.svg": svg, "replay.png": png}, nil
}
